"""What containerd's files hold that a release takes otherwise than it was meant: versions and dialects
(`runtimes.md §0`, `§1.1`, `§1.3`)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gpuwizard.facts.model import ConfigWarning
from gpuwizard.facts.model.runtime import ConfigWarningKind
from gpuwizard.facts.runtimes.config_files import ConfigFile, table
from gpuwizard.facts.runtimes.cri_config import CRI_V2, IMAGES_V3, RUNTIME_V3, settings_of
from gpuwizard.facts.runtimes.release import Release
from gpuwizard.facts.text import value
from gpuwizard.redact import redact_text

__all__ = ["Given", "Settings", "dialect_warnings", "line_of", "merged_version", "shown_keys"]

_SERVER_KEYS = frozenset(
    (
        "disable_tcp_service",
        "stream_server_address",
        "stream_server_port",
        "stream_idle_timeout",
        "enable_tls_streaming",
        "x509_key_pair_streaming",
    )
)
"""What stays in the version-2 table of a version-3 file (`runtimes.md §1.1`)."""
_SHOWN = 6


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """CRI settings, flat, by the names of `settings_of`. Two are equal when they are one."""

    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Given:
    """What the files are judged with. `release` is None when it is not known: then only what holds for every release
    is said. `refused` is true when the host's own loader refused them and false when it took them. `effective` are the
    settings that the host's dump shows, None without one that can be trusted."""

    release: Release | None
    refused: bool | None = None
    effective: Settings | None = None

    @property
    def shown(self) -> Mapping[str, object]:
        """The settings of the dump; none without one."""
        return {} if self.effective is None else self.effective.values

    def in_force(self, settings: Mapping[str, object]) -> bool:
        """True when the dump shows every one of `settings`: then nothing is wrong with them, whatever the rule."""
        shown = self.shown
        return bool(settings) and all(key in shown and shown[key] == entry for key, entry in settings.items())


def dialect_warnings(files: Sequence[ConfigFile], given: Given) -> Iterator[ConfigWarning]:
    """Warnings about the version lines and the names of the tables, file by file. `files` is in the order of reading;
    the first is the root file."""
    root = files[0] if files else None
    for file in files:
        if file.document is None:
            yield from _no_toml(file, given)
            continue
        assert root is not None
        yield from _unknown_version(file, files, given)
        yield from _bare_names(file, files, given)
        if file is root:
            yield from _root(file, files, given)
        else:
            yield from _drop_in(file, root, files, given)


def merged_version(files: Sequence[ConfigFile]) -> int:
    """The version that counts for all files in releases before 2.3: that of the last file that has one."""
    return next((file.version for file in reversed(files) if file.version is not None), 0)


def line_of(file: ConfigFile, pattern: str) -> int | None:
    """The 1-based number of the first line that matches `pattern`."""
    found = re.search(pattern, file.text, re.MULTILINE)
    return None if found is None else file.text.count("\n", 0, found.start()) + 1


def shown_keys(keys: Sequence[str]) -> str:
    """Some keys for people: not all of a long list."""
    names = [value(key) or "?" for key in keys[:_SHOWN]]
    return ", ".join(names) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")


def _no_toml(file: ConfigFile, given: Given) -> Iterator[ConfigWarning]:
    """Python's parser and containerd's agree on what is fatal; where containerd took the file nothing is said."""
    error = file.error or ""
    place = re.search(r"\(at line (\d{1,9}), column \d+\)|\(at end of document\)", error)
    if place is None or given.refused is False:
        return
    twice = error.startswith(("Cannot declare", "Cannot overwrite", "Cannot mutate", "Cannot redefine"))
    kind: ConfigWarningKind = "twice" if twice else "syntax"
    line = int(place[1]) if place[1] else file.text.count("\n") + 1
    told = file.text.splitlines()[line - 1 : line]
    words = error.partition(" (at ")[0]
    shown = value(redact_text(told[0][:400])) if told else None
    yield ConfigWarning(file.path, f"{words}: {shown}" if shown else words, line, kind)


