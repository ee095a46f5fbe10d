"""A Go template as a tree (text/template): text, actions, if, range, with, define, block, template.

It knows what the containerd templates of K3s and of people are made of (`runtimes.md §2.3`). Everything else is an
UnpredictableError; what Go's own parser refuses is a BadTemplateError.
"""

from collections.abc import Collection
from typing import Literal

from gpuwizard.containerd.go_lex import BadTemplateError, Piece, Token, UnpredictableError, lex
from gpuwizard.containerd.go_nodes import (
    Branch,
    Call,
    Command,
    Include,
    Jump,
    Node,
    Operand,
    Output,
    Parsed,
    Pipe,
    Text,
)

__all__ = ["parse"]

_BUILTIN = frozenset(
    ("and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or", "print", "printf")
) | {"println", "slice", "urlquery"}
_KEYWORDS = frozenset(
    ("if", "else", "end", "range", "with", "define", "block", "template", "break", "continue", "nil", "true", "false")
)
_DEEPEST = 60


def parse(source: str, functions: Collection[str], doubtful: Collection[str] = ()) -> Parsed:
    """Parse `source`. `functions` are those that exist besides Go's own; of the `doubtful` ones it is not known.

    Raises BadTemplateError or UnpredictableError, nothing else.
    """
    return _Parser(lex(source), _BUILTIN | frozenset(functions), frozenset(doubtful)).whole()


