"""Rules about errors that the driver wrote into the kernel log since boot (`hosts.md §3.4`).

A line of the log tells what happened, not how the GPU is now, so each of them carries its age.
"""

import re
from collections.abc import Callable

from gpuwizard.facts.model import Probe
from gpuwizard.findings.driver.words import LogLine, applies, logged, shown_log
from gpuwizard.findings.gpu.words import shown_named
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus

__all__ = ["RULES"]

_XID = re.compile(
    r"NVRM: Xid \(PCI:([0-9a-f]{4,8}):([0-9a-f]{2}:[0-9a-f]{2})(?:\.[0-7])?\): (\d{1,4})\b", re.IGNORECASE
)
_SOURCES = ("docs.nvidia.com/deploy/xid-errors", "NVIDIA/k8s-device-plugin internal/rm/health.go")


def _lines(probe: Probe, numbers: tuple[int, ...]) -> tuple[LogLine, ...]:
    return tuple(
        line
        for line in logged(probe, "NVRM: Xid")
        if (match := _XID.search(line.text)) is not None and int(match[3]) in numbers
    )


def _named(probe: Probe, lines: tuple[LogLine, ...]) -> tuple[str, ...]:
    """The GPUs that the lines are about."""
    found: dict[str, str] = {}
    for line in lines:
        match = _XID.search(line.text)
        place = f"{int(match[1], 16):04x}:{match[2].lower()}" if match else None
        for gpu in installed_gpus(probe):
            if place is not None and gpu.pci is not None and gpu.pci.startswith(place):
                found[place] = shown_named(gpu)
    return tuple(found.values())


def _places(lines: tuple[LogLine, ...]) -> frozenset[str]:
    return frozenset(f"{int(m[1], 16):04x}:{m[2].lower()}" for line in lines if (m := _XID.search(line.text)))


def _on(*numbers: int) -> Callable[[Probe], Verdict | None]:
    def check(probe: Probe) -> Verdict | None:
        lines = _lines(probe, numbers) if probe.facts.driver.log else ()
        if not lines or not applies(probe):
            return None
        return Verdict((*_named(probe, lines), *shown_log(lines)), about=_places(lines))

    return check


def _came_back(probe: Probe) -> Verdict | None:
    """Xid 79 of a GPU that answers now; for one that does not the rules about GPUs speak."""
    if not probe.facts.driver.log or not applies(probe):
        return None
    alive = [gpu for gpu in installed_gpus(probe) if "nvidia-smi" in gpu.seen_by and gpu.fault is None and gpu.pci]
    lines = tuple(
        line
        for line in _lines(probe, (79,))
        if any((gpu.pci or "-").rpartition(".")[0][-5:] in line.text.lower() for gpu in alive)
    )
    return Verdict((*_named(probe, lines), *shown_log(lines)), about=_places(lines)) if lines else None


def _switch_errors(probe: Probe) -> Verdict | None:
    lines = tuple(
        line for line in logged(probe, r"SXid \(PCI:") if not re.search("non-fatal", line.text, re.IGNORECASE)
    )
    fatal = tuple(line for line in lines if re.search(r"\bfatal", line.text, re.IGNORECASE))
    return Verdict(shown_log(fatal)) if fatal and applies(probe) else None


