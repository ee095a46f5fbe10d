"""Whole GPU nodes in a folder, for the real probe: kubeadm on containerd, ready but for what a test changes."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpuwizard.facts.model import Probe
from gpuwizard.facts.parse import parse_probe
from gpuwizard.findings import Finding
from gpuwizard.work.probe import probe_script
from tests.captured import found
from tests.facts.busy_hosts import process, says
from tests.probe_tree import H200, Tree

KERNEL = "6.8.0-85-generic"
NVRM = {
    "open": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (builder@host)  Tue Mar  3\n",
    "proprietary": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Tue Jun 23 08:38:17 UTC 2026\n",
}
V3 = "plugins.'io.containerd.cri.v1.runtime'.containerd"
V2 = 'plugins."io.containerd.grpc.v1.cri".containerd'
SOCKET = "/run/containerd/containerd.sock"
UNKNOWN = {
    "390": ("ecc.mode.current", "mig.mode.current"),
    "470": ("compute_cap", "fabric.state", "addressing_mode", "remapped_rows.pending", "gpu_recovery_action"),
    "535": ("remapped_rows.pending", "gpu_recovery_action"),
    "550": ("remapped_rows.pending", "gpu_recovery_action"),
}
"""What a branch does not know."""


def handlers(table: str, *names: str, systemd: bool = True) -> str:
    """Tables of handlers below `table`."""
    text = f'[{table}]\ndefault_runtime_name = "runc"\n'
    for name in names:
        program = 'BinaryName = "/usr/bin/nvidia-container-runtime"\n' if name != "runc" else ""
        text += f'[{table}.runtimes.{name}]\nruntime_type = "io.containerd.runc.v2"\n'
        text += f"[{table}.runtimes.{name}.options]\n{program}SystemdCgroup = {str(systemd).lower()}\n"
    return text


@dataclass
class Card:
    """One GPU: its product, its place, what holds it, and what nvidia-smi says of it (None: it does not list it)."""

    device: str
    name: str
    memory: str = "81559"
    bus: str = "0000:03:00.0"
    driver: str | None = "nvidia"
    pci_class: str = "0x030200"
    cells: Mapping[str, str] | None = field(default_factory=dict)

    def row(self, index: int, version: str) -> dict[str, str]:
        domain, _, rest = self.bus.upper().partition(":")
        return {
            **H200,
            "index": str(index),
            "uuid": f"GPU-{index:08d}-2222-3333-4444-555555555555",
            "name": self.name,
            "pci.bus_id": f"{domain.zfill(8)}:{rest}",
            "pci.device_id": f"0x{self.device.upper()}10DE",
            "driver_version": version,
            "memory.total": self.memory,
            **(self.cells or {}),
        }


H100 = Card("2330", "NVIDIA H100 80GB HBM3")


@dataclass
class Node:
    """What is on it; `place` puts it into a tree."""

    cards: Sequence[Card] = (H100,)
    driver: str = "580.95.05"
    flavour: str = "open"
    containerd: str = "2.1.4"
    config: str = f"version = 3\n{handlers(V3, 'runc', 'nvidia')}"
    dump: str | None = None
    toolkit: str = "1.18.0"
    kubelet: str = "v1.34.1"
    smi: Mapping[str, object] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)

    def machine(self, tree: Tree) -> None:
        """GPUs, driver, kernel and toolkit, without a runtime."""
        for card in self.cards:
            tree.gpu(card.bus, card.device, card.driver, card.pci_class)
        self._driver(tree)
        self._toolkit(tree)
        tree.file("/proc/sys/kernel/osrelease", f"{KERNEL}\n")
        tree.tool("uname", f"echo gpu-a {KERNEL} x86_64")

    def place(self, tree: Tree) -> None:
        """Files, programs and processes of the node."""
        self.machine(tree)
        units = self._containerd(tree)
        units |= process(tree, 800, "kubelet.service", "/usr/bin/kubelet", "--config=/var/lib/kubelet/config.yaml")
        tree.units(units | dict(self.units))
        says(tree, "kubelet", ("*", f"Kubernetes {self.kubelet}\n"))
        tree.file("/etc/kubernetes/kubelet.conf", "")
        tree.file("/var/lib/kubelet/config.yaml", f"cgroupDriver: systemd\ncontainerRuntimeEndpoint: unix://{SOCKET}\n")

    def _driver(self, tree: Tree) -> None:
        tree.file("/proc/driver/nvidia/version", NVRM[self.flavour].format(self.driver))
        tree.file("/sys/module/nvidia/version", f"{self.driver}\n")
        for library in ("libnvidia-ml", "libcuda"):
            tree.file(f"/usr/lib/x86_64-linux-gnu/{library}.so.{self.driver}", "")
        for name in ("nvidiactl", "nvidia-uvm", *(f"nvidia{n}" for n in range(len(self.cards)))):
            tree.file(f"/dev/{name}", "")
        for module in ("nvidia_uvm", "nvidia_modeset"):
            tree.file(f"/sys/module/{module}/refcnt", "2\n")
        terms = "Dual MIT/GPL" if self.flavour == "open" else "NVIDIA"
        tree.kernel(KERNEL, self.driver, terms=terms, signer="a key")
        rows = [card.row(n, self.driver) for n, card in enumerate(self.cards) if card.cells is not None]
        unknown = UNKNOWN.get(self.driver.partition(".")[0], ())
        options: dict[str, object] = {"unknown": unknown} | dict(self.smi)
        tree.nvidia_smi(*rows, **options)  # type: ignore[arg-type]

    def _toolkit(self, tree: Tree) -> None:
        for name in ("nvidia-container-runtime", "nvidia-container-runtime-hook", "nvidia-cdi-hook", "runc"):
            tree.file(f"/usr/bin/{name}", "", 0o755)
        says(tree, "nvidia-ctk", ("*", f"NVIDIA Container Toolkit CLI version {self.toolkit}\n"))

    def _containerd(self, tree: Tree) -> dict[str, str]:
        dump = self.dump if self.dump is not None else self.config
        says(
            tree,
            "containerd",
            ("--version", f"containerd github.com/containerd/containerd {self.containerd} b98a3aace\n"),
            ("*dump", f'{dump}[grpc]\n  address = "{SOCKET}"\n'),
        )
        says(tree, "ctr", ("*", "TYPE ID PLATFORMS STATUS\nio.containerd.grpc.v1 cri linux/amd64 ok\n"))
        tree.file("/etc/containerd/config.toml", self.config)
        tree.file(SOCKET, "")
        return process(tree, 700, "containerd.service", "/usr/bin/containerd")


def no_modules(tree: Tree) -> None:
    """Take away what is below /lib/modules, to put something else there."""
    shutil.rmtree(tree.root / "lib/modules")


def probed(tree: Tree) -> Probe:
    """What the probe says of it."""
    return parse_probe(tree.run(probe_script()))


def told(probe: Probe) -> dict[str, Finding]:
    """The findings by id."""
    return {finding.id: finding for finding in found(probe)}
