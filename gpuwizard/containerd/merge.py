"""From the root file to merged plugin tables: the loading loop of each release line (`runtimes.md §1.3`)."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuwizard.containerd.imports import is_directory, resolve
from gpuwizard.containerd.migrate import Tables, full_plugin_name, migrate_cri, rename_v1
from gpuwizard.containerd.parse import ConfigFile, LoadError, parse_file
from gpuwizard.containerd.release import Release

__all__ = ["Merged", "deep_merge", "load"]


@dataclass(slots=True)
class Merged:
    """The state of the loading loop. `version` is the number that decides what happens after it."""

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


def load(files: Mapping[str, bytes], main: str, release: Release) -> Merged:
    """Read `main` and everything it imports, breadth first, each file once. A failure ends up in `error` with what
    was merged before it; `missing` is set when it was a file that does not exist."""
    merged = Merged(version=1 if release.major < 2 else release.config_version)
    try:
        _read_all(merged, files, main, release)
        _validate(merged, release)
    except LoadError as error:
        merged.error, merged.missing = str(error), error.missing
    if not release.migrates_each_file and release.major >= 2 and merged.version == 2:
        merged.plugins = migrate_cri(merged.plugins, release)
    return merged


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
        _merge_file(merged, file, release)
        loaded.add(path)
        merged.files.append(path)
        pending += resolve(path, file.imports, files, release)


def _open(files: Mapping[str, bytes], path: str, release: Release) -> ConfigFile:
    if path not in files:
        if is_directory(path, files):
            raise LoadError(f"{path}: is a directory")
        raise LoadError(f"{path}: no such file or directory", missing=path)
    return parse_file(files[path], path, release)


def _merge_file(merged: Merged, file: ConfigFile, release: Release) -> None:
    plugins, disabled, required, version = copy.deepcopy(file.plugins), file.disabled, file.required, file.version
    if release.major >= 2 and version < 2 and merged.version >= 2:
        plugins = rename_v1(plugins)
        disabled = tuple(full_plugin_name(p) for p in disabled)
        required = tuple(full_plugin_name(p) for p in required)
        version = merged.version
    if release.migrates_each_file:
        if version < release.config_version or file.version < release.config_version:
            plugins = migrate_cri(plugins, release)
        version = max(version, release.config_version)
    if release.replaces_plugin_tables:
        merged.plugins |= plugins
    else:
        merged.plugins = deep_merge(merged.plugins, plugins)
    merged.version = version or merged.version
    for to, new in ((merged.disabled, disabled), (merged.required, required), (merged.imports, file.imports)):
        to += [entry for entry in new if entry not in to or release.replaces_plugin_tables]
    merged.other = deep_merge(merged.other, {k: v for k, v in file.other.items() if v not in ("", 0, False)})


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
        ("plugin key", list(merged.plugins)),
    )
    for kind, names in kinds:
        for name in names:
            if name.count(".") < 3 or (release.minor >= 7 and not name.startswith("io.containerd.")):
                raise LoadError(f'invalid {kind} URI "{name}" expect io.containerd.x.vx')
