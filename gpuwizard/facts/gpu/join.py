"""The GPUs of a host: PCI, the driver's procfs and nvidia-smi joined by bus address (`hosts.md §2.5, §4`)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gpuwizard.facts.gpu.complaints import Complaint
from gpuwizard.facts.gpu.make import gpu_from_bus, gpu_from_smi
from gpuwizard.facts.gpu.mig import ListedGpu
from gpuwizard.facts.gpu.nvidia_smi import cell
from gpuwizard.facts.gpu.pci import PciFunction, bus_address
from gpuwizard.facts.gpu.vgpu import Virtual
from gpuwizard.facts.model import Gpu
from gpuwizard.facts.text import number, value

__all__ = ["Sources", "join_gpus", "parse_information"]

Row = Mapping[str, str]
_NO_GPU = re.compile(r"\bNPU\b", re.IGNORECASE)  # Windows on Arm lists its neural processor too
_UNKNOWN_MODEL = "Unknown"


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything that says something of a GPU. `information` and `virtual` are keyed by bus address; `inforoms` are
    the addresses of corrupted ones ("": one that was not named)."""

    functions: Sequence[PciFunction] = ()
    rows: Sequence[Row] = ()
    information: Mapping[str, Row] = field(default_factory=dict)
    listed: Sequence[ListedGpu] = ()
    virtual: Mapping[str, Virtual] = field(default_factory=dict)
    complaints: Sequence[Complaint] = ()
    inforoms: frozenset[str] = frozenset()


def parse_information(text: str) -> dict[str, str]:
    """``/proc/driver/nvidia/gpus/*/information``: ``Model:``, ``GPU UUID:`` and so on."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, rest = line.partition(":")
        shown = value(rest)
        if colon and shown and not (key.strip() == "Model" and shown == _UNKNOWN_MODEL):
            found[key.strip()] = shown
    return found


def join_gpus(sources: Sources) -> tuple[Gpu, ...]:
    """One entry per physical GPU, in bus order. A GPU that only one side knows is in the list all the same, and
    `seen_by` says so; so is one that nvidia-smi complains of and that is no longer on the bus."""
    rows = _gpu_rows(sources.rows)
    places = _places(sources, rows)
    found = [_listed(row, place, sources) for row, place in zip(rows, places, strict=True)]
    taken = {place.address for place in places if place is not None}
    left = [f for f in sources.functions if f.is_gpu and f.address not in taken]
    found += [gpu_from_bus(f, sources.information.get(f.address, {})) for f in left]
    found = _complained(found, sources.complaints)
    if sources.inforoms:
        alone = "" in sources.inforoms and len(found) == 1
        found = [replace(g, inforom_corrupted=True) if alone or g.pci in sources.inforoms else g for g in found]
    return tuple(sorted(found, key=_order))


def _order(gpu: Gpu) -> tuple[int, str, int]:
    address = gpu.pci or "~" * 20
    return (len(address), address, gpu.index if gpu.index is not None else -1)


def _gpu_rows(rows: Iterable[Row]) -> list[Row]:
    """The rows of GPUs, each once."""
    found: list[Row] = []
    seen: set[str] = set()
    for row in rows:
        uuid = cell(row.get("uuid"))
        if _NO_GPU.search(row.get("name", "")) or (uuid is not None and uuid in seen):
            continue
        seen.update((uuid,) if uuid is not None else ())
        found.append(row)
    return found


def _places(sources: Sources, rows: Sequence[Row]) -> list[PciFunction | None]:
    """For each row its function on the bus: by address, else by UUID, else because one of each is left over."""
    by_address = {f.address: f for f in sources.functions if f.is_gpu or f.kind == "display"}
    by_uuid = {info["GPU UUID"]: address for address, info in sources.information.items() if "GPU UUID" in info}
    places: list[PciFunction | None] = []
    for row in rows:
        address = bus_address(row.get("pci.bus_id")) or by_uuid.get(cell(row.get("uuid")) or "")
        places.append(by_address.pop(address, None) if address else None)
    lost = [n for n, place in enumerate(places) if place is None and bus_address(rows[n].get("pci.bus_id")) is None]
    left = [f for f in by_address.values() if f.is_gpu]
    if len(lost) == len(left) == 1:
        places[lost[0]] = left[0]
    return places


def _listed(row: Row, place: PciFunction | None, sources: Sources) -> Gpu:
    address = place.address if place is not None else bus_address(row.get("pci.bus_id")) or ""
    uuid, index = cell(row.get("uuid")), number(row.get("index"))
    listed = next((g for g in sources.listed if g.uuid == uuid or (uuid is None and g.index == index)), None)
    return gpu_from_smi(
        row,
        place,
        sources.information.get(address, {}),
        listed.devices if listed else None,
        sources.virtual.get(address, Virtual()),
    )


def _complained(gpus: Sequence[Gpu], complaints: Sequence[Complaint]) -> list[Gpu]:
    """Give each complaint to its GPU: by address; one without an address goes to the GPU that alone is missing."""
    by_address = {c.address: c for c in complaints if c.address is not None}
    nameless = [c for c in complaints if c.address is None]
    found: list[Gpu] = []
    missing = [gpu for gpu in gpus if gpu.seen_by == ("pci",) and gpu.pci not in by_address and not gpu.excluded]
    fits = len(nameless) == len(missing)
    for gpu in gpus:
        complaint = by_address.pop(gpu.pci or "", None)
        if complaint is None and fits and gpu in missing:
            complaint = nameless[missing.index(gpu)]
        if complaint is not None and gpu.fault is None:
            gpu = _faulty(gpu, complaint)
        found.append(gpu)
    found += [_faulty(Gpu(pci=c.address, seen_by=("nvidia-smi",)), c) for c in by_address.values()]
    return found


def _faulty(gpu: Gpu, complaint: Complaint) -> Gpu:
    index = complaint.index if gpu.index is None else gpu.index
    if complaint.words.lower() == "insufficient permissions":
        return replace(gpu, index=index, denied=("device handle",))
    return replace(gpu, index=index, fault=complaint.words, fault_fields=("device handle",))
