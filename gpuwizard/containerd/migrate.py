"""How containerd brings older configuration versions up to date in memory (`runtimes.md §0` facts 3 and 4)."""

from typing import Any

from gpuwizard.containerd.model import CRI_V2, IMAGES_V3, RUNTIME_V3
from gpuwizard.containerd.parse import Leaf, LoadError
from gpuwizard.containerd.release import Release

__all__ = ["full_plugin_name", "migrate_plugins", "migrate_servers", "rename_v1"]

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
_RENAMED = {
    "io.containerd.monitor.v1.cgroups": "io.containerd.monitor.task.v1.cgroups",
    "io.containerd.internal.v1.restart": "io.containerd.monitor.container.v1.restart",
}
_TASK = "io.containerd.runtime.v2.task"
_SHIMS = "io.containerd.shim.v1.manager"
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


def migrate_plugins(plugins: Tables, release: Release, disabled: frozenset[str] = frozenset()) -> Tables:
    """Bring the plugins' tables of version 2 to the names of version 3. Raises LoadError as `migrate_cri` does."""
    out = migrate_cri(plugins, release, disabled)
    for old, new in _RENAMED.items():
        if old in out and new not in disabled:
            out = {key: table for key, table in out.items() if key != old} | {new: out[old]}
    if _TASK in out and _SHIMS not in disabled:
        task = _own(out, _TASK)
        switch = task.pop("sched_core", None)
        on = isinstance(switch, Leaf) and switch.value is True
        env = {"env": Leaf(["SCHED_CORE=1"], switch.file, switch.line, switch.path)} if switch and on else {}
        out = out | {_TASK: task, _SHIMS: env}
    return out


def migrate_cri(plugins: Tables, release: Release, disabled: frozenset[str] = frozenset()) -> Tables:
    """Split the version-2 CRI table into the version-3 tables. What the version-3 runtime table has already wins,
    key by key (2.0.0 and 2.0.1: loses); in the images table the migrated values win. A disabled plugin does not
    migrate its part. Raises LoadError where the migration itself breaks on a value of the wrong type.
    """
    source: Any = plugins.get(CRI_V2)
    if source is None:
        return plugins
    out = dict(plugins)
    if IMAGES_V3 not in disabled:
        out[IMAGES_V3] = _images(_own(plugins, IMAGES_V3), _checked(source, release), release)
    if not isinstance(source, dict):
        return plugins
    if RUNTIME_V3 not in disabled:
        if release.migration_replaces_runtime_table:
            out[RUNTIME_V3] = dict(source)
        else:
            out[RUNTIME_V3] = _runtime(_table(plugins, RUNTIME_V3), _checked(source, release), release)
    if CRI_V2 not in disabled:
        out[CRI_V2] = {key: value for key, value in source.items() if key in _SERVER_KEYS}
    return out


def migrate_servers(tops: dict[str, Any], plugins: Tables) -> tuple[dict[str, Any], Tables]:
    """What 2.3 makes of the daemon's own settings of a file below version 4: tables of server plugins, unless the
    file has them already."""
    tops, plugins = dict(tops), dict(plugins)
    grpc, ttrpc, debug, metrics = (_table(tops, key) for key in ("grpc", "ttrpc", "debug", "metrics"))
    sizes = _some(grpc, "max_recv_message_size", "max_send_message_size")
    owner = _some(grpc, "uid", "gid")
    tcp = {key.removeprefix("tcp_"): value for key, value in grpc.items() if key.startswith("tcp_")}
    address = {"address": grpc["address"]} if "address" in grpc else {}
    _add_server(plugins, "grpc", {**address, **owner, **sizes})
    _add_server(plugins, "grpc-tcp", {**tcp, **sizes} if "address" in tcp else {})
    derived = _derived(address) | owner if address and "address" not in ttrpc else {}
    _add_server(plugins, "ttrpc", {**derived, **ttrpc})
    _add_server(plugins, "debug", {k: debug[k] for k in ("address", "uid", "gid") if k in debug and "address" in debug})
    _add_server(plugins, "metrics", {k: metrics[k] for k in ("address",) if k in metrics})
    if "grpc_histogram" in metrics:
        plugins.setdefault("io.containerd.metrics.v1.grpc-prometheus", {"grpc_histogram": metrics["grpc_histogram"]})
    for key in ("grpc", "ttrpc", "metrics"):
        tops.pop(key, None)
    if "address" in debug:
        tops["debug"] = {k: v for k, v in debug.items() if k not in ("address", "uid", "gid")}
    return tops, plugins


