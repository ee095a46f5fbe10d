"""Every container runtime of the host, and which of them the kubelet uses (`hosts.md §7.2`, `runtimes.md §10`)."""

import fnmatch
import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpuwizard.facts.model import Handler, HostFile, KubernetesFacts, RuntimeFacts
from gpuwizard.facts.runtimes.cri_config import (
    CriConfig,
    merge_deep,
    plugin_state,
    read_cri,
    root_imports,
    root_version,
)
from gpuwizard.facts.text import load_toml, value, version_of
from gpuwizard.facts.units import Process, Unit, by_pid

__all__ = ["ContainerdLook", "RuntimeInputs", "runtime_facts", "same_socket", "socket_path"]

_K3S_RENDERED = "/agent/etc/containerd/config.toml"


@dataclass(frozen=True, slots=True)
class ContainerdLook:
    """What the probe brought of one containerd. `pid` is None when none runs; `dump` is the host's own
    ``config dump``, `dump_error` its refusal, `plugins` what ``ctr plugins ls`` printed."""

    pid: int | None
    config: str
    socket: str | None = None
    binary: str | None = None
    version_text: str | None = None
    dump: str | None = None
    dump_error: str | None = None
    plugins: str | None = None


@dataclass(frozen=True, slots=True)
class RuntimeInputs:
    """All that the runtimes are judged by. `endpoint` is the kubelet's CRI socket: None when unknown, empty when
    the host has no kubelet."""

    containerds: Sequence[ContainerdLook]
    processes: Sequence[Process]
    units: Mapping[str, Unit]
    files: Mapping[str, HostFile]
    kubernetes: KubernetesFacts
    endpoint: str | None
    docker_version: str | None = None
    crio_version: str | None = None


def socket_path(endpoint: str | None) -> str | None:
    """``unix:///var/run/x.sock`` as a plain path below /run."""
    if endpoint is None:
        return None
    path = endpoint.strip().strip("\"'").removeprefix("unix://")
    return path.replace("/var/run/", "/run/", 1) if path.startswith("/var/run/") else path


def same_socket(one: str | None, other: str | None) -> bool:
    """Whether two spellings name one socket."""
    return bool(one) and socket_path(one) == socket_path(other)


def runtime_facts(inputs: RuntimeInputs) -> tuple[RuntimeFacts, ...]:
    """The runtimes, that of the kubelet first."""
    looks = list(inputs.containerds)
    kube = inputs.kubernetes
    rendered = f"{kube.data_dir}{_K3S_RENDERED}"
    if kube.flavour in ("k3s", "rke2") and kube.data_dir and not any(look.config == rendered for look in looks):
        looks.append(ContainerdLook(None, rendered, "/run/k3s/containerd/containerd.sock"))  # its service is down
    found = [_containerd(look, inputs) for look in looks]
    found += [runtime for runtime in (_docker(inputs), _crio(inputs)) if runtime is not None]
    return tuple(sorted(found, key=lambda runtime: not runtime.used_by_kubelet))


def _containerd(look: ContainerdLook, inputs: RuntimeInputs) -> RuntimeFacts:
    process = next((p for p in inputs.processes if p.pid == look.pid), None)
    unit = by_pid(inputs.units, look.pid) or (process.unit if process else None) or _guess_unit(look.config, inputs)
    version = version_of(look.version_text)
    main = inputs.files.get(look.config)
    content = main.content.raw if main is not None and main.content is not None else None
    document = load_toml(content) if content is not None else None
    cri = _effective(look, document, inputs.files, version)
    state, state_line = plugin_state(look.plugins) if look.plugins is not None else (None, None)
    socket = socket_path(look.socket or _file_socket(document))
    if state is None and cri.disabled:
        state = "disabled"
    return RuntimeFacts(
        kind="containerd",
        version=version,
        socket=socket,
        config_path=look.config,
        config_version=root_version(document) if isinstance(document, dict) else None,
        imports=root_imports(document) if isinstance(document, dict) else (),
        handlers=cri.handlers,
        default_handler=cri.default_handler,
        used_by_kubelet=_used(socket, inputs),
        owner=_owner(look.config, unit, inputs.units),
        unit=unit,
        binary=value(look.binary),
        pid=look.pid,
        cri=state,
        running=look.pid is not None,
        effective_error=cri.error or (state_line if state == "error" else None),
    )


