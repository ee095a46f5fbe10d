"""kubeadm and plain kubelets, OpenShift, MicroShift, k0s, and nodes that are containers (`hosts.md §7.1`)."""

from typing import Literal

from gpuwizard.facts.kubernetes.inputs import (
    Found,
    KubernetesInputs,
    default_name,
    host_processes,
    is_up,
    own_units,
    states,
    version,
)
from gpuwizard.facts.kubernetes.kubelet import CONTAINERD_SOCKET, CRIO_SOCKET, Kubelet, kubelet_of
from gpuwizard.facts.kubernetes.presence import is_joined, owner_of
from gpuwizard.facts.kubernetes.release import KubeRelease
from gpuwizard.facts.model import KubernetesFacts
from gpuwizard.facts.runtimes.inputs import socket_path
from gpuwizard.facts.text import value, version_of
from gpuwizard.facts.units import flag

__all__ = ["container_facts", "k0s_facts", "kubelet_facts", "microshift_facts"]

_APISERVER = ("/etc/kubernetes/manifests/kube-apiserver.yaml", "/etc/kubernetes/manifests/kube-apiserver-pod.yaml")
_K0S_SOCKET = "/run/k0s/containerd.sock"
_MINIKUBE_PLACE = "/var/lib/minikube/binaries/"
OfKubelet = Literal["kubeadm", "openshift", "kind", "minikube"]


def kubelet_facts(inputs: KubernetesInputs, flavour: OfKubelet) -> Found:
    """A host whose kubelet is a service of its own."""
    text, release = _version(inputs, flavour)
    owner: OfKubelet = "minikube" if flavour == "minikube" else "kubeadm"
    default = CRIO_SOCKET if flavour == "openshift" else CONTAINERD_SOCKET
    files = ("/etc/kubernetes/kubelet.conf",) if flavour == "openshift" else None
    kubelet = (
        kubelet_of(inputs, owner, release, default=default)
        if files is None
        else kubelet_of(inputs, owner, release, files=files, default=default)
    )
    units = own_units(inputs, "kubelet")
    unit = units[0] if units else None
    role = _role(inputs)
    admin = "/etc/kubernetes/admin.conf"
    short, long = states(units)
    facts = KubernetesFacts(
        flavour=flavour,
        version=text,
        role=role,
        service="kubelet.service",
        data_dir="/var/lib/minikube" if flavour == "minikube" else "/var/lib/kubelet",
        node_name=kubelet.node_name,
        active=is_up(unit) if unit is not None else kubelet.running or (False if inputs.root else None),
        services=short,
        units=long,
        kubeconfig=admin if role == "control-plane" and flavour in ("kubeadm", "kind") else None,
        cgroup_driver=kubelet.cgroup_driver,
        runtime_endpoint=kubelet.endpoint,
        in_node_container=_inside(inputs),
        runs_pods=True,
        joined=is_joined(inputs),
    )
    return facts, kubelet.endpoint


def _version(inputs: KubernetesInputs, flavour: OfKubelet) -> tuple[str | None, KubeRelease | None]:
    """The version of the flavour, and that of its kubelet."""
    text, release = version(inputs, "kubelet")
    if flavour == "openshift":
        return version_of(inputs.system.get("OPENSHIFT_VERSION")), release
    if flavour == "kind" and text is None:
        return version(inputs, "kind")
    if flavour == "minikube" and text is None:
        unit = inputs.units.get("kubelet.service")
        paths = [p.arguments[0] for p in host_processes(inputs) if p.arguments and owner_of(p) == "minikube"]
        paths += unit.arguments[:1] if unit is not None else ()
        text = next((version_of(p.removeprefix(_MINIKUBE_PLACE)) for p in paths if p.startswith(_MINIKUBE_PLACE)), None)
        return text, KubeRelease.parse(text)
    return text, release


def _role(inputs: KubernetesInputs) -> Literal["control-plane", "worker"] | None:
    """By the manifest of the API server, in a folder that only root may look into."""
    if any(mark in inputs.marks for mark in _APISERVER):
        return "control-plane"
    if any(p.program == "kube-apiserver" for p in inputs.processes):
        return "control-plane"
    return "worker" if inputs.root else None


