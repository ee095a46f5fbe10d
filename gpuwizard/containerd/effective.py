"""The effective CRI configuration that a containerd of some release makes of a set of files, offline."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

from gpuwizard.clean import clean_line
from gpuwizard.containerd import schema
from gpuwizard.containerd.defaults import default_images, default_runtime
from gpuwizard.containerd.judge import disabled_plugins, refused_plugins, refused_start, undecodable
from gpuwizard.containerd.merge import Merged, deep_merge, load
from gpuwizard.containerd.model import CRI_V2, IMAGES_V3, RUNTIME_V3, Effective
from gpuwizard.containerd.notes import notes
from gpuwizard.containerd.origins import origins
from gpuwizard.containerd.release import Release
from gpuwizard.containerd.validate import ReadFile, cri_problems, stops_daemon
from gpuwizard.facts.model import Handler

__all__ = ["cri_tables", "effective", "flatten", "refused_dump"]


def effective(files: Mapping[str, bytes], main: str, version: str, read: ReadFile | None = None) -> Effective:
    """What containerd `version` makes of the root file `main`, given the content of every file that exists.

    `files` maps absolute paths to content and must hold all files that imports could name. A missing root file is
    what ``--config FILE`` makes of it: the daemon does not start; `Effective` still shows what ``config dump``
    would. `read` returns other files of the host (base_runtime_spec); without it they are taken to be there.
    Never raises for broken files: `starts`, `cri` and `error` tell. Raises UsageError for a `version` that is none.
    """
    release = Release.parse(version)
    if read is None:
        return _remembered(tuple(sorted(files.items())), main, release)
    return _effective(files, main, release, read)


@lru_cache(maxsize=256)
def _remembered(files: tuple[tuple[str, bytes], ...], main: str, release: Release) -> Effective:
    """Many hosts of a cluster have the same files."""
    return _effective(dict(files), main, release, None)


def _effective(files: Mapping[str, bytes], main: str, release: Release, read: ReadFile | None) -> Effective:
    merged = load(files, main, release)
    problem = refused_dump(merged, release)
    if problem is not None:
        return _broken(merged, release, problem, files, main)
    runtime, images, server = cri_tables(merged, release)
    disabled = disabled_plugins(merged, release)
    problems = [*cri_problems(runtime, images, server, release, read)]
    problems += refused_plugins(merged, release, images["snapshotter"])
    problems = [(plugin, why) for plugin, why in problems if plugin not in disabled]
    invalid = problems[0][1] if problems else None
    cri: Literal["ok", "error", "disabled"] = "error" if problems else "disabled" if CRI_V2 in disabled else "ok"
    broken = frozenset((CRI_V2, *(plugin for plugin, _ in problems)) if problems else ())
    error = merged.error or refused_start(merged, broken, invalid, release)
    if cri == "ok":
        error = error or stops_daemon(server)
    return Effective(
        release=str(release),
        starts=error is None,
        cri=cri if error is None else None,
        error=error or invalid,
        config_version=release.config_version,
        root_version=merged.root_version,
        imports=tuple(merged.imports),
        disabled_plugins=tuple(merged.disabled),
        required_plugins=tuple(merged.required),
        warnings=notes(merged, files, main, release),
        files=tuple(merged.files),
        settings=flatten(merged.plugins | {k: v for k, v in merged.other.items() if isinstance(v, dict)}),
        origins=origins(merged, release),
        dumps=merged.dumps,
        **_values(runtime, images, disabled, release),
    )


def refused_dump(merged: Merged, release: Release) -> str | None:
    """Why ``config dump`` would print nothing of these files; None when it prints what was merged, also where the
    daemon itself would not start."""
    unread = merged.error is not None and not merged.dumps and merged.missing is None
    return merged.error if unread else undecodable(merged, release)


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one mapping from dotted path to value; empty tables vanish."""
    flat: dict[str, Any] = {}
    for key, value in sorted(table.items()):
        name = clean_line(key)
        path = f'{prefix}."{name}"' if "." in name and prefix else f"{prefix}.{name}" if prefix else name
        if isinstance(value, dict):
            flat |= flatten(value, path)
        else:
            flat[path] = tuple(value) if isinstance(value, list) else value
    return flat


