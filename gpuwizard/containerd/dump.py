"""What ``containerd config dump`` would print of its CRI settings, without asking the host for it."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from gpuwizard.containerd.effective import cri_tables
from gpuwizard.containerd.judge import wrong_type
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
    if merged.error is not None and merged.missing is None:
        return merged.error
    runtime, images = cri_tables(merged, release)
    problem = wrong_type(runtime, images)
    if problem is not None:
        return problem
    document: dict[str, Any] = {"version": release.config_version, "disabled_plugins": list(merged.disabled)}
    if release.major >= 2:
        return document | {"plugins": {RUNTIME_V3: runtime, IMAGES_V3: images}}
    containerd = {**runtime["containerd"], "snapshotter": images["snapshotter"]}
    whole = {**runtime, "containerd": containerd, "sandbox_image": images["pinned_images"]["sandbox"]}
    return document | {"plugins": {CRI_V2: whole | {"registry": images["registry"]}}}