def _unknown_version(file: ConfigFile, files: Sequence[ConfigFile], given: Given) -> Iterator[ConfigWarning]:
    """A version that the release does not know. Before 2.3 it is the last file with one that decides."""
    version, release = file.version, given.release
    if version is None or release is None or version <= release.config_version or given.refused is False:
        return
    first = next(other for other in files if (other.version or 0) > release.config_version)
    if file is not first or (merged_version(files) <= release.config_version and not release.migrates_each_file):
        return
    if file is not files[0] and release.major < 2 and files[0].version == 2:
        return  # said as a drop-in of a higher version than the root's
    line = line_of(file, r"^\s*version\s*=")
    if release.major >= 2 or release.refuses_version_3:
        words = f"version = {version}: containerd {release} knows at most {release.config_version} and does not start"
    else:
        words = f"version = {version}: containerd {release} takes it for 2, so tables of version 3 do nothing"
    yield ConfigWarning(file.path, words, line, "version")


def _bare_names(file: ConfigFile, files: Sequence[ConfigFile], given: Given) -> Iterator[ConfigWarning]:
    """Names of version 1 (``cri``) in a file of a later one: 1.x refuses to start, 2.x has a dead table."""
    names = [name for name in file.plugins if "." not in name]
    version = file.version or 0
    if _is_1(given.release):
        version = 0 if given.refused is False else merged_version(files)  # one version for all files
    if not names or version < 2:
        return
    for name in names[:_SHOWN]:
        line = line_of(file, rf"^\s*\[+\s*plugins\s*\.\s*[\"']?{re.escape(name)}[\"']?\s*[\].]")
        words = f"[plugins.{value(name)}…]: a name of version 1 in a file of version {version}"
        if name == "io":
            words = "[plugins.io.containerd…]: the plugin's name has dots and must stand in quotes"
        yield ConfigWarning(file.path, words, line, "old-table")


def _root(file: ConfigFile, files: Sequence[ConfigFile], given: Given) -> Iterator[ConfigWarning]:
    version, release = file.version or 0, given.release
    if version < 2:
        yield from _unversioned(file, given)
    elif version == 2 and _v3(file):
        yield from _mixed(file, files, given)
    elif version > 2 and _v2(file) and not _is_1(release) and not given.in_force(_own_v2(file)):
        yield _named(file, CRI_V2, "foreign-table", "2", str(version), release)


def _mixed(file: ConfigFile, files: Sequence[ConfigFile], given: Given) -> Iterator[ConfigWarning]:
    """Tables of version 3 where the version is 2: 1.x ignores them, from 2.0 on their handlers drop those of the old
    table (`runtimes.md §1.3`). Without a dump that is only said where both have handlers."""
    new, old = settings_of(file.plugins, RUNTIME_V3, IMAGES_V3), _own_v2(file)
    if given.in_force(new | old):
        return
    if given.effective is None and not _is_1(given.release):
        mine = table(file.plugins, RUNTIME_V3, "containerd", "runtimes")
        if not mine or not any(table(other.plugins, CRI_V2, "containerd", "runtimes") for other in files):
            return
    name = RUNTIME_V3 if RUNTIME_V3 in file.plugins else IMAGES_V3
    yield _named(file, name, "new-table", "3", "2", given.release)


def _named(
    file: ConfigFile, name: str, kind: ConfigWarningKind, of: str, inside: str, release: Release | None
) -> ConfigWarning:
    line = line_of(file, rf"^\s*\[+\s*plugins\s*\.\s*[\"']{re.escape(name)}[\"']")
    words = f"[plugins.'{name}'…]: a table of version {of} in a file of version {inside}"
    if release is not None:
        words += f", containerd {release}"
    return ConfigWarning(file.path, words, line, kind)


def _unversioned(file: ConfigFile, given: Given) -> Iterator[ConfigWarning]:
    """A root file of version 1 or none: what of it does nothing differs by release (`runtimes.md §0` fact 4)."""
    release = given.release
    if release is None or release.migrates_each_file:
        return
    if release.major < 2:
        dead = [name for name in (CRI_V2, RUNTIME_V3, IMAGES_V3) if name in file.plugins]
        lost = settings_of(file.plugins, *dead)
    else:
        dead = [name for name in ("cri", CRI_V2) if table(file.plugins, name)]
        lost = {k: v for k, v in settings_of(file.plugins, *dead).items() if k not in _SERVER_KEYS}
    if not lost or given.in_force(lost):
        return
    line = line_of(file, rf"^\s*\[+\s*plugins\s*\.\s*[\"']?{re.escape(dead[0])}[\"']?\s*[\].]")
    told = f"version = {file.version}" if file.version is not None else "no version line"
    words = f"{told}: containerd {release} ignores [plugins.{dead[0]}…]: {shown_keys(list(lost))}"
    yield ConfigWarning(file.path, words, line, "unversioned")


