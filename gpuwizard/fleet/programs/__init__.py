"""What the stand-in programs of simulated hosts answer, by name of the program."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from gpuwizard.fleet.programs import containerd, nvidia, system, systemd
from gpuwizard.fleet.questions import Answer, Question

if TYPE_CHECKING:
    from gpuwizard.fleet.host import SimulatedHost

__all__ = ["PROGRAMS"]

Program = Callable[["SimulatedHost", Question], Awaitable[Answer]]

PROGRAMS: Mapping[str, Program] = {
    "chmod": system.chmod,
    "containerd": containerd.containerd,
    "crictl": containerd.crictl,
    "ctr": containerd.ctr,
    "dpkg-query": system.dpkg_query,
    "getent": system.getent,
    "journalctl": systemd.journalctl,
    "k3s": containerd.k3s,
    "kubelet": system.kubelet,
    "modinfo": nvidia.modinfo,
    "mokutil": system.mokutil,
    "now": system.now,
    "nvidia-ctk": nvidia.nvidia_ctk,
    "nvidia-smi": nvidia.nvidia_smi,
    "rpm": system.rpm,
    "stat": system.stat,
    "systemctl": systemd.systemctl,
    "systemd-detect-virt": system.detect_virt,
    "systemd-run": systemd.systemd_run,
}
