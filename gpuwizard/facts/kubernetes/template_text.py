"""A containerd template taken apart: its actions, table headers and top-level keys, whatever the text is.

K3s fills templates by Go's text/template (`runtimes.md §2.3`); this reads them without filling them.
"""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from gpuwizard.facts.text import load_toml

__all__ = ["Header", "Key", "TemplateText", "read_template", "table_path"]

_HEADER = re.compile(r"\s*\[(\[?)\s*([^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]\]?\s*(?:#.*)?")
_PART = re.compile(r"\s*(?:\"([^\"]*)\"|'([^']*)'|([^.\"'\s]+))\s*")
_KEY = re.compile(r"\s*[\"']?(version|imports|root|state|address)[\"']?\s*=\s*(.*)")
_STRING = re.compile(r"\"(?:\\.|[^\"\\])*\"|`[^`]*`|'(?:\\.|[^'\\])*'")
_WORD = re.compile(r"(?<![\w.$:])[A-Za-z_]\w*")
_FIELD = re.compile(r"(?:(?<![\w.)\]])|(?<=\$))\.([A-Za-z_]\w*)")
_BASE = re.compile(r"template\s+(?:\"base\"|`base`)")
_OPEN = ("if", "range", "with", "define", "block")
_KEYWORDS = frozenset((*_OPEN, "else", "end", "template", "break", "continue", "nil", "true", "false"))
_LONG_LINE = 2000


@dataclass(frozen=True, slots=True)
class Header:
    """A table header. `depth` counts the ``if`` and ``range`` around it; `array` is true for ``[[…]]`` and for a key
    that defines a handler without a header."""

    line: int
    path: tuple[str, ...]
    text: str
    depth: int
    array: bool


@dataclass(frozen=True, slots=True)
class Key:
    """A line that sets version, imports, root, state or address. `table` is the header above it, if any."""

    line: int
    name: str
    value: str
    text: str
    table: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class TemplateText:
    """What a template says. `base` is the line that includes the built-in one, None where nothing does; `functions`
    and `fields` map each name to its first line; `broken` is where Go's parser gives up and why; `filled` is true when
    the text has any action. `toml_error` is what a TOML parser says of the text with its actions filled in, where
    that can be told."""

    base: int | None
    headers: tuple[Header, ...]
    keys: tuple[Key, ...]
    functions: tuple[tuple[str, int], ...]
    fields: tuple[tuple[str, int], ...]
    broken: tuple[int, str] | None
    filled: bool
    toml_error: str | None

    def top_level(self, name: str) -> Key | None:
        """The first line that sets `name` outside of every table."""
        return next((key for key in self.keys if key.name == name and key.table is None), None)


@functools.lru_cache(maxsize=256)
def read_template(text: str) -> TemplateText:
    """Take a template apart. Never raises."""
    actions = tuple(_actions(text))
    broken = _broken(actions)
    base = next((line for line, body, _, _ in actions if body is not None and _BASE.match(body)), None)
    functions: dict[str, int] = {}
    fields: dict[str, int] = {}
    for line, body, _, _ in actions:
        bare = _STRING.sub('""', "" if body is None or body.startswith("/*") else body)
        for word in _WORD.findall(bare):
            if word not in _KEYWORDS:
                functions.setdefault(word, line)
        for field in _FIELD.findall(bare):
            fields.setdefault(field, line)
    headers, keys = _lines(text, actions)
    return TemplateText(
        base,
        headers,
        keys,
        tuple(functions.items()),
        tuple(fields.items()),
        broken,
        bool(actions),
        None if broken is not None else _toml_error(text, actions),
    )


_Action = tuple[int, str | None, int, int]  # line, body (None: it has no end), where it begins and ends


def _broken(actions: "tuple[_Action, ...]") -> tuple[int, str] | None:
    """The first place where the text is no template, and what is wrong there."""
    opened: list[tuple[int, str]] = []
    for line, body, _, _ in actions:
        if body is None:
            return line, "an action {{ without an end"
        word = re.split(r"[\s(]", body, maxsplit=1)[0]
        if word in _OPEN:
            opened.append((line, word))
        elif word in ("end", "else"):
            if not opened:
                return line, f"{{{{ {word} }}}} without an if, range or with before it"
            if word == "end":
                opened.pop()
        elif word == "template" and re.match(r"template\s+[\"`]", body) is None:
            return line, f"{{{{ {body} }}}}: the name of a template stands in quotes"
    return (opened[0][0], f"{{{{ {opened[0][1]} }}}} without its {{{{ end }}}}") if opened else None


