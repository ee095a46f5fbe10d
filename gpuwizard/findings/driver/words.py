"""What several rules about the driver ask of a probe, and how they word it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gpuwizard.facts.gpu.names import product
from gpuwizard.facts.gpu.pci import needs_proprietary_module
from gpuwizard.facts.model import DriverFacts, Gpu, KernelModule, Probe
from gpuwizard.findings.rule import installed_gpus, looked_at, shown_gpu

__all__ = [
    "FOREIGN",
    "LogLine",
    "all_seen",
    "applies",
    "certainly_no_module",
    "foreign",
    "generation",
    "is_before_turing",
    "logged",
    "mismatched",
    "module_for",
    "not_loaded",
    "shown_log",
    "unseen_gpus",
    "wants_open_module",
    "works",
]

FOREIGN = ("nouveau", "nova_core", "nova")
_LOG_LINE = re.compile(r"(?:\[([0-9.]+)\] )?(.*)", re.DOTALL)
_GRACE_HOPPER = "GH200"


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the kernel log; `ago` is how many seconds before the probe it was written last."""

    text: str
    ago: float | None


def applies(probe: Probe) -> bool:
    """A GPU on the bus of a host that has a kernel of its own."""
    on_bus = any("pci" in gpu.seen_by for gpu in installed_gpus(probe))
    return looked_at(probe) and on_bus and probe.facts.os.kind == "host"


def foreign(probe: Probe) -> list[str]:
    """The GPUs that another driver holds."""
    return [shown_gpu(gpu) for gpu in installed_gpus(probe) if gpu.bound_driver in FOREIGN]


def not_loaded(probe: Probe) -> bool:
    """NVIDIA's module is certainly not in the kernel, and nobody else has the GPU."""
    if probe.facts.driver.loaded is not None or not applies(probe) or works(probe):
        return False
    bound = any(gpu.bound_driver == "nvidia" for gpu in installed_gpus(probe))
    return not bound and not foreign(probe)


def works(probe: Probe) -> bool:
    """nvidia-smi answers for at least one GPU."""
    return any("nvidia-smi" in gpu.seen_by for gpu in installed_gpus(probe))


def unseen_gpus(probe: Probe) -> tuple[Gpu, ...]:
    """GPUs on the bus that nvidia-smi, when it was asked, did not name. Empty when it was not asked."""
    driver = probe.facts.driver
    if not works(probe) and driver.problem is None:
        return ()
    return tuple(gpu for gpu in installed_gpus(probe) if "nvidia-smi" not in gpu.seen_by)


def all_seen(probe: Probe) -> bool:
    """Every GPU answers: what the log says is over."""
    gpus = installed_gpus(probe)
    return bool(gpus) and all("nvidia-smi" in gpu.seen_by and gpu.fault is None for gpu in gpus)


def mismatched(driver: DriverFacts) -> bool:
    """Loaded module and library are of different versions."""
    if driver.problem_code == 18 or "version mismatch" in (driver.problem or "").lower():
        return True
    return driver.loaded is not None and driver.userspace is not None and driver.loaded != driver.userspace


def module_for(driver: DriverFacts, kernel: str | None) -> KernelModule | None:
    """The module on disk for that kernel."""
    return next((module for module in driver.kernel_modules if module.kernel == kernel), None)


def certainly_no_module(probe: Probe) -> bool:
    """No installed kernel has a module of NVIDIA, and that was really looked at."""
    driver = probe.facts.driver
    return not driver.kernel_modules and bool(driver.kernels_without_module)


def generation(gpu: Gpu) -> str | None:
    """``turing`` and the like, by what the driver says or by the PCI id."""
    if gpu.generation is not None:
        return gpu.generation
    known = product((gpu.pci_id or "").removeprefix("10de:"))
    return known.generation if known else None


def is_before_turing(gpu: Gpu) -> bool:
    """True for a GPU without a GSP, which the open modules do not run (`hosts.md §2.3`)."""
    device = (gpu.pci_id or "").removeprefix("10de:")
    return re.fullmatch(r"[0-9a-f]{4}", device) is not None and needs_proprietary_module(device)


def wants_open_module(gpu: Gpu) -> bool:
    """True for Blackwell and Grace Hopper, which only the open modules run (`hosts.md §3.6`)."""
    known = product((gpu.pci_id or "").removeprefix("10de:"))
    name = gpu.name or (known.name if known else None) or ""
    return generation(gpu) in ("blackwell", "rubin") or _GRACE_HOPPER in name


def logged(probe: Probe, pattern: str) -> Iterator[LogLine]:
    """The lines of the kernel log in which `pattern` is found, letters of any case."""
    driver = probe.facts.driver
    for line in driver.log or ():
        match = _LOG_LINE.fullmatch(line)
        if match is None or not re.search(pattern, match[2], re.IGNORECASE):
            continue
        ago = None
        if match[1] and driver.uptime_seconds is not None and re.fullmatch(r"\d+(\.\d+)?", match[1]):
            ago = max(0.0, driver.uptime_seconds - float(match[1]))
        yield LogLine(match[2], ago)


def shown_log(lines: Iterator[LogLine] | tuple[LogLine, ...], limit: int = 4) -> tuple[str, ...]:
    """Lines as evidence, each with its age, the newest of many."""
    found = tuple(lines)
    shown = tuple(
        f"kernel log{f', {_age(line.ago)} before the probe' if line.ago is not None else ''}: {line.text}"
        for line in found[-limit:]
    )
    return shown if len(found) <= limit else (*shown, f"and {len(found) - limit} older lines")


def _age(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
