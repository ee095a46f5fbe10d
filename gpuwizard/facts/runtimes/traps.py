"""What containerd's files hold that does not do what it was meant to, whatever their version: replaced tables, keys at
the wrong place, imports that lead nowhere, copies that are read (`runtimes.md §1.3`, `§11`)."""

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from gpuwizard.facts.model import ConfigWarning
from gpuwizard.facts.runtimes.config_files import ConfigFile, table
from gpuwizard.facts.runtimes.cri_config import CRI_V2, IMAGES_V3, RUNTIME_V3, settings_of
from gpuwizard.facts.runtimes.dialect import Given, dialect_warnings, line_of, merged_version, shown_keys
from gpuwizard.facts.text import value

__all__ = ["Surroundings", "config_warnings"]

_TOP_LEVEL = ("imports", "version", "disabled_plugins", "required_plugins")
_CRI_TABLES = ("cri", CRI_V2, RUNTIME_V3, IMAGES_V3)
_BACKUP = re.compile(r"(?i)(?:[-_.~](?:bak|backup|old|orig|original|save|saved|copy|disabled)(?:[-_.~]|\d|$)|~)")
_OPTIONS = ("BinaryName", "SystemdCgroup", "NoPivotRoot", "NoNewKeyring", "ShimCgroup", "IoUid", "IoGid", "Root")
_FLAT_OPTIONS = {option.casefold(): option for option in _OPTIONS}
_REMOVED_TABLES = ("default_runtime", "untrusted_workload_runtime")
_DEEPEST = 8
_FULL = 5
"""A dump that shows so many keys of a handler shows all that this release knows."""

Surroundings = tuple[tuple[tuple[str, str], ...], tuple[str, ...], bool]
"""Imports that do not exist with the file that names each; drop-ins that lie in conf.d and are not among the files;
whether the CRI plugin is known to work."""


@lru_cache(maxsize=256)
def config_warnings(files: tuple[ConfigFile, ...], given: Given, around: Surroundings) -> tuple[ConfigWarning, ...]:
    """Every warning about the files of one containerd, in the order of reading. Kept, because the hosts of a fleet
    have the same files."""
    return tuple(_all(files, given, around))


def _all(files: Sequence[ConfigFile], given: Given, around: Surroundings) -> Iterator[ConfigWarning]:
    missing, sleeping, works = around
    yield from dialect_warnings(files, given)
    parsed = [file for file in files if file.document is not None]
    yield from _replaced(parsed, given)
    for file in parsed:
        yield from _late_keys(file)
        yield from _stub(file, parsed, given)
        yield from _misplaced(file, given)
        yield from _removed(file, given, works)
    for path, parent in missing:
        line = next((line_of(f, re.escape(posixpath.basename(path))) for f in files if f.path == parent), None)
        yield ConfigWarning(parent, f"imports {value(path)}, which does not exist", line, "missing-import")
    yield from (ConfigWarning(path, "nothing imports this file", None, "not-imported") for path in sleeping)
    yield from _backups(parsed)
    yield from _overridden(parsed)
    if not works:
        yield from _mirrors(parsed, given)


def _replaced(files: Sequence[ConfigFile], given: Given) -> Iterator[ConfigWarning]:
    """1.x: a drop-in's plugin table takes the place of the whole table before it (`runtimes.md §0` fact 1)."""
    if given.release is None or not given.release.replaces_plugin_tables:
        return
    before: dict[str, Mapping[str, object]] = {}
    for file in files:
        for name in _CRI_TABLES[:2]:
            if not table(file.plugins, name):
                continue
            own = settings_of(file.plugins, name)
            lost = [
                key
                for key, entry in before.get(name, {}).items()
                if key not in own and not given.in_force({key: entry})
            ]
            if lost:
                line = line_of(file, rf"^\s*\[+\s*plugins\s*\.\s*[\"']?{re.escape(name)}[\"']?\s*[\].]")
                words = f"containerd {given.release} takes this table for the whole of it and loses {shown_keys(lost)}"
                yield ConfigWarning(file.path, words, line, "replaced")
            before[name] = own


