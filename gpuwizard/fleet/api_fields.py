"""Who owns which field: the simulated server's managedFields, merge and conflict rules of server-side apply.

Enough of the real algorithm for the objects that gpuwizard writes: structs and maps merge key by key, the lists of
`_KEYED` merge by their key, all other lists and the maps of `_ATOMIC` are taken as a whole.
"""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpuwizard.fleet.api_status import Refused, conflicting

__all__ = ["apply", "owned_after_update", "path_text"]

Json = dict[str, Any]
Path = tuple[str, ...]

_KEYED: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "protocol"),
    "conditions": ("type",),
    "imagePullSecrets": ("name",),
    "ownerReferences": ("uid",),
}
_ATOMIC = frozenset({"nodeSelector", "selector", "fieldRef", "configMapKeyRef", "secretKeyRef"})
_UNOWNED = (("f:apiVersion",), ("f:kind",), ("f:metadata", "f:name"), ("f:metadata", "f:namespace"))
_SYSTEM = frozenset(
    {"managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "deletionTimestamp", "selfLink"}
)


def apply(live: Json | None, wanted: Json, manager: str, *, force: bool, now: str) -> Json:
    """The live object (None: absent) with `wanted` applied by `manager`; the input is not changed.

    Raises Refused (409) when another manager owns a field that `wanted` sets to another value.
    """
    base: Json = copy.deepcopy(live) if live else {}
    entries = base.get("metadata", {}).pop("managedFields", [])
    owners = {_entry_key(e): set(_decode(e["fieldsV1"])) for e in entries}
    mine = (manager, "Apply", "")
    before = owners.pop(mine, set())
    paths = _paths_of(wanted)
    _refuse_conflicts(base, wanted, paths, owners, entries, force)
    others = set().union(*owners.values()) if owners else set()
    for path in sorted(before - paths - others, key=lambda p: (p[-1] != ".", -len(p))):
        _remove(base, path)  # whole list items first, while their keys can still be read
    merged = _merge(base, wanted)
    if force:
        changed = {p for p in paths if _value(base, p) != _value(wanted, p)}
        owners = {key: fields - changed for key, fields in owners.items()}
    owners[mine] = paths
    return _with_entries(merged, owners, entries, now)


def owned_after_update(live: Json | None, updated: Json, manager: str, *, now: str, subresource: str = "") -> Json:
    """`updated` with managedFields as after a create or patch by `manager`: it owns what it changed."""
    base = live or {}
    entries = base.get("metadata", {}).get("managedFields", [])
    owners = {_entry_key(e): set(_decode(e["fieldsV1"])) for e in entries}
    result = copy.deepcopy(updated)
    result.get("metadata", {}).pop("managedFields", None)
    changed = {p for p in _paths_of(result) if _value(base, p) != _value(result, p)}
    present = _paths_of(result)
    mine = (manager, "Update", subresource)
    owners = {key: (fields - changed) & present for key, fields in owners.items()}
    owners[mine] = owners.get(mine, set()) | changed
    return _with_entries(result, owners, entries, now)


def path_text(path: Path) -> str:
    """A path as conflict messages print it: ``.spec.template.spec.containers[name="c"].image``."""
    parts = []
    for part in path:
        if part.startswith("f:"):
            parts.append(f".{part[2:]}")
        elif part.startswith("k:"):
            keys = json.loads(part[2:])
            parts.append("[" + ",".join(f"{k}={json.dumps(v)}" for k, v in keys.items()) + "]")
    return "".join(parts)


def _refuse_conflicts(
    base: Json,
    wanted: Json,
    paths: set[Path],
    owners: Mapping[tuple[str, str, str], set[Path]],
    entries: Sequence[Json],
    force: bool,
) -> None:
    if force:
        return
    found = []
    for entry in entries:
        fields = owners.get(_entry_key(entry))
        for path in sorted((fields or set()) & paths):
            if path[-1] != "." and _value(base, path) != _value(wanted, path):
                found.append((_printed(entry), path_text(path)))
    if found:
        refused: Refused = conflicting(found)
        raise refused


def _printed(entry: Json) -> str:
    text = json.dumps(entry["manager"])
    if entry.get("subresource"):
        text += f" with subresource {json.dumps(entry['subresource'])}"
    return f"{text} using {entry['apiVersion']}" if entry["operation"] == "Update" else text


def _entry_key(entry: Json) -> tuple[str, str, str]:
    return entry["manager"], entry["operation"], entry.get("subresource", "")


def _with_entries(obj: Json, owners: Mapping[tuple[str, str, str], set[Path]], old: Sequence[Json], now: str) -> Json:
    """Put managedFields on `obj`; an entry whose fields did not change keeps its time."""
    before = {_entry_key(e): e for e in old}
    entries = []
    for (manager, operation, subresource), fields in owners.items():
        if not fields:
            continue
        encoded = _encode(fields)
        same = before.get((manager, operation, subresource))
        time = same["time"] if same and same["fieldsV1"] == encoded else now
        entry: Json = {
            "apiVersion": obj["apiVersion"],
            "fieldsType": "FieldsV1",
            "fieldsV1": encoded,
            "manager": manager,
            "operation": operation,
            "time": time,
        }
        if subresource:
            entry["subresource"] = subresource
        entries.append(entry)
    obj["metadata"]["managedFields"] = entries
    return obj


def _paths_of(obj: Json) -> set[Path]:
    cleaned = {k: v for k, v in obj.items() if k != "metadata"}
    cleaned["metadata"] = {k: v for k, v in obj.get("metadata", {}).items() if k not in _SYSTEM}
    return {p for p in _walk(cleaned, ()) if p not in _UNOWNED}


def _walk(value: Any, path: Path) -> Iterator[Path]:
    name = path[-1][2:] if path and path[-1].startswith("f:") else ""
    if isinstance(value, dict) and value and name not in _ATOMIC:
        for key, inner in value.items():
            yield from _walk(inner, (*path, f"f:{key}"))
    elif isinstance(value, list) and name in _KEYED:
        for item in value:
            key = _item_key(item, name)
            yield (*path, key, ".")
            for field, inner in item.items():
                yield from _walk(inner, (*path, key, f"f:{field}"))
    elif path:
        yield path


def _item_key(item: Json, list_name: str) -> str:
    defaults = {"protocol": "TCP"}
    return "k:" + json.dumps({k: item.get(k, defaults.get(k)) for k in _KEYED[list_name]}, separators=(",", ":"))


def _find(items: Any, key: str, list_name: str) -> Json | None:
    if not isinstance(items, list):
        return None
    return next((i for i in items if isinstance(i, dict) and _item_key(i, list_name) == key), None)


def _value(obj: Any, path: Path) -> Any:
    """The value at a path; None where it is absent (which is no value that these objects hold)."""
    name = ""
    for part in path:
        if part == ".":
            break
        if part.startswith("k:"):
            obj = _find(obj, part, name)
        else:
            name = part[2:]
            obj = obj.get(name) if isinstance(obj, dict) else None
        if obj is None:
            return None
    return obj


def _remove(obj: Json, path: Path) -> None:
    """Remove a field, or a list item when the path ends in its key; emptied parents go as well."""
    path = path[:-1] if path[-1] == "." else path
    parent = _value(obj, path[:-1])
    last = path[-1]
    if last.startswith("k:"):
        item = _find(parent, last, path[-2][2:])
        if item is not None:
            parent.remove(item)
    elif isinstance(parent, dict):
        parent.pop(last[2:], None)
    if parent in ({}, []) and len(path) > 2:
        _remove(obj, path[:-1])


def _merge(base: Any, wanted: Any, name: str = "") -> Any:
    if isinstance(base, dict) and isinstance(wanted, dict) and name not in _ATOMIC:
        merged = dict(base)
        for key, value in wanted.items():
            merged[key] = _merge(base.get(key), value, key) if key in base else copy.deepcopy(value)
        return merged
    if isinstance(base, list) and isinstance(wanted, list) and name in _KEYED:
        fresh = {_item_key(i, name): i for i in wanted}
        items = [_merge(i, fresh.pop(_item_key(i, name), {})) for i in base]
        return items + [copy.deepcopy(i) for i in fresh.values()]
    return copy.deepcopy(wanted)


def _encode(fields: set[Path]) -> Json:
    root: Json = {}
    for path in sorted(fields):
        node = root
        for part in path:
            node = node.setdefault(part, {})
    return root


def _decode(fields: Json, path: Path = ()) -> Iterator[Path]:
    for part, inner in fields.items():
        here = (*path, part)
        if inner:
            yield from _decode(inner, here)
        else:
            yield here
