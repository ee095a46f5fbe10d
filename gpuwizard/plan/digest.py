"""Hash and fingerprint of a plan: what will be done, and what was read to come to it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from hashlib import sha256
from typing import Any

from gpuwizard.actions import Action, ApplyObject, LabelNode, Restart, WriteFile
from gpuwizard.facts.cluster import ClusterView, ObjectKey
from gpuwizard.plan.model import ClusterPlan, HostPlan
from gpuwizard.plan.shown import cleaned
from gpuwizard.secret import SecretBytes

__all__ = ["canonical", "fingerprint", "plan_hash"]


def plan_hash(hosts: Iterable[HostPlan], cluster: ClusterPlan) -> str:
    """sha256 over what will be done: the actions with the bytes they write, in order. The order of hosts, of keys in
    mappings and what stood there before do not count."""
    return _digest(
        {
            "hosts": {h.name: _deeds(h) for h in hosts if h.actions and not h.refusals},
            "cluster": [_deed(a) for a in cluster.actions] if not cluster.refusals else [],
        }
    )


def fingerprint(hosts: Iterable[HostPlan], cluster: ClusterView | None, keys: Iterable[ObjectKey]) -> str:
    """sha256 over what was read: file hashes, versions, boot ids, and the live objects without what the server
    counts up by itself (uid, resourceVersion, generation, times)."""
    live = {}
    for key in keys if cluster is not None else ():
        state = cluster.objects.get(key) if cluster is not None else None
        live[str(key)] = cleaned(state.live) if state is not None and state.live is not None else None
    return _digest(
        {
            "hosts": {h.name: {"reads": h.reads, "versions": h.versions, "boot": h.boot_id} for h in hosts},
            "cluster": live,
        }
    )


def canonical(value: Any) -> Any:
    """`value` as JSON types: dataclasses as mappings, file contents as their hash."""
    if isinstance(value, SecretBytes):
        return value.sha256
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: canonical(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(v) for v in value]
    return value


def _deeds(host: HostPlan) -> list[Any]:
    back = [["take back", canonical(host.takes_back)]] if host.takes_back else []
    return [_deed(action) for action in host.actions] + back


def _deed(action: Action) -> Any:
    match action:
        case WriteFile():
            change = action.change
            return ["file", change.path, canonical(change.after), change.mode if change.before is None else None]
        case Restart():
            return ["restart", canonical(action.activation), canonical(action.check), canonical(action.undo)]
        case LabelNode():
            return ["label", action.node, action.key, action.after]
        case ApplyObject():
            return ["object", canonical(action.manifest)] if action.manifest else ["delete", str(action.key)]


def _digest(value: Any) -> str:
    text = json.dumps(canonical(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
