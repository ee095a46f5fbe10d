"""RuntimeClass nvidia, by which a pod names the handler (`kubernetes.md §5`)."""

from collections.abc import Mapping
from typing import Any

from gpuwizard.actions import Refusal
from gpuwizard.steps.identity import MANAGED_BY, OWNER, RUNTIME_CLASS, owned_labels

__all__ = ["manifest", "verdict"]


def manifest() -> dict[str, Any]:
    """The object that is applied where nobody else has made one."""
    return {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": RUNTIME_CLASS, "labels": owned_labels(RUNTIME_CLASS)},
        "handler": RUNTIME_CLASS,
    }


def verdict(live: Mapping[str, Any] | None) -> Refusal | bool:
    """What a live RuntimeClass of that name means: True, apply ours; False, leave somebody else's alone (K3s ships
    one); a refusal, because its handler is another one and the field cannot be changed."""
    if live is None:
        return True
    handler = live.get("handler")
    if handler != RUNTIME_CLASS:
        return Refusal(
            "runtime-class",
            f"RuntimeClass {RUNTIME_CLASS} exists with handler {handler}, and a handler cannot be changed",
            f"see who uses it, then delete it: kubectl delete runtimeclass {RUNTIME_CLASS}",
        )
    labels = live.get("metadata", {}).get("labels") or {}
    return bool(labels.get(MANAGED_BY) == OWNER)
