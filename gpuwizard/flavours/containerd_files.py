"""The edits of plain containerd's files: in place, or a drop-in next to them (`runtimes.md §1.5`)."""

import posixpath
import tomllib
from dataclasses import dataclass
from typing import Any

from gpuwizard.containerd import Effective, Release
from gpuwizard.containerd.edit import add_import, add_table, set_value
from gpuwizard.containerd.imports import matches
from gpuwizard.facts.model import Handler
from gpuwizard.flavours.handler import NAME, is_right

__all__ = ["DROP_IN", "Situation", "drop_in", "in_place"]

DROP_IN = "99-gpuwizard-nvidia.toml"


@dataclass(frozen=True, slots=True)
class Situation:
    """What the plan of one host starts from. `files` are the existing files; `main` the root file's path."""

    files: dict[str, bytes]
    main: str
    release: Release
    before: Effective
    wanted: Handler
    default: str | None
    plugin: str

    @property
    def needs_handler(self) -> bool:
        return not is_right(self.before.runtimes.get(NAME), self.wanted)

    @property
    def needs_default(self) -> bool:
        return self.default is not None and self.before.default_runtime_name != self.default

    @property
    def table(self) -> tuple[str, ...]:
        return ("plugins", self.plugin, "containerd")

    def text(self, path: str) -> str:
        return self.files.get(path, b"").decode("utf-8", "surrogateescape")


def _handler_table(wanted: Handler) -> dict[str, Any]:
    """As it is written: SystemdCgroup is spelt out, because it has to be the same in all handlers."""
    options = {**wanted.options, "SystemdCgroup": wanted.options.get("SystemdCgroup", False)}
    return {"runtime_type": wanted.runtime_type, "options": options}


def in_place(start: Situation) -> dict[str, bytes]:
    """Edit the file whose CRI table counts: on 1.x the last one that has any, else the root file."""
    path = _file_that_counts(start)
    text = _versioned(start, path)
    runtimes = (*start.table, "runtimes")
    if start.needs_handler:
        present = _at(_parsed(text), runtimes)
        if present is None and start.release.replaces_plugin_tables:
            # A runtimes table of the file takes the place of the built-in one: runc must be written out too.
            runc = start.before.runtimes["runc"]
            text = add_table(text, (*runtimes, "runc"), _handler_table(runc))
        if present is not None and NAME in present:
            text = _repaired(text, (*runtimes, NAME), present[NAME], start.wanted)
        else:
            text = add_table(text, (*runtimes, NAME), _handler_table(start.wanted), after=(*runtimes, "runc"))
    if start.needs_default:
        text = set_value(text, (*start.table, "default_runtime_name"), start.default)
    return {path: text.encode("utf-8", "surrogateescape")}


def _file_that_counts(start: Situation) -> str:
    for path in reversed(start.before.files):
        if _at(_parsed(start.text(path)), ("plugins", start.plugin)) is not None:
            return path
    return start.main


def _repaired(text: str, path: tuple[str, ...], present: Any, wanted: Handler) -> str:
    """Change of an existing handler only what is wrong with it."""
    table = present if isinstance(present, dict) else {}
    if table.get("runtime_type") != wanted.runtime_type:
        text = set_value(text, (*path, "runtime_type"), wanted.runtime_type)
    options = table.get("options", {})
    for key in ("BinaryName", "SystemdCgroup"):
        value = wanted.options.get(key, False)
        if options.get(key, False) != value:
            text = set_value(text, (*path, "options", key), value)
    return text


def _versioned(start: Situation, path: str) -> str:
    """The text to edit, with a version line where the root file has none and nothing that depends on it."""
    text = start.text(path)
    if path != start.main or start.before.root_version or start.plugin == "cri":
        return text
    version = 2 if start.release.major < 2 else 3
    return set_value(text, ("version",), version)


def drop_in(start: Situation) -> dict[str, bytes]:
    """A small file in the root's dialect and version, imported by the root file (`runtimes.md §0` fact 2)."""
    folder = posixpath.join(posixpath.dirname(start.main), "conf.d")
    path = posixpath.join(folder, DROP_IN)
    former = _at(_parsed(start.text(path)), start.table) or {}
    default = start.default if start.needs_default else former.get("default_runtime_name")
    root = _versioned(start, start.main)
    version = _parsed(root)["version"]
    text = (
        "# Written by gpuwizard: tells containerd about the NVIDIA container runtime.\n"
        f"# In the dialect and version of {start.main}; keep them equal.\n"
        f"version = {version}\n"
    )
    if default:
        text = add_table(text, start.table, {"default_runtime_name": default})
    if start.needs_handler or NAME in former.get("runtimes", {}):
        text = add_table(text, (*start.table, "runtimes", NAME), _handler_table(start.wanted))
    new = {path: text.encode()}
    base = posixpath.dirname(start.main)
    if not any(matches(posixpath.normpath(posixpath.join(base, i)), path) for i in start.before.imports):
        root = add_import(root, _pattern(start, folder))
    if root != start.text(start.main):
        new[start.main] = root.encode("utf-8", "surrogateescape")
    return new


def _pattern(start: Situation, folder: str) -> str:
    """What to import: the whole folder, unless it holds other files that would then come to life as well."""
    sleeping = [f for f in start.files if matches(f"{folder}/*.toml", f) and not f.endswith(f"/{DROP_IN}")]
    return f"{folder}/*.toml" if not sleeping else f"{folder}/{DROP_IN.replace('.toml', '*.toml')}"


def _parsed(text: str) -> dict[str, Any]:
    """The text's content; nothing for a file that is no TOML (a broken file that nobody imports yet)."""
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError:
        return {}


def _at(data: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return data
