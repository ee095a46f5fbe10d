"""The GPUs of one probe: the bus, the driver's procfs and nvidia-smi."""

from dataclasses import dataclass

from gpuwizard.facts.frames import Frames
from gpuwizard.facts.gpu.join import join_gpus, parse_information
from gpuwizard.facts.gpu.nvidia_smi import CORE, MORE, SmiTable, cell, parse_csv, parse_mig_devices
from gpuwizard.facts.gpu.pci import PciFunction, bus_address, parse_drivers, parse_pci
from gpuwizard.facts.look import Look
from gpuwizard.facts.model import Gpu, PciDevice
from gpuwizard.facts.text import number

__all__ = ["GpuLook", "read_gpus"]


@dataclass(frozen=True, slots=True)
class GpuLook:
    """The GPUs, the functions that are no GPU of this host, and nvidia-smi's exit status with its rows (None: it was
    not asked)."""

    gpus: tuple[Gpu, ...]
    others: tuple[PciDevice, ...]
    smi: tuple[int, SmiTable] | None


def read_gpus(look: Look) -> GpuLook:
    """Everything that one probe knows of NVIDIA's devices."""
    frames = look.frames
    functions = parse_pci(frames.text("pci"), parse_drivers(frames.text("pci-drivers"))) or ()
    smi = _smi(frames)
    information = {
        address: parse_information(section.text)
        for section in frames.all("gpu-information")
        if (address := bus_address(section.key)) is not None
    }
    more = frames.good("smi-more")
    gpus = join_gpus(
        functions,
        information,
        (row for row in (smi[1].rows if smi else ()) if number(row.get("index")) is not None or cell(row.get("uuid"))),
        parse_csv(more, MORE).rows if more is not None else (),
        parse_mig_devices(frames.good("smi-list") or ""),
    )
    return GpuLook(gpus, _others(functions), smi)


def _smi(frames: Frames) -> tuple[int, SmiTable] | None:
    """Status and rows of the first query; a query that was begun and never ended counts as a time-out."""
    section = frames.get("smi-core")
    if section is not None and not section.cut:
        return section.status, parse_csv(section.text, CORE)
    if frames.get("smi-started") is not None:
        return 124, SmiTable((), ())
    return None


def _others(functions: tuple[PciFunction, ...]) -> tuple[PciDevice, ...]:
    return tuple(
        PciDevice(f.address, f"10de:{f.device}", "nvswitch", None, f.driver) for f in functions if f.is_nvswitch
    )
