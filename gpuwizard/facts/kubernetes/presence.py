"""Which flavours of Kubernetes are on the host, and how far each of them is alive (`hosts.md §7.1`)."""

from collections.abc import Iterator, Mapping
from enum import IntEnum

from gpuwizard.facts.kubernetes.inputs import (
    KubernetesInputs,
    argument_words,
    host_processes,
    is_up,
    own_units,
    rootless,
)
from gpuwizard.facts.model import KubernetesFlavour
from gpuwizard.facts.units import Process, Unit, flag

__all__ = ["Level", "choose", "is_joined", "levels", "owner_of", "rancher_units"]


class Level(IntEnum):
    """How far a flavour is alive."""

    ABSENT = 0
    LEFTOVER = 1
    """files of it, but no program and no unit"""
    IDLE = 2
    """a program, or a kubelet that was never set up"""
    INSTALLED = 3
    TRYING = 4
    """its service starts and dies, or its nodes are containers of this host"""
    RUNNING = 5


_ORDER: tuple[KubernetesFlavour, ...] = (
    "k3s",
    "rke2",
    "k0s",
    "microk8s",
    "k8s-snap",
    "microshift",
    "openshift",
    "kind",
    "minikube",
    "kubeadm",
)
_LEFTOVERS: Mapping[KubernetesFlavour, tuple[str, ...]] = {
    "k3s": ("/etc/rancher/k3s", "/var/lib/rancher/k3s"),
    "rke2": ("/etc/rancher/rke2", "/var/lib/rancher/rke2"),
    "k0s": ("/etc/k0s", "/var/lib/k0s"),
    "microshift": ("/etc/microshift",),
    "kubeadm": ("/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/config.yaml"),
}
_SNAPS: Mapping[KubernetesFlavour, str] = {"k8s-snap": "k8s", "microk8s": "microk8s"}


def levels(inputs: KubernetesInputs) -> dict[KubernetesFlavour, Level]:
    """How far each flavour is alive; those that are absent are left out."""
    owners = {owner for process in host_processes(inputs) if (owner := owner_of(process)) is not None}
    found = dict(_each(inputs, owners))
    kubelet = found.pop("kubeadm", Level.ABSENT)
    inside = _node_container(inputs)
    unit = inputs.units.get("kubelet.service")
    if inside is not None:
        found = {inside: max(kubelet, Level.INSTALLED)}
    elif unit is not None and any(word.startswith("/var/lib/minikube/") for word in unit.arguments[:1]):
        found["minikube"] = max(kubelet, Level.INSTALLED)
    elif "minikube" in owners:
        found["minikube"] = Level.RUNNING
    elif _is_openshift(inputs):
        found["openshift"] = max(kubelet, Level.INSTALLED)
    elif kubelet > Level.LEFTOVER or not any(level > Level.LEFTOVER for level in found.values()):
        found["kubeadm"] = kubelet
    return {name: found[name] for name in _ORDER if found.get(name, Level.ABSENT) > Level.ABSENT}


def choose(found: Mapping[KubernetesFlavour, Level], inputs: KubernetesInputs) -> KubernetesFlavour:
    """The flavour that counts: ``none``, or ``unknown`` where two are equally alive and nothing tells them apart."""
    best = max(found.values(), default=Level.ABSENT)
    if best <= Level.LEFTOVER:
        return "none" if best == Level.ABSENT or inputs.units else "unknown"
    candidates = [name for name, level in found.items() if level == best]
    if len(candidates) > 1 and best < Level.TRYING:
        enabled = [name for name in candidates if any(u.enabled == "enabled" for u in _units(name, inputs))]
        candidates = enabled if len(enabled) == 1 else candidates
    return candidates[0] if len(candidates) == 1 else "unknown"


def _each(inputs: KubernetesInputs, owners: set[KubernetesFlavour]) -> Iterator[tuple[KubernetesFlavour, Level]]:
    for name in _ORDER:
        units = _units(name, inputs)
        program = {"kubeadm": "kubelet"}.get(name, name)
        snap = _SNAPS.get(name)
        scripts = program in inputs.init_scripts or f"{program}-agent" in inputs.init_scripts
        if name == "kubeadm" and is_joined(inputs) is False:
            if units or scripts or program in inputs.programs or name in owners:
                yield name, Level.IDLE
        elif name in owners or any(is_up(unit) for unit in units):
            yield name, Level.RUNNING
        elif _has_nodes(inputs, name) or any(unit.active == "activating" for unit in units):
            yield name, Level.TRYING
        elif units or scripts or (snap is not None and f"/snap/{snap}" in inputs.marks) or _of_a_user(inputs, name):
            yield name, Level.INSTALLED
        elif program in inputs.programs or program in inputs.versions:
            yield name, Level.IDLE
        elif any(mark in inputs.marks for mark in _LEFTOVERS.get(name, ())):
            yield name, Level.LEFTOVER


