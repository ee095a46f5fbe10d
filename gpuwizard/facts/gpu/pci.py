"""NVIDIA functions on the PCI bus, told apart by class (`hosts.md §2`)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gpuwizard.facts.text import value

__all__ = ["NAMES", "PciFunction", "bus_address", "needs_proprietary_module", "parse_drivers", "parse_pci"]

_LINE = re.compile(r"([0-9a-fA-F:.]{7,20}) 0x([0-9a-fA-F]{4}) 0x([0-9a-fA-F]{6}) ([01])")
_ADDRESS = re.compile(r"(?:([0-9a-fA-F]{1,8}):)?([0-9a-fA-F]{2}):([0-9a-fA-F]{2})\.([0-7])")
NAMES: Mapping[str, str] = {
    "1db6": "Tesla V100",
    "1eb8": "Tesla T4",
    "20b0": "A100",
    "20b2": "A100",
    "20b5": "A100",
    "2330": "H100 SXM",
    "2335": "H200",
    "2342": "GH200",
    "26b9": "L40S",
    "27b8": "L4",
    "2901": "B200",
    "2941": "GB200",
    "2b00": "Jetson AGX Thor",
    "2bb5": "RTX PRO 6000 Server",
    "2e12": "GB10",
    "3182": "B300",
    "31c2": "GB300",
}
"""Names for GPUs that no driver can name (`hosts.md §2.3`)."""


@dataclass(frozen=True, slots=True)
class PciFunction:
    """One PCI function of NVIDIA: address as sysfs writes it, device id, class (six hex digits), bound driver."""

    address: str
    device: str
    pci_class: str
    virtual: bool
    driver: str | None

    @property
    def is_gpu(self) -> bool:
        """A GPU that this host could use: display class, no virtual function, not passed through to a VM."""
        return self.pci_class[:4] in ("0300", "0302") and not self.virtual and not self.passed_through

    @property
    def is_nvswitch(self) -> bool:
        """An NVSwitch (class 0680); PCIe bridges of NVIDIA have class 0604."""
        return self.pci_class[:4] == "0680"

    @property
    def passed_through(self) -> bool:
        """Given to a virtual machine: no fault, and never to be touched."""
        return self.driver is not None and "vfio" in self.driver


def bus_address(text: str | None) -> str | None:
    """Any spelling of a PCI address in sysfs form: ``0000000F:01:00.0`` → ``000f:01:00.0``; None when it is none."""
    match = _ADDRESS.fullmatch((text or "").strip())
    if match is None:
        return None
    domain = int(match[1] or "0", 16)
    return f"{domain:04x}:{match[2]}:{match[3]}.{match[4]}".lower()


def needs_proprietary_module(device: str) -> bool:
    """True for GPUs older than Turing, which the open kernel modules do not run (`hosts.md §2.3`)."""
    return int(device, 16) < 0x1E00


def parse_drivers(text: str | None) -> dict[str, str]:
    """Address → bound driver, from ``ls -ld …/driver`` lines with their arrows."""
    found: dict[str, str] = {}
    for line in (text or "").splitlines():
        match = re.search(r"/([0-9a-fA-F:.]+)/driver -> (\S+)", line)
        address = bus_address(match[1]) if match else None
        driver = value(match[2].rstrip("/").rpartition("/")[2]) if match else None
        if address and driver:
            found[address] = driver
    return found


def parse_pci(text: str | None, drivers: Mapping[str, str]) -> tuple[PciFunction, ...] | None:
    """The functions in ``address device class virtual`` lines; None when the bus was not looked at."""
    if text is None:
        return None
    found = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        address = bus_address(match[1]) if match else None
        if match and address:
            found.append(
                PciFunction(address, match[2].lower(), match[3].lower(), match[4] == "1", drivers.get(address))
            )
    return tuple(sorted(found, key=lambda f: f.address))
