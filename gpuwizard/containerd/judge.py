"""Whether the daemon and its CRI plugin would take the merged tables, and what they would silently drop."""

from collections.abc import Iterator, Mapping
from typing import Any

from gpuwizard.containerd.merge import Merged
from gpuwizard.containerd.model import CRI_V2, IMAGES_V3, RUNTIME_V3
from gpuwizard.containerd.release import Release

__all__ = ["cri_problem", "disabled_cri", "ignored", "wrong_type"]

_TYPES: tuple[tuple[str, type], ...] = (
    ("containerd", dict),
    ("containerd.default_runtime_name", str),
    ("containerd.runtimes", dict),
    ("cni", dict),
    ("cni.bin_dir", str),
    ("cni.bin_dirs", list),
    ("cni.conf_dir", str),
    ("enable_cdi", bool),
    ("cdi_spec_dirs", list),
    ("enable_selinux", bool),
    ("systemd_cgroup", bool),
    ("pinned_images", dict),
    ("pinned_images.sandbox", str),
    ("snapshotter", str),
    ("registry", dict),
    ("registry.config_path", str),
    ("registry.mirrors", dict),
    ("registry.configs", dict),
    ("max_concurrent_downloads", int),
)
_MOVED = ("containerd", "sandbox_image", "registry", "cni", "enable_cdi", "cdi_spec_dirs")


def wrong_type(runtime: Mapping[str, Any], images: Mapping[str, Any]) -> str | None:
    """The first known key whose value the daemon cannot decode: it then refuses to start."""
    for table in (runtime, images):
        for path, kind in _TYPES:
            value = _at(table, path)
            if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
                return f"{path} is not a {kind.__name__}"
    for name, handler in runtime["containerd"]["runtimes"].items():
        if not isinstance(handler, dict):
            return f"runtimes.{name} is not a table"
        if not isinstance(handler.get("runtime_type", ""), str):
            return f"runtimes.{name}.runtime_type is not a str"
        if not isinstance(handler.get("options", {}), dict):
            return f"runtimes.{name}.options is not a table"
    return None


def disabled_cri(merged: Merged, release: Release) -> bool:
    """True when the CRI plugin is disabled. A version-1 file on 1.x names plugins by their short id."""
    if release.major < 2:
        return ("cri" if merged.version == 1 else CRI_V2) in merged.disabled
    return any(name in merged.disabled for name in (CRI_V2, RUNTIME_V3, IMAGES_V3))


def cri_problem(runtime: Mapping[str, Any], images: Mapping[str, Any], release: Release) -> str | None:
    """Why the CRI plugin would load with an error (node NotReady), or None (`runtimes.md §1.2`)."""
    containerd = runtime["containerd"]
    runtimes = dict(containerd["runtimes"])
    default = containerd["default_runtime_name"]
    if release.major < 2 and _at(containerd, "default_runtime.runtime_type"):
        default, runtimes["default"] = "default", containerd["default_runtime"]
    if not default:
        return "default_runtime_name is empty"
    if default not in runtimes:
        return f'no corresponding runtime configured in `containerd.runtimes` for `default_runtime_name = "{default}"`'
    if release.major < 2 and runtime.get("systemd_cgroup"):
        return "`systemd_cgroup` only works for runtime io.containerd.runtime.v1.linux"
    return next(_handler_problems(runtimes, release), None) or _registry_problem(images, release)


def _handler_problems(runtimes: Mapping[str, Any], release: Release) -> Iterator[str]:
    for name, handler in sorted(runtimes.items()):
        if release.major < 2 and handler.get("runtime_type") != "io.containerd.runtime.v1.linux":
            for key in ("runtime_engine", "runtime_root"):
                if handler.get(key):
                    yield f"runtimes.{name}: `{key}` only works for runtime io.containerd.runtime.v1.linux"
        every = handler.get("privileged_without_host_devices_all_devices_allowed")
        if release.line >= (1, 7) and every and not handler.get("privileged_without_host_devices"):
            yield f"runtimes.{name}: all devices are allowed but privileged_without_host_devices is not set"


def _registry_problem(images: Mapping[str, Any], release: Release) -> str | None:
    registry = images["registry"]
    if not registry.get("config_path"):
        return None
    if registry.get("mirrors"):
        return "`mirrors` cannot be set when `config_path` is provided"
    if release.major < 2 and any(isinstance(c, dict) and c.get("tls") for c in registry.get("configs", {}).values()):
        return "`configs.tls` cannot be set when `config_path` is provided"
    return None


def ignored(merged: Merged, release: Release) -> tuple[str, ...]:
    """What stands in the files and does nothing, in words (`runtimes.md §1.3`, same-file mistakes)."""
    notes: list[str] = []
    plugins = merged.plugins
    if release.major < 2:
        notes += [f"containerd {release} does not know {p}" for p in (RUNTIME_V3, IMAGES_V3) if p in plugins]
    else:
        if "cri" in plugins:
            notes.append('the version-1 table plugins.cri does nothing in a file with a "version" line')
        left = [k for k in _MOVED if k in plugins.get(CRI_V2, {})]
        if left and not release.migrates_each_file and merged.version != 2:
            notes.append(f"{CRI_V2} is ignored at configuration version {merged.version}: {', '.join(left)}")
    return tuple(notes)


def _at(table: Mapping[str, Any], path: str) -> Any:
    value: Any = table
    for part in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value
