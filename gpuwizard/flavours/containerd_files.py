"""The edits of containerd's files: in place, a drop-in next to them, or one with the complete CRI table
(`runtimes.md §1.5`, `§4`)."""

import copy
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpuwizard.containerd import Effective, Release, edit, effective
from gpuwizard.containerd.convert import converted
from gpuwizard.containerd.edit import add_import, add_table, set_value
from gpuwizard.containerd.imports import matches, resolve
from gpuwizard.errors import RefusedError
from gpuwizard.facts.model import Handler
from gpuwizard.flavours.former import KEY, former_default, restore_default, set_default
from gpuwizard.flavours.handler import NAME, fits_binary, is_right

__all__ = [
    "DROP_IN",
    "Edits",
    "Situation",
    "complete_drop_in",
    "drop_in",
    "drop_in_path",
    "handler_table",
    "in_place",
    "parsed",
    "table_at",
]

DROP_IN = "99-gpuwizard-nvidia.toml"
_LOOKED_AT = "/etc/containerd/conf.d"  # the folder of which the probe knows every file
_HANDLER, _CDI = ("containerd", "runtimes", NAME), ("enable_cdi",)
_DEFAULT = ("containerd", KEY)

Path = tuple[str, ...]
Edits = dict[str, bytes | None]
"""New content by path, in the order in which it is written; None removes the file."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the plan of one host starts from. `files` are the existing files; `main` the root file's path.

    `plugin` is the plugin table that holds handlers in the root file's dialect, `version` the root file's version, or
    the one that it gets (0: it stays without). `own_version` is the version of a file of ours: the root's, unless a
    file of another version decides which tables count. `default` is the handler that has to be the default, None where
    that is not asked for; `former` takes it back instead. `cdi` asks for CDI, `missing` says that the program of the
    present handler nvidia does not exist.
    """

    files: dict[str, bytes]
    main: str
    release: Release
    before: Effective
    wanted: Handler
    default: str | None
    plugin: str
    version: int
    own_version: int
    former: bool = False
    cdi: bool = False
    missing: bool = False

    @property
    def needs_handler(self) -> bool:
        return self.missing or not is_right(self.before.runtimes.get(NAME), self.wanted)

    @property
    def needs_default(self) -> bool:
        return self.default is not None and self.before.default_runtime_name != self.default

    @property
    def needs_former(self) -> bool:
        return self.former and self.before.default_runtime_name == NAME

    @property
    def needs_cdi(self) -> bool:
        return self.cdi and self.before.enable_cdi is False

    @property
    def needs_nothing(self) -> bool:
        return not (self.needs_handler or self.needs_default or self.needs_former or self.needs_cdi)

    @property
    def root(self) -> Path:
        return ("plugins", self.plugin)

    @property
    def table(self) -> Path:
        return (*self.root, "containerd")

    def text(self, path: str) -> str:
        return self.files.get(path, b"").decode("utf-8", "surrogateescape")


def in_place(start: Situation) -> Edits:
    """Edit the files whose values count: on 1.x the last one that has the CRI table, later the last one that has the
    value, else the root file."""
    if start.needs_former and _setter(start, _DEFAULT) == drop_in_path(start.main):
        return complete_drop_in(start) if start.release.replaces_plugin_tables else drop_in(start)
    texts: dict[str, str] = {}

    def text_of(path: str) -> str:
        return texts[path] if path in texts else _versioned(start, path)

    if start.needs_handler:
        path = _setter(start, _HANDLER)
        texts[path] = _with_handler(start, text_of(path))
    if start.needs_cdi:
        path = _setter(start, _CDI)
        texts[path] = set_value(text_of(path), (*start.root, *_CDI), True)
    if start.needs_default:
        path = _setter(start, _DEFAULT)
        texts[path] = set_default(text_of(path), start.table, start.default or NAME)
    if start.needs_former:
        path = _remembers(start)
        texts[path] = restore_default(text_of(path), start.table)
    return _changed(start, texts)


def _changed(start: Situation, texts: dict[str, str]) -> Edits:
    return {p: t.encode("utf-8", "surrogateescape") for p, t in texts.items() if t != start.text(p)}


def _with_handler(start: Situation, text: str) -> str:
    runtimes = (*start.table, "runtimes")
    present = table_at(parsed(text), runtimes)
    if present is None and start.release.replaces_plugin_tables and "runc" in start.before.runtimes:
        # A runtimes table of the file takes the place of the built-in one: runc must be written out too.
        text = add_table(text, (*runtimes, "runc"), handler_table(start.before.runtimes["runc"]))
    if present is not None and NAME in present:
        return _repaired(text, (*runtimes, NAME), present[NAME], start.wanted, missing=start.missing)
    return add_table(text, (*runtimes, NAME), handler_table(start.wanted), after=(*runtimes, "runc"))


