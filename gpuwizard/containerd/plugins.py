"""The plugins of each containerd release: their names, their settings, and which of them CRI cannot do without.

Our own table, from ``ctr plugins ls`` and ``config default`` of 1.6.20, 1.7.24, 2.1.9 and 2.3.4 and the sources of
the releases between; that CRI fails without a plugin was seen by disabling each of them in turn.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from gpuwizard.containerd.release import Release

__all__ = ["SNAPSHOTTER", "cri_needs", "known_plugins", "plugin_lines", "short_name"]

SNAPSHOTTER = "io.containerd.snapshotter.v1."

# Name without "io.containerd.", lines that have it, "!" and the lines in which CRI fails without it, then its
# settings as name:type ("…" when they are not listed here). A line is 1.6, 1.7, 2 or 2.2; a range has a dash.
_PLUGINS = """
content.v1.content - !-
differ.v1.walking - !-
differ.v1.erofs 2.1- mkfs_options:strs enable_tar_index:bool:2.2 enable_dmverity:bool:2.3
event.v1.exchange 1.6- !-
gc.v1.scheduler - !- pause_threshold:float deletion_threshold:int mutation_threshold:int \
schedule_delay:duration startup_delay:duration
grpc.v1.containers -
grpc.v1.content -
grpc.v1.cri -
grpc.v1.diff -
grpc.v1.events -
grpc.v1.healthcheck -
grpc.v1.images -
grpc.v1.introspection -
grpc.v1.leases -
grpc.v1.mounts 2.2-
grpc.v1.namespaces -
grpc.v1.sandbox-controllers 1.7-
grpc.v1.sandboxes 1.7-
grpc.v1.snapshots -
grpc.v1.streaming 1.7-
grpc.v1.tasks -
grpc.v1.transfer 1.7-
grpc.v1.version -
cri.v1.images 2- !-
cri.v1.runtime 2- !-
image-verifier.v1.bindir 2- !- bin_dir:str max_verifiers:int per_verifier_timeout:duration
internal.v1.opt - path:str
internal.v1.restart -1.7 interval:duration
internal.v1.tracing 1.7- service_name:str sampling_ratio:float
lease.v1.manager 1.7- !-
metadata.v1.bolt - !- content_sharing_policy:str no_sync:bool:2.1
metrics.v1.grpc-prometheus 2.3- grpc_histogram:bool
monitor.v1.cgroups -1.7 no_prometheus:bool
monitor.task.v1.cgroups 2- no_prometheus:bool
monitor.container.v1.restart 2- interval:duration
mount-handler.v1.erofs 2.2- …
mount-manager.v1.bolt 2.2-
nri.v1.nri 1.7- disable:bool disable_connections:bool plugin_config_path:str plugin_path:str socket_path:str \
plugin_registration_timeout:duration plugin_request_timeout:duration default_validator:any:2.2
podsandbox.controller.v1.podsandbox 2- !-
runtime.v1.linux -1.7 !- shim:str runtime:str runtime_root:str no_shim:bool shim_debug:bool
runtime.v2.task - !- platforms:strs sched_core:bool
runtime.v2.shim 1.7-1.7 !-
sandbox.controller.v1.local 1.7-1.7 !-
sandbox.controller.v1.shim 2- !-
sandbox.store.v1.local 1.7- !-
server.v1.debug 2.3- address:str uid:int gid:int
server.v1.grpc 2.3- address:str uid:int gid:int max_recv_message_size:int max_send_message_size:int
server.v1.grpc-otel 2.3-
server.v1.grpc-tcp 2.3- address:str tls_ca:str tls_cert:str tls_key:str tls_common_name:str \
max_recv_message_size:int max_send_message_size:int
server.v1.metrics 2.3- address:str
server.v1.ttrpc 2.3- address:str uid:int gid:int
service.v1.containers-service - !-
service.v1.content-service - !-
service.v1.diff-service - !- default:strs sync_fs:bool:2.1
service.v1.images-service - !-
service.v1.introspection-service -
service.v1.leases-service -1.6 !-
service.v1.namespaces-service - !-
service.v1.snapshots-service - !-
service.v1.tasks-service - !- rdt_config_file:str blockio_config_file:str:1.7
shim.v1.manager 2- !- env:strs:2.1 socket_dir:str:2.3
snapshotter.v1.aufs -1.7 root_path:str
snapshotter.v1.blockfile 1.7- fs_type:str mount_options:strs root_path:str scratch_file:str recreate_scratch:bool
snapshotter.v1.btrfs - root_path:str
snapshotter.v1.devmapper - root_path:str pool_name:str base_image_size:str async_remove:bool discard_blocks:bool \
fs_type:str fs_options:str
snapshotter.v1.erofs 2.1- root_path:str ovl_mount_options:strs enable_fsverity:bool set_immutable:bool \
default_size:str:2.3 dmverity_mode:str:2.3
snapshotter.v1.native - root_path:str
snapshotter.v1.overlayfs - root_path:str upperdir_label:bool mount_options:strs:1.7 \
sync_remove:bool:1.7 slow_chown:bool:2
snapshotter.v1.zfs - root_path:str
streaming.v1.manager 1.7-
tracing.processor.v1.otlp 1.7- endpoint:str protocol:str insecure:bool
transfer.v1.local 1.7- !2- config_path:str max_concurrent_downloads:int max_concurrent_uploaded_layers:int \
max_concurrent_unpacks:int:2.2 concurrent_layer_fetch_buffer:int:2.1 check_platform_supported:bool unpack_config:tables
ttrpc.v1.otelttrpc 2-
warning.v1.deprecations 1.7- !1.7-1.7
"""


@dataclass(frozen=True, slots=True)
class _Plugin:
    name: str
    lines: str
    needed: str | None
    settings: tuple[str, ...] | None


def short_name(uri: str) -> str:
    """The name of a plugin in a version-1 file: what follows ``io.containerd.TYPE.vN.``."""
    parts = uri.split(".")
    place = next((n for n, part in enumerate(parts) if n > 1 and part[:1] == "v" and part[1:].isdigit()), len(parts))
    return ".".join(parts[place + 1 :])


@lru_cache
def known_plugins(release: Release) -> frozenset[str]:
    """The full names of the plugins that `release` has."""
    return frozenset(p.name for p in _plugins() if _within(p.lines, release))


@lru_cache
def cri_needs(release: Release) -> frozenset[str]:
    """The plugins without which the CRI plugin of `release` fails."""
    return frozenset(p.name for p in _plugins() if _within(p.lines, release) and _within(p.needed, release))


def plugin_lines() -> Mapping[str, list[str] | None]:
    """The settings of each plugin that has some, as lines of a schema; None where they are not listed."""
    return {p.name: list(_settings(p)) if p.settings is not None else None for p in _plugins() if p.settings != ()}


def _settings(plugin: _Plugin) -> Iterator[str]:
    for setting in plugin.settings or ():
        name, kind, *since = setting.split(":")
        yield " ".join((name, kind, *(s if "." in s else f"{s}.0" for s in since)))


@lru_cache
def _plugins() -> tuple[_Plugin, ...]:
    found = []
    for line in _PLUGINS.strip().splitlines():
        name, lines, *rest = line.split()
        needed = rest.pop(0)[1:] if rest and rest[0].startswith("!") else None
        found.append(_Plugin(f"io.containerd.{name}", lines, needed, None if rest == ["…"] else tuple(rest)))
    return tuple(found)


def _within(lines: str | None, release: Release) -> bool:
    """True when the release's line lies in a range like ``1.7-``, ``-1.6`` or ``2-``; ``-`` is every line."""
    if lines is None:
        return False
    first, _, last = lines.partition("-")
    return (not first or release.line >= _line(first)) and (not last or release.line <= _line(last))


def _line(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)