def _inside(inputs: KubernetesInputs) -> bool:
    return any(mark in inputs.marks for mark in ("/kind/version", "/kind/product_name", "/kic.txt"))


def container_facts(inputs: KubernetesInputs, flavour: Literal["kind", "minikube"]) -> Found:
    """A host that runs nodes of `flavour` as containers: it has no kubelet of its own."""
    names = tuple(value(line.partition(" ")[2]) or "?" for line in inputs.nested if line.startswith(f"{flavour} "))
    facts = KubernetesFacts(flavour, active=True, node_containers=names, in_node_container=False, runs_pods=False)
    return facts, ""


def k0s_facts(inputs: KubernetesInputs) -> Found:
    """A k0s worker or controller."""
    text, _ = version(inputs, "k0s")
    units = own_units(inputs, "k0sworker", "k0scontroller")
    service = next((unit for unit in units if is_up(unit)), units[-1] if units else None)
    arguments = list(service.arguments if service is not None else ())
    for process in host_processes(inputs):
        if owner_of(process) == "k0s" and process.arguments[:1]:
            arguments = arguments or list(process.arguments)
    controller = "controller" in arguments[1:2] or (service is not None and service.name == "k0scontroller.service")
    pods = not controller or any(word in ("--enable-worker", "--enable-worker=true", "--single") for word in arguments)
    kubelet = kubelet_of(inputs, "k0s", None, files=(), flags="")
    name = flag(arguments, "--kubelet-extra-args")
    short, long = states(units)
    endpoint = _k0s_socket(inputs, arguments, kubelet) if pods else ""
    data = (flag(arguments, "--data-dir") or "/var/lib/k0s").rstrip("/")
    facts = KubernetesFacts(
        flavour="k0s",
        version=text,
        role=None if not arguments and service is None else "control-plane" if controller else "worker",
        service=service.name if service is not None else None,
        data_dir=data,
        node_name=kubelet.node_name if name is None or kubelet.running else None,
        active=is_up(service) if service is not None else bool(arguments) or (False if inputs.root else None),
        services=short,
        units=long,
        kubeconfig=f"{data}/pki/admin.conf" if controller else None,
        cgroup_driver=kubelet.cgroup_driver,
        runtime_endpoint=endpoint or None,
        drop_in_dirs=("/etc/k0s/containerd.d",),
        runs_pods=pods,
    )
    return facts, endpoint


def _k0s_socket(inputs: KubernetesInputs, arguments: list[str], kubelet: Kubelet) -> str | None:
    """``--cri-socket remote:unix:///run/x.sock`` or k0s' own."""
    if (asked := flag(arguments, "--cri-socket")) is not None:
        kind, _, rest = asked.partition(":")
        if kind == "docker":
            return "/run/cri-dockerd.sock"
        return socket_path(rest) if kind == "remote" and rest else None
    return kubelet.endpoint or _K0S_SOCKET


def microshift_facts(inputs: KubernetesInputs) -> Found:
    """MicroShift: control plane and kubelet in one process, on CRI-O."""
    units = own_units(inputs, "microshift")
    unit = units[0] if units else None
    short, long = states(units)
    overridden = value(inputs.system.get("hostnameOverride"))
    running = any(owner_of(process) == "microshift" for process in host_processes(inputs))
    facts = KubernetesFacts(
        flavour="microshift",
        version=version_of(inputs.versions.get("microshift")),
        role="server",
        service="microshift.service",
        data_dir="/var/lib/microshift",
        node_name=default_name(overridden or inputs.hostname),
        active=is_up(unit) if unit is not None else running or (False if inputs.root else None),
        services=short,
        units=long,
        kubeconfig="/var/lib/microshift/resources/kubeadmin/kubeconfig",
        cgroup_driver="systemd",
        runtime_endpoint=CRIO_SOCKET,
        runs_pods=True,
    )
    return facts, CRIO_SOCKET
