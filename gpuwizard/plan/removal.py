"""Which objects of the cluster an uninstall takes away, and which it leaves alone and why."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gpuwizard.actions import ApplyObject
from gpuwizard.clean import clean_line
from gpuwizard.facts.cluster import ClusterView, key_of
from gpuwizard.facts.owned import Owned
from gpuwizard.plan.model import ClusterPlan
from gpuwizard.plan.shown import shown_yaml
from gpuwizard.steps.identity import GPU_LABEL, OWNER

__all__ = ["removal"]

_NEVER = ("default", "kube-system", "kube-public", "kube-node-lease")
_SHOWN = 4


def removal(owned: Owned, view: ClusterView, leaving: Iterable[str]) -> ClusterPlan:
    """Delete what is ours, the device plugin first and namespaces last; `leaving` are the nodes that are taken back.

    While another node has our label everything stays: it needs it.
    """
    left = set(leaving)
    users = [n.name for n in view.nodes if n.name not in left and n.labels.get(GPU_LABEL) is not None]
    if users and owned.objects:
        note = f"the cluster's objects stay: {_some(users)} still {'has' if len(users) == 1 else 'have'} our label"
        return ClusterPlan(server=view.server, notes=(note,))
    actions, notes = [], []
    for obj in owned.objects:
        why = next(_stays(obj, owned), None)
        key = key_of(obj)
        if why is not None:
            notes.append(f"{clean_line(str(key))} stays: {why}")
            continue
        actions.append(ApplyObject(f"cluster:{key}", key, {}, shown_yaml(obj), "", f"delete {clean_line(str(key))}"))
    return ClusterPlan(tuple(actions), server=view.server, notes=tuple(notes))


def _stays(obj: Mapping[str, Any], owned: Owned) -> Iterator[str]:
    """Why an object with our label is not ours to delete."""
    managers = {
        str(entry.get("manager"))
        for entry in obj["metadata"].get("managedFields") or ()
        if entry.get("subresource") != "status"
    }
    if OWNER not in managers:
        yield "it has gpuwizard's label, but gpuwizard did not make it"
    if obj["kind"] != "Namespace":
        return
    name = obj["metadata"]["name"]
    others = owned.others.get(name)
    if name in _NEVER:
        yield "it is the cluster's own"
    if managers - {OWNER}:
        yield f"it is also {_some(sorted(managers - {OWNER}))}'s"
    if others is None:
        yield "what else is in it is not known"
    elif others:
        yield f"not all in it is gpuwizard's: {_some(others)}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return clean_line(", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else ""))
