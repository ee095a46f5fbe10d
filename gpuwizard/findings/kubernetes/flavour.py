"""Rules about the Kubernetes flavour of a host, whichever it is."""

from gpuwizard.facts.model import KubernetesService, Probe
from gpuwizard.findings.kubernetes.words import NAMES, flavour_name
from gpuwizard.findings.rule import (
    KUBELET,
    NVIDIA_HANDLER,
    NVIDIA_HANDLERS,
    Rule,
    Verdict,
    installed_gpus,
    shown_runtime,
)

__all__ = ["RULES"]

_OFTEN = 3  # restarts that are no accident


def _troubled(unit: KubernetesService) -> bool:
    if unit.active == "failed" or (unit.active == "activating" and unit.sub == "auto-restart"):
        return True
    return unit.active == "activating" and (unit.restarts or 0) >= _OFTEN


def _stopped(probe: Probe) -> Verdict | None:
    kubernetes = probe.facts.kubernetes
    if kubernetes.flavour in ("none", "unknown") or kubernetes.active is not False or kubernetes.joined is False:
        return None
    if any(_troubled(unit) for unit in kubernetes.units):
        return None
    own = probe.facts.kubelet_runtime
    inside = own is not None and own.unit is not None and own.unit == kubernetes.service
    return Verdict(
        (f"{kubernetes.flavour}: {kubernetes.service or 'its service'} is not active",),
        about=frozenset((KUBELET, own.config_path or "")) if own is not None and inside else frozenset((KUBELET,)),
    )


def _none(probe: Probe) -> Verdict | None:
    if probe.facts.kubernetes.flavour != "none" or not installed_gpus(probe):
        return None
    return Verdict(("no unit, process or file of a Kubernetes flavour was found",))


def _several(probe: Probe) -> Verdict | None:
    kubernetes = probe.facts.kubernetes
    if kubernetes.flavour != "unknown" or len(kubernetes.others) < 2:
        return None
    return Verdict(tuple(f"found: {NAMES.get(name, name)}" for name in kubernetes.others))


def _another(probe: Probe) -> Verdict | None:
    kubernetes = probe.facts.kubernetes
    if kubernetes.flavour in ("none", "unknown") or not kubernetes.others:
        return None
    found = (f"also installed: {NAMES.get(name, name)}" for name in kubernetes.others)
    return Verdict((f"in use: {flavour_name(probe)}", *found))


def _loop(probe: Probe) -> Verdict | None:
    kubernetes = probe.facts.kubernetes
    troubled = [unit for unit in kubernetes.units if _troubled(unit)]
    if kubernetes.joined is False or not troubled:
        return None
    return Verdict(tuple(_shown(unit) for unit in troubled), about=frozenset((KUBELET,)))


def _shown(unit: KubernetesService) -> str:
    parts = [f"{unit.name}: {unit.active} ({unit.sub or 'no sub-state'})"]
    if unit.result not in (None, "success"):
        parts.append(f"result {unit.result}")
    if unit.restarts:
        parts.append(f"{unit.restarts} restarts by systemd")
    return ", ".join(parts)


def _not_joined(probe: Probe) -> Verdict | None:
    kubernetes = probe.facts.kubernetes
    if kubernetes.flavour != "kubeadm" or kubernetes.joined is not False:
        return None
    units = tuple(_shown(unit) for unit in kubernetes.units)
    return Verdict(("neither /etc/kubernetes/kubelet.conf nor /var/lib/kubelet/config.yaml is there", *units))


def _no_version_id(probe: Probe) -> Verdict | None:
    facts = probe.facts
    if facts.os.id is None or facts.os.version_id is not None or not installed_gpus(probe):
        return None
    if facts.kubernetes.flavour in ("none", "unknown") or facts.os.kind in ("container", "bottlerocket"):
        return None
    there = facts.operator.toolkit is True
    return Verdict((f"ID={facts.os.id}, no VERSION_ID in os-release",), severity="warning" if there else None)


def _wrong_runtime(probe: Probe) -> Verdict | None:
    """Drop-ins of the operator's toolkit below /etc/containerd, and a kubelet's runtime that does not read them and has
    no handler."""
    runtime = probe.facts.kubelet_runtime
    written = [path for path in probe.facts.operator.drop_ins if path.startswith("/etc/containerd/")]
    if not written or runtime is None or any(name in runtime.handlers for name in NVIDIA_HANDLERS):
        return None
    if runtime.kind == "containerd" and (
        not runtime.handlers or (runtime.config_path or "").startswith("/etc/containerd/")
    ):
        return None
    evidence = [f"{path}: written by the operator's toolkit" for path in written]
    evidence.append(f"the kubelet uses {shown_runtime(runtime)}, socket {runtime.socket or 'unknown'}")
    return Verdict(tuple(evidence), about=frozenset((NVIDIA_HANDLER,)))


