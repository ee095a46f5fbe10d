"""A TOML text cut into its statements with their places, so that edits can leave every other byte alone."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

__all__ = ["Statement", "flat_path", "statements", "string_end"]

_TRIPLES = ('"""', "'''")


@dataclass(frozen=True, slots=True)
class Statement:
    """One table header or one ``key = value``. `path` is the full dotted path as a tuple.

    ``text[start:end]`` are its whole lines with the newline; ``text[value_start:value_end]`` the value alone
    (header: the line's text without indentation and comment). `table` is the path of the table it stands in.
    """

    kind: Literal["table", "array", "key"]
    path: tuple[str, ...]
    table: tuple[str, ...]
    start: int
    end: int
    value_start: int
    value_end: int


@lru_cache(maxsize=64)
def statements(text: str) -> tuple[Statement, ...]:
    """The statements of a valid TOML text in order; comments and blank lines lie between them. Kept, because one text
    is edited several times, and the hosts of a fleet have the same files."""
    return tuple(_statements(text))


def _statements(text: str) -> Iterator[Statement]:
    table: tuple[str, ...] = ()
    position = 1 if text.startswith("\ufeff") else 0
    while position < len(text):
        start = position
        begin = _skip_blanks(text, position)
        if begin >= len(text) or text[begin] in "\r\n#":
            position = _line_end(text, begin)
            continue
        if text[begin] == "[":
            stop = _value_end(text, begin)
            head = text[begin:stop]
            kind: Literal["table", "array"] = "array" if head.startswith("[[") else "table"
            table = _key_path(head.strip("[]"))
            position = _line_end(text, stop)
            yield Statement(kind, table, table, start, position, begin, stop)
            continue
        equals = _find_equals(text, begin)
        value = _skip_blanks(text, equals + 1)
        stop = _value_end(text, value)
        position = _line_end(text, stop)
        yield Statement("key", (*table, *_key_path(text[begin:equals])), table, start, position, value, stop)


def flat_path(path: tuple[str, ...], quote: str = '"') -> str:
    """A path as TOML writes it; parts that are no bare keys are quoted."""
    bare = [p.replace("-", "").replace("_", "").isalnum() and p.isascii() for p in path]
    return ".".join(p if ok else f"{quote}{p}{quote}" for p, ok in zip(path, bare, strict=True))


@lru_cache(maxsize=4096)
def _key_path(key: str) -> tuple[str, ...]:
    parts: list[str] = []
    node: object = tomllib.loads(f"{key} = 0")
    while isinstance(node, dict):
        ((part, node),) = node.items()
        parts.append(part)
    return tuple(parts)


def _skip_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t":
        position += 1
    return position


def _line_end(text: str, position: int) -> int:
    newline = text.find("\n", position)
    return len(text) if newline < 0 else newline + 1


def _find_equals(text: str, position: int) -> int:
    while text[position] != "=":
        position = string_end(text, position) if text[position] in "\"'" else position + 1
    return position


def _value_end(text: str, position: int) -> int:
    """The end of a value: the last character before its comment or newline, at bracket depth 0."""
    depth = 0
    end = position
    while position < len(text):
        char = text[position]
        if char in "\"'":
            position = end = string_end(text, position)
            continue
        if char == "#":
            if depth == 0:
                break
            position = _line_end(text, position)
            continue
        if char == "\n" and depth == 0:
            break
        depth += (char in "[{") - (char in "]}")
        position += 1
        if not char.isspace():
            end = position
    return end


def string_end(text: str, position: int) -> int:
    """Where the string that begins at `position` ends, behind its closing quotes."""
    quote = text[position : position + 3] if text.startswith(_TRIPLES, position) else text[position]
    escapes = quote[0] == '"'
    cursor = position + len(quote)
    while cursor < len(text):
        if escapes and text[cursor] == "\\":
            cursor += 2
        elif text.startswith(quote, cursor):
            cursor += len(quote)
            while len(quote) == 3 and text.startswith(quote[0], cursor):
                cursor += 1  # up to two more quotes belong to the string
            return cursor
        else:
            cursor += 1
    return len(text)
