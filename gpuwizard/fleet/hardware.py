"""The GPUs that simulated hosts can have: PCI identity and the figures of nvidia-smi (`hosts.md §2`, `§4`)."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["MODELS", "GpuModel", "SimulatedGpu", "place"]


@dataclass(frozen=True, slots=True)
class GpuModel:
    """A product. None stands for what its driver reports as not available. Clocks in MHz, power in W."""

    name: str
    device: int
    subsystem: int
    pci_class: int
    memory_mib: int | None
    reserved_mib: int
    power_limit: float | None
    idle_power: float
    compute: str
    max_sm: int
    max_memory_clock: int | None
    audio: int | None = None
    mig: bool = False
    ecc: bool = False
    fan: bool = False
    memory_temperature: bool = False
    domain: int = 0
    addressing: str = "None"
    serial: bool = True


_DATACENTRE, _VGA = 0x030200, 0x030000

MODELS = {
    "T4": GpuModel("Tesla T4", 0x1EB8, 0x12A2, _DATACENTRE, 15360, 449, 70.0, 9.6, "7.5", 1590, 5001, ecc=True),
    "V100": GpuModel(
        "Tesla V100-SXM2-16GB", 0x1DB1, 0x1212, _DATACENTRE, 16384, 233, 300.0, 41.2, "7.0", 1530, 877, ecc=True,
        memory_temperature=True,
    ),
    "A10": GpuModel("NVIDIA A10", 0x2236, 0x1482, _DATACENTRE, 23028, 512, 150.0, 15.8, "8.6", 1695, 6251, ecc=True),
    "A100": GpuModel(
        "NVIDIA A100-SXM4-80GB", 0x20B2, 0x1463, _DATACENTRE, 81920, 870, 400.0, 61.5, "8.0", 1410, 1593, mig=True,
        ecc=True, memory_temperature=True,
    ),
    "L4": GpuModel("NVIDIA L4", 0x27B8, 0x16CA, _DATACENTRE, 23034, 530, 72.0, 11.7, "8.9", 2040, 6251, ecc=True),
    "L40S": GpuModel(
        "NVIDIA L40S", 0x26B9, 0x1851, _DATACENTRE, 46068, 597, 350.0, 33.4, "8.9", 2520, 9001, ecc=True,
    ),
    "RTX 4090": GpuModel(
        "NVIDIA GeForce RTX 4090", 0x2684, 0x889D, _VGA, 24564, 430, 450.0, 18.9, "8.9", 3105, 10501, audio=0x22BA,
        fan=True, serial=False,
    ),
    "H100": GpuModel(
        "NVIDIA H100 80GB HBM3", 0x2330, 0x16C1, _DATACENTRE, 81559, 551, 700.0, 69.9, "9.0", 1980, 2619, mig=True,
        ecc=True, memory_temperature=True,
    ),
    "H200": GpuModel(
        "NVIDIA H200", 0x2335, 0x18BE, _DATACENTRE, 143771, 614, 700.0, 77.7, "9.0", 1980, 3201, mig=True, ecc=True,
        memory_temperature=True,
    ),
    "B200": GpuModel(
        "NVIDIA B200", 0x2901, 0x1999, _DATACENTRE, 183359, 720, 1000.0, 141.3, "10.0", 1965, 3996, mig=True, ecc=True,
        memory_temperature=True,
    ),
    "GB10": GpuModel(
        "NVIDIA GB10", 0x2E12, 0x0000, _VGA, None, 0, None, 4.4, "12.1", 3003, None, domain=0xF, addressing="ATS",
        serial=False,
    ),
}  # fmt: skip

_BUSES = (0x17, 0x3D, 0x60, 0x70, 0x98, 0xB1, 0xCA, 0xDA)


@dataclass(frozen=True, slots=True)
class SimulatedGpu:
    """A GPU in a slot of a host. `address` is sysfs' form (``0000:17:00.0``)."""

    index: int
    model: GpuModel
    address: str
    uuid: str
    serial: str

    @property
    def bus_id(self) -> str:
        """nvidia-smi's form of the address: eight digits of domain, capitals."""
        return f"0000{self.address}".upper()


def place(host: str, models: Sequence[GpuModel]) -> tuple[SimulatedGpu, ...]:
    """Put `models` into the slots of `host`; identities depend on the host's name and the slot only."""
    placed = []
    for index, model in enumerate(models):
        bus = 0x01 if model.domain else _BUSES[index % len(_BUSES)] + index // len(_BUSES)
        identity = uuid.uuid5(uuid.NAMESPACE_DNS, f"{host}.{index}.gpu.invalid")
        serial = str(1_320_000_000_000 + identity.int % 10**9)
        placed.append(SimulatedGpu(index, model, f"{model.domain:04x}:{bus:02x}:00.0", f"GPU-{identity}", serial))
    return tuple(placed)
