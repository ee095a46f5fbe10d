"""Sessions as the engine leaves them, built from plain data: no network, no host, no mock."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from gpuwizard.answers.model import Answers, Connection
from gpuwizard.errors import LoginError
from gpuwizard.events import Event, HostOutcome, HostProgress, LogLine, Rung, StageChanged, Waiting
from gpuwizard.facts.cluster import ClusterView, NodePod, NodeView, ObjectState, key_of
from gpuwizard.facts.model import (
    DriverFacts,
    Gpu,
    Handler,
    HostFacts,
    HostFile,
    KernelFacts,
    KubernetesFacts,
    OsFacts,
    PrivilegeFacts,
    Probe,
    RuntimeFacts,
    ToolkitFacts,
    Unseen,
)
from gpuwizard.findings.model import Finding
from gpuwizard.monitor.model import Sample
from gpuwizard.plan.build import build_plan
from gpuwizard.secret import SecretBytes
from gpuwizard.session import Session
from gpuwizard.steps import desired_objects
from gpuwizard.work.likely import likely_of_node
from gpuwizard.work.pods import PodView
from tests.rancher_files import rendered

MIXED = ("k3s-server", "k3s-agent-1", "k3s-agent-2", "kubeadm-17", "kubeadm-21", "no-driver", "spark", "locked")

K3S_RENDERED = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml"
CONTAINERD_1 = """\
# written by the site's own role: keep these comments
version = 2

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true
"""
CONTAINERD_2 = """\
version = 3
imports = ["/etc/containerd/conf.d/*.toml"]

[plugins."io.containerd.cri.v1.runtime".containerd]
  default_runtime_name = "runc"

  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = true
"""


def gpu(name: str = "NVIDIA L40S", index: int = 0, memory: int | None = 46068 * 2**20) -> Gpu:
    """One GPU as PCI and nvidia-smi see it."""
    return Gpu(
        pci=f"0000:{0x3B + index:02x}:00.0",
        pci_id="10de:26b9",
        name=name,
        uuid=f"GPU-{index:08x}-1111-2222-3333-444455556666",
        index=index,
        memory_bytes=memory,
        unified_memory=memory is None,
        bound_driver="nvidia",
        seen_by=("pci", "nvidia-smi"),
    )


def probe(
    name: str,
    *,
    gpus: tuple[Gpu, ...] = (),
    flavour: str = "kubeadm",
    containerd: str = "1.7.24",
    system: str = "Ubuntu 24.04.3 LTS",
    handlers: tuple[str, ...] = ("runc",),
    driver: str | None = "580.95.05",
    toolkit: str | None = "1.18.0",
) -> Probe:
    """What a probe of a typical host brings back."""
    k3s = flavour == "k3s"
    unit = "containerd.service" if not k3s else "k3s.service" if name.endswith("server") else "k3s-agent.service"
    runtime = RuntimeFacts(
        kind="containerd",
        version=containerd,
        socket="/run/k3s/containerd/containerd.sock" if k3s else "/run/containerd/containerd.sock",
        config_path=K3S_RENDERED if k3s else "/etc/containerd/config.toml",
        config_version=2 if containerd.startswith("1.") else 3,
        handlers={h: Handler("io.containerd.runc.v2", {"SystemdCgroup": True}) for h in handlers},
        default_handler="runc",
        used_by_kubelet=True,
        unit=unit,
        owner="k3s" if k3s else "containerd",
        binary="/usr/bin/containerd",
        cri="ok",
        running=True,
    )
    facts = HostFacts(
        os=OsFacts(id="ubuntu", version_id="24.04", pretty_name=system, family="debian"),
        kernel=KernelFacts("6.8.0-85-generic", "x86_64", False),
        gpus=gpus,
        driver=DriverFacts(loaded=driver, on_disk=driver, userspace=driver, flavour="open" if driver else None),
        toolkit=ToolkitFacts(toolkit, "/usr/bin/nvidia-container-runtime" if toolkit else None, "auto"),
        runtimes=(runtime,),
        kubernetes=KubernetesFacts(
            flavour=flavour,  # type: ignore[arg-type]
            version="v1.33.5+k3s1" if k3s else "v1.33.5",
            role=("server" if name.endswith("server") else "agent") if k3s else "worker",
            service=unit if k3s else "kubelet.service",
            data_dir="/var/lib/rancher/k3s" if k3s else None,
            node_name=name,
            active=True,
        ),
        privilege=PrivilegeFacts("nopasswd", "admin"),
        unseen=(Unseen("firmware variables", "not readable without root"),),
        hostname=name,
        memory_bytes=512 * 2**30,
    )
    return Probe(facts, _files(containerd, k3s), seconds=0.8)


def _files(version: str, k3s: bool) -> dict[str, HostFile]:
    """The runtime's own configuration, and the files that are not there yet."""
    if k3s:
        own = HostFile(K3S_RENDERED, SecretBytes.of_text(rendered("v1.33.5+k3s1")), 0o644, 0, 0, 1_760_000_000)
        option = "/etc/rancher/k3s/config.yaml.d/50-gpuwizard.yaml"
        return {K3S_RENDERED: own, option: HostFile(option, None)}
    main, drop_in = "/etc/containerd/config.toml", "/etc/containerd/conf.d/99-gpuwizard-nvidia.toml"
    content = CONTAINERD_1 if version.startswith("1.") else CONTAINERD_2
    present = HostFile(main, SecretBytes.of_text(content), 0o644, 0, 0, 1_760_000_000)
    return {main: present, drop_in: HostFile(drop_in, None)}


