"""The GPUs of a host, and the NVIDIA functions that are no GPU of it."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Gpu", "MigDevice", "PciDevice", "VgpuLicense"]


@dataclass(frozen=True, slots=True)
class MigDevice:
    """One MIG device: profile (``1g.10gb``), index within its GPU, UUID."""

    profile: str
    index: int | None = None
    uuid: str | None = None


@dataclass(frozen=True, slots=True)
class VgpuLicense:
    """The licence of a virtual GPU in a guest; `restricted` when the driver throttles it for want of one."""

    status: str
    licensed: bool | None = None
    restricted: bool | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One physical GPU, joined from PCI and nvidia-smi by bus id (`hosts.md §2`, `§4`).

    `pci` is the sysfs address (``0000:83:00.0``), `pci_id` vendor:device (``10de:2335``). `memory_bytes` is None
    where the GPU shares the host's memory (GB10, Jetson): then `unified_memory` is true. `seen_by` says which of
    ``pci`` and ``nvidia-smi`` know it. `mig` and `mig_pending` are the modes ``Enabled`` or ``Disabled``;
    `mig_devices` the profiles of its MIG devices (``1g.10gb``) and `mig_instances` those devices in full.
    `fault` is what nvidia-smi writes in place of a value when the GPU does not work (``GPU requires reset``).
    """

    pci: str | None = None
    pci_id: str | None = None
    name: str | None = None
    uuid: str | None = None
    index: int | None = None
    memory_bytes: int | None = None
    unified_memory: bool | None = None
    compute_capability: str | None = None
    mig: str | None = None
    bound_driver: str | None = None
    seen_by: tuple[str, ...] = ()
    mig_devices: tuple[str, ...] = ()
    mig_pending: str | None = None
    mig_instances: tuple[MigDevice, ...] = ()
    fault: str | None = None
    excluded: bool | None = None
    persistence: bool | None = None
    recovery_action: str | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    retired_pending: bool | None = None
    ecc_uncorrected: int | None = None
    compute_mode: str | None = None
    addressing_mode: str | None = None
    fabric_state: str | None = None
    fabric_status: str | None = None
    virtualization: Literal["none", "passthrough", "vgpu", "host-vgpu", "host-vsga"] | None = None
    vgpu_license: VgpuLicense | None = None
    temperature_c: int | None = None
    throttle: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PciDevice:
    """A function of NVIDIA that counts as no GPU of this host, and why (`hosts.md §2.2, §2.4`)."""

    pci: str
    pci_id: str
    kind: Literal["passed-through", "virtual-function", "nvswitch", "display"]
    name: str | None = None
    bound_driver: str | None = None
