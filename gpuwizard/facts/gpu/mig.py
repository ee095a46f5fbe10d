"""The MIG devices that ``nvidia-smi -L`` lists below their GPU (`hosts.md §4.5`)."""

import re
from dataclasses import dataclass

from gpuwizard.clean import clean
from gpuwizard.facts.model import MigDevice

__all__ = ["ListedGpu", "parse_list"]

_GPU = re.compile(r"GPU (\d{1,4}): (.*?) ?\(UUID: ([^)\s]{1,80})\)")
_MIG = re.compile(r"\s+MIG (\S{1,40})\s+Device\s+(\d{1,4}): \(UUID: (MIG-[^)\s]{1,100})\)")


@dataclass(frozen=True, slots=True)
class ListedGpu:
    """One GPU of the list: index, UUID, and its MIG devices in their order."""

    index: int
    uuid: str
    devices: tuple[MigDevice, ...] = ()


def parse_list(text: str) -> tuple[ListedGpu, ...]:
    """The GPUs of ``nvidia-smi -L`` with their MIG devices.

    Profiles keep what they say: slices of a compute instance (``1c.3g.40gb``), media extensions (``1g.10gb+me``),
    UUIDs of old drivers (``MIG-GPU-…/1/0``). A device line that no GPU precedes belongs to none and is dropped.
    """
    found: list[tuple[int, str, list[MigDevice]]] = []
    for line in clean(text).splitlines():
        if gpu := _GPU.match(line):
            found.append((int(gpu[1]), gpu[3], []))
        elif found and (device := _MIG.match(line)):
            found[-1][2].append(MigDevice(device[1], int(device[2]), device[3]))
    return tuple(ListedGpu(index, uuid, tuple(devices)) for index, uuid, devices in found)