def planned(made: Session) -> Session:
    """The same session with the plan that the engine builds, before a cluster that knows none of our objects."""
    nodes = tuple(NodeView(name, True) for name in made.probes)
    objects = {key_of(m): ObjectState(None, m) for m in desired_objects(made.answers, made.probes)}
    pods = tuple(
        NodePod(space, f"{what}-{name}", name, kind)
        for name in made.probes
        for space, what, kind in (("default", "notebook", ""), ("kube-system", "kube-proxy", "DaemonSet"))
    )
    made.cluster_view = ClusterView("https://10.0.0.1:6443", "v1.33.5", nodes, objects, pods=pods)
    plan = build_plan(made.probes, made.answers, made.cluster_view, made.unreachable)
    made.plan = replace(plan, hash="3f9a1c20" * 8)  # so that the pictures do not change with every manifest
    return made


HANDLER_MISSING = Finding(
    "GW-RUNTIME-HANDLER",
    "warning",
    "containerd has no handler named nvidia",
    ("runtimes: runc", "config: /etc/containerd/config.toml (version 2)"),
    "The container toolkit is installed, but nothing told containerd about it.",
    "gpuwizard adds the handler: see the plan on the Review page.",
    True,
)
NO_DRIVER = Finding(
    "GW-DRIVER-MISSING",
    "error",
    "the NVIDIA driver is not installed",
    ("0000:3b:00.0 10de:26b9 is bound to no driver", "nvidia-smi: not found"),
    "The GPU is there, but no kernel module drives it.",
    "Install the driver for this distribution, reboot, and look again with F5.",
)
GOOD = Finding("GW-DRIVER-OK", "ok", "the driver works", ("NVRM version 580.95.05",))
UNIFIED = Finding(
    "GW-MEMORY-UNIFIED",
    "info",
    "GPU and CPU share one memory",
    ("nvidia-smi: memory.total [N/A]",),
    "GB10 has no memory of its own; the driver reports N/A.",
    "Nothing to do: gpuwizard shows N/A and never 0.",
)


def session(hosts: Sequence[str] = MIXED, state_dir: Path | None = None, *, probed: bool = True) -> Session:
    """The mixed fleet of the demo, probed or still to be."""
    made = Session(
        answers=Answers(connection=Connection(user="admin", host_keys="ask")),
        state_dir=state_dir or Path.cwd(),
        clock=StillClock(),
    )
    made.set_hosts(hosts)
    if probed:
        fill(made)
    return made


