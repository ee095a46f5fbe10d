"""TOML as containerd's generations of readers take it, with the line that every key stands on.

1.x reads with an older library that takes what the standard forbids: any byte in a comment, a table that continues
dotted keys, one table under two spellings of its header, a lone carriage return, leading zeros, inline tables over
several lines; and it stumbles over tabs around the dots of a key. 2.x reads strictly by TOML 1.0, with TOML 1.1's
inline tables from 2.4 on (Debian builds its 2.1.9 with a library that takes them, too). Seen with the real 1.6.20,
1.7.24 and 2.1.9; 2.3 and 2.4 from the library that their sources pin.
"""

import re
import tomllib
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from gpuwizard.clean import clean_line
from gpuwizard.containerd.statements import string_end

__all__ = ["Document", "TomlError", "read"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN_NUMBER = re.compile(r"[+-]?(?:0|[1-9](?:_?[0-9])*)\Z")
_ZEROS = re.compile(r"([+-]?)0+([0-9](?:_?[0-9])*)\Z")
_SCALAR = re.compile(r"[^\s,\]}#]+(?: [0-9]{2}:[^\s,\]}#]+)?")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_DATE_ONLY = re.compile(r"\d{4}-\d\d-\d\d\Z")
_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\e")
_INT64 = 1 << 63
_DEPTH = 100

Path = tuple[str, ...]


class TomlError(ValueError):
    """The text cannot be read; says why and in which line."""

    def __init__(self, why: str, line: int) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line


@dataclass(slots=True)
class Document:
    """The tables of a text, and for the path of each key and table header the line where it stands first."""

    data: dict[str, Any]
    lines: dict[Path, int] = field(default_factory=dict)


class _Table(dict[str, Any]):
    """A table while it is read: `made` tells by what, which decides whether it may be continued."""

    __slots__ = ("made", "spelt")

    def __init__(self, made: str) -> None:
        super().__init__()
        self.made = made
        self.spelt: set[str] = set()


def read(text: str, *, old: bool = False, new: bool = False) -> Document:
    """Read `text` as containerd 1.x (`old`), 2.0 to 2.3, or 2.4 and later (`new`) do. Raises TomlError where that
    containerd does not start."""
    return _Reader(text, old, new).document()


class _Reader:
    """One pass over one text."""

    def __init__(self, text: str, old: bool, new: bool) -> None:
        self.text = text
        self.old, self.loose = old, old or new
        self.at = 0
        self.breaks = [m.start() for m in re.finditer("\n", text)]
        self.root = _Table("header")
        self.lines: dict[Path, int] = {}
        self.table, self.prefix = self.root, ()

    prefix: Path

    def document(self) -> Document:
        """Every statement of the text in order."""
        text, end = self.text, len(self.text)
        while True:
            self._skip_lines()
            if self.at >= end:
                return Document(_plain(self.root), self.lines)
            if text[self.at] == "[":
                self._header()
                if self.old:
                    continue
            else:
                self._assign(self.table, self.prefix)
            self._skip_blanks()
            if self.at < end and not self._newline() and text[self.at] != "#":
                raise self._error("something else stands behind the value")

    def _error(self, why: str, at: int | None = None) -> TomlError:
        return TomlError(why, bisect_right(self.breaks, (self.at if at is None else at) - 1) + 1)

    def _newline(self) -> int:
        """The length of the line break here, 0 when there is none."""
        if self.text.startswith("\n", self.at):
            return 1
        if self.text.startswith("\r", self.at):
            return 2 if self.text.startswith("\n", self.at + 1) else int(self.old)
        return 0

    def _skip_blanks(self) -> None:
        text, end, at = self.text, len(self.text), self.at
        while at < end and text[at] in " \t":
            at += 1
        self.at = at

    def _skip_lines(self) -> None:
        """Blanks, newlines and comments."""
        text, end = self.text, len(self.text)
        while True:
            self._skip_blanks()
            if self.at >= end:
                return
            if length := self._newline():
                self.at += length
            elif text[self.at] == "#":
                stop = text.find("\n", self.at)
                stop = end if stop < 0 else stop
                comment = text[self.at : stop].removesuffix("\r")
                if not self.old and _FORBIDDEN.search(comment):
                    raise self._error("a control character in a comment")
                self.at = stop
            else:
                return

    def _key(self, *, tabs: bool) -> Path:
        """A key with its dots; stops behind it. Without `tabs` there may be none beside the dots."""
        parts: list[str] = []
        while True:
            self._skip_dot_blanks(tabs=tabs or not parts)
            char = self.text[self.at : self.at + 1]
            if char and char in "\"'" and not self.text.startswith(char * 3, self.at):
                parts.append(self._string())
            else:
                found = _BARE.match(self.text, self.at)
                if found is None:
                    raise self._error(
                        f"no key can begin with {clean_line(char)!r}" if char else "the text ends in a key"
                    )
                parts.append(found[0])
                self.at = found.end()
            behind = self.at
            self._skip_blanks()
            if self.text[self.at : self.at + 1] != ".":
                return tuple(parts)
            if not tabs:
                self._refuse_tab(behind)
            self.at += 1

    def _skip_dot_blanks(self, *, tabs: bool) -> None:
        start = self.at
        self._skip_blanks()
        if not tabs:
            self._refuse_tab(start)

    def _refuse_tab(self, start: int) -> None:
        if "\t" in self.text[start : self.at]:
            raise self._error("containerd 1.x takes no tab beside a dot of a key", start)

    def _header(self) -> None:
        start, array = self.at, self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        path = self._key(tabs=True)
        closing = "]]" if array else "]"
        if not self.text.startswith(closing, self.at):
            raise self._error(f"a table header must end with {closing}")
        if self.old and "\t" in self.text[start : start + 3]:
            raise self._error("containerd 1.x takes no tab at the start of a table header", start)
        self.at += len(closing)
        parent = self._descend(self.root, path[:-1], start, made="implied")
        spelt = self.text[start : self.at]
        self.table = self._open_array(parent, path, start) if array else self._open(parent, path, start, spelt)
        self.prefix = path
        self.lines.setdefault(path, self._error("", start).line)

    def _open(self, parent: _Table, path: Path, start: int, spelt: str) -> _Table:
        """The table of a header ``[path]``; 1.x knows a table again only when its header is spelt the same."""
        table = parent.get(path[-1])
        if table is None:
            table = parent[path[-1]] = _Table("implied")
        if not isinstance(table, _Table):
            raise self._error(f"{_dotted(path)} is a value already, it cannot be a table", start)
        if table.made == "inline" or spelt in table.spelt or (table.made in ("header", "dotted") and not self.old):
            raise self._error(f"table {_dotted(path)} is defined twice", start)
        table.made = "header"
        table.spelt.add(spelt)
        return table

    def _open_array(self, parent: _Table, path: Path, start: int) -> _Table:
        """A new element for a header ``[[path]]``."""
        tables = parent.setdefault(path[-1], _Tables())
        if not isinstance(tables, _Tables):
            raise self._error(f"{_dotted(path)} is defined already, it cannot be an array of tables", start)
        tables.append(_Table("header"))
        last: _Table = tables[-1]
        return last

    def _descend(self, table: _Table, path: Path, start: int, made: str) -> _Table:
        """The table that `path` leads to from `table`; missing ones are made."""
        for part in path:
            child = table.get(part)
            if child is None:
                child = table[part] = _Table(made)
            elif isinstance(child, _Tables):
                child = child[-1]
            if not isinstance(child, _Table) or child.made == "inline":
                raise self._error(f"{_dotted(path)}: {clean_line(part)} is no table that can be continued", start)
            if made == "dotted" and child.made in ("header", "implied") and not self.old:
                raise self._error(f"{_dotted(path)} has a table header already", start)
            table = child
        return table

    def _assign(self, table: _Table, prefix: Path) -> None:
        """One ``key = value`` into `table`."""
        start = self.at
        path = self._key(tabs=not self.old)
        if self.text[self.at : self.at + 1] != "=":
            raise self._error("an equals sign is missing behind the key")
        self.at += 1
        self._skip_blanks()
        parent = self._descend(table, path[:-1], start, made="dotted")
        if path[-1] in parent and not (self.old and table.made == "open"):
            raise self._error(f"{_dotted((*prefix, *path))} is defined twice", start)
        line = self._error("", start).line
        for length in range(1, len(path) + 1):
            self.lines.setdefault((*prefix, *path[:length]), line)
        parent[path[-1]] = self._value((*prefix, *path))

    def _value(self, path: Path) -> Any:
        char = self.text[self.at : self.at + 1]
        if len(path) > _DEPTH:
            raise self._error("the tables are nested too deeply")
        match char:
            case '"' | "'":
                return self._string()
            case "[":
                return self._array(path)
            case "{":
                return self._inline(path)
        found = _SCALAR.match(self.text, self.at)
        if found is None:
            raise self._error("a value is missing")
        value = self._scalar(found[0])
        self.at = found.end()
        return value

    def _string(self) -> str:
        start = self.at
        end = string_end(self.text, start)
        token = self.text[start:end]
        long = token.startswith(('"""', "'''"))
        if not long and "\\" not in token and len(token) > 1 and token[-1] == token[0]:
            if _FORBIDDEN.search(token) or "\n" in token:
                raise self._error("a line break or control character in a string")
            self.at = end
            return token[1:-1]
        if not self.old and token[0] == '"':
            token = _ESCAPE.sub(r"\1\\u001b", token)
        try:
            value = tomllib.loads(f"x = {token}")["x"]
        except tomllib.TOMLDecodeError as error:
            raise self._error(f"a string cannot be read: {_reason(error)}") from error
        if not isinstance(value, str):
            raise self._error("a string does not end")
        self.at = end
        return value

    def _array(self, path: Path) -> list[Any]:
        values: list[Any] = []
        self.at += 1
        while True:
            self._skip_lines()
            if self.text[self.at : self.at + 1] == "]":
                self.at += 1
                return values
            values.append(self._value((*path, "")))
            self._skip_lines()
            char = self.text[self.at : self.at + 1]
            if char == ",":
                self.at += 1
            elif char != "]":
                raise self._error("a comma or ] is missing in a list")

    def _inline(self, path: Path) -> _Table:
        table = _Table("open")
        self.at += 1
        skip = self._skip_lines if self.loose else self._skip_blanks
        comma = False
        while True:
            skip()
            if self.text[self.at : self.at + 1] == "}" and (not comma or self.loose > self.old):
                break
            self._assign(table, path)
            skip()
            char = self.text[self.at : self.at + 1]
            comma = char == ","
            if comma:
                self.at += 1
            elif char != "}":
                raise self._error("a comma or } is missing in an inline table")
        self.at += 1
        _freeze(table)
        return table

    def _scalar(self, word: str) -> Any:
        """The value of a word without quotes; an error does not repeat it, because it may be a password."""
        if word in ("true", "false"):
            return word == "true"
        zeros = _ZEROS.match(word) if self.old else None
        word = zeros[1] + zeros[2] if zeros else word
        if _PLAIN_NUMBER.match(word):
            value: Any = int(word)
        elif self.old and _DATE_ONLY.match(word) and self.text.startswith("\n", self.at + len(word)):
            raise self._error("containerd 1.x takes no date alone at the end of a line")
        else:
            try:
                value = tomllib.loads(f"x = {word}")["x"]
            except tomllib.TOMLDecodeError as error:
                raise self._error("what stands there is no value: strings stand in quotes") from error
        if isinstance(value, int) and not -_INT64 <= value < _INT64:
            raise self._error("the number is too large")
        return value


class _Tables(list[Any]):
    """An array of tables made by ``[[headers]]``; another list cannot be continued."""


def _freeze(table: _Table) -> None:
    """Nothing can be added to an inline table nor below it."""
    table.made = "inline"
    for value in table.values():
        if isinstance(value, _Table):
            _freeze(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


def _dotted(path: Path) -> str:
    return clean_line(".".join(path))


def _reason(error: Exception) -> str:
    return clean_line(str(error).partition(" (at ")[0])
