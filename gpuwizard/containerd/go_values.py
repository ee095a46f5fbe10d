"""Values as a Go template sees them, and the functions that K3s' templates may call (`runtimes.md §2.3`)."""

import json
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gpuwizard.containerd.go_lex import BadTemplateError, UnpredictableError

__all__ = ["UNKNOWN", "GoMap", "Struct", "call", "field_of", "shown", "truth"]


class _Unknown:
    """A value that the host has and that is not known here."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()


@dataclass(frozen=True, slots=True)
class Struct:
    """A Go structure of type `name`. Where it is not `complete` it may have more fields than `fields`."""

    name: str
    fields: Mapping[str, Any]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class GoMap:
    """A Go map; `zero` is what a key gives that is not there."""

    items: Mapping[str, Any]
    zero: Any = ""


def field_of(value: Any, name: str, line: int) -> Any:
    """``.name`` of a value."""
    match value:
        case Struct(fields=fields) if name in fields:
            return fields[name]
        case Struct(complete=True):
            raise BadTemplateError(f"can't evaluate field {name} in type {value.name}", line)
        case Struct():
            raise UnpredictableError(f"the field {name} of {value.name} is not known here", line)
        case GoMap():
            return value.items.get(name, value.zero)
        case _Unknown():
            raise UnpredictableError(f"a value is not known, of which the field {name} is taken", line)
        case None:
            raise BadTemplateError(f"nil pointer evaluating .{name}", line)
        case _:
            raise BadTemplateError(f"can't evaluate field {name} in type {_type(value)}", line)


def truth(value: Any, line: int) -> bool:
    """What ``if`` makes of a value: a structure is always true, nothing and what is empty is false."""
    match value:
        case _Unknown():
            raise UnpredictableError("a condition depends on a value that is not known", line)
        case Struct():
            return True
        case GoMap():
            return bool(value.items)
        case _:
            return bool(value)


def shown(value: Any, line: int) -> str:
    """A value as ``{{ . }}`` prints it."""
    match value:
        case _Unknown():
            raise UnpredictableError("a value is written that is not known", line)
        case bool():
            return "true" if value else "false"
        case None:
            return "<no value>"
        case str() | int():
            return str(value)
        case tuple() | list():
            return f"[{' '.join(shown(one, line) for one in value)}]"
        case GoMap():
            return f"map[{' '.join(f'{k}:{shown(v, line)}' for k, v in sorted(value.items.items()))}]"
        case _:
            raise UnpredictableError(f"a whole {_type(value)} is written", line)


def call(name: str, arguments: list[Any], line: int) -> Any:
    """The value of a function other than ``and`` and ``or``."""
    found = _FUNCTIONS.get(name)
    if found is None:
        raise UnpredictableError(f"the function {name}", line)
    least, most, function = found
    if not least <= len(arguments) <= (most or len(arguments)):
        raise BadTemplateError(f"wrong number of args for {name}: got {len(arguments)}", line)
    if any(argument is UNKNOWN for argument in arguments):
        raise UnpredictableError(f"{name} of a value that is not known", line)
    return function(arguments, line)


def _type(value: Any) -> str:
    match value:
        case Struct():
            return value.name
        case GoMap():
            return "map"
        case bool():
            return "bool"
        case int():
            return "int"
        case str():
            return "string"
        case tuple() | list():
            return "list"
        case None:
            return "nil"
        case _:
            return "value"


def _text(value: Any, name: str, line: int) -> str:
    if not isinstance(value, str):
        raise BadTemplateError(f"wrong type for value of {name}: expected string; got {_type(value)}", line)
    return value


def _same(one: Any, other: Any, line: int) -> bool:
    for value in (one, other):
        if isinstance(value, Struct | GoMap | tuple | list):
            raise BadTemplateError("non-comparable type in a comparison", line)
    if one is None or other is None:
        return one is other
    if _type(one) != _type(other):
        raise BadTemplateError("incompatible types for comparison", line)
    return bool(one == other)


def _equal(arguments: list[Any], line: int) -> bool:
    return any(_same(arguments[0], other, line) for other in arguments[1:])


def _less(one: Any, other: Any, line: int) -> bool:
    if _type(one) != _type(other) or not isinstance(one, str | int) or isinstance(one, bool):
        raise BadTemplateError("incompatible types for comparison", line)
    return bool(one < other)


def _length(arguments: list[Any], line: int) -> int:
    match arguments[0]:
        case str() as text:
            return len(text.encode("utf-8", "surrogateescape"))
        case tuple() | list() as several:
            return len(several)
        case GoMap() as table:
            return len(table.items)
        case other:
            raise BadTemplateError(f"len of type {_type(other)}", line)


def _index(arguments: list[Any], line: int) -> Any:
    value, *keys = arguments
    for key in keys:
        match value:
            case GoMap():
                value = value.items.get(_text(key, "index", line), value.zero)
            case tuple() | list():
                if not isinstance(key, int) or isinstance(key, bool):
                    raise BadTemplateError(f"cannot index list with type {_type(key)}", line)
                if not 0 <= key < len(value):
                    raise BadTemplateError(f"index out of range: {key}", line)
                value = value[key]
            case str():
                raise UnpredictableError("a single byte of a text", line)
            case _:
                raise BadTemplateError(f"can't index item of type {_type(value)}", line)
        if value is UNKNOWN:
            raise UnpredictableError("index of a value that is not known", line)
    return value


_VERB = re.compile(r"%(.)?", re.DOTALL)


def _printf(arguments: list[Any], line: int) -> str:
    form = _text(arguments[0], "printf", line)
    rest = list(arguments[1:])

    def one(found: re.Match[str]) -> str:
        verb = found[1]
        if verb == "%":
            return "%"
        if verb not in ("s", "q", "v", "d", "t") or not rest:
            raise UnpredictableError(f"printf with {found[0]}", line)
        value = rest.pop(0)
        kinds: dict[str, type] = {"s": str, "q": str, "d": int, "t": bool}
        fits = isinstance(value, kinds.get(verb, object)) and not (verb == "d" and isinstance(value, bool))
        if not fits:
            raise UnpredictableError(f"printf with {found[0]} of a {_type(value)}", line)
        return _quoted(value) if verb == "q" else shown(value, line)

    text = _VERB.sub(one, form)
    if rest:
        raise UnpredictableError("printf with more values than places", line)
    return text


def _quoted(text: str) -> str:
    """A text as Go's ``%q`` writes it."""
    short = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
    out = []
    for char in text:
        number = ord(char)
        if char in '"\\':
            out.append("\\" + char)
        elif char in short:
            out.append(short[char])
        elif 0xDC80 <= number <= 0xDCFF:
            out.append(f"\\x{number - 0xDC00:02x}")
        elif char.isprintable():
            out.append(char)
        else:
            width = "x02x" if number < 128 else "u04x" if number < 65536 else "U08x"
            out.append(f"\\{width[0]}{number:{width[1:]}}")
    return '"' + "".join(out) + '"'