def fill(made: Session) -> None:
    """Put in what a probe of the mixed fleet finds."""
    l40s, spark = gpu(), gpu("NVIDIA GB10", memory=None)
    probes = {
        "k3s-server": probe("k3s-server", flavour="k3s", containerd="2.1.4-k3s1"),
        "k3s-agent-1": probe("k3s-agent-1", gpus=(l40s, gpu(index=1)), flavour="k3s", containerd="2.1.4-k3s1"),
        "k3s-agent-2": probe("k3s-agent-2", gpus=(l40s,), flavour="k3s", containerd="2.1.4-k3s1"),
        "kubeadm-17": probe("kubeadm-17", gpus=(gpu("NVIDIA H200", memory=143771 * 2**20),)),
        "kubeadm-21": probe("kubeadm-21", gpus=(l40s,), containerd="2.1.4", system="Debian GNU/Linux 13 (trixie)"),
        "no-driver": probe("no-driver", gpus=(Gpu(pci="0000:3b:00.0", pci_id="10de:26b9"),), driver=None, toolkit=None),
        "spark": probe("spark", gpus=(spark,), flavour="k3s", containerd="2.1.4-k3s1", system="DGX OS 7.2.3"),
    }
    found = {
        "kubeadm-17": (HANDLER_MISSING, GOOD),
        "kubeadm-21": (HANDLER_MISSING, GOOD),
        "no-driver": (NO_DRIVER, HANDLER_MISSING),
        "spark": (UNIFIED, GOOD),
    }
    for name, record in made.hosts.items():
        if name not in probes:
            record.state = "failed"
            record.error = LoginError(
                "the host refused the login", where=f"admin@{name}:22", remedy="check the user name and the key"
            )
            continue
        record.state, record.probe, record.seconds = "ready", probes[name], 0.8
        record.findings = found.get(name, (GOOD,))


class StillClock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2026, 10, 1, 12, 0, tzinfo=UTC)

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def run_events() -> list[Event]:
    """A run in the middle: one host works, one is proved, one was put back, two were never begun."""
    return [
        StageChanged("apply", "started", "756e00e495b0"),
        HostOutcome("locked", "unreachable", "not reached: the host refused the login"),
        HostOutcome("no-driver", "refused", "no NVIDIA driver is loaded"),
        HostProgress("k3s-agent-1", "apply", "restarting", "restart k3s-agent.service", 7, 9),
        *(LogLine("k3s-agent-1", "apply", f"k3s-agent: line {number}") for number in range(30)),
        Waiting(
            "k3s-agent-1",
            "apply",
            "the node is Ready",
            "NotReady: network plugin not ready",
            12,
            45,
            likely_of_node(NodeView("k3s-agent-1", ready=False, ready_message="cni plugin not initialized")),
        ),
        HostOutcome("kubeadm-17", "confirmed", "well for 45 s"),
        Rung("kubeadm-17", "runtime handler", "passed"),
        Rung("kubeadm-17", "allocatable", "passed"),
        Rung("kubeadm-17", "pod", "running"),
        HostOutcome("kubeadm-21", "rolled-back", "containerd did not come up: its CRI plugin is in error"),
    ]


def samples(now: datetime) -> dict[str, tuple[Sample, ...]]:
    """One round of measurements of the mixed fleet: two busy GPUs, an idle one, a GB10, one that says nothing."""
    gib = 2**30
    busy = Sample("k3s-agent-1", now, 0, "GPU-0", "NVIDIA L40S", None, 63.0, 12 * gib, 45 * gib, False, 61, 312.4, 350)
    return {
        "k3s-agent-1": (busy, replace(busy, index=1, uuid="GPU-1", utilization_pct=97.0, throttle=("hw-thermal",))),
        "kubeadm-17": (
            Sample("kubeadm-17", now, 0, "GPU-2", "NVIDIA H200", None, 0.0, gib // 2, 140 * gib, False, 33, 76.0, 700),
        ),
        "spark": (Sample("spark", now, 0, "GPU-3", "NVIDIA GB10", None, 12.0, 34 * gib, 119 * gib, True, 48, 11.2),),
        "kubeadm-21": (Sample("kubeadm-21", now, 0, "GPU-4", "NVIDIA L40S"),),
    }


PODS = (
    PodView("gpuwizard", "gpuwizard-device-plugin-x7k2p", "kubeadm-17", "device-plugin", "Running", (1, 1), 0),
    PodView(
        "gpuwizard",
        "gpuwizard-validation-k3s-agent-1",
        "k3s-agent-1",
        "validation",
        "Pending",
        (0, 1),
        0,
        "FailedCreatePodSandBox",
        'no runtime for "nvidia" is configured',
    ),
)


def hostile_text() -> str:
    """What a host could try: markup, a clickable action, escapes, a clipboard write, bidi, very long, a newline."""
    return (
        "[/] [@click=app.quit]see[/] [red]x $foo ]0; "
        "\x1b]52;c;aGk=\x07\x1b[2J\x9b31m \u202eevil\u202c \u05d0\u05d1 漢字 " + "long" * 60 + "\nsecond line"
    )
