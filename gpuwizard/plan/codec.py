"""A plan as JSON types and back, led by the type annotations of its dataclasses: nothing unknown is taken, nothing
missing is made up."""

import base64
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gpuwizard.secret import SecretBytes

__all__ = ["MisfitError", "decode", "encode"]


class MisfitError(ValueError):
    """A value that is none of its type. `place` is where it stands: ``plan.hosts[0].actions[1].change``."""

    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"{place}: {what}")
        self.place = place
        self.what = what


def encode(value: Any) -> Any:
    """`value` as JSON types: dataclasses as mappings of all their fields, bytes as base64."""
    if isinstance(value, SecretBytes):
        return base64.b64encode(value.raw).decode()
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {k: encode(v) for k, v in value.items()}
    return [encode(v) for v in value] if isinstance(value, list | tuple) else value


def decode(kind: Any, value: Any, place: str) -> Any:
    """The reverse of `encode`. Raises MisfitError for whatever `encode` does not make of a value of type `kind`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if kind is SecretBytes:
        return SecretBytes(_bytes(value, place))
    if origin in (Union, types.UnionType):
        return _union(arguments, value, place)
    if origin is Literal:
        return value if value in arguments else _misfit(place, f"not one of {', '.join(map(str, arguments))}")
    if origin is tuple:
        return _tuple(arguments, value, place)
    if origin is Mapping:
        _of(dict, value, place)
        return {key: decode(arguments[1], item, f"{place}.{key}") for key, item in value.items()}
    if is_dataclass(kind):
        return _record(kind, value, place)
    return float(value) if kind is float and type(value) is int else _of(kind, value, place)


def _record(kind: Any, value: Any, place: str) -> Any:
    _of(dict, value, place)
    hints = get_type_hints(kind)
    if unknown := sorted(set(value) - set(hints)):
        _misfit(place, f"it has {', '.join(unknown)}")
    if missing := sorted(set(hints) - set(value)):
        _misfit(place, f"it lacks {', '.join(missing)}")
    return kind(**{name: decode(hints[name], value[name], f"{place}.{name}") for name in hints})


def _tuple(kinds: tuple[Any, ...], value: Any, place: str) -> tuple[Any, ...]:
    _of(list, value, place)
    if kinds[-1] is Ellipsis:
        return tuple(decode(kinds[0], item, f"{place}[{i}]") for i, item in enumerate(value))
    if len(kinds) != len(value):
        _misfit(place, f"{len(value)} values where {len(kinds)} belong")
    return tuple(decode(k, item, f"{place}[{i}]") for i, (k, item) in enumerate(zip(kinds, value, strict=True)))


def _union(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    """Optional values, and the actions by their `kind`."""
    if value is None and type(None) in kinds:
        return None
    candidates = [k for k in kinds if k is not type(None)]
    if len(candidates) == 1:
        return decode(candidates[0], value, place)
    _of(dict, value, place)
    for candidate in candidates:
        if get_args(get_type_hints(candidate)["kind"]) == (value.get("kind"),):
            return _record(candidate, value, place)
    return _misfit(place, f"its kind is {value.get('kind')!r}")


def _bytes(value: Any, place: str) -> bytes:
    try:
        return base64.b64decode(_of(str, value, place), validate=True)
    except ValueError as error:
        raise MisfitError(place, "no base64") from error


def _of(kind: type, value: Any, place: str) -> Any:
    return value if type(value) is kind else _misfit(place, f"a {type(value).__name__} where a {kind.__name__} belongs")


def _misfit(place: str, what: str) -> Any:
    raise MisfitError(place, what)