def _some(table: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: table[key] for key in keys if key in table}


def _add_server(plugins: Tables, name: str, table: dict[str, Any]) -> None:
    if table:
        plugins.setdefault(f"io.containerd.server.v1.{name}", table)


def _derived(address: dict[str, Any]) -> dict[str, Any]:
    """The ttrpc socket that goes with a grpc address."""
    leaf = address["address"]
    return {"address": Leaf(f"{leaf.value}.ttrpc", leaf.file, leaf.line, leaf.path)}


def _images(images: dict[str, Any], source: dict[str, Any], release: Release) -> dict[str, Any]:
    if "pinned_images" in images and not isinstance(images["pinned_images"], dict):
        raise LoadError(f"{IMAGES_V3}.pinned_images must be a table")
    if "sandbox_image" in source:
        images["pinned_images"] = {**_table(images, "pinned_images"), "sandbox": source["sandbox_image"]}
    images |= {key: source[key] for key in _IMAGE_KEYS if key in source}
    containerd = _table(source, "containerd")
    if "runtimes" in containerd:
        images |= {key: containerd[key] for key in _SNAPSHOT_KEYS if key in containerd}
    folder = _table(images, "registry").get("config_path")
    if release.registry_folder and isinstance(folder, Leaf) and folder.value == "":
        filled = Leaf(release.registry_folder, folder.file, folder.line, folder.path)
        images["registry"] = {**images["registry"], "config_path": filled}
    return images


def _runtime(runtime: dict[str, Any], source: dict[str, Any], release: Release) -> dict[str, Any]:
    runtime = dict(runtime)
    moved = {"containerd", "sandbox_image", *_SERVER_KEYS, *_IMAGE_KEYS}
    if release.has_cni_bin_dirs:
        moved.add("cni")
        if isinstance(source.get("cni"), dict):
            runtime["cni"] = _cni(_table(runtime, "cni"), source["cni"])
    for key, value in source.items():
        if key not in moved:
            runtime.setdefault(key, value)
    if isinstance(source.get("containerd"), dict):
        old = {k: v for k, v in source["containerd"].items() if k not in _SNAPSHOT_KEYS}
        runtime["containerd"] = {**old, **_table(runtime, "containerd")}
        if "runtimes" in runtime["containerd"]:
            runtimes = runtime["containerd"]["runtimes"]
            runtime["containerd"] |= {"runtimes": {name: _sandboxer(table) for name, table in runtimes.items()}}
    return runtime


def _cni(cni: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """The CNI table with the settings of version 2 that it lacks; its one folder always becomes the list."""
    out = {**{k: v for k, v in old.items() if k != "bin_dir"}, **cni}
    if "bin_dir" in old:
        leaf = old["bin_dir"]
        if not isinstance(leaf.value, str):
            raise LoadError(f"{leaf.file}: line {leaf.line}: cni.bin_dir must be a string")
        out["bin_dirs"] = Leaf([leaf.value], leaf.file, leaf.line, leaf.path)
    return out


def _sandboxer(handler: dict[str, Any]) -> dict[str, Any]:
    """A handler's sandbox_mode under its new name."""
    if "sandbox_mode" not in handler or "sandboxer" in handler:
        return handler
    return {**{k: v for k, v in handler.items() if k != "sandbox_mode"}, "sandboxer": handler["sandbox_mode"]}


def _checked(source: Any, release: Release) -> dict[str, Any]:
    """`source`, of which the migration takes for granted that these are tables. Raises LoadError where not."""
    if not isinstance(source, dict):
        raise LoadError(f"plugins.{CRI_V2} must be a table")
    containerd = source.get("containerd", {})
    runtimes = containerd.get("runtimes", {}) if isinstance(containerd, dict) else {}
    handlers = runtimes.items() if isinstance(runtimes, dict) else ()
    parts = [("containerd", containerd), ("containerd.runtimes", runtimes)]
    for name, table in (*parts, *((f"containerd.runtimes.{name}", table) for name, table in handlers)):
        if not isinstance(table, dict):
            raise LoadError(f"{CRI_V2}.{name} must be a table: containerd {release} breaks off")
    return source


def _own(plugins: Tables, name: str) -> dict[str, Any]:
    """A copy of a plugin's table. Raises LoadError when it is none."""
    table: Any = plugins.get(name, {})
    if not isinstance(table, dict):
        raise LoadError(f"plugins.{name} must be a table")
    return dict(table)


def _table(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}
