"""Edits of a JSON text that keep its order, its indentation and everything nobody asked to change.

daemon.json takes no comments, and people lay it out by hand: only the members that are planned change. Afterwards
both texts are parsed by an independent parser and compared: unless exactly the planned members differ, the edit is
refused.
"""

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from gpuwizard.clean import clean_line
from gpuwizard.errors import RefusedError

__all__ = ["parsed", "raw_value", "remove_member", "set_member"]

Path = tuple[str, ...]

_BLANK = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SCALAR = re.compile(r"[^\s,\]}]+")
_DEEPEST = 200


@dataclass(frozen=True, slots=True)
class _Member:
    """One ``"key": value`` of an object; `start` is where its key begins."""

    key: str
    start: int
    value: "_Value"


@dataclass(frozen=True, slots=True)
class _Value:
    """Where a value lies in the text, and its members when it is an object."""

    start: int
    end: int
    members: tuple[_Member, ...] | None = field(default=None)


def parsed(text: str) -> dict[str, Any]:
    """The document; an empty text is an empty one, as for dockerd, and a byte order mark is skipped.

    Raises RefusedError for a text that is no JSON object, and for one that names a member twice: which of the two
    holds is an accident.
    """
    body = text.removeprefix("\ufeff")
    if not body.strip():
        return {}
    try:
        document = json.loads(body, parse_constant=_no_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"not valid JSON: {clean_line(str(error))}", remedy="repair the file first") from error
    if not isinstance(document, dict):
        raise RefusedError("not a JSON object", remedy="repair the file first")
    return document


def raw_value(text: str, path: Path) -> str | None:
    """The value of member `path` as it is written; None where there is none."""
    parsed(text)
    value = _find(_root(text), path) if text.removeprefix("\ufeff").strip() else None
    return None if value is None else text[value.start : value.end]


def set_member(text: str, path: Path, value: Any, *, raw: str | None = None) -> str:
    """Give member `path` the `value`, written as `raw` where that is given: in its place when it is there, else
    behind the last member of its object. Objects on the way that are missing are made.

    Raises RefusedError when something on the way is no object.
    """
    before = parsed(text)
    if not text.removeprefix("\ufeff").strip():
        return _checked({}, json.dumps(_nested(path, value), indent=2, ensure_ascii=False) + "\n", path, value)
    node, depth = _root(text), 0
    while depth < len(path):
        inner = _find(node, path[depth : depth + 1])
        if inner is None:
            break
        node, depth = inner, depth + 1
        if depth < len(path) and node.members is None:
            if text[node.start : node.end] == "null":  # as good as not there, for dockerd too
                break
            raise RefusedError(f"{'.'.join(path[:depth])} is no JSON object", remedy="repair the file first")
    step, newline = _step(text), "\r\n" if "\r\n" in text else "\n"
    if depth == len(path) or node.members is None:
        written = _written(_nested(path[depth:], value), _indent(text, node.start), step, newline)
        written = raw if raw is not None and depth == len(path) else written
        return _checked(before, text[: node.start] + written + text[node.end :], path, value)
    nested = _nested(path[depth + 1 :], value)
    new = _inserted(text, node, path[depth], nested, (step, newline), raw if depth + 1 == len(path) else None)
    return _checked(before, new, path, value)


def remove_member(text: str, path: Path) -> str:
    """Take member `path` out, with the comma that goes with it; a text without it is returned as it is."""
    before = parsed(text)
    parent = _find(_root(text), path[:-1]) if before else None
    members = parent.members if parent is not None else None
    place = next((i for i, m in enumerate(members or ()) if m.key == path[-1]), None)
    if parent is None or not members or place is None:
        return text
    if place:
        new = text[: members[place - 1].value.end] + text[members[place].value.end :]
    elif len(members) > 1:
        new = text[: members[0].start] + text[members[1].start :]
    else:
        new = text[: parent.start] + "{}" + text[parent.end :]
    return _checked(before, new, path, _GONE)


_GONE = object()


def _nested(path: Path, value: Any) -> Any:
    """`value` below the objects that `path` names."""
    for part in reversed(path):
        value = {part: value}
    return value


