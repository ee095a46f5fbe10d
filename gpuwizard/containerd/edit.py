"""Edits of a TOML text that keep its comments, order and formatting; each is checked by an independent parser.

A text is edited only where something is planned to change. Afterwards both texts are parsed and compared: unless
exactly the planned keys differ, the edit is refused. That catches every style that cannot be extended by tables
(inline tables, dotted keys) and every mistake of the editor itself.
"""

import copy
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from gpuwizard.clean import clean_line
from gpuwizard.containerd.statements import Statement, flat_path, statements, string_end
from gpuwizard.errors import RefusedError

__all__ = ["add_import", "add_table", "literal", "newline_of", "parsed", "set_value", "verified", "verify"]

Path = tuple[str, ...]


def add_table(text: str, path: Path, content: Mapping[str, Any], *, after: Path | None = None) -> str:
    """Add table `path` with `content` (a nested mapping becomes a sub-table) behind everything of table `after`,
    in the style of that table's header; without such a table at the end of the text.

    Raises RefusedError when the text cannot take it.
    """
    parsed(text)
    every = statements(text)
    model = [s for s in every if after is not None and s.kind == "table" and s.table[: len(after)] == after]
    newline = newline_of(text)
    if model:
        own = [s for s in every if after is not None and s.table[: len(after)] == after]
        place = max(s.end for s in own)
        indent = _indent(text, model[0])
        quote = "'" if "'" in text[model[0].value_start : model[0].value_end] else '"'
        inner = next((_indent(text, s) for s in own if s.kind == "key" and s.table == model[0].table), indent + "  ")
        step = inner[len(indent) :] if inner.startswith(indent) else ""
    else:
        place, indent, quote, step = len(text), "", '"', "  "
    lines = _table_lines(path, content, indent, step, quote)
    block = newline.join(lines) + newline
    before, behind = text[:place], text[place:]
    if before and not before.endswith("\n"):
        before += newline
    if _blank_before(text, model[0]) if model else before.strip():
        block = newline + block
    return verify(text, before + block + behind, _leaves(path, content))


def set_value(text: str, path: Path, value: Any) -> str:
    """Give key `path` the `value`: change its line (a comment behind it stays), or add a line to its table or beside
    the dotted keys of its table, or add the table. Raises RefusedError when the text cannot take it."""
    parsed(text)
    every = statements(text)
    existing = next((s for s in every if s.kind == "key" and s.path == path), None)
    if existing is not None:
        new = text[: existing.value_start] + literal(value) + text[existing.value_end :]
        return verify(text, new, {path: value})
    table = path[:-1]
    header = next((s for s in every if s.kind == "table" and s.path == table), None)
    dotted = [s for s in every if s.kind == "key" and len(s.table) < len(table) and s.path[: len(table)] == table]
    if header is None and dotted and len(dotted[-1].path) > len(table):
        return verify(text, _add_dotted(text, dotted[-1], path, literal(value)), {path: value})
    if header is None and table:
        return verify(text, add_table(text, table, {path[-1]: value}), {path: value})
    if header is None:
        return verify(text, _add_top_level(text, every, path[-1], literal(value)), {path: value})
    place, indent = _place_in(text, every, header)
    line = f"{indent}{flat_path(path[-1:])} = {literal(value)}{newline_of(text)}"
    head = text[:place] if text[:place].endswith("\n") else text[:place] + newline_of(text)
    return verify(text, head + line + text[place:], {path: value})


def add_import(text: str, pattern: str) -> str:
    """Append `pattern` to the top-level list `imports`, or add that list before the first table.

    A text whose list has the pattern already is returned as it is. Raises RefusedError when it cannot be done.
    """
    imports = parsed(text).get("imports", [])
    if pattern in imports:
        return text
    every = statements(text)
    existing = next((s for s in every if s.kind == "key" and s.path == ("imports",)), None)
    if existing is None:
        new = _add_top_level(text, every, "imports", f"[{literal(pattern)}]")
    else:
        value = text[existing.value_start : existing.value_end]
        new = text[: existing.value_start] + _appended(value, pattern, newline_of(text)) + text[existing.value_end :]
    return verify(text, new, {("imports",): [*imports, pattern]})