def _late_keys(file: ConfigFile) -> Iterator[ConfigWarning]:
    """Keys of the top level behind a table header belong to that table, silently."""
    for path, key in _nested(file.document or {}, "", _DEEPEST):
        line = None
        for found in re.finditer(rf"^[ \t]*[\"']?{key}[\"']?[ \t]*=", file.text, re.MULTILINE):
            line = file.text.count("\n", 0, found.start()) + 1
        yield ConfigWarning(
            file.path, f"{key} stands in table [{value(path)}] and does nothing there", line, "late-key"
        )


def _nested(node: Mapping[str, object], path: str, depth: int) -> Iterator[tuple[str, str]]:
    for key, entry in node.items():
        if isinstance(entry, Mapping):
            if depth:
                yield from _nested(entry, f"{path}.{key}" if path else str(key), depth - 1)
        elif path and key in _TOP_LEVEL and isinstance(entry, int if key == "version" else list):
            yield path, key


def _stub(file: ConfigFile, files: Sequence[ConfigFile], given: Given) -> Iterator[ConfigWarning]:
    """CRI switched off, as Docker's package ships it; with a version line its short name is fatal.

    1.x has one version for all files; 2.x brings the names of a file without a version line up to date.
    """
    disabled = (file.document or {}).get("disabled_plugins", [])
    if not isinstance(disabled, list):
        return
    one_for_all = given.release is not None and given.release.major < 2
    version = merged_version(files) if one_for_all else file.version or 0
    line = line_of(file, r"^\s*disabled_plugins\s*=")
    if "cri" in disabled and version >= 2 and given.refused is not False:
        words = f'disabled_plugins = ["cri"] in a file of version {version}: containerd does not start with it'
        yield ConfigWarning(file.path, words, line, "stub-versioned")
    elif any(name in disabled for name in _CRI_TABLES):
        name = next(name for name in _CRI_TABLES if name in disabled)
        yield ConfigWarning(file.path, f'disabled_plugins = ["{name}"]: the CRI plugin is off', line, "stub")


def _misplaced(file: ConfigFile, given: Given) -> Iterator[ConfigWarning]:
    for name in _CRI_TABLES[:3]:
        main = table(file.plugins, name)
        for key in ("runtimes", "default_runtime_name"):
            if key in main:
                words = f"{key} stands in [plugins.'{name}'] and belongs in its table containerd"
                yield _at(file, key, words, rf"^\s*\[.*{re.escape(name)}[\"']?\s*\.\s*{key}\b")
        for handler, entry in table(main, "containerd", "runtimes").items():
            if not isinstance(entry, Mapping):
                continue
            shown = value(handler) or "?"
            for key in entry:
                if (option := _option(key)) is None:
                    if _ignored(handler, key, entry[key], given):
                        yield _at(file, key, f"handler {shown}: containerd does not know the key {value(key)}")
                else:
                    words = f"{value(key)} stands in the table of handler {shown} and belongs in its options"
                    yield _at(file, key, f"{words} as {option}" if option != key else words)
            for key in table(entry, "options"):
                option = _option(key)
                if option is not None and ("_" in key or "-" in key):
                    yield _at(file, key, f"handler {shown}: the option {value(key)} is spelt {option}")
                elif key in ("runtime_type", "privileged_without_host_devices"):
                    yield _at(file, key, f"{key} stands in the options of handler {shown} and belongs in its table")


def _ignored(handler: str, key: str, entry: object, given: Given) -> bool:
    """Whether the host's dump, which prints every key of a handler, does not have this one."""
    if not entry or isinstance(entry, Mapping) or key in ("runtime_engine", "runtime_root"):
        return False
    head = f"containerd.runtimes.{handler}."
    known = [path for path in given.shown if path.startswith(head) and "." not in path.removeprefix(head)]
    return len(known) >= _FULL and f"{head}{key}" not in given.shown


def _option(key: str) -> str | None:
    """The option of runc's shim that `key` is meant to be."""
    if key == "root":
        return None
    return _FLAT_OPTIONS.get(key.replace("_", "").replace("-", "").casefold())


def _at(file: ConfigFile, key: str, words: str, header: str | None = None) -> ConfigWarning:
    """A key at the wrong place: the line where it is set, or where its table begins."""
    line = line_of(file, rf"^\s*[\"']?{re.escape(key)}[\"']?\s*=")
    if line is None or header is not None:
        line = line_of(file, header or rf"^\s*\[.*\b{re.escape(key)}\b") or line
    return ConfigWarning(file.path, words, line, "misplaced")


