"""The files that one containerd reads: its own and all that they import, in its order (`runtimes.md §1.3`)."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gpuwizard.facts.model import HostFile
from gpuwizard.facts.runtimes.globs import matches
from gpuwizard.facts.runtimes.release import Release
from gpuwizard.facts.text import load_toml, value

__all__ = ["ConfigFile", "ConfigFiles", "parse_config", "read_files", "root_imports", "root_version", "table"]

_BOM = b"\xef\xbb\xbf"
_MOST = 64


@dataclass(frozen=True, slots=True, eq=False)
class ConfigFile:
    """One file. `document` is None where it is no TOML, and `error` then says why; `text` is the file as text.

    Two are equal when they are one: the same file of several hosts is, so that what follows from it can be kept.
    """

    path: str
    text: str
    document: Mapping[str, Any] | None
    error: str | None = None

    @property
    def version(self) -> int | None:
        """The number of its version line; None without one."""
        found = (self.document or {}).get("version")
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    @property
    def plugins(self) -> Mapping[str, Any]:
        """Its plugin tables by name."""
        return table(self.document, "plugins")


@dataclass(frozen=True, slots=True)
class ConfigFiles:
    """All files that exist, the root file first. `missing` maps an import without a pattern that does not exist to the
    file that names it; `unknown` are files of which it is not known whether they exist or what they hold."""

    files: tuple[ConfigFile, ...]
    missing: Mapping[str, str]
    unknown: tuple[str, ...]
    folders: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the files lie."""
        return tuple(file.path for file in self.files)


def read_files(main: str, files: Mapping[str, HostFile], release: Release | None) -> ConfigFiles:
    """The files that containerd reads when it is given the root file `main`, breadth first, each once."""
    found: list[ConfigFile] = []
    missing: dict[str, str] = {}
    unknown: list[str] = []
    folders: dict[str, None] = {}
    pending, seen = [(main, main)], {main}
    while pending and len(found) < _MOST:
        path, parent = pending.pop(0)
        file = files.get(path)
        if file is None:
            unknown.append(path)
            continue
        if file.content is None:
            missing[path] = parent
            continue
        config = parse_config(path, file.content.raw, release is not None and release.major < 2)
        found.append(config)
        for entry in root_imports(config.document or {}):
            for target in _targets(path, entry, files, release, folders):
                if target not in seen:
                    seen.add(target)
                    pending.append((target, path))
    missing.pop(main, None)
    return ConfigFiles(tuple(found), missing, tuple(unknown), tuple(folders))


def _targets(
    parent: str, entry: str, files: Mapping[str, HostFile], release: Release | None, folders: dict[str, None]
) -> list[str]:
    """What one import names: only an entry with ``*`` is a pattern, and it matches what exists."""
    pattern = "*" in entry
    start = "/" if pattern and release is not None and release.relative_globs_from_cwd else posixpath.dirname(parent)
    path = posixpath.normpath(posixpath.join(start, entry))
    if not pattern:
        return [path]
    folders[posixpath.dirname(path)] = None
    present = [name for name, file in files.items() if file.content is not None and matches(path, name)]
    return sorted(present, key=lambda name: name.split("/"))


@lru_cache(maxsize=256)
def parse_config(path: str, raw: bytes, lenient: bool) -> ConfigFile:
    """One file as containerd's parser takes it: 1.x (`lenient`) skips a byte order mark and takes any bytes in
    comments, 2.x refuses both."""
    body = raw.removeprefix(_BOM)
    if lenient:
        loaded = load_toml(body.decode("utf-8", "replace"))
    elif raw.startswith(_BOM):
        loaded = "it starts with a byte order mark (at line 1, column 1)"
    else:
        loaded = load_toml(body)
    text = body.decode("utf-8", "replace")
    return ConfigFile(path, text, None, loaded) if isinstance(loaded, str) else ConfigFile(path, text, loaded)


def root_version(document: Mapping[str, Any]) -> int:
    """The configuration version; a file without one is version 1."""
    version = document.get("version", 1)
    return version if isinstance(version, int) and not isinstance(version, bool) else 1


def root_imports(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The import patterns as written."""
    imports = document.get("imports", [])
    if not isinstance(imports, list):
        return ()
    return tuple(shown for entry in imports if isinstance(entry, str) and (shown := value(entry)))


def table(document: object, *keys: str) -> Mapping[str, Any]:
    """The table at that path; an empty one where there is none."""
    for key in keys:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document if isinstance(document, Mapping) else {}
