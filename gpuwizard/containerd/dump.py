"""What ``containerd config dump`` would print of its CRI settings, without asking the host for it."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from gpuwizard.containerd import schema
from gpuwizard.containerd.effective import cri_tables, refused_dump
from gpuwizard.containerd.judge import disabled_plugins
from gpuwizard.containerd.merge import load
from gpuwizard.containerd.model import CRI_V2, IMAGES_V3, RUNTIME_V3
from gpuwizard.containerd.release import Release

__all__ = ["predicted_dump"]


def predicted_dump(files: Mapping[str, bytes], main: str, version: str) -> Mapping[str, Any] | str:
    """The document: version, disabled plugins and the CRI tables with the release's defaults; or why the loader refuses
    the files. A literal import that does not exist is no reason: the dump hides it (`runtimes.md §1.3`).

    The document is shared by hosts of the same files: nobody may change it. Raises UsageError for a `version` that is
    none.
    """
    return _predicted(tuple(sorted(files.items())), main, version)


@lru_cache(maxsize=256)
def _predicted(files: tuple[tuple[str, bytes], ...], main: str, version: str) -> Mapping[str, Any] | str:
    release = Release.parse(version)
    merged = load(dict(files), main, release)
    problem = refused_dump(merged, release) if merged.dumps else merged.error
    if problem is not None:
        return problem
    runtime, images, _ = cri_tables(merged, release)
    if release.major >= 2:
        runtime, images = _known(runtime, schema.runtime(release)), _known(images, schema.images(release))
    else:
        runtime = _known(runtime, schema.cri_1(release))
    document: dict[str, Any] = {"version": release.config_version, "disabled_plugins": list(merged.disabled)}
    disabled = disabled_plugins(merged, release)
    if release.major >= 2:
        parts = {RUNTIME_V3: runtime, IMAGES_V3: images}
        return document | {"plugins": {name: part for name, part in parts.items() if name not in disabled}}
    if CRI_V2 in disabled:
        return document | {"plugins": {}}
    containerd = {**runtime["containerd"], "snapshotter": images["snapshotter"]}
    whole = {**runtime, "containerd": containerd, "sandbox_image": images["pinned_images"]["sandbox"]}
    return document | {"plugins": {CRI_V2: whole | {"registry": images["registry"]}}}


def _known(table: Mapping[str, Any], known: schema.Table) -> dict[str, Any]:
    """`table` without the keys that the release does not know: its dump leaves them out."""
    kept: dict[str, Any] = {}
    for key, value in table.items():
        kind = known.of(key)
        if kind is not None:
            kept[key] = _known(value, kind) if isinstance(kind, schema.Table) and isinstance(value, dict) else value
    return kept