def _actions(text: str) -> Iterator[_Action]:
    """Every ``{{ … }}``, in one pass."""
    position = line = 0
    while (start := text.find("{{", position)) >= 0:
        line += text.count("\n", position, start)
        end = _action_end(text, start + 2)
        if end is None:
            yield line + 1, None, start, len(text)
            return
        body = text[start + 2 : end - 2].removeprefix("-").removesuffix("-").strip()
        yield line + 1, body, start, end
        line += text.count("\n", start, end)
        position = end


def _action_end(text: str, position: int) -> int | None:
    """Behind the ``}}`` that ends an action; one inside a string or comment does not."""
    if text[position : position + 6].lstrip("- ").startswith("/*"):
        end = text.find("*/", position)
        close = text.find("}}", end) if end >= 0 else -1
        return close + 2 if close >= 0 else None
    while position < len(text):
        char = text[position]
        if char in '"`':
            position = _string_end(text, position)
        elif char == "}" and text.startswith("}}", position):
            return position + 2
        else:
            position += 1
    return None


def _string_end(text: str, position: int) -> int:
    quote = text[position]
    position += 1
    while position < len(text) and text[position] != quote:
        position += 2 if quote == '"' and text[position] == "\\" else 1
    return position + 1


def _lines(text: str, actions: tuple[_Action, ...]) -> tuple[tuple[Header, ...], tuple[Key, ...]]:
    """Table headers, and the keys that decide how the file is read."""
    depths: dict[int, int] = {}
    for at, body, _, _ in actions:
        word = (body or "").partition(" ")[0]
        depths[at] = depths.get(at, 0) + (word in _OPEN) - (word == "end")
    headers: list[Header] = []
    keys: list[Key] = []
    depth, quote = 0, ""
    table: tuple[str, ...] | None = None
    for number, line in enumerate(text.split("\n"), 1):
        before, depth = depth, depth + depths.get(number, 0)
        inside, quote = bool(quote), _triple(line, quote)
        if inside or len(line) > _LONG_LINE:
            continue
        if (found := _HEADER.fullmatch(line)) is not None and (path := table_path(found[2])):
            table = path
            headers.append(Header(number, path, line.strip(), max(before, depth), bool(found[1])))
        elif table is not None and (path := _handler_key(table, line)):
            headers.append(Header(number, path, line.strip(), max(before, depth), array=True))
        elif (key := _KEY.match(line)) is not None:
            keys.append(Key(number, key[1], key[2].partition("#")[0].strip(), line.strip(), table))
    return tuple(headers), tuple(keys)


def _handler_key(table: tuple[str, ...], line: str) -> tuple[str, ...]:
    """The path of the handler that a line below its parents' table defines without a header of its own
    (``nvidia = {…}`` or ``runtimes.nvidia.runtime_type = …``); empty for other lines."""
    key, equals, _ = line.partition("=")
    if table[0] != "plugins" or not 2 <= len(table) <= 4 or not equals or key.lstrip().startswith("#"):
        return ()
    path = (*table, *table_path(key.strip()))
    return path[:5] if len(path) >= 5 and path[2:4] == ("containerd", "runtimes") else ()


def _triple(line: str, quote: str) -> str:
    """The kind of triple quote that is open behind `line`."""
    for mark in ('"""', "'''"):
        if quote in ("", mark) and line.count(mark) % 2:
            quote = "" if quote else mark
    return quote


def table_path(text: str) -> tuple[str, ...]:
    """``plugins."io.containerd.grpc.v1.cri".containerd`` as its parts; empty for what is no key."""
    parts: list[str] = []
    position = 0
    while (found := _PART.match(text, position)) is not None:
        parts.append(next(group for group in found.groups() if group is not None))
        position = found.end()
        if position == len(text):
            return tuple(parts)
        if text[position] != ".":
            return ()
        position += 1
    return ()


def _toml_error(text: str, actions: tuple[_Action, ...]) -> str | None:
    """Why the text is no TOML once its actions are filled in; None where it is, or where branches and loops make it
    impossible to say."""
    filled: list[str] = []
    position = 0
    for _, body, start, end in actions:
        if body is None or body.partition(" ")[0] in _KEYWORDS - {"template"}:
            return None
        silent = body.startswith(("template", "/*"))
        if not silent and "=" not in text[text.rfind("\n", 0, start) + 1 : start]:
            return None  # it may stand for whole lines
        filled += [text[position:start], "" if silent else "true"]
        position = end
    document = load_toml("".join((*filled, text[position:])))
    return document if isinstance(document, str) else None