def _of_a_user(inputs: KubernetesInputs, name: str) -> bool:
    return name == "k3s" and rootless(inputs)


def _has_nodes(inputs: KubernetesInputs, name: str) -> bool:
    """Nodes of that flavour run as containers of this host."""
    return any(line.startswith(f"{name} ") for line in inputs.nested)


def _units(flavour: KubernetesFlavour, inputs: KubernetesInputs) -> tuple[Unit, ...]:
    """The units of a flavour that run its kubelet or its control plane."""
    match flavour:
        case "k3s" | "rke2":
            return rancher_units(inputs, flavour)
        case "k0s":
            return own_units(inputs, "k0sworker", "k0scontroller")
        case "microk8s":
            return own_units(inputs, "snap.microk8s.")
        case "k8s-snap":
            return own_units(inputs, "snap.k8s.")
        case "microshift":
            return own_units(inputs, "microshift")
        case "kubeadm":
            return own_units(inputs, "kubelet")
        case _:
            return ()


def rancher_units(inputs: KubernetesInputs, program: str) -> tuple[Unit, ...]:
    """The units that run K3s or RKE2 itself. An instance may have any name (``k3s-gpu.service``), and so may a job
    that has to do with it, so that the command line decides."""
    usual = (f"{program}.service", f"{program}-agent.service", f"{program}-server.service")
    return tuple(
        unit
        for name, unit in sorted(inputs.units.items())
        if unit.loaded
        and name.startswith(program)
        and (name in usual or any(word in ("server", "agent") for word in unit.arguments[1:2]))
    )


def is_joined(inputs: KubernetesInputs) -> bool | None:
    """Whether the host's own kubelet was set up; None where that could not be seen."""
    marks = _LEFTOVERS["kubeadm"]
    if any(mark in inputs.marks for mark in (marks if "/snap/k8s" not in inputs.marks else marks[1:])):
        return True
    unit = inputs.units.get("kubelet.service")
    texts = [text for path, text in inputs.flags.items() if not path.startswith("/var/snap/")]
    texts += unit.environment.values() if unit is not None else ()
    words = [*(unit.arguments if unit is not None else ()), *(word for text in texts for word in argument_words(text))]
    for process in host_processes(inputs):
        if owner_of(process) == "kubeadm":
            words += process.arguments
    for name in ("--config", "--kubeconfig"):
        if (path := flag(words, name)) is not None and path not in marks:
            return True
    return False if inputs.root else None


def owner_of(process: Process) -> KubernetesFlavour | None:
    """The flavour that a process belongs to."""
    words = " ".join(process.arguments[:2]).split()[:2]
    program = words[0].rpartition("/")[2] if words else process.comm
    if process.comm in ("k3s-server", "k3s-agent") or (program == "k3s" and words[1:] in (["server"], ["agent"])):
        return "k3s"
    if program == "rke2" and words[1:] in (["server"], ["agent"]):
        return "rke2"
    if program == "k0s" and words[1:] in (["worker"], ["controller"]):
        return "k0s"
    if program == "microshift" or process.comm == "microshift":
        return "microshift"
    if program == "kubelite":
        return "microk8s"
    return _owner_of_kubelet(process, words[0] if words else "") if program == "kubelet" else None


def _owner_of_kubelet(process: Process, path: str) -> KubernetesFlavour:
    unit, place = process.unit or "", f"{process.exe or ''} {path}"
    marks: tuple[tuple[KubernetesFlavour, str, str], ...] = (
        ("rke2", "rke2", "/rke2/"),
        ("k0s", "k0s", "/k0s/"),
        ("k3s", "k3s", "/k3s/"),
        ("k8s-snap", "snap.k8s.", "/snap/k8s/"),
        ("microk8s", "snap.microk8s.", "/snap/microk8s/"),
        ("minikube", "minikube", "/var/lib/minikube/"),
    )
    return next((name for name, start, part in marks if unit.startswith(start) or part in place), "kubeadm")


def _node_container(inputs: KubernetesInputs) -> KubernetesFlavour | None:
    """The flavour whose node container this host is."""
    if "/kind/version" in inputs.marks or "/kind/product_name" in inputs.marks:
        return "kind"
    return "minikube" if "/kic.txt" in inputs.marks else None


def _is_openshift(inputs: KubernetesInputs) -> bool:
    return (
        "/etc/machine-config-daemon" in inputs.marks
        or inputs.system.get("ID") in ("rhcos", "scos")
        or "OPENSHIFT_VERSION" in inputs.system
    ) and "/etc/microshift" not in inputs.marks
