"""One file per concern that contributes to the plan; `desired_objects` are the Kubernetes objects of all of them."""

from collections.abc import Mapping
from typing import Any

from gpuwizard.answers.model import Answers
from gpuwizard.facts.model import Probe
from gpuwizard.steps import device_plugin, runtime_class

__all__ = ["desired_objects"]


def desired_objects(answers: Answers, probes: Mapping[str, Probe]) -> tuple[dict[str, Any], ...]:
    """The objects that gpuwizard wants to own, in the order in which they are applied; none without a GPU, or when
    the answers leave the cluster alone."""
    if not answers.kubernetes.manage or not any(p.facts.gpus for p in probes.values()):
        return ()
    objects: list[dict[str, Any]] = []
    if answers.install.runtime_class:
        objects.append(runtime_class.manifest())
    if answers.install.device_plugin:
        objects += device_plugin.manifests(answers)
    return tuple(objects)
