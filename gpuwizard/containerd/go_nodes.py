"""The tree of a Go template, as data."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = [
    "Branch",
    "Call",
    "Command",
    "Include",
    "Jump",
    "Node",
    "Operand",
    "Output",
    "Parsed",
    "Pipe",
    "Text",
]


@dataclass(frozen=True, slots=True)
class Operand:
    """A value: a literal, the dot, a variable or a pipeline in parentheses, with the `fields` taken from it."""

    kind: Literal["literal", "dot", "variable", "pipe"]
    line: int
    value: object = None
    pipe: "Pipe | None" = None
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """The name of a function."""

    name: str
    line: int


@dataclass(frozen=True, slots=True)
class Command:
    """Words of a pipeline between two ``|``."""

    line: int
    words: tuple[Operand | Call, ...]


@dataclass(frozen=True, slots=True)
class Pipe:
    """A pipeline. `names` are the variables that take its value, which `declares` makes anew."""

    line: int
    commands: tuple[Command, ...]
    names: tuple[str, ...] = ()
    declares: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """Text as it stands."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Output:
    """``{{ pipeline }}``."""

    line: int
    pipe: Pipe


@dataclass(frozen=True, slots=True)
class Branch:
    """``if``, ``with`` and ``range``."""

    kind: Literal["if", "with", "range"]
    line: int
    pipe: Pipe
    then: tuple["Node", ...]
    otherwise: tuple["Node", ...] = ()


@dataclass(frozen=True, slots=True)
class Include:
    """``{{ template "name" pipeline }}``."""

    line: int
    name: str
    pipe: Pipe | None


@dataclass(frozen=True, slots=True)
class Jump:
    """``{{ break }}`` and ``{{ continue }}``."""

    kind: Literal["break", "continue"]
    line: int


Node: TypeAlias = Text | Output | Branch | Include | Jump


@dataclass(frozen=True, slots=True)
class Parsed:
    """A template and those that it defines."""

    nodes: tuple[Node, ...]
    defined: dict[str, tuple[Node, ...]] = field(default_factory=dict)