def handler_table(wanted: Handler) -> dict[str, Any]:
    """As it is written: SystemdCgroup is spelt out, because it has to be the same in all handlers."""
    options = {**wanted.options, "SystemdCgroup": wanted.options.get("SystemdCgroup", False)}
    return {"runtime_type": wanted.runtime_type, "options": options}


def _repaired(text: str, path: Path, present: Any, wanted: Handler, *, missing: bool) -> str:
    """Change of an existing handler only what is wrong with it."""
    table = present if isinstance(present, dict) else {}
    if table.get("runtime_type") != wanted.runtime_type:
        text = set_value(text, (*path, "runtime_type"), wanted.runtime_type)
    options = table.get("options", {})
    if missing or not fits_binary(options.get("BinaryName"), wanted):
        text = set_value(text, (*path, "options", "BinaryName"), wanted.options["BinaryName"])
    if options.get("SystemdCgroup", False) != wanted.options.get("SystemdCgroup", False):
        text = set_value(text, (*path, "options", "SystemdCgroup"), wanted.options.get("SystemdCgroup", False))
    return text


def _setter(start: Situation, key: Path) -> str:
    """The file in which the value of `key` is decided."""
    for path in reversed(start.before.files):
        if table_at(parsed(start.text(path)), (*start.root, *key)) is not None:
            return path
        if start.release.replaces_plugin_tables and table_at(parsed(start.text(path)), start.root) is not None:
            return path
    if start.version != start.before.root_version:  # rather a file that needs no version line for it
        holders = (p for p in reversed(start.before.files) if table_at(parsed(start.text(p)), start.root) is not None)
        return next(holders, start.main)
    return start.main


def _remembers(start: Situation) -> str:
    """The file that makes nvidia the default through us; the last one that is read decides."""
    path = _setter(start, _DEFAULT)
    if former_default(start.text(path), start.table) is None:
        raise RefusedError(
            f"nothing of gpuwizard made {NAME} the default here, so that the former default is not known",
            remedy=f"set {KEY} in {path} to what it should be",
        )
    return path


def _versioned(start: Situation, path: str) -> str:
    """The text to edit: the root file with the version that it gets, and the plugin names that belong to it."""
    text = start.text(path)
    if path != start.main or start.version == start.before.root_version:
        return text
    return converted(text, start.version, enable_cri=False)


def drop_in_path(main: str) -> str:
    """Where our own file lies: next to the root file, in its folder conf.d."""
    return posixpath.join(posixpath.dirname(main), "conf.d", DROP_IN)


def drop_in(start: Situation) -> Edits:
    """A small file in the root's dialect and version, imported by the root file (`runtimes.md §0` fact 2).

    What a file decides that is read after ours is changed there: ours would have no effect.
    """
    path = drop_in_path(start.main)
    if not start.needs_handler and path not in start.files and not _imported(start, path):
        return in_place(start)  # a line or two of the root file, and no file more
    own = table_at(parsed(start.text(path)), start.root) or {}
    later = _read_after(start, path)
    ours, theirs = _divided(start, own, later)
    default = None if start.needs_former else start.default if _DEFAULT in ours else table_at(own, _DEFAULT)
    cdi = _CDI in ours or table_at(own, _CDI) is True
    text = _drop_in_text(start, default, cdi=cdi, handler=_HANDLER in ours or table_at(own, _HANDLER) is not None)
    texts = _elsewhere(start, theirs)
    if text is not None:
        texts.setdefault(start.main, start.text(start.main))
        texts[start.main] = _importing(start, path, texts[start.main])
    new: Edits = {path: None if text is None else text.encode()}
    new = {p: raw for p, raw in new.items() if raw != start.files.get(p)}
    return new | _changed(start, texts)


def _divided(start: Situation, own: dict[str, Any], later: tuple[str, ...]) -> tuple[set[Path], dict[Path, str]]:
    """Which of the needed values our file sets, and which have to be changed in which other file."""
    needed = {_HANDLER: start.needs_handler, _CDI: start.needs_cdi, _DEFAULT: start.needs_default}
    ours: set[Path] = set()
    theirs: dict[Path, str] = {}
    for key in (k for k, yes in needed.items() if yes):
        deciding = [f for f in later if table_at(parsed(start.text(f)), (*start.root, *key)) is not None]
        if deciding:
            theirs[key] = deciding[-1]
        else:
            ours.add(key)
    if start.needs_former and table_at(own, _DEFAULT) != NAME:
        theirs[_DEFAULT] = _remembers(start)
    return ours, theirs


