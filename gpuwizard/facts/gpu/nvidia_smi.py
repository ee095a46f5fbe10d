"""nvidia-smi's CSV and errors, whose "not available" has many spellings (`hosts.md §3.3, §4`)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from gpuwizard.clean import clean
from gpuwizard.facts.text import number, value

__all__ = [
    "COLUMNS",
    "SmiTable",
    "cell",
    "denied",
    "explain_status",
    "fault",
    "mebibytes",
    "parse_csv",
    "parse_query",
    "row_faults",
    "smi_problem",
    "throttle_reasons",
]

COLUMNS = (
    "index",
    "uuid",
    "name",
    "pci.bus_id",
    "pci.device_id",
    "driver_version",
    "memory.total",
    "mig.mode.current",
    "persistence_mode",
    "mig.mode.pending",
    "compute_mode",
    "ecc.mode.current",
    "ecc.errors.uncorrected.volatile.total",
    "retired_pages.pending",
    "pstate",
    "temperature.gpu",
    "compute_cap",
    "fabric.state",
    "fabric.status",
    "addressing_mode",
    "remapped_rows.pending",
    "remapped_rows.failure",
    "gpu_recovery_action",
    "clocks_throttle_reasons.active",
)
"""What the probe asks for, in its order; a driver that does not know a column is asked without it."""
_LEAST = 9  # the columns that are always asked for
_LONGEST = 4000  # characters of a line that are looked at; a row has about 400
_ALIASES: Mapping[str, str] = {
    "gpu_name": "name",
    "gpu_uuid": "uuid",
    "gpu_bus_id": "pci.bus_id",
    "clocks_event_reasons.active": "clocks_throttle_reasons.active",
}
_HEADER = re.compile(r"[a-z][a-z0-9_.]{0,80}(?: \[[^\]]{1,20}\])?", re.IGNORECASE)
_UUID = re.compile(r"GPU-\S{1,80}|[0-9a-fA-F]{8}-[0-9a-fA-F-]{8,40}")
_FAULTS = frozenset(
    (
        "unknown error",
        "gpu is lost",
        "gpu requires reset",
        "err!",
        "timeout",
        "interrupt request issue",
        "insufficient external power",
    )
)
_HARDWARE = frozenset(
    (
        "uuid",
        "name",
        "memory.total",
        "mig.mode.current",
        "persistence_mode",
        "compute_mode",
        "ecc.mode.current",
        "ecc.errors.uncorrected.volatile.total",
        "pstate",
        "temperature.gpu",
        "clocks_throttle_reasons.active",
    )
)
"""Columns that every working GPU can fill or says to be not available. In others an unknown error is an API's gap."""
_DENIED = "insufficient permissions"
_MISSING = _FAULTS | {
    "",
    "n/a",
    "not supported",
    "not available",
    "requested functionality has been deprecated",
    _DENIED,
    "not found",
    "function not found",
    "-",
}
_OWN_WORDS = re.compile(
    r"(?:Unable to |WARNING|Failed to |NVIDIA-SMI |No devices |Mismatch in |Are you sure |NVML library |Field \")"
)
"""How nvidia-smi begins a line that is bad news; other lines beside good rows come from a wrapper or the loader."""
_THROTTLE = (
    (0x1, "idle"),
    (0x2, "app-clocks"),
    (0x4, "sw-power-cap"),
    (0x8, "hw-slowdown"),
    (0x10, "sync-boost"),
    (0x20, "sw-thermal"),
    (0x40, "hw-thermal"),
    (0x80, "hw-power-brake"),
    (0x100, "display"),
)
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


def _bare(text: str | None) -> str:
    return (text or "").strip().removeprefix("[").removesuffix("]").strip()


@lru_cache(maxsize=2048)
def cell(text: str | None) -> str | None:
    """The cell, or None when it holds any spelling of "not available" or a fault (`hosts.md §4.3`).

    nvidia-smi puts the name of an error into brackets, and never a value.
    """
    plain = (text or "").strip()
    bare = _bare(plain).lower()
    if bare in _MISSING or bare.startswith("deprecated, see") or (plain[:1], plain[-1:]) == ("[", "]"):
        return None
    return value(plain)


