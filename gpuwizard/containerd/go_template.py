"""Fill a Go template as K3s does: enough for its built-in ones and for what people write (`runtimes.md §2.3`)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from gpuwizard.containerd.go_lex import BadTemplateError, TemplateProblemError, UnpredictableError
from gpuwizard.containerd.go_nodes import Branch, Call, Command, Include, Jump, Node, Operand, Output, Pipe, Text
from gpuwizard.containerd.go_parse import parse
from gpuwizard.containerd.go_values import UNKNOWN, GoMap, call, field_of, shown, truth

__all__ = ["BadTemplateError", "Filled", "TemplateProblemError", "UnpredictableError", "fill"]

_LONGEST = 1 << 20
_STEPS = 100_000
_DEEPEST = 40


@dataclass(frozen=True, slots=True)
class Filled:
    """The text that a template gave. `included` are the names of the texts that it included."""

    text: str
    included: frozenset[str]


def fill(
    source: str,
    data: Any,
    functions: Collection[str] = (),
    texts: Mapping[str, str] | None = None,
    doubtful: Collection[str] = (),
) -> Filled:
    """Fill the template `source` with `data`. `texts` are templates that exist besides its own ones, already filled
    (``base``); `functions` are those beyond Go's own, `doubtful` those of which it is not known whether they exist.

    Raises BadTemplateError where Go would refuse it, and UnpredictableError where the result cannot be told.
    """
    parsed = parse(source, functions, doubtful)
    run = _Run(data, parsed.defined, texts or {})
    run.nodes(parsed.nodes, data, [("$", data)])
    return Filled("".join(run.out), frozenset(run.included))


class _JumpOut(Exception):
    """It ends a loop; it is no error."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


_Scope = list[tuple[str, Any]]


