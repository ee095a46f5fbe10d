"""The node label that the device plugin selects; set only after the host is confirmed."""

from collections.abc import Iterator

from gpuwizard.actions import LabelNode
from gpuwizard.answers.model import Answers
from gpuwizard.facts.cluster import NodeView
from gpuwizard.steps.identity import GPU_LABEL

__all__ = ["actions"]


def actions(name: str, node: NodeView | None, answers: Answers) -> Iterator[LabelNode]:
    """Label `node`, on which host `name` runs, unless it has the label or no device plugin is wanted."""
    if node is None or not answers.install.device_plugin:
        return
    before = node.labels.get(GPU_LABEL)
    if before != "true":
        yield LabelNode(
            f"{name}:label:{GPU_LABEL}",
            node.name,
            GPU_LABEL,
            before,
            "true",
            f"label node {node.name} {GPU_LABEL}=true",
        )