RULES = (
    Rule(
        "GW-DRIVER-064",
        "warning",
        "a GPU reported memory errors",
        "The GPU's memory had errors that could not be corrected (48, 95), that cost one program its life (94), or "
        "that made it repair rows or fail to (63, 64).",
        "See `nvidia-smi -q -d ECC,ROW_REMAPPER`. After 63 or 94: drain and reset the GPU so that the repair takes "
        "effect. After 48 or 95: reset or reboot at once. After 64, or when it repeats: have the card replaced.",
        _on(48, 63, 64, 94, 95),
        ("hosts.md §3.4", "kubernetes.md §1.14 #37"),
        effect="Programs on that GPU were ended; the device plugin marks the GPU as unhealthy after 48, 94 and 95.",
        detected="Lines `NVRM: Xid` 48, 63, 64, 94 and 95 in the kernel's ring buffer, with their age. They say what "
        "happened since boot, not how the GPU is now.",
        messages=(
            "NVRM: Xid (PCI:0000:ca:00): 48, DBE (Double Bit Error) ECC Error",
            "NVRM: Xid (PCI:0000:ca:00): 63, Row Remapper: New row marked for remapping, reset gpu to activate.",
            "NVRM: Xid (PCI:0000:ca:00): 95, Uncontained",
        ),
        sources=_SOURCES,
    ),
    Rule(
        "GW-DRIVER-065",
        "warning",
        "NVLink reported errors",
        "A link between GPUs, or between a GPU and a switch, had errors: a cable or baseboard, a GPU that was reset "
        "alone, or a fabric manager that was stopped.",
        "See `nvidia-smi nvlink -e`. Drain the node and reset all GPUs of the board together, or reboot. If it "
        "repeats: have the board looked at.",
        _on(74),
        ("hosts.md §3.4",),
        effect="Jobs over several GPUs fail or slow down.",
        detected="Lines `NVRM: Xid` 74 in the kernel's ring buffer, with their age.",
        messages=("NVRM: Xid (PCI:0000:ca:00): 74, NVLink: fatal error detected on link",),
        sources=_SOURCES,
    ),
    Rule(
        "GW-DRIVER-066",
        "warning",
        "the GPU's own processor failed",
        "The GPU System Processor (GSP), which runs most of the driver, did not answer (119) or reported an error "
        "(120).",
        "Drain the node, then reset the GPU or reboot. If it repeats, upgrade the driver within its branch.",
        _on(119, 120),
        ("hosts.md §3.4",),
        effect="Programs on that GPU hang, and often nvidia-smi too, until the GPU is reset.",
        detected="Lines `NVRM: Xid` 119 and 120 in the kernel's ring buffer, with their age.",
        messages=(
            "NVRM: Xid (PCI:0000:ca:00): 119, Timeout waiting for RPC from GSP!",
            "NVRM: Xid (PCI:0000:ca:00): 120, GSP task exception",
        ),
        sources=_SOURCES,
        instead_of=("GW-DRIVER-037", "GW-DRIVER-044"),
    ),
    Rule(
        "GW-DRIVER-067",
        "warning",
        "a GPU had fallen off the bus and is back",
        "Since the last boot the driver lost this GPU, and it answers again after a reset. Heat, power, a riser or the "
        "card itself.",
        "Watch it. If it happens again: power, heat, seating, firmware of the board, then a new card.",
        _came_back,
        ("hosts.md §3.4",),
        effect="Pods that ran on it failed then; it may happen again.",
        detected="`NVRM: Xid` 79 in the kernel's ring buffer for a GPU that nvidia-smi lists now.",
        messages=("NVRM: Xid (PCI:0000:ca:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",),
        sources=(*_SOURCES, "NVIDIA/cloud-native-docs gpu-operator/troubleshooting.rst"),
    ),
    Rule(
        "GW-DRIVER-068",
        "warning",
        "an NVSwitch reported a fatal error",
        "An NVSwitch had an error after which its links do not work: the switch, the baseboard, or a link to a GPU.",
        "Drain the node and reboot it (a reset of all GPUs and switches together does it as well). If it repeats, have "
        "the baseboard replaced.",
        _switch_errors,
        ("hosts.md §3.4",),
        effect="Jobs over several GPUs fail; the fabric manager may stop and CUDA then fails with error 802.",
        detected="Lines `SXid` with the word Fatal in the kernel's ring buffer, with their age.",
        messages=("nvidia-nvswitch0: SXid (PCI:0000:c5:00.0): 20034, Fatal, Link 32 LTSSM Fault Up",),
        sources=("docs.nvidia.com Fabric Manager User Guide, SXid errors",),
    ),
)
