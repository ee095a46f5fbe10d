"""Probes of machines with GPUs that no developer has: the captured host with its bus and nvidia-smi exchanged.

Shapes and values are those of `hosts.md §2` to `§4`; the text is our own.
"""

from collections.abc import Mapping, Sequence

from gpuwizard.facts.gpu.nvidia_smi import COLUMNS
from tests.captured import CAPTURE, edit, without

_YOUNG = COLUMNS[COLUMNS.index("compute_cap") : -1]
_REMAPPED = ("remapped_rows.pending", "remapped_rows.failure")
UNKNOWN_TO = {
    "470": _YOUNG,
    "525": ("addressing_mode", *_REMAPPED, "gpu_recovery_action"),
    "535": (*_REMAPPED, "gpu_recovery_action"),
    "550": (*_REMAPPED, "gpu_recovery_action"),
}
"""The columns that a driver branch refuses, so that the probe leaves them out (tried with the real programs)."""


def row(index: int, name: str, bus: str, device: str, memory: str, **cells: str) -> dict[str, str]:
    """A healthy GPU as nvidia-smi lists it; `cells` by column, with ``__`` for a dot."""
    healthy = {
        "index": str(index),
        "uuid": f"GPU-{index:08d}-aaaa-bbbb-cccc-dddddddddddd",
        "name": name,
        "pci.bus_id": bus,
        "pci.device_id": f"0x{device.upper()}10DE",
        "driver_version": "580.95.05",
        "memory.total": memory,
        "mig.mode.current": "[N/A]",
        "persistence_mode": "Enabled",
        "mig.mode.pending": "[N/A]",
        "compute_mode": "Default",
        "ecc.mode.current": "Enabled",
        "ecc.errors.uncorrected.volatile.total": "0",
        "retired_pages.pending": "[N/A]",
        "remapped_rows.pending": "No",
        "remapped_rows.failure": "No",
        "pstate": "P0",
        "temperature.gpu": "34",
        "compute_cap": "8.0",
        "addressing_mode": "None",
        "fabric.state": "N/A",
        "fabric.status": "N/A",
        "gpu_recovery_action": "None",
        "clocks_throttle_reasons.active": "0x0000000000000001",
    }
    return healthy | {column.replace("__", "."): text for column, text in cells.items()}


def all_na(base: Mapping[str, str], *but: str) -> dict[str, str]:
    """The row with every cell not available, except for `but` and those that identify the GPU."""
    kept = {"index", "uuid", "name", "driver_version", *but}
    return {column: text if column in kept else "[N/A]" for column, text in base.items()}


def table(rows: Sequence[Mapping[str, str]], *, branch: str = "580", units: bool = True) -> str:
    """What nvidia-smi prints for `rows` where it knows the columns of `branch`."""
    columns = [c for c in COLUMNS if c not in UNKNOWN_TO.get(branch, ())]
    shown = {"clocks_throttle_reasons.active": "clocks_event_reasons.active"} if branch > "530" else {}
    header = ", ".join(
        f"{shown.get(c, c)} [MiB]" if units and c.startswith("memory.") else shown.get(c, c) for c in columns
    )
    return "\n".join([header, *(", ".join(r[c] for c in columns) for r in rows)]) + "\n"


def function(
    address: str, device: str, pci_class: str = "030200", *, driver: str | None = "nvidia", more: str = "", vf: int = 0
) -> str:
    """A line of the probe about one function of the bus."""
    bound = f" driver={driver}" if driver else ""
    return f"{address} 0x{device} 0x{pci_class} {vf}{bound}{f' {more}' if more else ''}\n"


def host(
    rows: Sequence[Mapping[str, str]],
    functions: str,
    *,
    driver: str = "580.95.05",
    said: str = "",
    status: int = 0,
    listing: str | None = None,
    full: str | None = None,
    information: Mapping[str, str] | None = None,
    base: bytes = CAPTURE,
) -> bytes:
    """The captured host with another bus, driver and nvidia-smi. `said` comes before the table (standard error)."""
    text = (table(rows, branch=driver.partition(".")[0]) if rows else "") or ""
    raw = edit("smi-core", f"{said}{text}".rstrip("\n"), status, probe=without("pci-drivers", "smi-more", probe=base))
    raw = edit("pci", functions, probe=raw)
    raw = edit("module-version", f"{driver}\n", probe=raw)
    raw = edit(
        "nvrm-version",
        f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {driver}  Release Build  (builder@host)\n",
        probe=raw,
    )
    raw = edit("nvml-files", f"/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.{driver}\n", probe=raw)
    raw = edit("modinfo", f"{driver}\n", probe=raw)
    for name, section in (("smi-list", listing), ("smi-q", full)):
        raw = edit(name, section, probe=raw) if section is not None else raw
    for address, words in (information or {}).items():
        raw = edit(f"gpu-information:{address}", words, probe=raw)
    return raw


def bus_of(count: int) -> list[str]:
    """Addresses for many GPUs, in bus order."""
    return [f"0000:{0x04 + 4 * n:02x}:00.0" for n in range(count)]


def many(count: int, name: str, device: str, memory: str, **cells: str) -> tuple[list[dict[str, str]], str]:
    """Rows and bus of a machine with `count` equal GPUs."""
    addresses = bus_of(count)
    rows = [row(n, name, f"0000{a}".upper(), device, memory, **cells) for n, a in enumerate(addresses)]
    return rows, "".join(function(a, device) for a in addresses)