def _removed(file: ConfigFile, given: Given, works: bool) -> Iterator[ConfigWarning]:
    """Keys that 2.0 removed, and the one that keeps the CRI plugin of 1.x from loading (`runtimes.md §1.1`)."""
    release = given.release
    if release is None:
        return
    for name in _CRI_TABLES[:3]:
        main = table(file.plugins, name)
        if main.get("systemd_cgroup") is True and not (works and release.major < 2):
            what = "is gone" if release.major >= 2 else "keeps the CRI plugin from loading"
            line = line_of(file, r"^\s*systemd_cgroup\s*=")
            words = f"systemd_cgroup = true: containerd {release}: it {what}; SystemdCgroup of the handler is meant"
            yield ConfigWarning(file.path, words, line, "cgroup-key")
        if release.major < 2:
            continue
        containerd = table(main, "containerd")
        gone = [key for key in _REMOVED_TABLES if table(containerd, key)]
        for handler, entry in table(containerd, "runtimes").items():
            gone += [f"runtimes.{handler}.{key}" for key in ("runtime_engine", "runtime_root") if _text_at(entry, key)]
        for key in gone:
            line = line_of(file, rf"^\s*\[.*\b{re.escape(key)}\s*[\].]") or line_of(
                file, rf"^\s*{re.escape(key.rpartition('.')[2])}\s*="
            )
            yield ConfigWarning(file.path, f"{value(key)} does not exist in containerd {release}", line, "removed")


def _text_at(entry: object, key: str) -> str:
    """The text at `key` of a table; empty where there is none."""
    found = entry.get(key) if isinstance(entry, Mapping) else None
    return found if isinstance(found, str) else ""


def _backups(files: Sequence[ConfigFile]) -> Iterator[ConfigWarning]:
    for file in files[1:]:
        name = posixpath.basename(file.path)
        if _BACKUP.search(name.removesuffix(".toml")) and any(table(file.plugins, key) for key in _CRI_TABLES):
            yield ConfigWarning(file.path, "a copy by its name, and imported like any other drop-in", None, "backup")


def _overridden(files: Sequence[ConfigFile]) -> Iterator[ConfigWarning]:
    """The drop-in that nvidia-ctk makes holds a copy of the CRI table: later edits of the root file have no effect."""
    before: dict[str, object] = {}
    for file in files:
        own = settings_of(file.plugins, *_CRI_TABLES)
        if file is not files[0] and "nvidia" in posixpath.basename(file.path):
            other = [
                f"{value(key)} = {_shown(own[key])} in place of {_shown(entry)}" if _public(key) else f"{value(key)}"
                for key, entry in before.items()
                if key in own and own[key] != entry and "nvidia" not in key and not key.endswith("default_runtime_name")
            ]
            if other:
                yield ConfigWarning(file.path, f"it overrides {shown_keys(other)}", None, "overridden")
        before |= own


def _public(key: str) -> bool:
    """Whether the value may be shown: logins to registries stand among the settings, too."""
    return key in ("sandbox_image", "containerd.snapshotter", "registry.config_path") or key.startswith(
        ("cni.", "containerd.runtimes.")
    )


def _shown(entry: object) -> str:
    if isinstance(entry, bool):
        return "true" if entry else "false"
    if isinstance(entry, tuple):
        return value(", ".join(str(part) for part in entry)) or "[]"
    return value(str(entry)) or '""'


def _mirrors(files: Sequence[ConfigFile], given: Given) -> Iterator[ConfigWarning]:
    """registry.mirrors beside registry.config_path: the CRI plugin does not load."""
    folder = given.shown.get("registry.config_path")
    for file in files:
        folder = folder or settings_of(file.plugins, *_CRI_TABLES).get("registry.config_path")
    if not folder:
        return
    for file in files:
        for name in _CRI_TABLES:
            if table(file.plugins, name, "registry", "mirrors"):
                line = line_of(file, r"^\s*\[.*registry\s*\.\s*mirrors")
                yield ConfigWarning(
                    file.path, f"registry.mirrors beside config_path = {_shown(folder)}", line, "mirrors"
                )