def _drop_in(file: ConfigFile, root: ConfigFile, files: Sequence[ConfigFile], given: Given) -> Iterator[ConfigWarning]:
    """A drop-in's version and dialect against the root file's (the matrix of `runtimes.md §1.3`)."""
    release = given.release
    own, base = file.version, root.version or 0
    version = own if own is not None else base
    refuses = release is not None and release.refuses_newer_drop_in
    if (base == 2 and version >= 3) or (base >= 3 and version > base and refuses):
        yield from _newer(file, files, given)
    elif base >= 3 and ((own or base) < 3 or (own is None and _old_content(file))):
        yield from _older(file, root, given)
    elif _v3(file) and (version == 2 or (base == 2 and _is_1(release))):
        yield from _mixed(file, files, given)
    elif version >= 3 and _v2(file) and not _is_1(release) and not given.in_force(_own_v2(file)):
        yield _named(file, CRI_V2, "foreign-table", "2", str(version), release)
    if base < 2 and release is not None and not release.migrates_each_file and own in (None, 1):
        yield from _unversioned(file, given)


def _newer(file: ConfigFile, files: Sequence[ConfigFile], given: Given) -> Iterator[ConfigWarning]:
    """A drop-in of a higher version than the root file (`runtimes.md §0` fact 2)."""
    release, root = given.release, files[0]
    line = line_of(file, r"^\s*version\s*=")
    head = f"version = {file.version} below a root file of version {root.version}"
    if release is None or release.major < 2:
        if release is not None and release.refuses_version_3 and given.refused is not False:
            words = f"{head}: containerd {release} does not start with it"
            yield ConfigWarning(file.path, words, line, "newer-drop-in")
        elif release is not None and not release.refuses_version_3 and _v3(file):
            words = f"{head}: containerd {release} does nothing with its tables"
            yield ConfigWarning(file.path, words, line, "newer-drop-in")
        return
    if release.refuses_newer_drop_in:
        if given.refused is True or (given.refused is None and release <= Release(2, 3, 4)):
            words = f"{head}: containerd {release} does not start with it"
            yield ConfigWarning(file.path, words, line, "newer-drop-in")
        return
    lost = _own_v2(root)
    if lost and not release.migrates_each_file and not given.in_force(lost):
        gone = [key for key, entry in lost.items() if given.shown.get(key) != entry]
        words = f"{head}: containerd {release} drops the root file's {shown_keys(gone or list(lost))}"
        yield ConfigWarning(file.path, words, line, "newer-drop-in")


def _older(file: ConfigFile, root: ConfigFile, given: Given) -> Iterator[ConfigWarning]:
    """A drop-in in an older dialect than the root file's: 2.0 to 2.2 ignore it."""
    release = given.release
    lost = settings_of(file.plugins, "cri", CRI_V2)
    lost = {key: entry for key, entry in lost.items() if key not in _SERVER_KEYS}
    if release is None or release.migrates_each_file or release.major < 2 or not lost or given.in_force(lost):
        return
    if given.effective is None and not table(root.plugins, RUNTIME_V3, "containerd", "runtimes"):
        return  # then it depends on which keys they have in common
    told = f"version = {file.version}" if file.version is not None else "tables of version 2 without a version line"
    words = f"{told} below a root file of version {root.version}: containerd {release} ignores {shown_keys(list(lost))}"
    line = line_of(file, r"^\s*version\s*=") or line_of(file, r"^\s*\[+\s*plugins\s*\.")
    yield ConfigWarning(file.path, words, line, "older-drop-in")


def _is_1(release: Release | None) -> bool:
    return release is not None and release.major < 2


def _old_content(file: ConfigFile) -> bool:
    return bool(_own_v2(file)) or "cri" in file.plugins


def _own_v2(file: ConfigFile) -> dict[str, object]:
    return {k: v for k, v in settings_of(file.plugins, CRI_V2).items() if k.partition(".")[0] not in _SERVER_KEYS}


def _v2(file: ConfigFile) -> bool:
    return bool(_own_v2(file))


def _v3(file: ConfigFile) -> bool:
    return RUNTIME_V3 in file.plugins or IMAGES_V3 in file.plugins