def _checked(before: Mapping[str, Any], after: str, path: Path, value: Any) -> str:
    """`after`, when it differs from the document `before` in member `path` alone."""
    expected: Any = copy.deepcopy(before)
    node = expected
    for part in path[:-1]:
        node[part] = {} if node.get(part) is None else node[part]
        node = node[part]
    if value is _GONE:
        node.pop(path[-1], None)
    else:
        node[path[-1]] = value
    if json.dumps(parsed(after)) != json.dumps(expected):
        raise RefusedError(f"{'.'.join(path)} does not fit into the way this file is written", remedy="edit it by hand")
    return after


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{json.dumps(key)} is there twice")
        found[key] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _root(text: str) -> _Value:
    start = _blank(text, 1 if text.startswith("\ufeff") else 0)
    return _scan(text, start, 0)


def _scan(text: str, start: int, depth: int) -> _Value:
    """The value at `start` of a valid text, with the places of the members of objects."""
    if depth > _DEEPEST:
        raise RefusedError("nested too deeply", remedy="edit it by hand")
    if text[start] == "{":
        return _scan_object(text, start, depth)
    if text[start] == "[":
        position = _blank(text, start + 1)
        while text[position] != "]":
            position = _blank(text, _scan(text, position, depth + 1).end)
            position = _blank(text, position + 1) if text[position] == "," else position
        return _Value(start, position + 1)
    found = (_STRING if text[start] == '"' else _SCALAR).match(text, start)
    assert found is not None
    return _Value(start, found.end())


def _scan_object(text: str, start: int, depth: int) -> _Value:
    members = []
    position = _blank(text, start + 1)
    while text[position] != "}":
        key = _STRING.match(text, position)
        assert key is not None
        colon = _blank(text, key.end())
        value = _scan(text, _blank(text, colon + 1), depth + 1)
        members.append(_Member(json.loads(key[0]), position, value))
        position = _blank(text, value.end)
        position = _blank(text, position + 1) if text[position] == "," else position
    return _Value(start, position + 1, tuple(members))


def _blank(text: str, position: int) -> int:
    found = _BLANK.match(text, position)
    return found.end() if found is not None else position


def _find(node: _Value, path: Path) -> _Value | None:
    for part in path:
        member = next((m for m in node.members or () if m.key == part), None)
        if member is None:
            return None
        node = member.value
    return node


def _indent(text: str, position: int) -> str:
    """The indentation of the line in which `position` lies."""
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _step(text: str) -> str | None:
    """One level of indentation in this text: that of its first member; None for a text on one line."""
    members = _root(text).members or ()
    if not members:
        return "  "
    head = text[: members[0].start]
    return None if "\n" not in head else _indent(text, members[0].start) or "  "


def _written(value: Any, indent: str, step: str | None, newline: str) -> str:
    """A value in the layout of the text around it; an empty list or object takes one line."""
    if step is None:
        return json.dumps(value, ensure_ascii=False)
    lines = json.dumps(value, indent=step, ensure_ascii=False).split("\n")
    return newline.join([lines[0], *(indent + line for line in lines[1:])])


def _inserted(text: str, node: _Value, key: str, value: Any, style: tuple[str | None, str], raw: str | None) -> str:
    """The text with one member more in object `node`, behind its last one."""
    step, newline = style
    members = node.members or ()
    if not members:
        outer = _indent(text, node.start)
        one_line = step is None
        inner = outer + (step or "")
        written = raw if raw is not None else _written(value, inner, step, newline)
        member = f"{json.dumps(key, ensure_ascii=False)}: {written}"
        body = f"{{{member}}}" if one_line else f"{{{newline}{inner}{member}{newline}{outer}}}"
        return text[: node.start] + body + text[node.end :]
    last = members[-1]
    previous = members[-2].value.end + 1 if len(members) > 1 else node.start + 1
    gap = text[previous : last.start]
    own_line = "\n" in gap
    indent = _indent(text, last.start)
    written = raw if raw is not None else _written(value, indent, step if own_line else None, newline)
    gap = newline + indent if own_line else gap if len(members) > 1 else " "
    return f"{text[: last.value.end]},{gap}{json.dumps(key, ensure_ascii=False)}: {written}{text[last.value.end :]}"