def fault(text: str | None) -> str | None:
    """The words of a cell that reports a fault of the GPU (``[GPU is lost]``), else None."""
    bare = _bare(text)
    return value(bare) if bare.lower() in _FAULTS else None


def denied(text: str | None) -> bool:
    """True for a cell that nvidia-smi had no permission to fill."""
    return text is not None and "nsufficient" in text and _bare(text).lower() == _DENIED


def mebibytes(text: str | None) -> int | None:
    """Bytes from ``81559`` or ``81559 MiB``; None when it is not a number."""
    match = re.fullmatch(r"(\d{1,12})(?:\.\d+)?(?: ?MiB)?", cell(text) or "")
    return int(match[1]) * 1024 * 1024 if match else None


def throttle_reasons(text: str | None) -> tuple[str, ...] | None:
    """The names of the bits in ``0x0000000000000005``; None when it is not available (`hosts.md §4.4`)."""
    plain = cell(text) or ""
    if re.fullmatch(r"0x[0-9A-Fa-f]{1,16}", plain) is None:
        return None
    bits = int(plain, 16)
    known = tuple(name for bit, name in _THROTTLE if bits & bit)
    rest = bits & ~sum(bit for bit, _ in _THROTTLE)
    return (*known, f"{rest:#x}") if rest else known


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


def parse_query(text: str) -> SmiTable:
    """Rows of the probe's ``--query-gpu``, told by their header; without one they are the first of `COLUMNS`.

    Whatever is no header and no row of a GPU is a note.
    """
    columns: tuple[str, ...] | None = None
    rows: list[Mapping[str, str]] = []
    notes: list[str] = []
    for line in (clean(f"{text}\n") if "\x1b" in text else text).splitlines():
        cells = [part.strip() for part in line[:_LONGEST].split(",")]
        if (header := _header(cells)) is not None:
            columns = header
        elif (row := _row(cells, columns)) is not None:
            rows.append(row)
        elif shown := value(line[:_LONGEST]):
            notes.append(shown)
    return SmiTable(tuple(rows), tuple(notes))


def _header(cells: Sequence[str]) -> tuple[str, ...] | None:
    if len(cells) < 2 or not all(_HEADER.fullmatch(part) for part in cells):
        return None
    names = tuple(part.partition(" ")[0].lower() for part in cells)
    return tuple(_ALIASES.get(name, name) for name in names) if {"index", "uuid", "gpu_uuid"} & set(names) else None


def _row(cells: Sequence[str], columns: tuple[str, ...] | None) -> Mapping[str, str] | None:
    if columns is None:
        if not _LEAST <= len(cells) <= len(COLUMNS):
            return None
        columns = COLUMNS[: len(cells)]
    if len(cells) != len(columns):
        return None
    row = dict(zip(columns, cells, strict=True))
    known = number(row.get("index")) is not None or _UUID.fullmatch(row.get("uuid", "")) is not None
    return row if known else None


def row_faults(row: Mapping[str, str]) -> dict[str, str]:
    """Column → the words of its fault. ``fabric.status`` is left out: there an error's name is a state."""
    found: dict[str, str] = {}
    for column, text in row.items():
        words = fault(text) if text[:1] in ("[", "U", "G", "E") else None  # most cells are values
        if words is None or column == "fabric.status":
            continue
        if column in _HARDWARE or words.lower().startswith("gpu "):
            found[column] = words
    return found


def explain_status(status: int) -> str:
    """What an exit status of nvidia-smi means (`hosts.md §3.3`)."""
    return _MEANING.get(status, "the driver did not initialise")


def smi_problem(status: int, table: SmiTable) -> str | None:
    """nvidia-smi's own words for what is wrong, or None. Its exit status is 0 for some lost GPUs and 14 for complete
    output with a warning, so the words count as well; strange lines count only where nvidia-smi brought no rows."""
    good = status == 0 and bool(table.rows)
    words = [note for note in table.notes if not good or _OWN_WORDS.match(note)]
    for row in table.rows:
        words += [f"GPU {value(row.get('index')) or '?'}: {said}" for said in sorted(set(row_faults(row).values()))]
    if words:
        return value(" · ".join(words[:4]))
    if status == 0:
        return None if table.rows else "it ended without an error and listed no GPU"
    return explain_status(status)
