"""TOML for many hosts: parsed table by table, because the configurations of a fleet differ in few of them.

The parser is the standard library's. Where a document is not simply one table after the other it gets it whole, so
that what comes out, or what is wrong with it, is always the parser's own word.
"""

import functools
import re
import tomllib
from dataclasses import dataclass
from typing import Any

__all__ = ["parse_toml"]

_HEADER = re.compile(r"^[ \t]*\[", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Table:
    """One table of a document. `element`: of an array of tables (``[[a]]``)."""

    path: tuple[str, ...]
    content: dict[str, Any]
    element: bool = False


def parse_toml(text: str) -> dict[str, Any]:
    """The document; what it holds is shared with others and may not be changed. Raises ValueError and RecursionError
    as `tomllib.loads` does."""
    document = _by_tables(text)
    return tomllib.loads(text) if document is None else document


def _by_tables(text: str) -> dict[str, Any] | None:
    """The document put together from its tables; None when they depend on each other or are no tables."""
    starts = [found.start() for found in _HEADER.finditer(text)]
    pieces = [text[start:end] for start, end in zip([0, *starts], [*starts, len(text)], strict=True)]
    first = _table(pieces[0], header=False)
    if first is None:
        return None
    tree = _Tree(dict(first.content))
    for piece in pieces[1:]:
        table = _table(piece, header=True)
        if table is None or not tree.add(table):
            return None
    return tree.document


class _Tree:
    """A document that grows. `_made` are the tables that headers made, by path, `_own` those that had a header of
    their own, `_arrays` the arrays of tables."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._made: dict[tuple[str, ...], dict[str, Any]] = {(): document}
        self._own: set[tuple[str, ...]] = set()
        self._arrays: set[tuple[str, ...]] = set()

    def add(self, table: _Table) -> bool:
        """Put one more in its place; False where that may be wrong."""
        if table.element:
            return self._append(table)
        place = self._place(table.path)
        if place is None or table.path in self._own or not place.keys().isdisjoint(table.content):
            return False
        self._own.add(table.path)
        place.update(table.content)
        return True

    def _append(self, table: _Table) -> bool:
        parent, name = self._place(table.path[:-1]), table.path[-1]
        if parent is None or (name in parent and table.path not in self._arrays):
            return False
        self._arrays.add(table.path)
        parent.setdefault(name, []).append(table.content)
        return True

    def _place(self, path: tuple[str, ...]) -> dict[str, Any] | None:
        """The table of this path, made with those above it if need be; None when something else has its name."""
        place = self.document
        for depth, name in enumerate(path, 1):
            made = self._made.get(path[:depth])
            if made is None:
                if name in place:
                    return None
                made = self._made[path[:depth]] = place[name] = {}
            place = made
        return place


@functools.lru_cache(maxsize=4096)
def _table(piece: str, *, header: bool) -> _Table | None:
    """What one piece of a document says; None when it is no whole table."""
    try:
        content: Any = tomllib.loads(piece)
        if not header:
            return _Table((), content)
        path: list[str] = []
        step: Any = tomllib.loads(piece.partition("\n")[0])
        while isinstance(step, dict) and step:
            ((name, step),) = step.items()
            path.append(name)
            content = content[name]
    except (ValueError, RecursionError):
        return None
    element = isinstance(step, list)
    return _Table(tuple(path), content[0] if element else content, element)
