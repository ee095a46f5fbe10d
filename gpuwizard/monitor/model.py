"""One measurement of one GPU. `None` is "the GPU does not say" and stays that."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = ["THROTTLE_ALARMS", "GpuProcess", "Sample", "sample_json"]

THROTTLE_ALARMS = frozenset(("hw-slowdown", "hw-thermal", "hw-power-brake"))
"""Reasons that deserve attention; idle and the software power cap are normal (`hosts.md §4.4`)."""


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A compute process on a GPU, as far as the login user can see it. Memory in bytes."""

    pid: int
    name: str
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Sample:
    """What nvidia-smi said of one GPU at `time` (this machine's clock, UTC).

    Memory in bytes, temperature in °C, power in W. With `unified_memory` CPU and GPU share one memory: total and
    used are then the host's (GB10, `hosts.md §2.5`). `throttle` and `processes` are None when they are not known.
    """

    host: str
    time: datetime
    index: int | None = None
    uuid: str | None = None
    name: str | None = None
    pci: str | None = None
    utilization_pct: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    unified_memory: bool = False
    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    sm_clock_mhz: float | None = None
    throttle: tuple[str, ...] | None = None
    processes: tuple[GpuProcess, ...] | None = None
    faults: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Host and GPU: the UUID where there is one, else the index."""
        return self.host, self.uuid or f"#{self.index}"

    @property
    def alarms(self) -> tuple[str, ...]:
        """The throttle reasons that deserve attention."""
        return tuple(reason for reason in self.throttle or () if reason in THROTTLE_ALARMS)


def sample_json(sample: Sample) -> Mapping[str, Any]:
    """The sample as `gpuwizard.sample/1`; unknown is null."""
    return {
        "schema": "gpuwizard.sample/1",
        "time": sample.time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "host": sample.host,
        "gpu": {"index": sample.index, "uuid": sample.uuid, "name": sample.name},
        "utilization_pct": sample.utilization_pct,
        "memory_used_bytes": sample.memory_used_bytes,
        "memory_total_bytes": sample.memory_total_bytes,
        "unified_memory": sample.unified_memory,
        "temperature_c": sample.temperature_c,
        "power_w": sample.power_w,
        "power_limit_w": sample.power_limit_w,
        "sm_clock_mhz": sample.sm_clock_mhz,
        "throttle": None if sample.throttle is None else list(sample.throttle),
        "processes": None
        if sample.processes is None
        else [{"pid": p.pid, "name": p.name, "memory_bytes": p.memory_bytes} for p in sample.processes],
        "faults": list(sample.faults),
    }