def cri_tables(merged: Merged, release: Release) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The runtime, the image and the server part, laid over the defaults. 1.x keeps all in one table; there a
    `runtimes` table of the files takes the place of the built-in one, while 2.x lays it over (`runtimes.md §0`
    fact 1)."""
    if release.major >= 2:
        runtime, images, server = (
            schema.canonical(merged.plugins.get(name, {}), known(release), release)
            for name, known in ((RUNTIME_V3, schema.runtime), (IMAGES_V3, schema.images), (CRI_V2, schema.server))
        )
        runtime, images = deep_merge(default_runtime(release), runtime), deep_merge(default_images(release), images)
        return runtime, images, server
    table = merged.plugins.get("cri" if merged.version == 1 else CRI_V2, {})
    table = schema.canonical(table, schema.cri_1(release), release)
    runtime = deep_merge(default_runtime(release), table)
    own = table.get("containerd", {})
    if isinstance(own.get("runtimes"), dict):
        runtime["containerd"]["runtimes"] = own["runtimes"]
    images = default_images(release)
    images["registry"] = deep_merge(images["registry"], runtime.get("registry", {}))
    images["pinned_images"]["sandbox"] = runtime.get("sandbox_image", images["pinned_images"]["sandbox"])
    images["snapshotter"] = own.get("snapshotter", images["snapshotter"])
    images |= {k: table[k] for k in ("image_pull_progress_timeout",) if k in table}
    return runtime, images, table


def _values(
    runtime: Mapping[str, Any], images: Mapping[str, Any], disabled: frozenset[str], release: Release
) -> dict[str, Any]:
    """The named values; those of a disabled plugin are not there."""
    parts = (RUNTIME_V3, IMAGES_V3) if release.major >= 2 else (CRI_V2, CRI_V2)
    values = {} if parts[0] in disabled else _runtime_values(runtime, release)
    return values if parts[1] in disabled else values | _image_values(images)


def _runtime_values(runtime: Mapping[str, Any], release: Release) -> dict[str, Any]:
    containerd = runtime["containerd"]
    cni = (schema.cri_1 if release.major < 2 else schema.runtime)(release).of("cni")
    known = cni.keys if isinstance(cni, schema.Table) else {}
    knows_cdi = release.line >= (1, 7)
    dirs = runtime.get("cdi_spec_dirs") if knows_cdi else None
    return {
        "default_runtime_name": containerd["default_runtime_name"],
        "runtimes": {name: _handler(table) for name, table in sorted(containerd["runtimes"].items())},
        "enable_cdi": runtime.get("enable_cdi") if knows_cdi else None,
        "cdi_spec_dirs": None if dirs is None else tuple(dirs),
        "cni": {key: value for key, value in runtime["cni"].items() if key in known},
    }


def _image_values(images: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "sandbox_image": images["pinned_images"].get("sandbox"),
        "snapshotter": images["snapshotter"],
        "registry_config_path": images["registry"].get("config_path", ""),
    }


def _handler(table: Mapping[str, Any]) -> Handler:
    options = table.get("options", {})
    return Handler(table.get("runtime_type", ""), {k: v for k, v in sorted(options.items()) if v not in ("", 0, False)})


def _broken(merged: Merged, release: Release, error: str, files: Mapping[str, bytes], main: str) -> Effective:
    return Effective(
        release=str(release),
        starts=False,
        cri=None,
        error=error,
        config_version=release.config_version,
        root_version=merged.root_version,
        warnings=notes(merged, files, main, release),
        files=tuple(merged.files),
        dumps=False,
    )