def _elsewhere(start: Situation, theirs: dict[Path, str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for key, place in theirs.items():
        text = texts.get(place, start.text(place))
        if key == _HANDLER:
            text = _with_handler(start, text)
        elif key == _CDI:
            text = set_value(text, (*start.root, *_CDI), True)
        elif start.needs_former:
            text = restore_default(text, start.table)
        else:
            text = set_default(text, start.table, start.default or NAME)
        texts[place] = text
    return texts


def _importing(start: Situation, path: str, text: str) -> str:
    """The root file's text with an import that finds our file, and a version line where it has none."""
    if _imported(start, path):
        return text
    if start.version != start.before.root_version and parsed(text).get("version") != start.version:
        text = converted(text, start.version, enable_cri=False)
    return add_import(text, _pattern(start, posixpath.dirname(path)))


def _drop_in_text(start: Situation, default: str | None, *, cdi: bool, handler: bool) -> str | None:
    """The whole of our file; None when nothing is left to be said in it."""
    if not (default or cdi or handler):
        return None
    text = (
        "# Written by gpuwizard: tells containerd about the NVIDIA container runtime.\n"
        f"# In the dialect and version of {start.main}; keep them equal.\n"
    )
    text += _version_line(start)
    if cdi:
        text = add_table(text, start.root, {"enable_cdi": True})
    if default:
        text = add_table(text, start.table, {KEY: default})
    if handler:
        text = add_table(text, (*start.table, "runtimes", NAME), handler_table(start.wanted))
    return text


def _version_line(start: Situation) -> str:
    """The version of our file. None beside a root file that has none, or 1, and stays as it is: 2.3 refuses a file of a
    higher version than the first one that has any, and takes one without."""
    stays = start.before.root_version < 2 <= start.version and _imported(start, drop_in_path(start.main))
    return "" if stays or not start.own_version else f"version = {start.own_version}\n"


def _read_after(start: Situation, path: str) -> tuple[str, ...]:
    """The files that containerd reads after ours, once ours is there."""
    root = _importing(start, path, start.text(start.main))
    trial = {**start.files, path: _version_line(start).encode(), start.main: root.encode("utf-8", "surrogateescape")}
    order = effective(trial, start.main, str(start.release)).files
    return order[order.index(path) + 1 :] if path in order else ()


def _imported(start: Situation, path: str) -> bool:
    """True when a file that is read names ours, as this release takes what it names."""
    for parent in start.before.files:
        imports = parsed(start.text(parent)).get("imports", [])
        if path in resolve(parent, imports, {path: b""}, start.release):
            return True
    return False


def _pattern(start: Situation, folder: str) -> str:
    """What to import: the whole folder, unless it holds (or may hold) other files that would then come to life."""
    sleeping = [f for f in start.files if matches(f"{folder}/*.toml", f) and not f.endswith(f"/{DROP_IN}")]
    alone = folder == _LOOKED_AT and not sleeping
    return f"{folder}/*.toml" if alone else f"{folder}/{DROP_IN.replace('.toml', '*.toml')}"


def complete_drop_in(start: Situation) -> Edits:
    """1.x takes the last file's CRI table for the whole of it: ours repeats all that counts now and adds nvidia."""
    path = drop_in_path(start.main)
    others = [f for f in start.before.files if f != path]
    tables = (table_at(parsed(start.text(f)), start.root) for f in reversed(others))
    table: dict[str, Any] = copy.deepcopy(next((t for t in tables if t is not None), {}))
    containerd = table.setdefault("containerd", {})
    runtimes = containerd.setdefault("runtimes", {})
    if not runtimes and "runc" in start.before.runtimes:
        runtimes["runc"] = handler_table(start.before.runtimes["runc"])
    runtimes[NAME] = handler_table(start.wanted)
    own = table_at(parsed(start.text(path)), start.root) or {}
    default = start.default if start.needs_default else None if start.needs_former else table_at(own, _DEFAULT)
    if default:
        containerd[KEY] = default
    if start.needs_cdi or table_at(own, _CDI) is True:
        table["enable_cdi"] = True
    text = (
        "# Written by gpuwizard: the CRI settings of this host with the NVIDIA container runtime.\n"
        f"# This containerd takes the last file for all of them: later changes of them in {start.main} do nothing.\n"
        f"version = {start.version}\n"
    )
    new: Edits = {path: add_table(text, start.root, table).encode()}
    new[start.main] = _importing(start, path, start.text(start.main)).encode("utf-8", "surrogateescape")
    return {p: raw for p, raw in new.items() if raw != start.files.get(p)}


def parsed(text: str) -> Mapping[str, Any]:
    """The text's content; nothing for a file that is no TOML (a broken file that nobody imports yet)."""
    try:
        return edit.parsed(text)
    except RefusedError:
        return {}


def table_at(data: Any, path: Path) -> Any:
    """What stands at `path`; None where nothing does."""
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return data
