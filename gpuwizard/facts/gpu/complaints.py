"""What nvidia-smi says of single GPUs beside its table: lost ones, and a corrupted infoROM (`hosts.md §3.3`)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gpuwizard.facts.gpu.pci import bus_address
from gpuwizard.facts.text import value

__all__ = ["Complaint", "corrupted_inforoms", "unreachable"]

_HANDLE = re.compile(r"device handle for GPU ?(.*)", re.IGNORECASE)
_ADDRESS = re.compile(r"[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7]")
_INDEX = re.compile(r"(\d{1,3})(?::|\s|$)")
_INFOROM = re.compile(r"infoROM is corrupted(?: at gpu +(\S+))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Complaint:
    """A GPU that nvidia-smi could not reach: its number or its address (old drivers give one, new ones both)."""

    index: int | None
    address: str | None
    words: str


def unreachable(notes: Iterable[str]) -> tuple[Complaint, ...]:
    """The GPUs of ``Unable to determine the device handle for GPU3: 0000:5F:00.0: Unknown Error`` in its forms."""
    found: list[Complaint] = []
    for note in notes:
        match = _HANDLE.search(note)
        if match is None:
            continue
        rest = match[1]
        address = _ADDRESS.search(rest)
        index = _INDEX.match(rest[: address.start()] if address else rest)
        words = rest[address.end() :] if address else rest[index.end() :] if index else rest
        plain = value(words.partition("Reboot")[0].strip(" .:")) or "Unknown Error"
        complaint = Complaint(int(index[1]) if index else None, bus_address(address[0]) if address else None, plain)
        if complaint not in found:
            found.append(complaint)
    return tuple(found)


def corrupted_inforoms(notes: Iterable[str]) -> frozenset[str]:
    """The addresses in ``WARNING: infoROM is corrupted at gpu 0000:0B:00.0``; "" for a warning without one."""
    matches = (_INFOROM.search(note) for note in notes)
    return frozenset(bus_address((m[1] or "").rstrip(".,")) or "" for m in matches if m)
