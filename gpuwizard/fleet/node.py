"""What the simulated cluster may know of a simulated host: only what the host's own runtime and files really say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["NodeRuntime", "SimulatedNode"]


@dataclass(frozen=True, slots=True)
class NodeRuntime:
    """The container runtime of a host at this moment, as its kubelet sees it.

    `handlers` are the CRI runtime handlers that the loaded configuration defines (``runc``, ``nvidia``);
    `default_handler` is the one for pods without a runtime class. `runtime_version` is what the node shows
    (``containerd://1.7.24``). `gpus` are (index, name, uuid) as the driver lists them. `driver_ok` is false when
    nvidia-smi fails; `toolkit_ok` is true when the binary that the nvidia handler names exists.
    """

    service_active: bool
    cri: Literal["ok", "error", "disabled"]
    cri_message: str
    handlers: tuple[str, ...]
    default_handler: str | None
    runtime_version: str
    gpus: tuple[tuple[int, str, str], ...] = ()
    driver_ok: bool = True
    toolkit_ok: bool = True


class SimulatedNode(Protocol):
    """A host of the simulated fleet, seen from its kubelet.

    `labels` are the labels that the kubelet registers the node with, beyond the standard ones
    (``kubernetes.io/hostname``, ``…/arch``, ``…/os`` are added by the cluster when missing).
    """

    @property
    def name(self) -> str:
        """The node's name in the cluster."""
        ...

    @property
    def labels(self) -> Mapping[str, str]:
        """Labels set by the kubelet when it registers."""
        ...

    @property
    def kubelet_version(self) -> str:
        """``v1.36.2``, ``v1.34.1+k3s1``."""
        ...

    async def runtime(self) -> NodeRuntime:
        """Read the host as it is now; called about once a second, so it must be cheap. Raises OSError when the
        host is powered off."""
        ...