def _file_socket(document: Mapping[str, object] | str | None) -> str | None:
    """The socket that the file itself names (``[grpc] address``)."""
    section = document.get("grpc") if isinstance(document, Mapping) else None
    address = section.get("address") if isinstance(section, Mapping) else None
    return value(address) if isinstance(address, str) else None


def _effective(
    look: ContainerdLook,
    document: Mapping[str, object] | str | None,
    files: Mapping[str, HostFile],
    version: str | None,
) -> CriConfig:
    """The handlers as containerd sees them: by its own dump where there is one that can be trusted."""
    if look.config.endswith(_K3S_RENDERED):
        return _rendered(look.config, files)
    if look.dump is not None and not _dump_ignores_v2(document, version):
        dumped = load_toml(look.dump)
        return read_cri(dumped) if isinstance(dumped, dict) else CriConfig(error=f"config dump: {dumped}")
    if look.dump_error is not None:
        return CriConfig(error=_last_words(look.dump_error))
    if isinstance(document, str):
        return CriConfig(error=document)
    if document is None:
        return CriConfig()
    plain = read_cri(document)
    if look.dump is None:
        return plain
    why = "config dump of containerd 2.0.0 to 2.0.5 leaves out version 2 files: read from the file alone"
    return CriConfig(plain.handlers, plain.default_handler, plain.disabled, why)


def _dump_ignores_v2(document: Mapping[str, object] | str | None, version: str | None) -> bool:
    """containerd 2.0.0 to 2.0.5 dump the defaults in place of a version 2 file (`runtimes.md §1.3`)."""
    numbers = (version or "").partition("-")[0].partition("+")[0].partition("~")[0]
    early = numbers in ("2.0.0", "2.0.1", "2.0.2", "2.0.3", "2.0.4", "2.0.5")
    return early and isinstance(document, Mapping) and root_version(document) == 2


def _rendered(config: str, files: Mapping[str, HostFile]) -> CriConfig:
    """K3s' rendered file with the drop-ins that it imports; containerd 2.2 merges them deeply (`runtimes.md §2.3`)."""
    main = files.get(config)
    if main is None or main.content is None:
        return CriConfig()
    document = load_toml(main.content.raw)
    if isinstance(document, str):
        return CriConfig(error=document)
    parts = [main.content.raw]
    for pattern in root_imports(document):
        absolute = pattern if pattern.startswith("/") else posixpath.join(posixpath.dirname(config), pattern)
        parts += [
            file.content.raw
            for path, file in sorted(files.items())
            if file.content is not None and path != config and fnmatch.fnmatchcase(path, absolute)
        ]
    merged = merge_deep(parts)
    return CriConfig(error=merged) if isinstance(merged, str) else read_cri(merged)


def _last_words(text: str) -> str:
    """The refusal itself: containerd logs before it and repeats its usage after it."""
    lines = [line for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "containerd:" in line or "error" in line.lower() or "failed" in line]
    return value((telling or lines or ["config dump failed"])[-1]) or "config dump failed"


def _used(socket: str | None, inputs: RuntimeInputs) -> bool | None:
    if inputs.endpoint is None:
        return None
    return same_socket(socket, inputs.endpoint)


def _guess_unit(config: str, inputs: RuntimeInputs) -> str | None:
    """The unit that would own it, where no process tells."""
    if config.endswith(_K3S_RENDERED):
        return inputs.kubernetes.service
    if "/docker/" in config:
        return "docker.service"
    unit = inputs.units.get("containerd.service")
    return unit.name if unit is not None and unit.loaded else None


