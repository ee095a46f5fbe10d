"""The syntax of a diff's lines: TOML, YAML and JSON cut into pieces by what they are, whatever draws them then.

The old and the new side of each hunk are read apart, so that a string over several lines is seen as one.
"""

import functools
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

from pygments.lexer import Lexer
from pygments.token import Comment, Keyword, Name, Number, String, _TokenType
from pygments.token import Literal as Value

from gpuwizard.clean import clean
from gpuwizard.plan.diff import DiffLine

__all__ = ["Kind", "Piece", "pieces"]

Kind = Literal["", "comment", "table", "key", "string", "value"]
Piece = tuple[Kind, str]


@functools.lru_cache(maxsize=64)
def pieces(diff: tuple[DiffLine, ...], path: str) -> tuple[tuple[Piece, ...], ...]:
    """For each line of `diff`, its mark and then its pieces; joined they are the line's text. Kept: a plan is looked
    at again and again."""
    lexer = _lexer(path)
    whole = [(("", clean(line.text)),) for line in diff]
    drawn: list[tuple[Piece, ...]] = list(whole)  # type: ignore[arg-type]
    if lexer is None:
        return tuple(drawn)
    for first, last in _hunks(diff):
        for kinds in (("context", "removed"), ("context", "added")):
            numbers = [n for n in range(first, last) if diff[n].kind in kinds]
            bodies = [clean(diff[n].text[1:]) for n in numbers]
            for number, body in zip(numbers, _lexed(lexer, bodies), strict=True):
                drawn[number] = (("", diff[number].text[:1]), *body)
    return tuple(drawn)


def _hunks(diff: Sequence[DiffLine]) -> Iterator[tuple[int, int]]:
    starts = [number for number, line in enumerate(diff) if line.kind == "hunk"]
    yield from pairwise([*starts, len(diff)])


def _lexed(lexer: Lexer, lines: Sequence[str]) -> Iterator[tuple[Piece, ...]]:
    """The pieces of each of these lines, which follow each other."""
    current: list[Piece] = []
    given = 0
    for token, text in lexer.get_tokens("\n".join(lines)):
        for number, part in enumerate(text.split("\n")):
            if number:
                yield tuple(current)
                current, given = [], given + 1
            if part:
                kind = _kind(token)
                if current and current[-1][0] == kind:
                    current[-1] = (kind, current[-1][1] + part)
                else:
                    current.append((kind, part))
    if given < len(lines):
        yield tuple(current)


def _kind(token: _TokenType) -> Kind:
    if token in Comment:
        return "comment"
    if token in String:
        return "string"
    if token in Number or token in Keyword.Constant or token in Name.Constant or token in Value:
        return "value"
    if token in Keyword:
        return "table"
    return "key" if token in Name else ""


@functools.cache
def _lexer(path: str) -> Lexer | None:
    """What reads the content of that file, by its name."""
    name = path.lower().removesuffix(".tmpl")
    if name.endswith((".toml", ".conf")):
        from pygments.lexers.configs import TOMLLexer

        return TOMLLexer(stripnl=False, ensurenl=False)
    if name.endswith((".yaml", ".yml", ".json")):
        from pygments.lexers.data import JsonLexer, YamlLexer

        return (JsonLexer if name.endswith(".json") else YamlLexer)(stripnl=False, ensurenl=False)
    return None
