"""From the root file to merged plugin tables: the loading loop of each release line (`runtimes.md §1.3`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuwizard.containerd.imports import is_directory, resolve
from gpuwizard.containerd.migrate import Tables, full_plugin_name, migrate_plugins, migrate_servers, rename_v1
from gpuwizard.containerd.parse import ConfigFile, Leaf, LoadError, parse_file, plain
from gpuwizard.containerd.release import Release

__all__ = ["Merged", "deep_merge", "load"]

_LISTED = ("version", "imports", "disabled_plugins", "required_plugins")
_WHOLE = ("proxy_plugins", "stream_processors")


@dataclass(slots=True)
class Merged:
    """The state of the loading loop. `version` is the number that decides what happens after it.

    `plugins` and `other` hold plain values; `placed` is the same as `plugins` with a `Leaf` for each value, `tops` the
    other top-level tables so. `read` are the parsed files. `dumps` is false when ``config dump`` refuses the files.
    """

    version: int
    root_version: int = 0
    plugins: Tables = field(default_factory=dict)
    disabled: list[str] = field(default_factory=list)
    required: list[str] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)
    other: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    error: str | None = None
    missing: str | None = None
    dumps: bool = True
    read: list[ConfigFile] = field(default_factory=list)
    placed: Tables = field(default_factory=dict)
    tops: dict[str, Any] = field(default_factory=dict)


def load(files: Mapping[str, bytes], main: str, release: Release) -> Merged:
    """Read `main` and everything it imports, breadth first, each file once. A failure ends up in `error` with what
    was merged before it; `missing` is set when it was a file that does not exist."""
    merged = Merged(version=1 if release.major < 2 else release.config_version)
    try:
        _read_all(merged, files, main, release)
        _validate(merged, release)
    except LoadError as error:
        merged.error, merged.missing = str(error), error.missing
        merged.dumps = release.major >= 2 and merged.missing is not None
    _migrate(merged, release)
    merged.plugins = plain(merged.placed)
    merged.other = plain({k: v for k, v in merged.tops.items() if k not in _LISTED})
    return merged


def _migrate(merged: Merged, release: Release) -> None:
    """What 2.0 to 2.2 do once, after the files were merged: a version below their own brings the CRI tables up."""
    if merged.version < 0 and release.major >= 2 and merged.error is None:
        merged.error = f"there is no configuration version {merged.version}"
    if release.major < 2 or release.migrates_each_file or merged.version >= release.config_version:
        return
    try:
        merged.placed = migrate_plugins(merged.placed, release, frozenset(merged.disabled))
    except LoadError as error:
        merged.error, merged.missing, merged.dumps = merged.error or str(error), None, False


def deep_merge(to: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged; scalars (also ``false`` and ``""``) and lists are replaced."""
    out = dict(to)
    for key, value in new.items():
        old = out.get(key)
        out[key] = deep_merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def _read_all(merged: Merged, files: Mapping[str, bytes], main: str, release: Release) -> None:
    pending = [main]
    loaded: set[str] = set()
    limit = 0  # 2.3: no file may have a higher version than the first one that has any
    while pending:
        path = pending.pop(0)
        if path in loaded:
            continue
        file = _open(files, path, release)
        if path == main:
            merged.root_version = file.version
        if release.refuses_newer_drop_in:
            limit = limit or file.version
            if file.version > limit:
                raise LoadError(f"drop-in config version {file.version} higher than root config version {limit}")
        loaded.add(path)
        merged.files.append(path)
        merged.read.append(file)
        _merge_file(merged, file, release)
        pending += resolve(path, file.imports, files, release)


def _open(files: Mapping[str, bytes], path: str, release: Release) -> ConfigFile:
    if path not in files:
        if is_directory(path, files):
            raise LoadError(f"{path}: is a directory")
        raise LoadError(f"{path}: no such file or directory", missing=path)
    return parse_file(files[path], path, release)


def _merge_file(merged: Merged, file: ConfigFile, release: Release) -> None:
    if release.migrates_each_file and file.version < 0:
        raise LoadError(f"{file.path}: there is no configuration version {file.version}")
    plugins, disabled, required, version = file.plugins, file.disabled, file.required, file.version
    tops = {key: value for key, value in file.tables.items() if key != "plugins" and not _empty(value)}
    if release.major >= 2 and version in (0, 1) and merged.version >= 2:
        plugins = rename_v1(plugins)
        disabled = tuple(full_plugin_name(p) for p in disabled)
        required = tuple(full_plugin_name(p) for p in required)
        version = merged.version
    if release.migrates_each_file:
        if version < release.config_version or file.version < release.config_version:
            plugins = migrate_plugins(plugins, release)
            tops, plugins = migrate_servers(tops, plugins)
        version = max(version, release.config_version)
    if release.replaces_plugin_tables:
        merged.placed = merged.placed | plugins
    else:
        merged.placed = deep_merge(merged.placed, plugins)
    merged.version = version or merged.version
    for to, new in ((merged.disabled, disabled), (merged.required, required), (merged.imports, file.imports)):
        for entry in new:
            if entry not in to or release.replaces_plugin_tables:
                to.append(entry)
    merged.tops = _merge_tops(merged.tops, tops)


def _merge_tops(to: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The top-level settings: an empty value of a later file does not count, and a later entry of a table of tables
    (a proxy plugin, a stream processor) replaces the former one whole."""
    out = dict(to)
    for key, value in new.items():
        old = out.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            out[key] = old | value if key in _WHOLE else _merge_tops(old, value)
        elif not _empty(value):
            out[key] = value
    return out


def _empty(value: Any) -> bool:
    """True for what the merge takes for "not set"."""
    return isinstance(value, Leaf) and value.value in ("", 0, False, [])


def _validate(merged: Merged, release: Release) -> None:
    if release.major < 2:
        _validate_1(merged, release)
        return
    if merged.version > release.config_version:
        raise LoadError(
            f"expected containerd config version equal to or less than `{release.config_version}`, "
            f"got `{merged.version}`"
        )
    for kind, names in (("disabled", merged.disabled), ("required", merged.required)):
        for name in names:
            if "." not in name:
                raise LoadError(f'invalid {kind} plugin URI "{name}" expect io.containerd.x.vx')


def _validate_1(merged: Merged, release: Release) -> None:
    if merged.version < 2:
        return
    if merged.version > 2 and release.refuses_version_3:
        raise LoadError(f"unsupported config version `{merged.version}`")
    kinds = (
        ("disabled plugin", merged.disabled),
        ("required plugin", merged.required),
        ("plugin key", list(merged.placed)),
    )
    for kind, names in kinds:
        for name in names:
            if name.count(".") < 3 or (release.minor >= 7 and not name.startswith("io.containerd.")):
                raise LoadError(f'invalid {kind} URI "{name}" expect io.containerd.x.vx')
