"""The default handler on and off again: the line that makes nvidia the default remembers what stood there before.

A changed line ends in ``# gpuwizard: before "runc"``, with the value as it was written; a line (and a table header)
that was not there ends in ``# gpuwizard: before unset``. Taking it back gives the text of before, byte by byte.
"""

import tomllib
from collections.abc import Mapping
from typing import Any

from gpuwizard.containerd.edit import newline_of, parsed, set_value
from gpuwizard.containerd.statements import Statement, statements
from gpuwizard.errors import RefusedError
from gpuwizard.flavours.handler import NAME

__all__ = ["KEY", "former_default", "restore_default", "set_default"]

Path = tuple[str, ...]

KEY = "default_runtime_name"
_MARK = " # gpuwizard: before "
_UNSET = "unset"


def set_default(text: str, table_path: Path, name: str) -> str:
    """Make `name` the ``default_runtime_name`` of table `table_path`; a comment on the line says what was there.

    Nothing changes where it is `name` already; an operator's own comment stays. Raises RefusedError when the text
    cannot take it.
    """
    path = (*table_path, KEY)
    line = _key(text, path)
    if line is None:
        return _added(text, path, name)
    raw = text[line.value_start : line.value_end]
    if tomllib.loads(f"x = {raw}")["x"] == name:
        return text
    if "\n" in raw:
        raise RefusedError(f"{KEY} is written over several lines", remedy="write its value on one line, plan again")
    new = set_value(text, path, name)
    changed = _key(new, path)
    assert changed is not None
    return new if _mark(new, changed) is not None else _marked(new, changed, raw)


def restore_default(text: str, table_path: Path, name: str = NAME) -> str:
    """Take back what `set_default` did, to the byte. A text without its mark is returned as it is, and so is one
    whose value somebody changed from `name` since. Raises RefusedError when the text cannot take it."""
    path = (*table_path, KEY)
    line = _key(text, path)
    mark = _mark(text, line) if line is not None else None
    if line is None or mark is None or _value(text, line) != name:
        return text
    if mark == _UNSET:
        return _removed(text, path, line)
    end = _content_end(text, line)
    tail = text[line.value_end : end].rpartition(_MARK)[0]
    new = text[: line.value_start] + mark + tail + text[end:]
    return _checked(text, new, path, tomllib.loads(f"x = {mark}")["x"])


def former_default(text: str, table_path: Path) -> str | None:
    """The value that `restore_default` would put back: ``""`` for none at all; None where there is no mark."""
    line = _key(text, (*table_path, KEY))
    mark = _mark(text, line) if line is not None else None
    if mark is None:
        return None
    return "" if mark == _UNSET else str(tomllib.loads(f"x = {mark}")["x"])


def _added(text: str, path: Path, name: str) -> str:
    """The line, and its table where the text has none. A text that ends without a newline still does afterwards:
    that is how the way back knows that the newline before our last line is ours as well."""
    newline = newline_of(text)
    open_end = bool(text) and not text.endswith("\n")
    base = text + newline if open_end else text
    new = set_value(base, path, name)
    header = _header(new, path[:-1])
    if header is not None and _header(base, path[:-1]) is None:
        new = _marked(new, header, _UNSET)
    line = _key(new, path)
    assert line is not None
    new = _marked(new, line, _UNSET)
    return new.removesuffix(newline) if open_end else new


def _removed(text: str, path: Path, line: Statement) -> str:
    """Without the line, and without its table header where that is ours and nothing else stands in it."""
    header = _header(text, path[:-1])
    ours = header is not None and _mark(text, header) == _UNSET
    alone = not any(s.kind == "key" and s.table == path[:-1] and s.path != path for s in statements(text))
    new = _without(text, line)
    if header is not None and ours and alone:
        new = _without(new, header, blank=True)
    elif header is not None and ours:
        end = _content_end(new, header)
        new = new[:end].removesuffix(_MARK + _UNSET) + new[end:]
    if not text.endswith("\n") and line.end == len(text):
        newline = newline_of(text)
        new = new.removesuffix(newline)
    return _checked(text, new, path, None)


def _without(text: str, statement: Statement, *, blank: bool = False) -> str:
    """The text less the statement's line; `blank`: less the empty line before it, too."""
    head = text[: statement.start]
    newline = newline_of(text)
    if blank and head.removesuffix(newline).strip() and head.endswith(newline + newline):
        head = head.removesuffix(newline)
    return head + text[statement.end :]


def _checked(before: str, after: str, path: Path, value: str | None) -> str:
    """`after`, when it says the same as `before` but for `path`."""
    expected = _leaves(parsed(before)) | {path: repr(value)}
    if value is None:
        del expected[path]
    if _leaves(parsed(after)) != expected:
        raise RefusedError(
            f"{KEY} cannot be taken back in the way this file is written", remedy="change that line by hand"
        )
    return after


def _leaves(table: Mapping[str, Any], path: Path = ()) -> dict[Path, Any]:
    found: dict[Path, Any] = {}
    for key, value in table.items():
        found |= _leaves(value, (*path, key)) if isinstance(value, dict) else {(*path, key): repr(value)}
    return found


def _key(text: str, path: Path) -> Statement | None:
    parsed(text)
    return next((s for s in statements(text) if s.kind == "key" and s.path == path), None)


def _header(text: str, table: Path) -> Statement | None:
    return next((s for s in statements(text) if s.kind == "table" and s.path == table), None)


def _value(text: str, line: Statement) -> object:
    value: object = tomllib.loads(f"x = {text[line.value_start : line.value_end]}")["x"]
    return value


def _content_end(text: str, statement: Statement) -> int:
    """Where the statement's last line ends, before its newline."""
    return statement.start + len(text[statement.start : statement.end].rstrip("\r\n"))


def _marked(text: str, statement: Statement, former: str) -> str:
    end = _content_end(text, statement)
    return text[:end] + _MARK + former + text[end:]


def _mark(text: str, statement: Statement) -> str | None:
    """What the mark behind a statement remembers; None without a mark, or with one that nobody can use."""
    _, found, former = text[statement.value_end : _content_end(text, statement)].rpartition(_MARK)
    if not found:
        return None
    try:
        known = former == _UNSET or isinstance(tomllib.loads(f"x = {former}")["x"], str)
    except tomllib.TOMLDecodeError:
        return None
    return former if known else None
