"""nvidia-smi's CSV, list and errors, whose "not available" has many spellings (`hosts.md §3.3, §4`)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpuwizard.facts.text import value

__all__ = [
    "CORE",
    "MORE",
    "MigDevice",
    "SmiTable",
    "cell",
    "explain_status",
    "fault",
    "mebibytes",
    "parse_csv",
    "parse_mig_devices",
    "smi_problem",
]

CORE = (
    "index",
    "uuid",
    "name",
    "pci.bus_id",
    "pci.device_id",
    "driver_version",
    "memory.total",
    "mig.mode.current",
    "persistence_mode",
)
"""The columns of probe.sh's first query; all exist from 470 to 610."""
MORE = ("uuid", "compute_cap", "addressing_mode", "fabric.state")
"""The columns of its second query, which drivers before 535 refuse."""

_MISSING = frozenset(
    (
        "",
        "n/a",
        "not supported",
        "not available",
        "requested functionality has been deprecated",
        "insufficient permissions",
        "unknown error",
        "gpu is lost",
        "gpu requires reset",
        "not found",
        "function not found",
        "err!",
        "-",
    )
)
_FAULTS = frozenset(
    (
        "insufficient permissions",
        "unknown error",
        "gpu is lost",
        "gpu requires reset",
        "not found",
        "function not found",
        "err!",
    )
)
_MIG = re.compile(r"^\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[^)]+)\)")
_LIST_GPU = re.compile(r"^GPU (\d+): .*\(UUID: ([^)]+)\)")
_MEANING: Mapping[int, str] = {
    2: "nvidia-smi did not know one of the fields it was asked for",
    3: "the operation is not available on this GPU",
    4: "nvidia-smi lacks the permission",
    6: "no GPU was found by the driver",
    8: "a GPU lacks its external power",
    9: "the NVIDIA kernel module is not loaded or does not answer",
    10: "a GPU does not get its interrupts",
    11: "a GPU does not get its interrupts",
    12: "the library libnvidia-ml.so is not installed",
    13: "the library lacks a function: nvidia-smi and library are of different versions",
    14: "the infoROM of a GPU is corrupted",
    15: "a GPU has fallen off the bus",
    17: "the operating system blocks access to the GPU",
    18: "kernel module and library are of different versions",
    124: "nvidia-smi gave no answer in time",
    127: "nvidia-smi could not be started",
    137: "nvidia-smi was killed",
    143: "nvidia-smi gave no answer in time",
}


@dataclass(frozen=True, slots=True)
class SmiTable:
    """Rows by column name, cells as printed, and the other lines (warnings, lost GPUs)."""

    rows: tuple[Mapping[str, str], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MigDevice:
    """A MIG device as ``nvidia-smi -L`` lists it, with the UUID of its GPU."""

    gpu_uuid: str | None
    profile: str
    uuid: str


def cell(text: str | None) -> str | None:
    """The cell, or None when it holds any spelling of "not available" or a fault (`hosts.md §4.3`)."""
    plain = (text or "").strip()
    bare = plain.removeprefix("[").removesuffix("]").strip()
    if bare.lower() in _MISSING or bare.lower().startswith("deprecated, see"):
        return None
    return value(plain)


def fault(text: str | None) -> str | None:
    """The words of a cell that reports a fault (``[GPU is lost]``), else None."""
    bare = (text or "").strip().removeprefix("[").removesuffix("]").strip()
    return value(bare) if bare.lower() in _FAULTS else None


def mebibytes(text: str | None) -> int | None:
    """Bytes from ``81559`` or ``81559 MiB``; None when it is not a number."""
    match = re.fullmatch(r"(\d{1,12})(?:\.\d+)?(?: ?MiB)?", cell(text) or "")
    return int(match[1]) * 1024 * 1024 if match else None


def parse_csv(text: str, columns: Sequence[str]) -> SmiTable:
    """Rows of ``--format=csv,noheader``; whatever has not the right number of cells is a note. The last column may
    itself hold ``", "`` (a process name), so it takes the rest."""
    rows: list[Mapping[str, str]] = []
    notes: list[str] = []
    for line in text.splitlines():
        cells = line.strip().split(", ", len(columns) - 1)
        if len(cells) == len(columns) and not line.startswith(("Unable to ", "WARNING", "Field ")):
            if cells[0].strip() != columns[0]:  # a header line
                rows.append(dict(zip(columns, (c.strip() for c in cells), strict=True)))
        elif shown := value(line):
            notes.append(shown)
    return SmiTable(tuple(rows), tuple(notes))


def parse_mig_devices(text: str) -> tuple[MigDevice, ...]:
    """The MIG devices of ``nvidia-smi -L``."""
    found: list[MigDevice] = []
    parent: str | None = None
    for line in text.splitlines():
        if match := _LIST_GPU.match(line):
            parent = match[2]
        elif match := _MIG.match(line):
            found.append(MigDevice(parent, match[1], match[3]))
    return tuple(found)


def explain_status(status: int) -> str:
    """What an exit status of nvidia-smi means (`hosts.md §3.3`)."""
    return _MEANING.get(status, "the driver did not initialise")


def smi_problem(status: int, table: SmiTable) -> str | None:
    """nvidia-smi's own words for what is wrong, or None. Its exit status is 0 for some lost GPUs and 14 for complete
    output with a warning, so the words count as well."""
    faults = [
        f"GPU {row.get('index', '?')}: {words}"
        for row in table.rows
        for words in {w for w in map(fault, row.values()) if w}
    ]
    words = [note for note in table.notes if note] + faults
    if words:
        return value(" · ".join(words[:4]))
    return explain_status(status) if status != 0 else None
