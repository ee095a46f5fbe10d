"""Rules about nodes that are no plain hosts: in containers, of OpenShift, without a kubelet."""

from gpuwizard.facts.model import Probe
from gpuwizard.findings.kubernetes.words import flavour_name, release_of
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus

__all__ = ["RULES"]

_CONTAINERS = ("kind", "minikube")


def _inside(probe: Probe) -> Verdict | None:
    kubernetes = probe.facts.kubernetes
    if kubernetes.in_node_container is not True:
        return None
    return Verdict((f"this is a node container of {flavour_name(probe)}",))


def _host_of_containers(probe: Probe) -> Verdict | None:
    kubernetes = probe.facts.kubernetes
    if kubernetes.flavour not in _CONTAINERS or not kubernetes.node_containers:
        return None
    return Verdict(
        tuple(f"a kubelet runs in the container of {name}" for name in kubernetes.node_containers[:8]),
        title=f"the nodes of {flavour_name(probe)} are containers of this host",
    )


def _machine_config(probe: Probe) -> Verdict | None:
    kubernetes = probe.facts.kubernetes
    if kubernetes.flavour not in ("openshift", "microshift"):
        return None
    version = f" {kubernetes.version}" if kubernetes.version else ""
    if kubernetes.flavour == "microshift":
        return Verdict(
            (f"MicroShift{version}",),
            title="MicroShift uses CRI-O, which gpuwizard does not change",
            remedy="Write /etc/crio/crio.conf.d/99-nvidia.toml by hand (on an image-based system: into the image), "
            "restart crio, and install the device plugin.",
        )
    return Verdict((f"OpenShift{version}, {kubernetes.role or 'role unknown'}",))


def _dockershim(probe: Probe) -> Verdict | None:
    kubernetes, release = probe.facts.kubernetes, release_of(probe)
    if release is None or not release.has_dockershim or "dockershim" not in (kubernetes.runtime_endpoint or ""):
        return None
    return Verdict(
        (f"{flavour_name(probe)}, Kubernetes {kubernetes.version}", f"runtime: {kubernetes.runtime_endpoint}")
    )


def _no_kubelet(probe: Probe) -> Verdict | None:
    kubernetes = probe.facts.kubernetes
    if kubernetes.runs_pods is not False or kubernetes.node_containers or not installed_gpus(probe):
        return None
    unit = kubernetes.service or flavour_name(probe)
    option = {"k3s": "disable-agent is set", "rke2": "disable-agent is set"}.get(
        kubernetes.flavour, "--enable-worker is not set"
    )
    return Verdict((f"{unit}: {option}", f"role: {kubernetes.role or 'unknown'}"))


RULES = (
    Rule(
        "GW-KUBE-007",
        "warning",
        "this is a node container, not a host",
        "kind and minikube run nodes as containers; what is changed in one is gone when it is created anew.",
        "Look at the host instead: the toolkit and its Docker or Podman decide which GPUs the node container gets.",
        _inside,
        ("hosts.md §7.1",),
        effect="GPUs reach pods only when the host gave them to this container.",
        detected="/kind or /kic.txt of the node images is there.",
        sources=("kubernetes-sigs/kind images/base", "kubernetes/minikube deploy/kicbase"),
        instead_of=("GW-RUNTIME-005",),
    ),
    Rule(
        "GW-KUBE-008",
        "info",
        "the nodes are containers of this host",
        "kind and minikube run their nodes as containers of Docker or Podman; this host has no kubelet.",
        "Create the cluster anew with GPUs: `minikube start --gpus=all`, for kind by NVIDIA's nvkind; gpuwizard does "
        "not change such nodes.",
        _host_of_containers,
        ("hosts.md §7.1",),
        effect="Nothing that is configured on the host's containerd reaches these nodes.",
        detected="A kubelet in a container of this host was started with kind's provider id or minikube's path.",
        sources=("kubernetes-sigs/kind pkg/cluster/internal/kubeadm/config.go",),
    ),
    Rule(
        "GW-KUBE-009",
        "info",
        "the Machine Config Operator owns this node",
        "OpenShift writes the files of its nodes from MachineConfig objects and puts back what is changed by hand.",
        "Install the GPU Operator from OperatorHub (gpu-operator-certified); it configures CRI-O by a drop-in.",
        _machine_config,
        ("hosts.md §7.1", "kubernetes.md §1.5"),
        effect="Edits on the node degrade its MachineConfigPool or vanish at the next update.",
        detected="/etc/machine-config-daemon, os-release, or MicroShift's unit.",
        messages=("content mismatch for file", "Degraded"),
        sources=("openshift/machine-config-operator docs/MachineConfigDaemon.md",),
    ),
    Rule(
        "GW-KUBE-010",
        "warning",
        "the kubelet uses dockershim",
        "Before v1.24 a kubelet talks to Docker itself unless --container-runtime=remote is set.",
        "Move the node to containerd, or make nvidia Docker's default runtime (runtime.default_runtime = nvidia).",
        _dockershim,
        ("hosts.md §7.1",),
        effect="Runtime classes and containerd's configuration have no effect; the upgrade to v1.24 stops the node.",
        detected="By the kubelet's version and its flag --container-runtime.",
        messages=("unknown flag: --network-plugin", "Using dockershim is deprecated"),
        sources=("kubernetes/kubernetes CHANGELOG-1.24.md",),
        instead_of=("GW-RUNTIME-005",),
    ),
    Rule(
        "GW-KUBE-011",
        "warning",
        "a control plane without a kubelet has GPUs",
        "This host runs the control plane alone and is no node: no pod ever runs on it.",
        "Start its agent (k3s: remove disable-agent, k0s: --enable-worker), or move the GPUs to a worker.",
        _no_kubelet,
        ("hosts.md §7.1",),
        effect="Its GPUs cannot be used in pods.",
        detected="By the options of its service.",
        sources=("k3s-io/k3s pkg/cli/server/server.go", "k0sproject/k0s docs/worker-node-config.md"),
        instead_of=("GW-RUNTIME-005",),
    ),
)
