"""The effective CRI configuration that a containerd of some release makes of a set of files, offline."""

from collections.abc import Mapping
from typing import Any, Literal

from gpuwizard.clean import clean_line
from gpuwizard.containerd.defaults import default_images, default_runtime
from gpuwizard.containerd.judge import cri_problem, disabled_cri, ignored, wrong_type
from gpuwizard.containerd.merge import Merged, deep_merge, load
from gpuwizard.containerd.model import CRI_V2, IMAGES_V3, RUNTIME_V3, Effective
from gpuwizard.containerd.release import Release
from gpuwizard.facts.model import Handler

__all__ = ["cri_tables", "effective", "flatten"]


def effective(files: Mapping[str, bytes], main: str, version: str) -> Effective:
    """What containerd `version` makes of the root file `main`, given the content of every file that exists.

    `files` maps absolute paths to content and must hold all files that imports could name. A missing root file is
    what ``--config FILE`` makes of it: the daemon does not start; `Effective` still shows what ``config dump``
    would. Never raises for broken files: `starts`, `cri` and `error` tell. Raises UsageError for a `version` that
    is none.
    """
    release = Release.parse(version)
    merged = load(files, main, release)
    nothing_read = merged.error is not None and merged.missing is None
    if nothing_read:
        return _broken(merged, release, merged.error or "")
    runtime, images = cri_tables(merged, release)
    problem = wrong_type(runtime, images)
    if problem is not None:
        return _broken(merged, release, problem)
    starts = merged.error is None
    disabled = disabled_cri(merged, release)
    invalid = cri_problem(runtime, images, release)
    state: Literal["ok", "error", "disabled"] | None = None
    if starts:
        state = "disabled" if disabled else "error" if invalid else "ok"
    return Effective(
        release=str(release),
        starts=starts,
        cri=state,
        error=merged.error or (None if disabled else invalid),
        config_version=release.config_version,
        root_version=merged.root_version,
        imports=tuple(merged.imports),
        disabled_plugins=tuple(merged.disabled),
        warnings=ignored(merged, release),
        files=tuple(merged.files),
        settings=flatten(merged.plugins | {k: v for k, v in merged.other.items() if isinstance(v, dict)}),
        **({} if disabled and release.major < 2 else _values(runtime, images, release)),
    )


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


def cri_tables(merged: Merged, release: Release) -> tuple[dict[str, Any], dict[str, Any]]:
    """The runtime and the image half, laid over the defaults. 1.x keeps both in one table; there a `runtimes` table
    of the files takes the place of the built-in one, while 2.x lays it over (`runtimes.md §0` fact 1)."""
    if release.major >= 2:
        runtime = deep_merge(default_runtime(release), merged.plugins.get(RUNTIME_V3, {}))
        return runtime, deep_merge(default_images(release), merged.plugins.get(IMAGES_V3, {}))
    table = merged.plugins.get("cri" if merged.version == 1 else CRI_V2, {})
    runtime = deep_merge(default_runtime(release), table)
    own = table.get("containerd", {})
    if isinstance(own, dict) and isinstance(own.get("runtimes"), dict):
        runtime["containerd"]["runtimes"] = own["runtimes"]
    images = default_images(release)
    images["registry"] = deep_merge(images["registry"], runtime.get("registry", {}))
    images["pinned_images"]["sandbox"] = runtime.get("sandbox_image", images["pinned_images"]["sandbox"])
    if isinstance(own, dict):
        images["snapshotter"] = own.get("snapshotter", images["snapshotter"])
    return runtime, images


def _values(runtime: Mapping[str, Any], images: Mapping[str, Any], release: Release) -> dict[str, Any]:
    containerd = runtime["containerd"]
    knows_cdi = release.line >= (1, 7)
    dirs = runtime.get("cdi_spec_dirs") if knows_cdi else None
    return {
        "default_runtime_name": containerd["default_runtime_name"],
        "runtimes": {name: _handler(table) for name, table in sorted(containerd["runtimes"].items())},
        "sandbox_image": images["pinned_images"].get("sandbox"),
        "snapshotter": images["snapshotter"],
        "registry_config_path": images["registry"].get("config_path", ""),
        "enable_cdi": runtime.get("enable_cdi") if knows_cdi else None,
        "cdi_spec_dirs": None if dirs is None else tuple(dirs),
        "cni": dict(runtime["cni"]),
    }


def _handler(table: Mapping[str, Any]) -> Handler:
    options = table.get("options", {})
    return Handler(table.get("runtime_type", ""), {k: v for k, v in sorted(options.items()) if v not in ("", 0, False)})


def _broken(merged: Merged, release: Release, error: str) -> Effective:
    return Effective(
        release=str(release),
        starts=False,
        cri=None,
        error=error,
        config_version=release.config_version,
        root_version=merged.root_version,
        files=tuple(merged.files),
    )
