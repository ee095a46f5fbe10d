"""Which keys each containerd release knows, and of which type: what it cannot decode, and what it ignores.

Our own table, read from the configuration structures of every release from 1.3.0 to 2.4.0-beta.0: key, type and, where
it is not from the start, the first releases that know it (several: one per line). ``strs`` is a list of strings,
``map`` a table of strings, ``lists`` a table of lists of strings; ``KEY.*`` is a table of tables.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from gpuwizard.containerd.plugins import plugin_lines
from gpuwizard.containerd.release import Release

__all__ = [
    "OPTIONS",
    "Problem",
    "Table",
    "canonical",
    "cri_1",
    "images",
    "is_duration",
    "other",
    "problems",
    "runtime",
    "server",
    "top_level",
]

_HANDLER = """
    runtime_type str
    runtime_path str 1.6.0
    pod_annotations strs
    container_annotations strs 1.4.0
    options any
    privileged_without_host_devices bool
    privileged_without_host_devices_all_devices_allowed bool 1.7.0
    base_runtime_spec str 1.4.0
    cni_conf_dir str 1.6.0
    cni_max_conf_num int 1.6.0
    snapshotter str 1.7.0
"""
_HANDLER_1 = """
    runtime_engine str
    runtime_root str
    sandbox_mode str 1.7.0
"""
_HANDLER_2 = """
    sandboxer str
    io_type str
    cgroup_writable bool 2.1.0
    disable_pause_image_pull bool 2.4.0
"""
_REGISTRY = """
    registry.config_path str 1.5.0
    registry.mirrors.*.endpoint strs
    registry.configs.*.auth.username str
    registry.configs.*.auth.password str
    registry.configs.*.auth.auth str
    registry.configs.*.auth.identitytoken str
    registry.auths.*.username str
    registry.auths.*.password str
    registry.auths.*.auth str
    registry.auths.*.identitytoken str
    registry.headers lists 1.4.0
"""
_REGISTRY_1 = """
    registry.configs.*.tls.ca_file str
    registry.configs.*.tls.cert_file str
    registry.configs.*.tls.key_file str
    registry.configs.*.tls.insecure_skip_verify bool 1.3.2
"""
_SERVER = """
    disable_tcp_service bool
    stream_server_address str
    stream_server_port str
    stream_idle_timeout str
    enable_tls_streaming bool
    x509_key_pair_streaming.tls_cert_file str
    x509_key_pair_streaming.tls_key_file str
"""
_COMMON = """
    enable_selinux bool
    selinux_category_range int 1.4.0
    max_container_log_line_size int
    disable_apparmor bool
    restrict_oom_score_adj bool
    disable_proc_mount bool
    unset_seccomp_profile str 1.4.0
    tolerate_missing_hugetlb_controller bool 1.4.0
    disable_hugetlb_controller bool 1.4.0
    device_ownership_from_security_context bool 1.6.0
    ignore_image_defined_volumes bool 1.4.0
    netns_mounts_under_state_dir bool 1.5.0
    enable_unprivileged_ports bool 1.6.0
    enable_unprivileged_icmp bool 1.6.0
    enable_cdi bool 1.7.0
    cdi_spec_dirs strs 1.7.0
    drain_exec_sync_io_timeout str 1.6.29
    ignore_deprecation_warnings strs 1.6.29 1.7.14
    cni.bin_dir str
    cni.conf_dir str
    cni.max_conf_num int
    cni.conf_template str
    cni.ip_pref str 1.6.0
    cni.setup_serially bool 1.7.0
    containerd.default_runtime_name str
    containerd.ignore_rdt_not_enabled_errors bool 1.6.0
    containerd.ignore_blockio_not_enabled_errors bool 1.7.0
"""
_IMAGE = """
    max_concurrent_downloads int
    image_decryption.key_model str 1.4.0
    image_pull_progress_timeout str 1.7.0
    image_pull_with_sync_fs bool 1.7.14
    stats_collect_period int
"""
_CRI_1 = """
    sandbox_image str
    systemd_cgroup bool
    disable_cgroup bool
    containerd.snapshotter str
    containerd.no_pivot bool
    containerd.disable_snapshot_annotations bool 1.4.0
    containerd.discard_unpacked_layers bool 1.4.0