class _Run:
    def __init__(self, root: Any, defined: Mapping[str, tuple[Node, ...]], texts: Mapping[str, str]) -> None:
        self.out: list[str] = []
        self.included: set[str] = set()
        self._root = root
        self._defined = defined
        self._texts = texts
        self._length = 0
        self._steps = 0
        self._depth = 0

    def nodes(self, nodes: tuple[Node, ...], dot: Any, scope: _Scope) -> None:
        for node in nodes:
            self._step(node.line)
            match node:
                case Text():
                    self._write(node.text, node.line)
                case Output():
                    value = self._pipe(node.pipe, dot, scope)
                    if not node.pipe.names:
                        self._write(shown(value, node.line), node.line)
                case Include():
                    self._include(node, dot, scope)
                case Jump():
                    raise _JumpOut(node.kind)
                case Branch(kind="range"):
                    self._range(node, dot, scope)
                case Branch():
                    self._branch(node, dot, scope)

    def _branch(self, node: Branch, dot: Any, scope: _Scope) -> None:
        mark = len(scope)
        value = self._pipe(node.pipe, dot, scope)
        if truth(value, node.line):
            self.nodes(node.then, value if node.kind == "with" else dot, scope)
        else:
            self.nodes(node.otherwise, dot, scope)
        del scope[mark:]

    def _range(self, node: Branch, dot: Any, scope: _Scope) -> None:
        mark = len(scope)
        value = self._pipe(node.pipe, dot, scope, keep=False)
        match value:
            case GoMap():
                pairs: list[tuple[Any, Any]] = sorted(value.items.items())
            case tuple() | list():
                pairs = list(enumerate(value))
            case None:
                pairs = []
            case _ if value is UNKNOWN:
                raise UnpredictableError("a loop over a value that is not known", node.line)
            case int():
                raise UnpredictableError("a loop over a number", node.line)
            case _:
                raise BadTemplateError("range can't iterate over this value", node.line)
        for key, one in pairs:
            names = node.pipe.names
            values = (key, one) if len(names) == 2 else (one,) if names else ()
            for name, item in zip(names, values, strict=True):
                if node.pipe.declares:
                    scope.append((name, item))
                else:
                    _assign(scope, name, item)
            inner = len(scope)
            try:
                self.nodes(node.then, one, scope)
            except _JumpOut as jump:
                if jump.kind == "break":
                    break
            finally:
                del scope[inner:]
            if node.pipe.declares:
                del scope[mark:]
        if not pairs:
            self.nodes(node.otherwise, dot, scope)
        del scope[mark:]

    def _include(self, node: Include, dot: Any, scope: _Scope) -> None:
        value = self._pipe(node.pipe, dot, scope) if node.pipe is not None else None
        if node.name in self._texts:
            if value is not self._root:
                raise UnpredictableError(f'template "{node.name}" with something else than the dot', node.line)
            self.included.add(node.name)
            self._write(self._texts[node.name], node.line)
            return
        if node.name not in self._defined:
            raise BadTemplateError(f'template "{node.name}" not defined', node.line)
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UnpredictableError("templates that include each other too often", node.line)
        self.nodes(self._defined[node.name], value, [("$", value)])
        self._depth -= 1

    def _pipe(self, pipe: Pipe, dot: Any, scope: _Scope, *, keep: bool = True) -> Any:
        """The value of a pipeline. With `keep` its variables get it."""
        value: Any = None
        for number, command in enumerate(pipe.commands):
            value = self._command(command, dot, scope, [value] if number else [])
        if keep:
            for name in pipe.names:
                if pipe.declares:
                    scope.append((name, value))
                else:
                    _assign(scope, name, value)
        return value

    def _command(self, command: Command, dot: Any, scope: _Scope, final: list[Any]) -> Any:
        self._step(command.line)
        first, *rest = command.words
        if isinstance(first, Call):
            return self._call(first, rest, dot, scope, final)
        if rest or final:
            if first.kind == "dot" and not first.fields:
                raise BadTemplateError("can't give argument to non-function .", command.line)
            target = first.fields[-1] if first.fields else "a value"
            raise BadTemplateError(f"{target} is not a method but has arguments", command.line)
        if first.kind == "literal" and first.value is None:
            raise BadTemplateError("nil is not a command", command.line)
        return self._operand(first, dot, scope)

    def _call(self, first: Call, rest: list[Operand | Call], dot: Any, scope: _Scope, final: list[Any]) -> Any:
        if first.name in ("and", "or"):
            return self._either(first, rest, dot, scope, final)
        return call(first.name, [*(self._word(word, dot, scope) for word in rest), *final], first.line)

    def _either(self, first: Call, rest: list[Operand | Call], dot: Any, scope: _Scope, final: list[Any]) -> Any:
        """``and`` and ``or`` stop at the first value that decides."""
        if not rest and not final:
            raise BadTemplateError(f"wrong number of args for {first.name}: want at least 1 got 0", first.line)
        value: Any = None
        for word in rest:
            value = self._word(word, dot, scope)
            if truth(value, first.line) == (first.name == "or"):
                return value
        return final[0] if final else value

    def _word(self, word: Operand | Call, dot: Any, scope: _Scope) -> Any:
        return call(word.name, [], word.line) if isinstance(word, Call) else self._operand(word, dot, scope)

    def _operand(self, operand: Operand, dot: Any, scope: _Scope) -> Any:
        match operand.kind:
            case "literal":
                return operand.value
            case "dot":
                value = dot
            case "variable":
                value = next(item for name, item in reversed(scope) if name == operand.value)
            case "pipe":
                assert operand.pipe is not None
                value = self._pipe(operand.pipe, dot, scope)
        for name in operand.fields:
            value = field_of(value, name, operand.line)
        return value

    def _write(self, text: str, line: int) -> None:
        self._length += len(text)
        if self._length > _LONGEST:
            raise UnpredictableError("the text gets too long", line)
        self.out.append(text)

    def _step(self, line: int) -> None:
        self._steps += 1
        if self._steps > _STEPS:
            raise UnpredictableError("it takes too long", line)


def _assign(scope: _Scope, name: str, value: Any) -> None:
    position = next(n for n in range(len(scope) - 1, -1, -1) if scope[n][0] == name)
    scope[position] = (name, value)