class _Parser:
    def __init__(self, pieces: tuple[Piece, ...], functions: frozenset[str], doubtful: frozenset[str]) -> None:
        self._pieces = pieces
        self._at = 0
        self._functions = functions
        self._doubtful = doubtful
        self._tokens: list[Token] = []
        self._variables: list[str] = ["$"]
        self._depth = 0
        self._loops = 0
        self._defined: dict[str, tuple[Node, ...]] = {}
        self._line = 1

    def whole(self) -> Parsed:
        nodes, ended = self._list(top=True)
        if ended is not None:
            raise BadTemplateError(f"unexpected {{{{{ended}}}}}", self._line)
        return Parsed(nodes, self._defined)

    def _list(self, *, top: bool = False) -> tuple[tuple[Node, ...], str | None]:
        """Nodes up to ``end`` or ``else``, and which of both it was; the tokens behind it are left."""
        self._deeper()
        nodes: list[Node] = []
        while self._at < len(self._pieces):
            piece = self._pieces[self._at]
            self._at += 1
            self._line = piece.line
            if piece.tokens is None:
                nodes.append(Text(piece.line, piece.text))
                continue
            self._tokens = list(piece.tokens)
            self._skip()
            word = self._peek()
            if word is not None and word.kind == "word" and word.text in ("end", "else"):
                self._take()
                self._skip()
                self._depth -= 1
                return tuple(nodes), word.text
            node = self._action(top=top)
            if node is not None:
                nodes.append(node)
        if not top:
            raise BadTemplateError("unexpected end of the template: {{end}} is missing", self._line)
        self._depth -= 1
        return tuple(nodes), None

    def _action(self, *, top: bool) -> Node | None:
        word = self._peek()
        if word is None:
            raise BadTemplateError("missing value for command", self._line)
        if word.kind == "word" and word.text in _KEYWORDS - {"nil", "true", "false"}:
            self._take()
            return self._keyword(word, top=top)
        return Output(word.line, self._pipe("command", ended=True))

    def _keyword(self, word: Token, *, top: bool) -> Node | None:
        match word.text:
            case "if" | "with" | "range" as kind:
                return self._branch(kind, word.line)
            case "template":
                name = self._string("template")
                pipe = self._pipe("template", ended=True) if self._next() is not None else None
                return Include(word.line, name, pipe)
            case "define":
                if not top or self._depth > 1:
                    raise BadTemplateError("unexpected {{define}} inside another action", word.line)
                self._define(self._string("define"), word.line)
                return None
            case "block":
                name = self._string("block")
                pipe = self._pipe("block", ended=True)
                self._define(name, word.line)
                return Include(word.line, name, pipe)
            case "break" | "continue" as kind:
                self._nothing_more(kind)
                if not self._loops:
                    raise BadTemplateError(f"{{{{{kind}}}}} outside {{{{range}}}}", word.line)
                return Jump(kind, word.line)
        raise BadTemplateError(f"unexpected {{{{{word.text}}}}}", word.line)

    def _define(self, name: str, line: int) -> None:
        self._nothing_more("define")
        outer, self._variables = self._variables, ["$"]
        loops, self._loops = self._loops, 0
        nodes, ended = self._list()
        if ended != "end":
            raise BadTemplateError("unexpected {{else}} in define", line)
        self._variables, self._loops = outer, loops
        if any(not isinstance(node, Text) or node.text.strip() for node in nodes) or name not in self._defined:
            self._defined[name] = nodes

    def _branch(self, kind: Literal["if", "with", "range"], line: int) -> Branch:
        known = len(self._variables)
        pipe = self._pipe(kind, ended=True)
        self._loops += kind == "range"
        then, ended = self._list()
        self._loops -= kind == "range"
        otherwise: tuple[Node, ...] = ()
        if ended == "else":
            chained = self._peek()
            if chained is not None and chained.kind == "word" and chained.text == kind and kind != "range":
                self._take()
                self._deeper()
                otherwise = (self._branch(kind, chained.line),)
                self._depth -= 1
                del self._variables[known:]
                return Branch(kind, line, pipe, then, otherwise)
            self._nothing_more("else")
            otherwise, ended = self._list()
            if ended != "end":
                raise BadTemplateError("expected end; found {{else}}", self._line)
        self._nothing_more("end")
        del self._variables[known:]
        return Branch(kind, line, pipe, then, otherwise)

    # Pipelines

    def _pipe(self, context: str, *, ended: bool) -> Pipe:
        """A pipeline up to the end of the action, or up to the closing parenthesis."""
        self._deeper()
        self._skip()
        line = self._line
        names, declares = self._names(context)
        commands: list[Command] = []
        while True:
            command = self._command()
            if commands and not isinstance(command.words[0], Call):
                first = command.words[0]
                if first.kind == "literal" or (first.kind == "dot" and not first.fields):
                    raise BadTemplateError(f"a value in a later part of a {context} pipeline", command.line)
            commands.append(command)
            mark = self._next()
            if mark is None:
                if not ended:
                    raise BadTemplateError("unclosed left parenthesis", line)
                break
            if mark.kind == "mark" and mark.text == "|":
                self._take()
                continue
            if mark.kind == "mark" and mark.text == ")" and not ended:
                self._take()
                break
            raise BadTemplateError(f"unexpected {mark.text!r} in {context}", mark.line)
        if declares:
            self._variables += names
        self._depth -= 1
        return Pipe(line, tuple(commands), names, declares)

    def _names(self, context: str) -> tuple[tuple[str, ...], bool]:
        """The variables in front of ``:=`` or ``=``."""
        found: list[str] = []
        rest = [token for token in self._tokens if token.kind != "space"]
        position = 0
        while position + 1 < len(rest) and rest[position].kind == "variable":
            found.append(rest[position].text)
            mark = rest[position + 1]
            if mark.kind == "mark" and mark.text in (":=", "="):
                if mark.text == "=":
                    for name in found:
                        self._known(name, mark.line)
                if len(found) > (2 if context == "range" else 1):
                    raise BadTemplateError(f"too many declarations in {context}", mark.line)
                self._tokens = _rest_after(self._tokens, mark)
                return tuple(found), mark.text == ":="
            if mark.kind != "mark" or mark.text != ",":
                break
            position += 2
        return (), False

    def _command(self) -> Command:
        words: list[Operand | Call] = []
        line = self._line
        while True:
            spaced = self._skip()
            token = self._peek()
            if token is None or (token.kind == "mark" and token.text in "|)"):
                break
            if words and not spaced:
                raise BadTemplateError(f"unexpected {token.text!r} in operand", token.line)
            words.append(self._word())
        if not words:
            raise BadTemplateError("missing value for command", line)
        if len(words) > 1 and isinstance(words[0], Operand) and words[0].kind == "literal":
            raise BadTemplateError(f"can't give argument to non-function {words[0].value!r}", line)
        return Command(line, tuple(words))

    def _word(self) -> Operand | Call:
        token = self._take()
        if token.kind == "word" and token.text not in ("true", "false", "nil"):
            return self._function(token)
        match token.kind:
            case "string":
                operand = Operand("literal", token.line, token.text)
            case "word":
                operand = Operand("literal", token.line, {"true": True, "false": False, "nil": None}[token.text])
            case "number":
                operand = Operand("literal", token.line, _number(token))
            case "field":
                return Operand("dot", token.line, fields=(token.text, *self._fields()))
            case "variable":
                self._known(token.text, token.line)
                return Operand("variable", token.line, token.text, fields=self._fields())
            case "mark" if token.text == ".":
                operand = Operand("dot", token.line)
            case "mark" if token.text == "(":
                pipe = self._pipe("parenthesized", ended=False)
                return Operand("pipe", token.line, pipe=pipe, fields=self._fields())
            case "char":
                raise UnpredictableError(f"the character {token.text}", token.line)
            case _:
                raise BadTemplateError(f"unexpected {token.text!r} in operand", token.line)
        following = self._peek()
        if following is not None and following.kind == "field":
            raise BadTemplateError(f"unexpected .{following.text} after term", token.line)
        return operand

    def _function(self, token: Token) -> Call:
        if token.text in _KEYWORDS:
            raise BadTemplateError(f"unexpected {token.text} in an action", token.line)
        if token.text in self._doubtful:
            raise UnpredictableError(f"it is not known whether this release has the function {token.text}", token.line)
        if token.text not in self._functions:
            raise BadTemplateError(f'function "{token.text}" not defined', token.line)
        return Call(token.text, token.line)

    def _fields(self) -> tuple[str, ...]:
        names: list[str] = []
        while (token := self._peek()) is not None and token.kind == "field":
            names.append(self._take().text)
        return tuple(names)

    # Tokens

    def _known(self, name: str, line: int) -> None:
        if name not in self._variables:
            raise BadTemplateError(f'undefined variable "{name}"', line)

    def _string(self, context: str) -> str:
        token = self._next()
        if token is None or token.kind != "string":
            raise BadTemplateError(f"{context} without a name in quotes", self._line)
        return self._take().text

    def _nothing_more(self, context: str) -> None:
        token = self._next()
        if token is not None:
            raise BadTemplateError(f"unexpected {token.text!r} in {context}", token.line)

    def _next(self) -> Token | None:
        self._skip()
        return self._peek()

    def _peek(self) -> Token | None:
        return self._tokens[0] if self._tokens else None

    def _take(self) -> Token:
        token = self._tokens.pop(0)
        self._line = token.line
        return token

    def _skip(self) -> bool:
        found = False
        while self._tokens and self._tokens[0].kind == "space":
            self._tokens.pop(0)
            found = True
        return found

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UnpredictableError("actions that lie too deep in each other", self._line)


def _rest_after(tokens: list[Token], mark: Token) -> list[Token]:
    """The tokens behind `mark`, which is one of them."""
    return tokens[next(n for n, token in enumerate(tokens) if token is mark) + 1 :]


def _number(token: Token) -> object:
    text = token.text.replace("_", "")
    if text.lstrip("+-").isdigit() and (text.lstrip("+-") == "0" or not text.lstrip("+-").startswith("0")):
        if len(text) > 18:
            raise UnpredictableError(f"the number {token.text[:20]}", token.line)
        return int(text)
    raise UnpredictableError(f"the number {token.text[:20]}", token.line)
