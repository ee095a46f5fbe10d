"""The lines of metrics.sh made into samples: pure, and N/A stays N/A (`hosts.md §4.3`)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gpuwizard.facts.gpu.nvidia_smi import cell, explain_status, fault, mebibytes, parse_csv, throttle_reasons
from gpuwizard.facts.gpu.pci import bus_address
from gpuwizard.facts.text import number, value
from gpuwizard.monitor.model import GpuProcess, Sample

__all__ = ["Reading", "parse_sample", "throttle_reasons"]

_COLUMNS = (
    "index",
    "uuid",
    "bus",
    "utilization",
    "memory.used",
    "memory.total",
    "temperature",
    "power",
    "power.limit",
    "sm",
    "throttle",
    "name",
)
_PROCESS_COLUMNS = ("uuid", "pid", "memory", "name")


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer of a host: its GPUs, and nvidia-smi's words when something is wrong."""

    samples: tuple[Sample, ...]
    problem: str | None = None


def parse_sample(host: str, time: datetime, lines: Iterable[str]) -> Reading:
    """One sample's lines (``status``, ``gpu``, ``memory``, ``processes``, ``process``). Never raises."""
    by_kind: dict[str, list[str]] = {}
    for line in lines:
        kind, _, rest = line.partition(" ")
        by_kind.setdefault(kind, []).append(rest)
    status = number((by_kind.get("status") or [""])[0])
    table = parse_csv("\n".join(by_kind.get("gpu", [])), _COLUMNS)
    shared = _host_memory(by_kind.get("memory", []))
    processes = _processes(by_kind.get("process", [])) if "processes" in by_kind else None
    rows = [row for row in table.rows if number(row["index"]) is not None or cell(row["uuid"]) is not None]
    samples = tuple(_sample(host, time, row, shared, processes) for row in rows)
    return Reading(samples, _problem(status, table.notes, bool(samples)))


def _problem(status: int | None, notes: Sequence[str], measured: bool) -> str | None:
    if notes:
        return value(" · ".join(notes[:3]))
    if status is None:
        return None if measured else "the answer could not be read"
    if status == 127 and not measured:
        return "nvidia-smi is not installed"
    return explain_status(status) if status != 0 else None


def _sample(
    host: str,
    time: datetime,
    row: Mapping[str, str],
    shared: tuple[int, int] | None,
    processes: Mapping[str, tuple[GpuProcess, ...]] | None,
) -> Sample:
    name = cell(row["name"])
    uuid = cell(row["uuid"])
    used, total = mebibytes(row["memory.used"]), mebibytes(row["memory.total"])
    unified = total is None and name is not None and re.search(r"GB10$|\(nvgpu\)|Orin|Thor", name) is not None
    if unified and shared is not None:
        used, total = shared
    return Sample(
        host=host,
        time=time,
        index=number(row["index"]),
        uuid=uuid,
        name=name,
        pci=bus_address(row["bus"]),
        utilization_pct=_decimal(row["utilization"]),
        memory_used_bytes=used,
        memory_total_bytes=total,
        unified_memory=unified,
        temperature_c=_decimal(row["temperature"]),
        power_w=_decimal(row["power"]),
        power_limit_w=_decimal(row["power.limit"]),
        sm_clock_mhz=_decimal(row["sm"]),
        throttle=throttle_reasons(row["throttle"]),
        processes=None if processes is None else processes.get(uuid or "", ()),
        faults=tuple(sorted({words for entry in row.values() if (words := fault(entry)) is not None})),
    )


def _decimal(text: str) -> float | None:
    """A number with or without its unit (``77.71 W``, ``0 %``)."""
    match = re.fullmatch(r"(-?[0-9]{1,9}(?:\.[0-9]{1,6})?)(?: ?(?:W|%|MHz|C))?", cell(text) or "")
    return float(match[1]) if match else None


def _host_memory(lines: Sequence[str]) -> tuple[int, int] | None:
    """Used and total bytes of the host's memory from ``TOTAL AVAILABLE`` in kB."""
    words = lines[0].split() if lines else []
    total, available = (number(words[0]), number(words[1])) if len(words) == 2 else (None, None)
    if total is None or available is None or not 0 <= available <= total:
        return None
    return (total - available) * 1024, total * 1024


def _processes(lines: Sequence[str]) -> dict[str, tuple[GpuProcess, ...]]:
    """Processes by GPU; the name comes last because it may hold commas (`hosts.md §4.1`)."""
    found: dict[str, tuple[GpuProcess, ...]] = {}
    for row in parse_csv("\n".join(lines), _PROCESS_COLUMNS).rows:
        pid = number(row["pid"])
        if pid is not None:
            process = GpuProcess(pid, value(row["name"]) or "?", mebibytes(row["memory"]))
            found[row["uuid"]] = (*found.get(row["uuid"], ()), process)
    return found
