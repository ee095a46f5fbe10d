"""The GPUs of one probe: the bus, the driver's procfs and nvidia-smi."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gpuwizard.facts.frames import Frames
from gpuwizard.facts.gpu.complaints import corrupted_inforoms, unreachable
from gpuwizard.facts.gpu.join import Sources, join_gpus, parse_information
from gpuwizard.facts.gpu.mig import parse_list
from gpuwizard.facts.gpu.nvidia_smi import SmiTable, parse_query
from gpuwizard.facts.gpu.pci import PciFunction, bus_address, parse_drivers, parse_pci
from gpuwizard.facts.gpu.vgpu import parse_full_query
from gpuwizard.facts.look import Look
from gpuwizard.facts.model import Gpu, PciDevice, Unseen

__all__ = ["GpuLook", "read_gpus"]


@dataclass(frozen=True, slots=True)
class GpuLook:
    """The GPUs, the functions that are no GPU of this host, and nvidia-smi's exit status with its rows (None: it was
    not asked). `unseen` is what nvidia-smi was not allowed to tell."""

    gpus: tuple[Gpu, ...]
    others: tuple[PciDevice, ...]
    smi: tuple[int, SmiTable] | None
    unseen: tuple[Unseen, ...] = ()


def read_gpus(look: Look) -> GpuLook:
    """Everything that one probe knows of NVIDIA's devices."""
    frames = look.frames
    functions = parse_pci(frames.text("pci"), parse_drivers(frames.text("pci-drivers"))) or ()
    smi = _smi(frames)
    table = smi[1] if smi else SmiTable((), ())
    listed, full = frames.good("smi-list"), frames.good("smi-q")
    gpus = join_gpus(
        Sources(
            functions=functions,
            rows=_with_remapped(table.rows, frames),
            information={
                address: parse_information(section.text)
                for section in frames.all("gpu-information")
                if (address := bus_address(section.key)) is not None
            },
            listed=parse_list(listed) if listed else (),
            virtual=parse_full_query(full) if full else {},
            complaints=unreachable(table.notes) if table.notes else (),
            inforoms=corrupted_inforoms(table.notes) if table.notes else frozenset(),
        )
    )
    return GpuLook(gpus, _others(functions, gpus), smi, tuple(_denied(gpus)))


def _smi(frames: Frames) -> tuple[int, SmiTable] | None:
    """Status and rows of the query; one that was begun and never ended counts as a time-out."""
    section = frames.get("smi-core")
    if section is not None and not section.cut:
        return section.status, parse_query(section.text)
    if frames.get("smi-started") is not None:
        return 124, SmiTable((), ())
    return None


def _with_remapped(rows: Sequence[Mapping[str, str]], frames: Frames) -> Sequence[Mapping[str, str]]:
    """The rows with the columns of ``--query-remapped-rows``, which older drivers have apart (one row per GPU)."""
    section = frames.get("smi-remapped")
    if section is None or section.cut or section.status not in (0, 14):
        return rows
    more = {row["uuid"]: row for row in parse_query(section.text).rows if "uuid" in row}
    return tuple({**more.get(row.get("uuid", ""), {}), **row} for row in rows)


def _others(functions: tuple[PciFunction, ...], gpus: tuple[Gpu, ...]) -> tuple[PciDevice, ...]:
    """The functions that count as no GPU of this host, except those that nvidia-smi runs all the same."""
    counted = {gpu.pci for gpu in gpus}
    return tuple(
        PciDevice(f.address, f"10de:{f.device}", f.kind, f.product.name if f.product else None, f.driver)
        for f in functions
        if f.kind is not None and f.address not in counted
    )


def _denied(gpus: tuple[Gpu, ...]) -> Iterator[Unseen]:
    for gpu in gpus:
        if gpu.denied:
            yield Unseen(f"{', '.join(gpu.denied)} of {gpu.pci or 'a GPU'}", "nvidia-smi lacks the permission")
