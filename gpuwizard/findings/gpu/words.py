"""How rules name a GPU in their evidence, and the lines of the kernel log that name one."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gpuwizard.facts.model import Gpu, Probe
from gpuwizard.findings.rule import Verdict, installed_gpus

__all__ = ["Xid", "each", "places", "shown_named", "xids"]

_XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2})(?:\.[0-7])?\): (\d{1,4})\b")


@dataclass(frozen=True, slots=True)
class Xid:
    """An error that the driver wrote into the kernel log. `place` is the bus address without its function."""

    place: str
    number: int
    line: str


def shown_named(gpu: Gpu) -> str:
    """``GPU 3 at 0000:5f:00.0 (NVIDIA A100-SXM4-80GB)``, as far as it is known."""
    index = f"GPU {gpu.index}" if gpu.index is not None else "GPU"
    place = f" at {gpu.pci}" if gpu.pci else ""
    name = gpu.name or gpu.pci_id
    return f"{index}{place}{f' ({name})' if name else ''}"


def each(probe: Probe, said: Callable[[Gpu], str | None]) -> Verdict | None:
    """A verdict with one line for every GPU that `said` has words for; None when it has none."""
    told = [(gpu, words) for gpu in installed_gpus(probe) if (words := said(gpu)) is not None]
    lines = tuple(f"{shown_named(gpu)}: {words}" for gpu, words in told)
    return Verdict(lines, about=places(gpu for gpu, _ in told)) if lines else None


def places(gpus: Iterable[Gpu]) -> frozenset[str]:
    """GPUs for `Verdict.about`: by their place on the bus without the function, else by what else they are known by."""
    return frozenset(
        gpu.pci.rpartition(".")[0] if gpu.pci else gpu.uuid or f"GPU {gpu.index if gpu.index is not None else gpu.name}"
        for gpu in gpus
    )


def xids(probe: Probe) -> Iterator[Xid]:
    """The Xid errors in the kernel log, as far as it could be read."""
    for line in probe.facts.driver.log or ():
        if match := _XID.search(line):
            domain, _, rest = match[1].lower().partition(":")
            yield Xid(f"{int(domain, 16):04x}:{rest}", int(match[2]), line)
