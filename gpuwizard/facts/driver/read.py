"""The driver of one probe."""

from gpuwizard.facts.driver.versions import driver_facts
from gpuwizard.facts.gpu.read import GpuLook
from gpuwizard.facts.look import Look
from gpuwizard.facts.model import DriverFacts, KernelFacts
from gpuwizard.facts.text import number

__all__ = ["read_driver"]


def read_driver(look: Look, kernel: KernelFacts, gpus: GpuLook) -> DriverFacts:
    """The driver facts of one probe."""
    frames = look.frames
    modinfo = frames.get("modinfo")
    took = number(frames.text("smi-seconds"))
    return driver_facts(
        nvrm=frames.text("nvrm-version"),
        module=frames.text("module-version"),
        modinfo=(modinfo.status, modinfo.text) if modinfo is not None and not modinfo.cut else None,
        license_text=frames.good("modinfo-license"),
        others={s.key: (s.status, s.text) for s in frames.all("modinfo-other") if not s.cut},
        kernels=frames.lines("kernels"),
        running=kernel.release,
        libraries=frames.lines("nvml-files"),
        help_text=frames.text("smi-help"),
        smi=gpus.smi,
        smi_seconds=None if took is None else float(took),
    )
