"""Canonical Kubernetes (k8s-snap) and MicroK8s (`runtimes.md §4`, `§5`)."""

import posixpath

from gpuwizard.facts.kubernetes.inputs import (
    Found,
    KubernetesInputs,
    argument_words,
    is_up,
    own_units,
    states,
    version,
)
from gpuwizard.facts.kubernetes.kubelet import kubelet_of
from gpuwizard.facts.kubernetes.release import KubeRelease
from gpuwizard.facts.model import KubernetesFacts
from gpuwizard.facts.runtimes.inputs import socket_path
from gpuwizard.facts.units import Unit, flag

__all__ = ["k8s_snap_facts", "microk8s_facts"]

_K8S = "/var/snap/k8s/common"
_MICROK8S, _MICROK8S_NOW = "/var/snap/microk8s/common", "/var/snap/microk8s/current"
_CONFIG = "/etc/containerd/config.toml"


def k8s_snap_facts(inputs: KubernetesInputs) -> Found:
    """The facts of a node of Canonical Kubernetes."""
    text, release = version(inputs, "snap:k8s")
    arguments = argument_words(inputs.flags.get(f"{_K8S}/args/containerd", ""))
    base = _base_dir(inputs, arguments, release)
    named = flag(arguments, "--address")
    default = socket_path(named) if named else None
    if default is None and base is not None:
        default = posixpath.join(base, "run/containerd/containerd.sock")
    kubelet = kubelet_of(inputs, "k8s-snap", release, files=(), flags=f"{_K8S}/args/kubelet", default=default)
    units = own_units(inputs, "snap.k8s.")
    worker, seen = f"{_K8S}/lock/worker" in inputs.marks, f"{_K8S}/lock" in inputs.marks and inputs.root
    role = "worker" if worker else "control-plane" if seen else None
    short, long = states(units)
    facts = KubernetesFacts(
        flavour="k8s-snap",
        version=text,
        role="worker" if role == "worker" else "control-plane" if role else None,
        service="snap.k8s.kubelet.service",
        data_dir=_K8S,
        node_name=kubelet.node_name,
        active=_active(inputs, units, "snap.k8s.kubelet.service"),
        services=short,
        units=long,
        kubeconfig="/etc/kubernetes/admin.conf" if role == "control-plane" else None,
        cgroup_driver=kubelet.cgroup_driver,
        runtime_endpoint=kubelet.endpoint,
        drop_in_dirs=(posixpath.join(base, "etc/containerd/conf.d"),) if base is not None else (),
        containerd_base_dir=base,
        runs_pods=True,
    )
    return facts, kubelet.endpoint


def _base_dir(inputs: KubernetesInputs, arguments: list[str], release: KubeRelease | None) -> str | None:
    """The folder below which the snap keeps etc/containerd: by the arguments of containerd, else by what was recorded
    when the node was set up (up to 1.35 a folder k8s-containerd in it)."""
    config = flag(arguments, "--config")
    if config is not None and config.endswith(_CONFIG):
        return config.removesuffix(_CONFIG) or "/"
    if inputs.base_dir is None:
        return None
    if inputs.base_dir in ("", "/"):
        return "/"
    if release is None:
        return None
    return inputs.base_dir if release >= KubeRelease(1, 36) else posixpath.join(inputs.base_dir, "k8s-containerd")


def microk8s_facts(inputs: KubernetesInputs) -> Found:
    """The facts of a node of MicroK8s."""
    text, _ = version(inputs, "snap:microk8s")
    words = [*argument_words(inputs.flags.get(f"{_MICROK8S_NOW}/args/kubelet", ""))]
    endpoint = flag(words, "--container-runtime-endpoint") or f"{_MICROK8S}/run/containerd.sock"
    endpoint = endpoint.replace("${SNAP_COMMON}", _MICROK8S).replace("${SNAP_DATA}", _MICROK8S_NOW)
    units = own_units(inputs, "snap.microk8s.")
    locks = f"{_MICROK8S_NOW}/var/lock"
    worker = f"{locks}/clustered.lock" in inputs.marks
    name = flag(words, "--hostname-override") or inputs.hostname
    driver = flag(words, "--cgroup-driver")
    short, long = states(units)
    facts = KubernetesFacts(
        flavour="microk8s",
        version=text,
        role="worker" if worker else "control-plane" if locks in inputs.marks else None,
        service="snap.microk8s.daemon-kubelite.service",
        data_dir=_MICROK8S,
        node_name=name.strip().lower() if name else None,
        active=_active(inputs, units, "snap.microk8s.daemon-kubelite.service"),
        services=short,
        units=long,
        kubeconfig=None if worker else f"{_MICROK8S_NOW}/credentials/client.config",
        cgroup_driver="systemd" if driver == "systemd" else "cgroupfs" if words else None,
        runtime_endpoint=socket_path(endpoint),
        runs_pods=True,
    )
    return facts, socket_path(endpoint)


def _active(inputs: KubernetesInputs, units: tuple[Unit, ...], name: str) -> bool | None:
    unit = next((unit for unit in units if unit.name == name), None)
    if unit is not None:
        return is_up(unit)
    return False if inputs.units else None
