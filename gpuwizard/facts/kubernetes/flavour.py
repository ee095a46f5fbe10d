"""Which Kubernetes a host runs, in which role, and by which socket its kubelet reaches the runtime.

The evidence for each flavour: `hosts.md §7.1`.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from gpuwizard.facts.model import HostFile, KubernetesFacts
from gpuwizard.facts.runtimes.runtimes import socket_path
from gpuwizard.facts.text import value, version_of
from gpuwizard.facts.units import Process, Unit, flag

__all__ = ["KubernetesInputs", "k3s_settings", "kubernetes_facts"]

_K3S_SOCKET = "/run/k3s/containerd/containerd.sock"
_CRIO_SOCKET = "/run/crio/crio.sock"
_CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
Flavour = Literal["k3s", "rke2", "kubeadm", "k8s-snap", "microk8s", "k0s", "microshift", "none"]
Role = Literal["server", "agent", "control-plane", "worker"]


@dataclass(frozen=True, slots=True)
class KubernetesInputs:
    """What the flavour is judged by. `versions` holds the output of each version command by program; `flags` the
    kubelet's environment files; `configs` the telling lines of its configuration. `root` says whether an absent
    file is really absent."""

    units: Mapping[str, Unit]
    processes: Sequence[Process]
    marks: Collection[str]
    versions: Mapping[str, str]
    files: Mapping[str, HostFile]
    hostname: str | None
    node_id: str | None = None
    data_dirs: Sequence[str] = ()
    flags: Mapping[str, str] = field(default_factory=dict)
    configs: Mapping[str, str] = field(default_factory=dict)
    init_scripts: Collection[str] = ()
    root: bool = True


def kubernetes_facts(inputs: KubernetesInputs) -> tuple[KubernetesFacts, str | None]:
    """The flavour and the kubelet's CRI socket (None: unknown, empty: there is no kubelet).

    Several flavours can be installed; the running one wins, then the order of `hosts.md §7.1`.
    """
    present = _present(inputs)
    running = [name for name in present if _running(name, inputs)]
    match (running or present or ["none"])[0]:
        case "k3s":
            return _k3s(inputs)
        case "rke2":
            return _rke2(inputs)
        case "kubeadm":
            return _kubeadm(inputs)
        case "k8s-snap":
            return _snap(inputs, "k8s-snap", "snap.k8s.kubelet.service", "k8s", _CONTAINERD_SOCKET)
        case "microk8s":
            socket = "/var/snap/microk8s/common/run/containerd.sock"
            return _snap(inputs, "microk8s", "snap.microk8s.daemon-kubelite.service", "microk8s", socket)
        case "k0s":
            return _k0s(inputs)
        case "microshift":
            unit = inputs.units.get("microshift.service")
            active = unit.running if unit is not None else None
            return KubernetesFacts("microshift", None, "server", "microshift.service", active=active), _CRIO_SOCKET
        case _:
            return KubernetesFacts("none"), ""


def _present(inputs: KubernetesInputs) -> list[Flavour]:
    marks = inputs.marks
    programs = {process.program for process in inputs.processes} | {process.comm for process in inputs.processes}
    unit_names = [name for name, unit in inputs.units.items() if unit.loaded]

    def unit(*prefixes: str) -> bool:
        return any(name.startswith(prefixes) for name in unit_names)

    found: list[tuple[Flavour, bool]] = [
        ("k3s", unit("k3s") or "k3s" in inputs.versions or "/usr/local/bin/k3s" in marks or "k3s-server" in programs),
        ("rke2", unit("rke2") or "rke2" in inputs.versions or "/var/lib/rancher/rke2" in marks),
        ("k0s", unit("k0s") or "k0s" in inputs.versions or "/etc/k0s" in marks),
        ("microk8s", unit("snap.microk8s.") or "/snap/microk8s" in marks),
        ("k8s-snap", unit("snap.k8s.") or "/snap/k8s" in marks),
        ("microshift", unit("microshift") or "/etc/microshift" in marks),
        (
            "kubeadm",
            unit("kubelet.service")
            or "/etc/kubernetes/kubelet.conf" in marks
            or "/var/lib/kubelet/config.yaml" in marks
            or ("kubelet" in programs),
        ),
    ]
    return [name for name, there in found if there]


def _running(flavour: Flavour, inputs: KubernetesInputs) -> bool:
    prefixes = {
        "k3s": ("k3s",),
        "rke2": ("rke2",),
        "k0s": ("k0s",),
        "microk8s": ("snap.microk8s.",),
        "k8s-snap": ("snap.k8s.",),
        "microshift": ("microshift",),
        "kubeadm": ("kubelet.service",),
    }[flavour]
    if any(unit.running and unit.name.startswith(prefixes) for unit in inputs.units.values()):
        return True
    program = {"kubeadm": "kubelet", "microk8s": "kubelite"}.get(flavour, flavour)
    return any(p.program == program or p.comm.startswith(f"{program}-") for p in inputs.processes)


def k3s_settings(files: Mapping[str, HostFile], folder: str) -> dict[str, Any]:
    """``config.yaml`` and ``config.yaml.d/*`` in lexical order, later ones win (`runtimes.md §2.1`). What does not
    parse is left out."""
    paths = [p for p in (f"{folder}/config.yaml",) if p in files]
    paths += sorted(p for p in files if re.fullmatch(rf"{re.escape(folder)}/config\.yaml\.d/[^/]+\.ya?ml", p))
    merged: dict[str, Any] = {}
    for path in paths:
        content = files[path].content
        if content is None:
            continue
        try:
            document = yaml.safe_load(content.raw)
        except (yaml.YAMLError, ValueError, RecursionError):
            continue
        if isinstance(document, dict):
            merged.update({str(key).rstrip("+"): entry for key, entry in document.items()})
    return merged


def _service(inputs: KubernetesInputs, *names: str) -> Unit | None:
    """The loaded unit of one of those names or of a name that begins with one and a dash; a running one first."""
    found = [
        unit
        for unit in inputs.units.values()
        if unit.loaded and any(unit.name == f"{n}.service" or unit.name.startswith(f"{n}-") for n in names)
    ]
    return next((unit for unit in found if unit.running), found[0] if found else None)


def _k3s(inputs: KubernetesInputs) -> tuple[KubernetesFacts, str | None]:
    service = _service(inputs, "k3s")
    arguments = service.arguments if service else ()
    settings = k3s_settings(inputs.files, "/etc/rancher/k3s")
    role: Role | None = None
    if "agent" in arguments or (service is not None and service.name == "k3s-agent.service"):
        role = "agent"
    elif "server" in arguments or "/var/lib/rancher/k3s/server" in inputs.marks:
        role = "server"
    data = flag(arguments, "--data-dir", "-d") or _text(settings.get("data-dir"))
    if data is None:
        data = next(iter(inputs.data_dirs), "/var/lib/rancher/k3s")
    name = flag(arguments, "--node-name") or _text(settings.get("node-name")) or _default_name(inputs.hostname)
    with_id = "--with-node-id" in arguments or settings.get("with-node-id") is True
    endpoint = flag(arguments, "--container-runtime-endpoint") or _text(settings.get("container-runtime-endpoint"))
    socket = socket_path(endpoint) or _K3S_SOCKET
    if "--docker" in arguments or settings.get("docker") is True:
        socket = "/run/k3s/cri-dockerd/cri-dockerd.sock"
    facts = KubernetesFacts(
        flavour="k3s",
        version=version_of(inputs.versions.get("k3s")),
        role=role,
        service=service.name if service else _script(inputs),
        data_dir=data,
        node_name=f"{name}-{inputs.node_id}" if with_id and name and inputs.node_id else name,
        templates=_templates(inputs.files, data),
        active=service.running if service else _running("k3s", inputs),
    )
    return facts, socket


def _script(inputs: KubernetesInputs) -> str | None:
    """The OpenRC service of K3s."""
    return next((name for name in ("k3s", "k3s-agent") if name in inputs.init_scripts), None)


def _templates(files: Mapping[str, HostFile], data: str) -> tuple[str, ...]:
    folder = f"{data}/agent/etc/containerd"
    names = ("config-v3.toml.tmpl", "config.toml.tmpl")
    return tuple(path for n in names if (path := f"{folder}/{n}") in files and files[path].content is not None)


def _rke2(inputs: KubernetesInputs) -> tuple[KubernetesFacts, str | None]:
    service = _service(inputs, "rke2-server", "rke2-agent")
    name = service.name if service else ""
    role: Role | None = "server" if "server" in name else "agent" if "agent" in name else None
    facts = KubernetesFacts(
        flavour="rke2",
        version=version_of(inputs.versions.get("rke2")),
        role=role,
        service=service.name if service else None,
        data_dir="/var/lib/rancher/rke2",
        node_name=_default_name(inputs.hostname),
        templates=_templates(inputs.files, "/var/lib/rancher/rke2"),
        active=service.running if service else False,
    )
    return facts, _K3S_SOCKET


def _k0s(inputs: KubernetesInputs) -> tuple[KubernetesFacts, str | None]:
    worker = _service(inputs, "k0sworker")
    service = worker or _service(inputs, "k0scontroller")
    facts = KubernetesFacts(
        flavour="k0s",
        version=version_of(inputs.versions.get("k0s")),
        role=None if service is None else "worker" if worker else "control-plane",
        service=service.name if service else None,
        data_dir="/var/lib/k0s",
        node_name=_default_name(inputs.hostname),
        active=service.running if service else False,
    )
    return facts, "/run/k0s/containerd.sock"


def _snap(
    inputs: KubernetesInputs, flavour: Literal["k8s-snap", "microk8s"], unit_name: str, snap: str, socket: str
) -> tuple[KubernetesFacts, str | None]:
    unit = inputs.units.get(unit_name)
    facts = KubernetesFacts(
        flavour=flavour,
        version=version_of(inputs.versions.get(f"snap:{snap}")),
        service=unit_name,
        data_dir=f"/var/snap/{snap}/common",
        node_name=_default_name(inputs.hostname),
        active=unit.running if unit else None,
    )
    return facts, socket


def _kubeadm(inputs: KubernetesInputs) -> tuple[KubernetesFacts, str | None]:
    kubelet = next((p for p in inputs.processes if p.program == "kubelet"), None)
    unit = inputs.units.get("kubelet.service")
    words = [word for text in inputs.flags.values() for word in re.split(r"[\s\"'=]+(?=--)|[\"'\s]+", text) if word]
    arguments = [*words, *(kubelet.arguments if kubelet else ())]
    name = flag(arguments, "--hostname-override") or _default_name(inputs.hostname)
    control = "/etc/kubernetes/manifests/kube-apiserver.yaml" in inputs.marks or any(
        p.program == "kube-apiserver" for p in inputs.processes
    )
    facts = KubernetesFacts(
        flavour="kubeadm",
        version=version_of(inputs.versions.get("kubelet")),
        role="control-plane" if control else "worker",
        service="kubelet.service",
        data_dir="/var/lib/kubelet",
        node_name=name,
        active=unit.running if unit is not None and unit.loaded else kubelet is not None,
    )
    return facts, _kubelet_socket(inputs, arguments)


def _kubelet_socket(inputs: KubernetesInputs, arguments: Sequence[str]) -> str | None:
    """A configuration file wins over a flag; with neither the kubelet takes containerd's default socket."""
    for text in inputs.configs.values():
        for line in text.splitlines():
            key, colon, rest = line.partition(":")
            if colon and key.strip() == "containerRuntimeEndpoint" and rest.strip(" \"'"):
                return socket_path(value(rest))
    found = flag(arguments, "--container-runtime-endpoint")
    if found is not None:
        return socket_path(found)
    if inputs.configs or inputs.root:
        return _CONTAINERD_SOCKET
    return None


def _default_name(hostname: str | None) -> str | None:
    return hostname.lower() if hostname else None


def _text(entry: object) -> str | None:
    return value(entry) if isinstance(entry, str) else None
