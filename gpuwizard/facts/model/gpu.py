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

    `pci` is the sysfs address (``0000:83:00.0``), `pci_id` vendor:device (``10de:2335``) and `subsystem_id` the
    board's. `memory_bytes` is None where the GPU shares the host's memory (GB10, Jetson): then `unified_memory` is
    true. `seen_by` says which of ``pci`` and ``nvidia-smi`` know it. `mig` and `mig_pending` are the modes ``Enabled``
    or ``Disabled``; `mig_devices` the profiles of its MIG devices (``1g.10gb``) and `mig_instances` those devices in
    full (None: they were not listed). `generation` is ``kepler`` … ``blackwell``; `numa_node` is the memory node that
    the GPU is nearest to.

    `fault` is what nvidia-smi writes in place of a value when the GPU does not work (``GPU requires reset``), or how
    the bus shows that it has fallen off; `fault_fields` are the columns that say so, and `denied` those that
    nvidia-smi may not read. `inforom_corrupted` is true when nvidia-smi warns of it. `ecc` is the mode, and
    `ecc_uncorrected` counts uncorrectable memory errors since the driver was loaded. `remap_pending`, `remap_failed`
    and `retired_pending` are the memory repairs that wait for a reset or could not be done. `recovery_action` is what
    the driver asks for (``None``, ``Reset``, …), word for word. `throttle` names what lowers the clocks just now
    (``hw-thermal``), `temperature_c` is in °C. `virtual_functions` is how many of them are switched on.
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
    mig_instances: tuple[MigDevice, ...] | None = None
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
    generation: str | None = None
    subsystem_id: str | None = None
    numa_node: int | None = None
    ecc: str | None = None
    fault_fields: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    inforom_corrupted: bool | None = None
    virtual_functions: int | None = None


@dataclass(frozen=True, slots=True)
class PciDevice:
    """A function of NVIDIA that counts as no GPU of this host, and why (`hosts.md §2.2, §2.4`)."""

    pci: str
    pci_id: str
    kind: Literal["passed-through", "virtual-function", "nvswitch", "display"]
    name: str | None = None
    bound_driver: str | None = None
