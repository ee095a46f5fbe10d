"""The GPUs of a host: PCI, the driver's procfs and nvidia-smi joined by bus address (`hosts.md §2.5, §4`)."""

from collections.abc import Iterable, Mapping

from gpuwizard.facts.gpu.nvidia_smi import MigDevice, cell, mebibytes
from gpuwizard.facts.gpu.pci import NAMES, PciFunction, bus_address
from gpuwizard.facts.model import Gpu
from gpuwizard.facts.text import number, value

__all__ = ["join_gpus", "parse_information"]


def parse_information(text: str) -> dict[str, str]:
    """``/proc/driver/nvidia/gpus/*/information``: ``Model:``, ``GPU UUID:`` and so on."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, rest = line.partition(":")
        shown = value(rest)
        if colon and shown:
            found[key.strip()] = shown
    return found


def join_gpus(
    functions: Iterable[PciFunction],
    information: Mapping[str, Mapping[str, str]],
    core: Iterable[Mapping[str, str]],
    more: Iterable[Mapping[str, str]],
    mig: Iterable[MigDevice],
) -> tuple[Gpu, ...]:
    """One entry per physical GPU, in bus order. A GPU that only one side knows is in the list all the same, and
    `seen_by` says so. `information` is keyed by bus address."""
    by_bus = {f.address: f for f in functions if f.is_gpu}
    extra = {row["uuid"]: row for row in more if cell(row.get("uuid"))}
    instances = tuple(mig)
    found: list[Gpu] = []
    claimed: set[str] = set()
    for row in core:
        address = bus_address(row.get("pci.bus_id"))
        function = by_bus.get(address) if address else None
        if function is None and address is None and len(by_bus) == 1:  # a bus id of N/A: Tegra
            function = next(iter(by_bus.values()))
        if function is not None:
            claimed.add(function.address)
        found.append(_from_smi(row, function, extra.get(row.get("uuid", ""), {}), instances))
    found += [
        _from_pci(function, information.get(address, {}))
        for address, function in by_bus.items()
        if address not in claimed
    ]
    return tuple(sorted(found, key=lambda gpu: (gpu.pci or "~", gpu.index if gpu.index is not None else -1)))


def _from_smi(
    row: Mapping[str, str], function: PciFunction | None, extra: Mapping[str, str], mig: tuple[MigDevice, ...]
) -> Gpu:
    uuid = cell(row.get("uuid"))
    name = cell(row.get("name"))
    memory = mebibytes(row.get("memory.total"))
    return Gpu(
        pci=function.address if function else bus_address(row.get("pci.bus_id")),
        pci_id=_pci_id(row.get("pci.device_id"), function),
        name=name,
        uuid=uuid,
        index=number(row.get("index")),
        memory_bytes=memory,
        unified_memory=_unified(name, function, memory),
        compute_capability=cell(extra.get("compute_cap")),
        mig=cell(row.get("mig.mode.current")),
        bound_driver=function.driver if function else None,
        seen_by=("pci", "nvidia-smi") if function else ("nvidia-smi",),
        mig_devices=tuple(device.profile for device in mig if device.gpu_uuid == uuid),
    )


def _from_pci(function: PciFunction, information: Mapping[str, str]) -> Gpu:
    name = information.get("Model")
    known = NAMES.get(function.device)
    return Gpu(
        pci=function.address,
        pci_id=f"10de:{function.device}",
        name=name or (f"NVIDIA {known}" if known else None),
        uuid=information.get("GPU UUID") if "?" not in information.get("GPU UUID", "?") else None,
        unified_memory=True if function.device in _UNIFIED_DEVICES else None,
        bound_driver=function.driver,
        seen_by=("pci",),
    )


_UNIFIED_DEVICES = frozenset(("2e12", "2b00"))  # GB10, Jetson AGX Thor


def _unified(name: str | None, function: PciFunction | None, memory: int | None) -> bool | None:
    """True where CPU and GPU share one memory and nvidia-smi therefore has no number (GB10, Jetson)."""
    shown = name or ""
    if (function is not None and function.device in _UNIFIED_DEVICES) or shown.endswith("GB10"):
        return True
    if memory is None and ("(nvgpu)" in shown or "Thor" in shown or "Orin" in shown):
        return True
    return False if memory is not None else None


def _pci_id(device_id: str | None, function: PciFunction | None) -> str | None:
    """``0x233510DE`` → ``10de:2335``."""
    if function is not None:
        return f"10de:{function.device}"
    text = (cell(device_id) or "").removeprefix("0x").lower()
    if len(text) == 8 and all(c in "0123456789abcdef" for c in text):
        return f"{text[4:]}:{text[:4]}"
    return None
