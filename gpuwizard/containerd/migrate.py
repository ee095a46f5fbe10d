"""How containerd brings older configuration versions up to date in memory (`runtimes.md §0` facts 3 and 4)."""

from typing import Any

from gpuwizard.containerd.model import CRI_V2, IMAGES_V3, RUNTIME_V3
from gpuwizard.containerd.release import Release

__all__ = ["full_plugin_name", "migrate_cri", "rename_v1"]

Tables = dict[str, dict[str, Any]]

_V1_NAMES = {
    "cri": CRI_V2,
    "cgroups": "io.containerd.monitor.v1.cgroups",
    "linux": "io.containerd.runtime.v1.linux",
    "scheduler": "io.containerd.gc.v1.scheduler",
    "bolt": "io.containerd.metadata.v1.bolt",
    "task": "io.containerd.runtime.v2.task",
    "opt": "io.containerd.internal.v1.opt",
    "restart": "io.containerd.internal.v1.restart",
    "tracing": "io.containerd.internal.v1.tracing",
    "otlp": "io.containerd.tracing.processor.v1.otlp",
    **{n: f"io.containerd.snapshotter.v1.{n}" for n in ("aufs", "btrfs", "devmapper", "native", "overlayfs", "zfs")},
}
_SERVER_KEYS = (
    "disable_tcp_service",
    "stream_server_address",
    "stream_server_port",
    "stream_idle_timeout",
    "enable_tls_streaming",
    "x509_key_pair_streaming",
)
_IMAGE_KEYS = (
    "registry",
    "image_decryption",
    "max_concurrent_downloads",
    "image_pull_progress_timeout",
    "image_pull_with_sync_fs",
    "stats_collect_period",
)
_SNAPSHOT_KEYS = ("snapshotter", "disable_snapshot_annotations", "discard_unpacked_layers")


def full_plugin_name(name: str) -> str:
    """The version-2 URI of a version-1 plugin name; a name with a dot is returned as it is."""
    if "." in name:
        return name
    if name in _V1_NAMES:
        return _V1_NAMES[name]
    if name.endswith("-service"):
        return f"io.containerd.service.v1.{name}"
    return f"io.containerd.{'snapshotter' if name.startswith('windows') else 'grpc'}.v1.{name}"


def rename_v1(plugins: Tables) -> Tables:
    """Plugin tables of a version-1 file under their version-2 names."""
    return {full_plugin_name(name): table for name, table in plugins.items()}


def migrate_cri(plugins: Tables, release: Release) -> Tables:
    """Split the version-2 CRI table into the version-3 tables. What the version-3 runtime table has already wins,
    key by key (2.0.0 and 2.0.1: loses); in the images table the migrated values win."""
    source = plugins.get(CRI_V2)
    if source is None:
        return plugins
    images = _images(dict(plugins.get(IMAGES_V3, {})), source)
    if release.registry_folder and _table(images, "registry").get("config_path") == "":
        images["registry"] = {**images["registry"], "config_path": release.registry_folder}
    if release.migration_replaces_runtime_table:
        runtime = dict(source)
    else:
        runtime = _runtime(dict(plugins.get(RUNTIME_V3, {})), source, release)
    return {**plugins, RUNTIME_V3: runtime, IMAGES_V3: images}


def _images(images: dict[str, Any], source: dict[str, Any]) -> dict[str, Any]:
    if "sandbox_image" in source:
        images["pinned_images"] = {**_table(images, "pinned_images"), "sandbox": source["sandbox_image"]}
    images |= {key: source[key] for key in _IMAGE_KEYS if key in source}
    containerd = _table(source, "containerd")
    if "runtimes" in containerd:
        images |= {key: containerd[key] for key in _SNAPSHOT_KEYS if key in containerd}
    return images


def _runtime(runtime: dict[str, Any], source: dict[str, Any], release: Release) -> dict[str, Any]:
    moved = {"containerd", "sandbox_image", *_SERVER_KEYS, *_IMAGE_KEYS}
    if release.has_cni_bin_dirs:
        moved.add("cni")
        cni = _table(source, "cni")
        if "cni" in source:
            kept = {**cni, **_table(runtime, "cni")}
            kept.pop("bin_dir", None)
            if "bin_dir" in cni:
                kept["bin_dirs"] = [cni["bin_dir"]]
            runtime["cni"] = kept
    for key, value in source.items():
        if key not in moved:
            runtime.setdefault(key, value)
    if isinstance(source.get("containerd"), dict):
        old = {k: v for k, v in source["containerd"].items() if k not in _SNAPSHOT_KEYS}
        runtime["containerd"] = {**old, **_table(runtime, "containerd")}
    return runtime


def _table(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}
