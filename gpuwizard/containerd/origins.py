"""Which file and line each effective value comes from."""

from collections.abc import Iterator, Mapping
from typing import Any

from gpuwizard.clean import clean_line
from gpuwizard.containerd.judge import decoded
from gpuwizard.containerd.merge import Merged
from gpuwizard.containerd.model import CRI_V2, IMAGES_V3, RUNTIME_V3, Origin
from gpuwizard.containerd.parse import Leaf
from gpuwizard.containerd.release import Release

__all__ = ["origins"]

# The paths of the named values of `Effective` and of the command's document, by their place in the CRI tables.
_NAMED = {
    "containerd.default_runtime_name": "default_runtime_name",
    "sandbox_image": "sandbox_image",
    "pinned_images.sandbox": "sandbox_image",
    "containerd.snapshotter": "snapshotter",
    "snapshotter": "snapshotter",
    "registry.config_path": "registry_config_path",
    "enable_cdi": "enable_cdi",
    "cdi_spec_dirs": "cdi_spec_dirs",
}


def origins(merged: Merged, release: Release) -> dict[str, Origin]:
    """For every value that files set, by its path after merge and migration: the file that won and the line there.

    A plugin's value goes by its dotted path in that plugin's table (`Effective.settings` has the same paths). The
    values with names of their own (``default_runtime_name``, ``runtimes.nvidia.options.BinaryName``, ``cni.conf_dir``,
    …) are there under these as well.
    """
    found: dict[str, Origin] = {}
    for path, leaf in _flat(merged.placed | merged.tops):
        found[path] = Origin(leaf.file, leaf.line)
    for file in merged.read:
        for key in ("version", "imports", "disabled_plugins", "required_plugins"):
            top = file.tables.get(key)
            if isinstance(top, Leaf):
                found[key] = Origin(top.file, top.line)
    for part in decoded(merged, release):
        if part.uri in (CRI_V2, RUNTIME_V3, IMAGES_V3) and isinstance(part.table, dict):
            found |= {name: Origin(leaf.file, leaf.line) for name, leaf in _named(part.table)}
    return found


def _named(table: Mapping[str, Any]) -> Iterator[tuple[str, Leaf]]:
    for path, leaf in _flat(table):
        if path in _NAMED:
            yield _NAMED[path], leaf
        elif path.startswith("containerd.runtimes."):
            yield path.removeprefix("containerd."), leaf
        elif path.startswith("cni."):
            yield path, leaf


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Leaf]]:
    """The values by their dotted path, written as `effective.flatten` does."""
    for key, value in sorted(table.items()):
        name = clean_line(key)
        path = f'{prefix}."{name}"' if "." in name and prefix else f"{prefix}.{name}" if prefix else name
        if isinstance(value, dict):
            yield from _flat(value, path)
        elif isinstance(value, Leaf):
            yield path, value