_OWN = (
    Rule(
        "GW-KUBE-001",
        "warning",
        "Kubernetes is installed but not running",
        "The service that runs the kubelet on this host is not active.",
        "Start it and read its log before changing anything.",
        _stopped,
        ("hosts.md §7.1",),
        effect="The node is NotReady and its pods are moved elsewhere.",
        detected="By the state of its unit.",
        messages=("Kubelet stopped posting node status",),
        sources=("kubernetes/kubernetes pkg/controller/nodelifecycle",),
        instead_of=("GW-RUNTIME-005", "GW-RUNTIME-006"),
    ),
    Rule(
        "GW-KUBE-002",
        "info",
        "no Kubernetes on this host",
        "There is a GPU, but this host is no node of a cluster.",
        "Join it to a cluster first; gpuwizard does not install Kubernetes.",
        _none,
        ("hosts.md §7.1",),
        effect="Its GPUs cannot be used in pods.",
        detected="No unit, process, program or snap of a flavour that gpuwizard knows is there.",
        sources=("kubernetes.io/docs/setup",),
    ),
    Rule(
        "GW-KUBE-003",
        "error",
        "several Kubernetes on one host",
        "Two flavours are equally alive, so that it cannot be told which kubelet the cluster sees.",
        "Stop and remove the one that is not used; gpuwizard changes nothing until then.",
        _several,
        ("hosts.md §7.1",),
        effect="They fight for ports, /var/lib/kubelet and the CNI folders, and a change may reach the wrong runtime.",
        detected="By units and processes of each flavour.",
        messages=("bind: address already in use",),
        sources=("k3s-io/docs docs/installation/requirements.md",),
        instead_of=("GW-RUNTIME-005",),
    ),
    Rule(
        "GW-KUBE-004",
        "info",
        "another Kubernetes is installed besides",
        "It does not run, or belongs to containers of this host.",
        "Remove it when it is not needed: its service may be started by the next reboot.",
        _another,
        ("hosts.md §7.1",),
        effect="None as long as it does not start.",
        detected="By units and programs of each flavour.",
        sources=("k3s-io/docs docs/installation/uninstall.md",),
    ),
    Rule(
        "GW-KUBE-005",
        "error",
        "a Kubernetes service does not stay up",
        "systemd starts the service again and again, or has given up.",
        "Read its log: `journalctl -u UNIT -n 100`; for K3s and RKE2 also agent/containerd/containerd.log.",
        _loop,
        ("kubernetes.md §1.14 #8", "kubernetes.md §1.14 #9"),
        effect="The node is NotReady, or goes so within a minute.",
        detected="By ActiveState, SubState and the number of restarts of its units.",
        messages=("Scheduled restart job, restart counter is at", "Start request repeated too quickly"),
        sources=("systemd.service(5)",),
        instead_of=("GW-RUNTIME-005",),
    ),
    Rule(
        "GW-KUBE-006",
        "info",
        "a kubelet is installed but was never set up",
        "The package brings a unit that starts the kubelet at once; without a configuration it ends at once.",
        "Join the node (`kubeadm join`), or disable the unit: `systemctl disable --now kubelet`.",
        _not_joined,
        ("hosts.md §7.1",),
        effect="The host is no node of a cluster.",
        detected="The unit is there and the files that kubeadm writes are not.",
        messages=("failed to load kubelet config file, path: /var/lib/kubelet/config.yaml",),
        sources=("kubernetes.io/docs/setup/production-environment/tools/kubeadm/install-kubeadm",),
    ),
    Rule(
        "GW-KUBE-012",
        "info",
        "the GPU Operator cannot name this system's release",
        "The operator reads the node label of os-release's VERSION_ID, which rolling distributions do not have, "
        "whether or not it installs the driver.",
        "Label the node: `kubectl label node NAME feature.node.kubernetes.io/system-os_release.VERSION_ID=rolling`, or "
        "use the device plugin alone, as gpuwizard does.",
        _no_version_id,
        ("kubernetes.md §1.14 #34",),
        effect="ClusterPolicy stays in error and no operand is deployed.",
        detected="os-release has an ID and no VERSION_ID.",
        messages=("unable to retrieve OS version from label",),
        sources=("NVIDIA/gpu-operator controllers/state_manager.go",),
        instead_of=("GW-HOST-014",),
    ),
    Rule(
        "GW-KUBE-013",
        "warning",
        "the GPU Operator configured another runtime than the kubelet's",
        "Without the right CONTAINERD_CONFIG and CONTAINERD_SOCKET the operator's toolkit writes /etc/containerd, and "
        "on a host with CRI-O it writes what the first node of the cluster uses.",
        "Set the toolkit's environment for this flavour (K3s and RKE2: CONTAINERD_SOCKET and NO_RUNTIME_CONFIG=true), "
        "and take the drop-in away.",
        _wrong_runtime,
        ("kubernetes.md §1.5", "kubernetes.md §1.14 #2"),
        effect="The kubelet's runtime does not learn the handler, and pods of the operator wait for ever.",
        detected="A drop-in that names the operator's toolkit lies where the kubelet's runtime does not read it, and "
        "that runtime has no NVIDIA handler.",
        messages=("unable to dial /runtime/sock-dir/containerd.sock", "Max retries reached 6/6"),
        sources=("NVIDIA/nvidia-container-toolkit#982", "NVIDIA/gpu-operator#1694", "NVIDIA/gpu-operator#1528"),
        instead_of=("GW-RUNTIME-001",),
    ),
)

RULES: tuple[Rule, ...] = _OWN
