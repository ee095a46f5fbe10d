"""Probes for the tests of flavours and plans: hosts as the probe would describe them, built from a few words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpuwizard.containerd import effective
from gpuwizard.facts.model import (
    DriverFacts,
    Gpu,
    HostFacts,
    HostFile,
    KubernetesFacts,
    OsFacts,
    PrivilegeFacts,
    Probe,
    RuntimeFacts,
    ToolkitFacts,
)
from gpuwizard.secret import SecretBytes

DATA = Path(__file__).parent / "data"
MAIN = "/etc/containerd/config.toml"
DROP_IN = "/etc/containerd/conf.d/99-gpuwizard-nvidia.toml"
RUNTIME_PATH = "/usr/bin/nvidia-container-runtime"
K3S_FOLDER = "/var/lib/rancher/k3s/agent/etc/containerd"
K3S_RENDERED = f"{K3S_FOLDER}/config.toml"
K3S_DROP_IN = "/etc/rancher/k3s/config.yaml.d/50-gpuwizard.yaml"
GPU = Gpu(pci="0000:83:00.0", pci_id="10de:2335", name="NVIDIA H200", uuid="GPU-1", index=0, seen_by=("pci",))


def host_files(files: Mapping[str, str | bytes | None]) -> dict[str, HostFile]:
    """Files as the probe brings them; None: looked for and not there."""
    out = {}
    for path, content in files.items():
        raw = content.encode() if isinstance(content, str) else content
        out[path] = HostFile(path, None if raw is None else SecretBytes(raw), 0o644, 0, 0, 1_700_000_000)
    return out


def probe(
    files: Mapping[str, str | bytes | None],
    runtime: RuntimeFacts,
    kubernetes: KubernetesFacts,
    **facts: Any,
) -> Probe:
    """A healthy GPU host with that runtime; `facts` replaces single parts."""
    parts: dict[str, Any] = {
        "os": OsFacts(id="debian", family="debian", pretty_name="Debian"),
        "gpus": (GPU,),
        "driver": DriverFacts(loaded="580.95.05"),
        "toolkit": ToolkitFacts(version="1.18.0", runtime_path=RUNTIME_PATH),
        "runtimes": (runtime,),
        "kubernetes": kubernetes,
        "privilege": PrivilegeFacts(sudo="nopasswd"),
        "hostname": kubernetes.node_name,
        "boot_id": "b1",
    }
    readable = facts.pop("readable", True)
    return Probe(HostFacts(**{**parts, **facts}), host_files(files), readable)


def containerd_host(
    version: str, files: Mapping[str, str | bytes | None], *, main: str = MAIN, node: str = "n1", **facts: Any
) -> Probe:
    """A kubeadm worker on which containerd `version` reads `main`."""
    present = {p: c.encode() if isinstance(c, str) else c for p, c in files.items() if c is not None}
    state = effective(present, main, version)
    runtime = RuntimeFacts(
        kind="containerd",
        version=version,
        socket="/run/containerd/containerd.sock",
        config_path=main,
        config_version=state.root_version,
        handlers=state.runtimes,
        default_handler=state.default_runtime_name,
        used_by_kubelet=True,
        unit="containerd.service",
        binary="/usr/bin/containerd",
        cri="ok",
        running=True,
    )
    kubernetes = KubernetesFacts("kubeadm", "v1.33.1", "worker", "kubelet.service", None, node, active=True)
    known: dict[str, str | bytes | None] = {MAIN: None, DROP_IN: None}
    return probe({**known, **files}, runtime, kubernetes, **facts)


def k3s_host(
    rendered: str | None,
    *,
    version: str = "v1.33.5+k3s1",
    containerd: str = "2.1.4-k3s1",
    files: Mapping[str, str | bytes | None] | None = None,
    role: str = "agent",
    node: str = "k1",
    **facts: Any,
) -> Probe:
    """A K3s host with that rendered file."""
    service = "k3s-agent.service" if role == "agent" else "k3s.service"
    runtime = RuntimeFacts(
        kind="containerd",
        version=containerd,
        socket="/run/k3s/containerd/containerd.sock",
        config_path=K3S_RENDERED,
        used_by_kubelet=True,
        owner="k3s",
        unit=service,
        running=True,
    )
    kubernetes = KubernetesFacts("k3s", version, role, service, "/var/lib/rancher/k3s", node, active=True)  # type: ignore[arg-type]
    known: dict[str, str | bytes | None] = {K3S_RENDERED: rendered, K3S_DROP_IN: None}
    return probe({**known, **(files or {})}, runtime, kubernetes, **facts)


def applied(before: Probe, changes: Mapping[str, bytes | None]) -> dict[str, str | bytes | None]:
    """The host's files after a plan's changes."""
    files: dict[str, str | bytes | None] = {
        p: f.content.raw if f.content is not None else None for p, f in before.files.items()
    }
    return {**files, **changes}
