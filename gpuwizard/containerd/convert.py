"""The text of a version-1 file, or of Docker's stub, as version 2 or 3: names and lists change, all else stays.

Version 2 has the tables of version 1 under longer names, so that a file is converted line by line (`runtimes.md §1.1`).
The result is checked by an independent parser, as every edit is.
"""

import tomllib
from collections.abc import Callable, Mapping
from typing import Any

from gpuwizard.containerd.edit import parsed, set_value, verified
from gpuwizard.containerd.migrate import full_plugin_name
from gpuwizard.containerd.model import CRI_V2, IMAGES_V3, RUNTIME_V3
from gpuwizard.containerd.statements import Statement, flat_path, statements, string_end
from gpuwizard.errors import RefusedError

__all__ = ["CRI_NAMES", "converted"]

CRI_NAMES = ("cri", CRI_V2, RUNTIME_V3, IMAGES_V3)
_LISTS = ("disabled_plugins", "required_plugins")
_Rename = Callable[[str], str | None]


def converted(text: str, version: int | None, *, enable_cri: bool) -> str:
    """`text` with the full names of its plugins and the line ``version = N`` (None: the file keeps its own).

    `enable_cri` takes the CRI plugin out of `disabled_plugins`, as Docker's package ships it. Raises RefusedError when
    the text cannot be converted, or holds a plugin under both names.
    """
    data = parsed(text)
    expected = _expected(data, version, enable_cri=enable_cri)
    new = _renamed_tables(text)
    for key in _LISTS:
        new = _renamed_list(new, key, lambda name: None if enable_cri and name in CRI_NAMES else full_plugin_name(name))
    if version is not None:
        new = set_value(new, ("version",), version)
    return verified(new, expected, "the conversion")


def _expected(data: Mapping[str, Any], version: int | None, *, enable_cri: bool) -> dict[str, Any]:
    out = dict(data)
    plugins = data.get("plugins", {})
    if isinstance(plugins, dict) and plugins:
        out["plugins"] = {full_plugin_name(name): table for name, table in plugins.items()}
        if len(out["plugins"]) != len(plugins):
            raise RefusedError(
                "it has tables of one plugin under its old and its new name",
                remedy="remove one of the two (containerd uses the short names in a file without version), plan again",
            )
    for key in _LISTS:
        if key in data:
            names = [n for n in data[key] if not (enable_cri and n in CRI_NAMES)]
            out[key] = [full_plugin_name(n) for n in names]
    if version is not None:
        out["version"] = version
    return out


def _renamed_tables(text: str) -> str:
    """Headers and keys below ``plugins`` with the full name of the plugin."""
    pieces: list[str] = []
    position = 0
    for s in statements(text):
        if len(s.path) < 2 or s.path[0] != "plugins" or full_plugin_name(s.path[1]) == s.path[1]:
            continue
        start, end, new = _header(text, s) if s.kind != "key" else _key(text, s)
        pieces += [text[position:start], new]
        position = end
    return "".join(pieces) + text[position:]


def _header(text: str, s: Statement) -> tuple[int, int, str]:
    head = text[s.value_start : s.value_end]
    quote = "'" if "'" in head else '"'
    path = flat_path(("plugins", full_plugin_name(s.path[1]), *s.path[2:]), quote)
    return s.value_start, s.value_end, f"[[{path}]]" if s.kind == "array" else f"[{path}]"


def _key(text: str, s: Statement) -> tuple[int, int, str]:
    """The key of a line that stands in a table above its plugin: ``cri.sandbox_image = …`` below ``[plugins]``."""
    line = text[s.start : s.value_start]
    start = s.start + len(line) - len(line.lstrip(" \t\ufeff"))
    depth = len(s.table)
    if depth > 1:
        return start, start, ""
    full = ("plugins", full_plugin_name(s.path[1]), *s.path[2:])
    equals = text.rindex("=", start, s.value_start)
    gap = text[start:equals]
    return start, equals, flat_path(full[depth:]) + gap[len(gap.rstrip(" \t")) :]


def _renamed_list(text: str, key: str, rename: _Rename) -> str:
    """The strings of a top-level list renamed; those that `rename` gives None for are taken out with their comma."""
    s = next((s for s in statements(text) if s.kind == "key" and s.path == (key,)), None)
    if s is None:
        return text
    value = text[s.value_start : s.value_end]
    out, position = "", 0
    while position < len(value):
        char = value[position]
        if char == "#":
            end = value.find("\n", position)
            end = len(value) if end < 0 else end
            out += value[position:end]
        elif char in "\"'":
            end = string_end(value, position)
            name = str(tomllib.loads(f"x = {value[position:end]}")["x"])
            new = rename(name)
            if new is None:
                end = _behind_comma(value, end)
            elif new == name:
                out += value[position:end]
            else:
                out += f"{char}{new}{char}"
        else:
            end = position + 1
            out += char
        position = end
    return text[: s.value_start] + _tidy(out) + text[s.value_end :]


def _behind_comma(value: str, position: int) -> int:
    """Behind the comma that follows an element, and behind the blanks after that; without a comma, where it ended."""
    rest = value[position:]
    if not rest.lstrip().startswith(","):
        return position
    behind = position + rest.index(",") + 1
    return behind + len(value[behind:]) - len(value[behind:].lstrip(" \t"))


def _tidy(value: str) -> str:
    """A list from which the last element was taken keeps no comma of its own line, and no blanks inside brackets."""
    if "\n" in value or "#" in value:
        return value
    inner = value[1:-1].strip().removesuffix(",").rstrip()
    return f"[{inner}]" if inner != value[1:-1].strip() or not inner else value