def _plain(value: Any, line: int) -> Any:
    match value:
        case GoMap():
            return {key: _plain(one, line) for key, one in sorted(value.items.items())}
        case tuple() | list():
            return [_plain(one, line) for one in value]
        case str() | int() | None:
            return value
        case _:
            raise UnpredictableError(f"toJson of a {_type(value)}", line)


def _json(arguments: list[Any], line: int) -> str:
    text = json.dumps(_plain(arguments[0], line), separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _without_scheme(arguments: list[Any], line: int) -> str:
    text = _text(arguments[0], "deschemify", line)
    return re.sub(r"^unix:(?://)?", "", text)


def _joined(arguments: list[Any], line: int) -> str:
    parts = [part for one in arguments if (part := _text(one, "filepathjoin", line))]
    path = posixpath.normpath("/".join(parts)) if parts else ""
    return path[1:] if path.startswith("//") else path


def _print(arguments: list[Any], line: int) -> str:
    """Spaces stand between two values that are both no text."""
    out = ""
    for position, value in enumerate(arguments):
        before = arguments[position - 1] if position else ""
        out += " " if position and not isinstance(value, str) and not isinstance(before, str) else ""
        out += "<nil>" if value is None else shown(value, line)
    return out


_Function = Callable[[list[Any], int], Any]
_FUNCTIONS: dict[str, tuple[int, int | None, _Function]] = {
    "not": (1, 1, lambda a, line: not truth(a[0], line)),
    "eq": (2, None, _equal),
    "ne": (2, 2, lambda a, line: not _same(a[0], a[1], line)),
    "lt": (2, 2, lambda a, line: _less(a[0], a[1], line)),
    "le": (2, 2, lambda a, line: not _less(a[1], a[0], line)),
    "gt": (2, 2, lambda a, line: _less(a[1], a[0], line)),
    "ge": (2, 2, lambda a, line: not _less(a[0], a[1], line)),
    "len": (1, 1, _length),
    "index": (1, None, _index),
    "print": (0, None, _print),
    "println": (0, None, lambda a, line: " ".join("<nil>" if v is None else shown(v, line) for v in a) + "\n"),
    "printf": (1, None, _printf),
    "toJson": (1, 1, _json),
    "deschemify": (1, 1, _without_scheme),
    "filepathjoin": (0, None, _joined),
}
