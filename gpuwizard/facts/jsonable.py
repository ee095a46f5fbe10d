"""Facts in the JSON shape of the command line contract (`gpuwizard.facts/1`); unknown is null."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from gpuwizard.facts.model import HostFacts

__all__ = ["facts_json"]

_OF_THE_PROCESS = frozenset(("pid",))
"""Fields that say something of this moment only and are no fact of the host."""


_LARGEST = 1 << 63
_NAMES: dict[type, tuple[str, ...]] = {}


def facts_json(facts: HostFacts) -> dict[str, Any]:
    """`facts` as plain JSON values: each field by its name, in the model's order. Sizes in bytes."""
    return {"schema": "gpuwizard.facts/1", **_fields(facts)}


def _fields(record: object) -> dict[str, Any]:
    kind = type(record)
    if (names := _NAMES.get(kind)) is None:
        assert dataclasses.is_dataclass(kind)
        names = tuple(field.name for field in dataclasses.fields(kind) if field.name not in _OF_THE_PROCESS)
        _NAMES[kind] = names
    return {name: _plain(getattr(record, name)) for name in names}


def _plain(entry: object) -> Any:
    """Any value of the model, and of TOML, which has dates and infinities that JSON has not."""
    kind = type(entry)
    if kind is str or entry is None or kind is bool:
        return entry
    if kind in _NAMES:
        return _fields(entry)
    if isinstance(entry, int):
        return entry if -_LARGEST < entry < _LARGEST else f"{entry:#x}"  # most that read JSON have no larger ones
    if isinstance(entry, float):
        return entry if math.isfinite(entry) else str(entry)
    if isinstance(entry, Mapping):
        return {str(key): _plain(inner) for key, inner in entry.items()}
    if isinstance(entry, list | tuple):
        return [_plain(inner) for inner in entry]
    return _fields(entry) if dataclasses.is_dataclass(entry) and not isinstance(entry, type) else str(entry)