def verify(before: str, after: str, planned: Mapping[Path, Any]) -> str:
    """Return `after` when it parses and differs from `before` in exactly the `planned` keys.

    Raises RefusedError otherwise: the file is then better edited by a person.
    """
    expected = copy.deepcopy(dict(parsed(before)))
    for path, value in planned.items():
        node = expected
        for part in path[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise RefusedError(f"{flat_path(path)} cannot be set: {clean_line(part)} is no table")
        if value == {} and isinstance(node.get(path[-1]), dict):
            continue
        node[path[-1]] = value
    return verified(after, expected, f"the edit of {', '.join(flat_path(p) for p in planned)}")


def verified(text: str, expected: Mapping[str, Any], what: str) -> str:
    """Return `text` when it parses to exactly `expected`. Raises RefusedError otherwise, naming `what` failed."""
    try:
        result = parsed(text)
    except RefusedError:
        result = None
    if not _same(expected, result):
        raise RefusedError(
            f"{what} does not fit into the way this file is written",
            remedy="write the runtime tables as [plugins…] headers, then plan again",
        )
    return text


def literal(value: Any) -> str:
    """A value as TOML writes it: strings, booleans, numbers and lists of them."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
        case list() | tuple():
            return "[" + ", ".join(literal(v) for v in value) + "]"
        case _:
            raise RefusedError(f"a value of type {type(value).__name__} cannot be written")


@lru_cache(maxsize=64)
def parsed(text: str) -> Mapping[str, Any]:
    """The content of a text; nobody may change it, because it is kept for the next who asks. Raises RefusedError for a
    text that is no TOML."""
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RefusedError(f"not valid TOML: {clean_line(str(error))}") from error


def _same(one: Any, other: Any) -> bool:
    """Equal in value and type: ``true`` is not ``1``."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    return type(one) is type(other) and (one == other or (one != one and other != other))


def _leaves(path: Path, content: Mapping[str, Any]) -> dict[Path, Any]:
    """The single values of a nested table by their full path; an empty table is a value."""
    found: dict[Path, Any] = {}
    for key, value in content.items():
        found |= _leaves((*path, key), value) if isinstance(value, dict) else {(*path, key): value}
    return found or {path: {}}


def newline_of(text: str) -> str:
    """How this text ends its lines."""
    first = text.find("\n")
    return "\r\n" if first > 0 and text[first - 1] == "\r" else "\n"


def _indent(text: str, statement: Statement) -> str:
    line = text[statement.start : statement.end].removeprefix("\ufeff")
    return line[: len(line) - len(line.lstrip(" \t"))]


def _blank_before(text: str, statement: Statement) -> bool:
    """True when this style separates tables by a blank line."""
    lines = text[: statement.start].splitlines()
    return bool(lines) and not lines[-1].strip()


def _table_lines(path: Path, content: Mapping[str, Any], indent: str, step: str, quote: str) -> list[str]:
    lines = [f"{indent}[{flat_path(path, quote)}]"]
    lines += [f"{indent}{step}{flat_path((k,))} = {literal(v)}" for k, v in content.items() if not isinstance(v, dict)]
    for key, value in content.items():
        if isinstance(value, dict):
            lines += _table_lines((*path, key), value, indent + step, step, quote)
    return lines


def _place_in(text: str, every: tuple[Statement, ...], header: Statement) -> tuple[int, str]:
    """Where a new line of that table goes, behind its last own key, and with which indentation."""
    own = [s for s in every if s.kind == "key" and s.table == header.path and s.start >= header.end]
    if own:
        return own[-1].end, _indent(text, own[-1])
    return header.end, _indent(text, header) + "  "


def _add_dotted(text: str, beside: Statement, path: Path, value: str) -> str:
    """A line of dotted keys behind `beside`, whose table exists by such keys alone: a header for it is no TOML."""
    head, newline = text[: beside.end], newline_of(text)
    head += "" if head.endswith("\n") else newline
    key = flat_path(path[len(beside.table) :])
    return f"{head}{_indent(text, beside)}{key} = {value}{newline}{text[beside.end :]}"


def _add_top_level(text: str, every: tuple[Statement, ...], key: str, value: str) -> str:
    newline = newline_of(text)
    line = f"{key} = {value}{newline}"
    top = [s for s in every if s.kind == "key" and not s.table]
    version = next((s for s in top if s.path == ("version",)), None)
    if top:
        place = (version or top[-1]).end
        head = text[:place] if text[:place].endswith("\n") else text[:place] + newline
        return head + line + text[place:]
    place = every[0].start if every else len(text)
    head = text[:place]
    lines = head.splitlines(keepends=True)
    while every and lines and lines[-1].strip():  # comments right above the first table belong to it
        place -= len(lines.pop())
    place = max(place, 1 if text.startswith("\ufeff") else 0)
    head = text[:place]
    head += "" if not head.strip("\ufeff") or head.endswith("\n") else newline
    return head + line + (newline if every else "") + text[place:]


def _appended(value: str, pattern: str, newline: str) -> str:
    """The text of a list with one element more, at its end. Every line stays as it is, but for a comma behind the
    element that was the last: where the bracket has a line of its own the new element gets one before it."""
    close = len(value) - 1
    last = _last_element_end(value)
    own_line = value.rfind("\n", 0, close) + 1
    if last is None and not own_line:
        return f"[{literal(pattern)}]"
    trailing = last is not None and value[last - 1] == ","
    end = "," if trailing else ""
    if last is not None and last > own_line:
        return f"{value[:last]}{'' if trailing else ','} {literal(pattern)}{end}{value[last:]}"
    indent, leading = _style(value, last, value[own_line:close])
    comma = "" if last is None or trailing or leading else ","
    added = f"{indent}{', ' if leading and not trailing else ''}{literal(pattern)}{end}{newline}"
    last = last or 1
    return f"{value[:last]}{comma}{value[last:own_line]}{added}{value[own_line:]}"


def _style(value: str, last: int | None, outer: str) -> tuple[str, bool]:
    """With which indentation an element stands on a line of its own, and whether its comma goes before it. `outer` is
    the indentation of the closing bracket; where no element has its own line, a comment may."""
    lines = value[: last or len(value) - 1].splitlines()[1:]
    line = next((line for line in reversed(lines) if line.strip()), None)
    if line is None:
        return f"{outer}  ", False
    bare = line.lstrip(" \t")
    return line[: len(line) - len(bare)], bare.startswith(",")


def _last_element_end(value: str) -> int | None:
    """The end of the last element of a list's text, with its comma; None for a list without elements."""
    inner = value[1:-1]
    end: int | None = None
    position = 0
    while position < len(inner):
        char = inner[position]
        if char == "#":
            newline = inner.find("\n", position)
            position = len(inner) if newline < 0 else newline
        elif char in "\"'":
            position = end = string_end(inner, position)
        else:
            position += 1
            if not char.isspace():
                end = position
    return None if end is None else end + 1