"""
_RUNTIME_2 = """
    cni.bin_dirs strs 2.1.0
    cni.use_internal_loopback bool
    stats_collect_period str 2.3.0
    stats_retention_period str 2.3.0
    enable_criu bool 2.2.7 2.3.4
    enable_experimental_restore_via_create bool 2.2.7 2.3.4
"""
_IMAGES_2 = """
    snapshotter str
    disable_snapshot_annotations bool
    discard_unpacked_layers bool
    pinned_images map
    runtime_platforms.*.platform str
    runtime_platforms.*.snapshotter str
    use_local_image_pull bool 2.1.0
    concurrent_layer_fetch_buffer int 2.1.0
"""
_TOP = """
    version int
    root str
    state str
    temp str 1.6.0
    plugin_dir str
    oom_score int
    imports strs
    disabled_plugins strs
    required_plugins strs
    plugins plugins
    grpc.address str
    grpc.tcp_address str
    grpc.tcp_tls_ca str 1.6.0
    grpc.tcp_tls_cert str
    grpc.tcp_tls_key str
    grpc.tcp_tls_common_name str 2.2.0
    grpc.uid int
    grpc.gid int
    grpc.max_recv_message_size int
    grpc.max_send_message_size int
    ttrpc.address str
    ttrpc.uid int
    ttrpc.gid int
    debug.address str
    debug.uid int
    debug.gid int
    debug.level str
    debug.format str 1.5.0
    debug.log_trace_id bool 2.3.0
    metrics.address str
    metrics.grpc_histogram bool
    cgroup.path str
    timeouts map
    proxy_plugins.*.type str
    proxy_plugins.*.address str
    proxy_plugins.*.platform str 1.6.32 1.7.16
    proxy_plugins.*.exports map 1.6.32 1.7.16
    proxy_plugins.*.capabilities strs 1.7.23
    stream_processors.*.accepts strs
    stream_processors.*.returns str
    stream_processors.*.path str
    stream_processors.*.args strs
    stream_processors.*.env strs 1.5.0
"""
# The options of io.containerd.runc.v2: decoded when a pod starts, so a wrong one does not stop the daemon.
OPTIONS: Mapping[str, type] = {
    "NoPivotRoot": bool,
    "NoNewKeyring": bool,
    "ShimCgroup": str,
    "IoUid": int,
    "IoGid": int,
    "BinaryName": str,
    "Root": str,
    "CriuPath": str,
    "SystemdCgroup": bool,
    "CriuImagePath": str,
    "CriuWorkPath": str,
    "TaskApiAddress": str,
    "TaskApiVersion": int,
}


@dataclass(slots=True)
class Table:
    """A table of the schema: a type or a table per key. `every` stands for any key (a table of tables)."""

    keys: dict[str, "str | Table"] = field(default_factory=dict)
    every: "Table | None" = None

    def of(self, key: str) -> "str | Table | None":
        """What `key` must be; None: it is not known."""
        return self.every if self.every is not None else self.keys.get(key)


@dataclass(frozen=True, slots=True)
class Problem:
    """A key that is unknown (`wanted` is empty) or of a wrong type."""

    path: tuple[str, ...]
    wanted: str = ""


@lru_cache
def cri_1(release: Release) -> Table:
    """The one CRI table of 1.x."""
    handlers = [
        f"containerd.{where}.{line}"
        for where in ("runtimes.*", "default_runtime", "untrusted_workload_runtime")
        for line in _lines(_HANDLER + _HANDLER_1)
    ]
    lines = [*_lines(_COMMON + _CRI_1 + _IMAGE + _SERVER + _REGISTRY + _REGISTRY_1), *handlers]
    return _table(lines, release)


@lru_cache
def runtime(release: Release) -> Table:
    """The runtime half of the CRI configuration of 2.x."""
    handlers = [f"containerd.runtimes.*.{line}" for line in _lines(_HANDLER + _HANDLER_2)]
    return _table([*_lines(_COMMON + _RUNTIME_2), *handlers], release)


@lru_cache
def images(release: Release) -> Table:
    """The image half of the CRI configuration of 2.x."""
    return _table([*_lines(_IMAGES_2 + _IMAGE + _REGISTRY)], release)


@lru_cache
def server(release: Release) -> Table:
    """What is left in the table io.containerd.grpc.v1.cri on 2.x."""
    return _table([*_lines(_SERVER)], release)


@lru_cache
def top_level(release: Release) -> Table:
    """The keys of a file beside the plugins' own tables."""
    table = _table([*_lines(_TOP)], release)
    if release.line >= (2, 1):
        del table.keys["plugin_dir"]
    return table


