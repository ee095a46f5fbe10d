"""The words of a Go template: its text, and the tokens of each ``{{ … }}``, with the line of each."""

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["BadTemplateError", "Piece", "TemplateProblemError", "Token", "UnpredictableError", "lex"]

Kind = Literal["field", "variable", "word", "string", "char", "number", "mark", "space"]

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    |(?P<string>"(?:\\[^\n]|[^"\\\n])*"|`[^`]*`)
    |(?P<char>'(?:\\[^\n]|[^'\\\n])+')
    |(?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|[0-9][0-9_]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?))
    |(?P<field>\.[^\W\d]\w*)
    |(?P<variable>\$\w*)
    |(?P<word>[^\W\d]\w*)
    |(?P<mark>:=|[=|(),.])""",
    re.VERBOSE,
)
_COMMENT = re.compile(r"-?[ \t\r\n]*/\*")
_BLANKS = " \t\r\n"
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL)


class TemplateProblemError(Exception):
    """What is the matter with a template: `what` in words, at `line` (1-based)."""

    def __init__(self, what: str, line: int) -> None:
        super().__init__(what)
        self.what = what
        self.line = line

    def __str__(self) -> str:
        return f"line {self.line}: {self.what}"


class BadTemplateError(TemplateProblemError):
    """Go refuses it: K3s ends with this at every start (`runtimes.md §2.3`)."""


class UnpredictableError(TemplateProblemError):
    """It may be right, but its result cannot be told here."""


@dataclass(frozen=True, slots=True)
class Token:
    """One word of an action. `text` is the content of a string, the name of a field without its dot, else as it
    stands."""

    kind: Kind
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text (`tokens` is None), or one action."""

    line: int
    text: str = ""
    tokens: tuple[Token, ...] | None = None


def lex(source: str) -> tuple[Piece, ...]:
    """Cut a template into pieces; trim markers are applied, comments are gone.

    Raises BadTemplateError for an action that has no end or holds what Go does not know.
    """
    pieces: list[Piece] = []
    position, line, trim = 0, 1, False
    while (start := source.find("{{", position)) >= 0:
        text = source[position:start]
        inner = start + 2
        trims_left = source[inner : inner + 1] == "-" and source[inner + 1 : inner + 2] in tuple(_BLANKS)
        _add_text(pieces, text, line, left=trim, right=trims_left)
        line += text.count("\n")
        end = _end(source, inner, line)
        body = source[inner:end]
        trim = len(body) >= 2 and body.endswith("-") and body[-2] in _BLANKS
        whole = source[inner : end - 1 if trim else end]
        if not _COMMENT.match(body):
            pieces.append(Piece(line, tokens=_tokens(whole[1:] if trims_left else whole, line)))
        line += body.count("\n")
        position = end + 2
    _add_text(pieces, source[position:], line, left=trim, right=False)
    return tuple(pieces)


def _add_text(pieces: list[Piece], text: str, line: int, *, left: bool, right: bool) -> None:
    cut = text.lstrip(_BLANKS) if left else text
    line += text[: len(text) - len(cut)].count("\n")
    cut = cut.rstrip(_BLANKS) if right else cut
    if cut:
        pieces.append(Piece(line, cut))


def _end(source: str, position: int, line: int) -> int:
    """Where the ``}}`` of the action begins that starts before `position`."""
    if (comment := _COMMENT.match(source, position)) is not None:
        close = source.find("*/", comment.end())
        if close < 0:
            raise BadTemplateError("a comment without an end", line)
        after = close + 2
        rest = source[after:]
        if rest.startswith("}}"):
            return after
        blanks = len(rest) - len(rest.lstrip(_BLANKS))
        if blanks and rest[blanks:].startswith("-}}"):
            return after + blanks + 1
        raise BadTemplateError("a comment ends before its }}", line)
    while position < len(source):
        char = source[position]
        if source.startswith("}}", position):
            return position
        if char in "\"`'":
            found = _TOKEN.match(source, position)
            if found is None:
                raise BadTemplateError("a string without an end", line)
            position = found.end()
        else:
            position += 1
    raise BadTemplateError("an action {{ without an end", line)


def _tokens(body: str, line: int) -> tuple[Token, ...]:
    tokens: list[Token] = []
    position = 0
    while position < len(body):
        found = _TOKEN.match(body, position)
        if found is None:
            raise BadTemplateError(f"unexpected {body[position]!r} in an action", line)
        kind: Kind = found.lastgroup  # type: ignore[assignment]  # the groups are named after the kinds
        text = found.group()
        if kind == "string":
            text = text[1:-1] if text[0] == "`" else _unescaped(text[1:-1], line)
        elif kind == "field":
            text = text[1:]
        elif kind == "number" and body[found.end() : found.end() + 1].isalnum():
            raise BadTemplateError(f"bad number {text}{body[found.end()]}", line)
        tokens.append(Token(kind, text, line))
        line += found.group().count("\n")
        position = found.end()
    return tuple(tokens)


def _unescaped(text: str, line: int) -> str:
    def one(found: re.Match[str]) -> str:
        code, short, wide, octal, letter = found.groups()
        if code or octal:
            number = int(code, 16) if code else int(octal, 8)
            if number > 127:
                raise UnpredictableError("a string that is written byte by byte", line)
            return chr(number)
        if short or wide:
            number = int(short or wide, 16)
            if number > 0x10FFFF or 0xD800 <= number < 0xE000:
                raise BadTemplateError(f"bad escape {found.group()} in a string", line)
            return chr(number)
        if letter not in _ESCAPES or letter == "'":
            raise BadTemplateError(f"bad escape {found.group()} in a string", line)
        return _ESCAPES[letter]

    return _ESCAPE.sub(one, text)
