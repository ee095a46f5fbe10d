"""Virtualisation and the licence of virtual GPUs, which only ``nvidia-smi -q`` tells (`hosts.md §2.5`)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gpuwizard.clean import clean
from gpuwizard.facts.gpu.nvidia_smi import cell
from gpuwizard.facts.gpu.pci import bus_address
from gpuwizard.facts.model import VgpuLicense
from gpuwizard.facts.text import value

__all__ = ["Virtual", "license_of", "parse_full_query"]

Mode = Literal["none", "passthrough", "vgpu", "host-vgpu", "host-vsga"]

_GPU = re.compile(r"GPU ([0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7])")
_LINE = re.compile(r"( *)(\S[^:]{0,80}?) *:(?: (.*))?")
_LONGEST = 500  # characters; nvidia-smi's own lines have about a hundred
_MODES: Mapping[str, Mode] = {
    "none": "none",
    "pass-through": "passthrough",
    "passthrough": "passthrough",
    "vgpu": "vgpu",
    "host vgpu": "host-vgpu",
    "host vsga": "host-vsga",
}


@dataclass(frozen=True, slots=True)
class Virtual:
    """What ``-q`` says of one GPU: its virtualisation mode and its licence."""

    mode: Mode | None = None
    license: VgpuLicense | None = None


def license_of(status: str) -> VgpuLicense:
    """``Licensed (Expiry: …)``, ``Unlicensed (Unrestricted)``, ``Unlicensed (Restricted)``; other words are kept as
    they are, with nothing concluded."""
    plain = status.lower()
    if plain.startswith("licensed"):
        return VgpuLicense(status, licensed=True, restricted=False)
    if plain.startswith("unlicensed"):
        inner = plain.removeprefix("unlicensed").strip(" ()")
        restricted = {"restricted": True, "unrestricted": False}.get(inner)
        return VgpuLicense(status, licensed=False, restricted=restricted)
    return VgpuLicense(status)


def parse_full_query(text: str) -> dict[str, Virtual]:
    """Bus address → what ``nvidia-smi -q`` says of that GPU. Labels are read by their words, not by their place."""
    found: dict[str, Virtual] = {}
    address: str | None = None
    for line in clean(text).splitlines():
        if len(line) > _LONGEST:
            continue
        if gpu := _GPU.match(line):
            address = bus_address(gpu[1])
            if address is not None:
                found.setdefault(address, Virtual())
        elif address is not None and (match := _LINE.fullmatch(line)):
            known, said = found[address], cell(match[3])
            if match[2] == "Virtualization Mode" and said is not None:
                found[address] = Virtual(_MODES.get(said.lower()), known.license)
            elif match[2] == "License Status" and (shown := value(said)) is not None:
                found[address] = Virtual(known.mode, license_of(shown))
    return found