@lru_cache
def other(release: Release) -> Mapping[str, Table | None]:
    """The plugins that take settings beside CRI; None: its keys are not listed here."""
    found: dict[str, Table | None] = {}
    for name, lines in plugin_lines().items():
        found[name] = None if lines is None else _table(lines, release)
    return found


def canonical(table: Mapping[str, Any], schema: Table, release: Release) -> dict[str, Any]:
    """`table` with the names that the decoder takes for a known key: 2.x takes any case, 1.x also all capitals."""
    known = schema.keys
    out: dict[str, Any] = {}
    for key in sorted(table):
        name = key
        if schema.every is None and key not in known:
            lower = key.lower()
            if lower in known and (release.major >= 2 or key == key.upper()):
                name = lower
        value, kind = table[key], schema.of(name)
        if name in out and name != key and name in table:
            continue
        out[name] = canonical(value, kind, release) if isinstance(kind, Table) and isinstance(value, dict) else value
    return out


def problems(table: Mapping[str, Any], schema: Table, path: tuple[str, ...] = ()) -> Iterator[Problem]:
    """Every key of `table` that `schema` does not know or that has another type there."""
    for key, value in table.items():
        kind, here = schema.of(key), (*path, key)
        if kind is None:
            yield Problem(here)
        elif isinstance(kind, Table):
            if isinstance(value, dict):
                yield from problems(value, kind, here)
            else:
                yield Problem(here, "a table")
        elif kind == "map" and isinstance(value, dict):
            yield from (Problem((*here, name), _WORDS["str"]) for name, v in value.items() if not isinstance(v, str))
        elif not _fits(value, kind):
            yield Problem(here, _WORDS[kind])


_WORDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number with a point",
    "number": "a number",
    "duration": "a duration like 10s",
    "time": "a duration like 10s",
    "bool": "true or false",
    "strs": "a list of strings",
    "map": "a table of strings",
    "lists": "a table of lists",
    "plugins": "a table of tables",
    "tables": "a list of tables",
    "any": "a table",
}


def _fits(value: Any, kind: str) -> bool:
    match kind:
        case "str":
            return isinstance(value, str)
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, float)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "duration":
            return isinstance(value, str) and is_duration(value)
        case "time":
            return _fits(value, "duration") or _fits(value, "int")
        case "strs":
            return isinstance(value, list) and all(isinstance(v, str) for v in value)
        case "tables":
            return isinstance(value, list) and all(isinstance(v, dict) for v in value)
        case "map":
            return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
        case "lists":
            return isinstance(value, dict) and all(_fits(v, "strs") for v in value.values())
        case "anything":
            return True
        case _:
            return isinstance(value, dict)


# 2.x also takes a whole number where 1.x insists on a point or on a unit.
_NEWER = {"float": "number", "duration": "time"}
_DURATION = re.compile(r"[+-]?(0|((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)")


def is_duration(text: str) -> bool:
    """True for a duration as Go writes it: ``2s``, ``1h30m``, ``0``."""
    return _DURATION.fullmatch(text) is not None


def _lines(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip())


def _table(lines: list[str], release: Release) -> Table:
    """The keys that `release` knows as a nested table."""
    root = Table()
    for line in lines:
        path, kind, *since = line.split()
        if since and not _knows(release, since):
            continue
        node = root
        parts = path.split(".")
        for part in parts[:-1]:
            if part == "*":
                node.every = node.every or Table()
                node = node.every
                continue
            child = node.keys.setdefault(part, Table())
            assert isinstance(child, Table), line
            node = child
        node.keys[parts[-1]] = _NEWER.get(kind, kind) if release.major >= 2 else kind
    return root


def _knows(release: Release, since: list[str]) -> bool:
    """True when `release` is at or above the first one of its own line, or in a line behind all that are named."""
    firsts = sorted(Release.parse(text) for text in since)
    reached = [first for first in firsts if first.line <= release.line]
    return bool(reached) and release >= reached[-1]
