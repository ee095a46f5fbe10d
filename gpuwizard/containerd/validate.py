"""Why the CRI plugin would load with an error (node NotReady), as each release validates its settings."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gpuwizard.clean import clean_line
from gpuwizard.containerd.model import CRI_V2, IMAGES_V3, RUNTIME_V3
from gpuwizard.containerd.release import Release
from gpuwizard.containerd.schema import is_duration

__all__ = ["ReadFile", "cri_problems", "stops_daemon"]

ReadFile = Callable[[str], bytes | None]
_LINUX_V1 = "io.containerd.runtime.v1.linux"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def cri_problems(
    runtime: Mapping[str, Any],
    images: Mapping[str, Any],
    server: Mapping[str, Any],
    release: Release,
    read: ReadFile | None,
) -> Iterator[tuple[str, str]]:
    """Each CRI plugin that fails, and why. The three tables lie over the built-in values (`runtimes.md §1.2`).

    With `read`, which returns the bytes of a file of the host or None, files that settings name are looked at, too.
    """
    checks = (
        (RUNTIME_V3, _of_1(runtime, release) if release.major < 2 else _of_2(runtime, release)),
        (IMAGES_V3, _registry(images, release)),
        (RUNTIME_V3, _durations(runtime, _RUNTIME_TIMES, release)),
        (IMAGES_V3, _durations(images, _IMAGE_TIMES, release)),
        (CRI_V2, _durations(server, _SERVER_TIMES, release)),
        (RUNTIME_V3, _specs(runtime, read)),
        (CRI_V2, _streaming(server, read)),
    )
    for plugin, problems in checks:
        for problem in problems:
            yield (plugin if release.major >= 2 else CRI_V2), problem


def stops_daemon(server: Mapping[str, Any]) -> str | None:
    """Why a CRI plugin that loads would take the whole daemon down with it."""
    port = server.get("stream_server_port", "0")
    if port and not (port.isdigit() and int(port) < 1 << 16):
        return f"stream_server_port: {clean_line(port)!r} is no port"
    return None


def _of_1(runtime: Mapping[str, Any], release: Release) -> Iterator[str]:
    containerd = runtime["containerd"]
    runtimes = dict(containerd["runtimes"])
    default = containerd["default_runtime_name"]
    untrusted, former = containerd.get("untrusted_workload_runtime", {}), containerd.get("default_runtime", {})
    if untrusted.get("runtime_type"):
        if "untrusted" in runtimes:
            yield "untrusted_workload_runtime and a handler untrusted are both defined"
        runtimes["untrusted"] = untrusted
    if former.get("runtime_type"):
        default, runtimes["default"] = "default", former
    yield from _default_handler(default, runtimes)
    default_type = runtimes.get(default, {}).get("runtime_type")
    if runtime.get("systemd_cgroup") and default_type != _LINUX_V1:
        yield f"`systemd_cgroup` only works for runtime {_LINUX_V1}: set SystemdCgroup in the options of each handler"
    if containerd.get("no_pivot") and default_type != _LINUX_V1:
        yield f"`no_pivot` only works for runtime {_LINUX_V1}"
    for name, handler in sorted(runtimes.items()):
        for key in ("runtime_engine", "runtime_root"):
            if handler.get(key) and handler.get("runtime_type") != _LINUX_V1:
                yield f"runtimes.{clean_line(name)}: `{key}` only works for runtime {_LINUX_V1}"
        yield from _devices(name, handler, release)


def _of_2(runtime: Mapping[str, Any], release: Release) -> Iterator[str]:
    containerd = runtime["containerd"]
    yield from _default_handler(containerd["default_runtime_name"], containerd["runtimes"])
    cni = runtime["cni"]
    if cni.get("bin_dir") and cni.get("bin_dirs") and cni["bin_dirs"] != ["/opt/cni/bin"] and release.has_cni_bin_dirs:
        yield "`cni.bin_dir` and `cni.bin_dirs` cannot be set at the same time"
    for name, handler in sorted(containerd["runtimes"].items()):
        yield from _devices(name, handler, release)
        if handler.get("io_type", "") not in ("", "fifo", "streaming"):
            yield f"runtimes.{clean_line(name)}: `io_type` can only be fifo or streaming"


def _default_handler(default: str, runtimes: Mapping[str, Any]) -> Iterator[str]:
    if not default:
        yield "default_runtime_name is empty"
    elif default not in runtimes:
        name = clean_line(default)
        yield f'no corresponding runtime configured in `containerd.runtimes` for `default_runtime_name = "{name}"`'


def _devices(name: str, handler: Mapping[str, Any], release: Release) -> Iterator[str]:
    every = handler.get("privileged_without_host_devices_all_devices_allowed")
    if release.line >= (1, 7) and every and not handler.get("privileged_without_host_devices"):
        yield f"runtimes.{clean_line(name)}: all devices are allowed but privileged_without_host_devices is not set"


def _registry(images: Mapping[str, Any], release: Release) -> Iterator[str]:
    registry = images["registry"]
    if registry.get("config_path"):
        if registry.get("mirrors"):
            yield "`mirrors` cannot be set when `config_path` is provided"
        if release.major < 2 and any("tls" in config for config in registry.get("configs", {}).values()):
            yield "`configs.tls` cannot be set when `config_path` is provided"
    for endpoint in registry.get("auths", {}):
        if not _SCHEME.match(endpoint) and ":" in endpoint.partition("/")[0]:
            yield f"registry.auths: {clean_line(endpoint)} is no URL: write https:// before it"


_SERVER_TIMES = (("stream_idle_timeout", (1, 0)),)
_IMAGE_TIMES = (("image_pull_progress_timeout", (1, 7)),)
_RUNTIME_TIMES = (
    ("drain_exec_sync_io_timeout", (1, 7)),
    ("stats_collect_period", (2, 3)),
    ("stats_retention_period", (2, 3)),
)


def _durations(
    table: Mapping[str, Any], keys: tuple[tuple[str, tuple[int, int]], ...], release: Release
) -> Iterator[str]:
    for key, since in keys:
        value = table.get(key)
        if isinstance(value, str) and value and release.line >= since and not is_duration(value):
            yield f"{key}: {clean_line(value)!r} is no duration"


def _streaming(server: Mapping[str, Any], read: ReadFile | None) -> Iterator[str]:
    """TLS of the streaming server: two files together with the switch, or neither."""
    pair = server.get("x509_key_pair_streaming", {})
    files = [key for key in ("tls_cert_file", "tls_key_file") if pair.get(key)]
    if files and not server.get("enable_tls_streaming"):
        yield f"x509_key_pair_streaming.{files[0]} is set but enable_tls_streaming is not"
    elif len(files) == 1:
        yield f"x509_key_pair_streaming has {files[0]} alone: the certificate and its key belong together"
    for key in files if read is not None else ():
        if read is not None and read(pair[key]) is None:
            yield f"x509_key_pair_streaming.{key}: {clean_line(pair[key])} cannot be read"


def _specs(runtime: Mapping[str, Any], read: ReadFile | None) -> Iterator[str]:
    """Files that handlers name and that are not there or are no JSON."""
    for name, handler in sorted(runtime["containerd"]["runtimes"].items()):
        path = handler.get("base_runtime_spec")
        if not path or read is None:
            continue
        raw = read(path)
        where = f"runtimes.{clean_line(name)}: base_runtime_spec {clean_line(path)}"
        if raw is None:
            yield f"{where} cannot be read"
            continue
        try:
            spec = json.loads(raw)
        except (ValueError, RecursionError):
            spec = None
        if not isinstance(spec, dict):
            yield f"{where} is no JSON object"
