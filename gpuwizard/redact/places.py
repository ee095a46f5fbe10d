"""The values in a TOML, JSON or YAML text with their keys and places; broken texts give as much as can be told."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

__all__ = ["Value", "decoded", "values"]

_STRING = re.compile(
    r'"""(?:[^\\]|\\[\s\S])*?(?:"{3,5}|\Z)' r"|'''[\s\S]*?(?:'{3,5}|\Z)" r'|"(?:[^"\\\n]|\\.)*"?' r"|'[^'\n]*'?"
)
_PART = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|[^\s.=:"\'\[\]{},#]+')
_BLANK = re.compile(r"[ \t\r]*")
_GAP = re.compile(r"(?:[\s,]+|#[^\n]*)*")
_BARE = re.compile(r"[^\s,\]}#]+")
_REST = re.compile(r"[^\n#]*")
_DEEPEST = 60
_MOST_NODES = 50_000
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Value:
    """One scalar: ``text[start:end]`` with its quotes, under the keys `path` (those of lists have no part)."""

    path: Path
    start: int
    end: int


def values(text: str, path: str) -> Iterator[Value]:
    """The scalars of the content of file `path`; none for a kind of file that has no keys."""
    name = path.lower().removesuffix(".tmpl")
    if name.endswith(".json"):
        yield from _Scanner(text, ":").document()
    elif name.endswith((".yaml", ".yml")):
        yield from _yaml(text)
    elif name.endswith((".toml", ".conf")):
        yield from _Scanner(text, "=").statements()


class _Scanner:
    """One pass over TOML or JSON. What cannot be understood is left out up to the end of its line."""

    def __init__(self, text: str, sign: str) -> None:
        self.text = text
        self.sign = sign
        self.at = 1 if text.startswith("\ufeff") else 0

    def document(self) -> Iterator[Value]:
        """A JSON text."""
        while self.at < len(self.text):
            self._skip(_GAP)
            before = self.at
            yield from self._value((), 0)
            self.at = max(self.at, before + 1)

    def statements(self) -> Iterator[Value]:
        """A TOML text: headers and ``key = value``, those in comments too."""
        table: Path = ()
        noted: Path | None = None
        while self.at < len(self.text):
            self._skip(re.compile(r"[\s]*"))
            comment = self.text.startswith("#", self.at)
            if comment:
                self._skip(re.compile(r"[# \t]+"))
            around = (noted if noted is not None else table) if comment else table
            header, found = self._statement(around, one_line=comment)
            if header is not None:
                table, noted = (table, header) if comment else (header, None)
            yield from found
            self._skip(re.compile(r"[^\n]*"))

    def _statement(self, table: Path, *, one_line: bool) -> tuple[Path | None, list[Value]]:
        end = self.text.find("\n", self.at)
        stop = len(self.text) if end < 0 else end
        if self.text.startswith("[", self.at):
            self._skip(re.compile(r"\[+"))
            return self._key(), []
        key = self._key()
        self._skip(_BLANK)
        if not key or self.at >= stop or self.text[self.at] != "=":
            return None, []
        self.at += 1
        if one_line:  # a comment ends with its line, whatever its brackets and quotes say
            part = _Scanner(self.text[:stop], "=")
            part.at = self.at
            return None, list(part._value((*table, *key), 0))
        return None, list(self._value((*table, *key), 0))

    def _key(self) -> Path:
        parts: list[str] = []
        while found := _PART.match(self.text, self.at):
            parts.append(decoded(found[0]))
            self.at = found.end()
            self._skip(_BLANK)
            if self.text[self.at : self.at + 1] != ".":
                break
            self.at += 1
            self._skip(_BLANK)
        return tuple(parts)

    def _value(self, path: Path, depth: int) -> Iterator[Value]:
        self._skip(_BLANK if self.sign == "=" else _GAP)
        char = self.text[self.at : self.at + 1]
        if char in ("[", "{") and depth < _DEEPEST:
            yield from self._list(path, depth) if char == "[" else self._table(path, depth)
            return
        pattern = _STRING if char in ('"', "'") else _BARE if depth or self.sign == ":" else _REST
        found = pattern.match(self.text, self.at)
        if found is None or not found[0]:
            return
        start, end = self.at, self.at + len(found[0].rstrip())
        self.at = found.end()
        yield Value(path, start, end)

    def _list(self, path: Path, depth: int) -> Iterator[Value]:
        self.at += 1
        while self._more("]"):
            before = self.at
            yield from self._value(path, depth + 1)
            if self.at == before:
                return

    def _table(self, path: Path, depth: int) -> Iterator[Value]:
        self.at += 1
        while self._more("}"):
            before = self.at
            key = self._key() if self.sign == "=" else self._name()
            self._skip(re.compile(r"\s*"))
            if self.text[self.at : self.at + 1] == self.sign:
                self.at += 1
                self._skip(re.compile(r"\s*"))
                yield from self._value((*path, *key), depth + 1)
            if self.at == before:
                return

    def _name(self) -> Path:
        found = _STRING.match(self.text, self.at) or _PART.match(self.text, self.at)
        if found is None:
            return ()
        self.at = found.end()
        return (decoded(found[0]),)

    def _more(self, closing: str) -> bool:
        """Past blanks, commas and comments; False behind the end of the list or table."""
        self._skip(_GAP)
        if self.text[self.at : self.at + 1] == closing:
            self.at += 1
            return False
        return self.at < len(self.text)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self.text, self.at)
        self.at = found.end() if found else self.at


def decoded(part: str) -> str:
    """A key or value as the parser will see it: ``"pass\\u0077ord"`` is password."""
    if part[:1] == '"' and not part.startswith('"""'):
        try:
            return str(json.loads(part))
        except ValueError:
            return part.strip('"')
    return part.strip("\"'")


def _yaml(text: str) -> Iterator[Value]:
    """By PyYAML's own marks; a text that is no YAML gives nothing."""
    try:
        roots = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError):
        return
    seen: set[tuple[Path, int]] = set()
    waiting: list[tuple[Path, yaml.Node]] = [((), root) for root in reversed(roots) if root is not None]
    while waiting and len(seen) < _MOST_NODES:
        path, node = waiting.pop()
        if (path, id(node)) in seen:
            continue
        seen.add((path, id(node)))  # an anchor's value is a secret if it is one under any of its keys
        if isinstance(node, yaml.ScalarNode):
            yield Value(path, node.start_mark.index, node.end_mark.index)
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(path, item) for item in reversed(node.value)]
        elif isinstance(node, yaml.MappingNode):
            waiting += [(_below(path, key, node), value) for key, value in reversed(node.value)]


def _below(path: Path, key: yaml.Node, mapping: yaml.MappingNode) -> Path:
    """The path of a value; the ``value`` of an entry ``name: X`` is the value of X."""
    name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
    if name == "value":
        named = [v for k, v in mapping.value if isinstance(k, yaml.ScalarNode) and k.value == "name"]
        if named and isinstance(named[0], yaml.ScalarNode):
            return (*path, str(named[0].value))
    return (*path, name)