def _owner(config: str, unit: str | None, units: Mapping[str, Unit]) -> str | None:
    """Who put this runtime there: k3s, rke2, k0s, docker, snap, a package, or the administrator (``local``)."""
    for mark, owner in (
        ("/rke2/", "rke2"),
        (_K3S_RENDERED, "k3s"),
        ("/k0s/", "k0s"),
        ("/docker/", "docker"),
        ("/snap/", "snap"),
    ):
        if mark in config:
            return owner
    if unit is not None and unit.startswith("snap."):
        return "snap"
    known = units.get(unit) if unit is not None else None
    if known is None or known.fragment is None:
        return None
    return "package" if known.fragment.startswith(("/lib/", "/usr/lib/")) else "local"


def _docker(inputs: RuntimeInputs) -> RuntimeFacts | None:
    process = next((p for p in inputs.processes if p.program == "dockerd" and not p.in_container and p.uid == 0), None)
    unit = inputs.units.get("docker.service")
    if process is None and inputs.docker_version is None and not (unit is not None and unit.loaded):
        return None
    file = inputs.files.get("/etc/docker/daemon.json")
    document, error = _json(file)
    runtimes = document.get("runtimes")
    handlers = {
        value(str(name)) or "": Handler("runc", {"path": value(str(entry.get("path", "")))})
        for name, entry in (runtimes.items() if isinstance(runtimes, dict) else ())
        if isinstance(entry, dict)
    }
    default = document.get("default-runtime")
    return RuntimeFacts(
        kind="docker",
        version=version_of(inputs.docker_version),
        socket="/run/docker.sock",
        config_path="/etc/docker/daemon.json" if file is not None and file.content is not None else None,
        handlers=handlers,
        default_handler=value(default) if isinstance(default, str) else None,
        used_by_kubelet=None if inputs.endpoint is None else "cri-dockerd" in inputs.endpoint,
        owner=_owner("", "docker.service", inputs.units),
        unit="docker.service" if unit is not None and unit.loaded else None,
        pid=process.pid if process else None,
        running=process is not None,
        effective_error=error,
    )


def _json(file: HostFile | None) -> tuple[dict[str, object], str | None]:
    if file is None or file.content is None:
        return {}, None
    try:
        document = json.loads(file.content.raw)
    except (ValueError, RecursionError) as error:
        return {}, value(str(error))
    return (document, None) if isinstance(document, dict) else ({}, "not a JSON object")


def _crio(inputs: RuntimeInputs) -> RuntimeFacts | None:
    process = next((p for p in inputs.processes if p.program == "crio" and not p.in_container), None)
    if process is None and inputs.crio_version is None:
        return None
    paths = sorted(p for p, f in inputs.files.items() if p.startswith("/etc/crio/crio.conf") and f.content is not None)
    merged = merge_deep(file.content.raw for p in paths if (file := inputs.files[p]).content is not None)
    document = merged if isinstance(merged, dict) else {}
    crio = document.get("crio")
    section = crio.get("runtime") if isinstance(crio, dict) else None
    runtime = section if isinstance(section, dict) else {}
    tables = runtime.get("runtimes")
    default = runtime.get("default_runtime")
    return RuntimeFacts(
        kind="crio",
        version=version_of(inputs.crio_version),
        socket="/run/crio/crio.sock",
        config_path="/etc/crio/crio.conf",
        imports=tuple(paths),
        handlers={
            value(str(name)) or "": Handler("oci", {"path": value(str(entry.get("runtime_path", "")))})
            for name, entry in (tables.items() if isinstance(tables, dict) else ())
            if isinstance(entry, dict)
        },
        default_handler=value(default) if isinstance(default, str) else None,
        used_by_kubelet=_used("/run/crio/crio.sock", inputs),
        owner=_owner("", "crio.service", inputs.units),
        unit="crio.service",
        pid=process.pid if process else None,
        running=process is not None,
        effective_error=merged if isinstance(merged, str) else None,
    )
