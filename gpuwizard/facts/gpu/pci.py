"""NVIDIA functions on the PCI bus, told apart by class (`hosts.md §2`)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from gpuwizard.facts.gpu.names import Product, product
from gpuwizard.facts.text import number, value

__all__ = ["PciFunction", "bus_address", "needs_proprietary_module", "parse_drivers", "parse_pci"]

Kind = Literal["passed-through", "virtual-function", "nvswitch", "display"]

_LINE = re.compile(r"([0-9a-fA-F:.]{7,20}) (0x[0-9a-fA-F]{4}|-) (0x[0-9a-fA-F]{6}|-) ([01])((?: [a-z]+=\S*)*)")
_ADDRESS = re.compile(r"(?:([0-9a-fA-F]{1,8}):)?([0-9a-fA-F]{2}):([0-9a-fA-F]{2})\.([0-7])")
_SUBSYSTEM = re.compile(r"(?:0x)?([0-9a-fA-F]{4}):(?:0x)?([0-9a-fA-F]{4})")
_GPU_CLASSES = ("0300", "0302")
_HANDED_OVER = re.compile(r"vfio|^pci-stub$|^pciback$|^xen-pciback$")
_LINK_IS_GONE = "63"  # lanes: a register that reads as ones only


@dataclass(frozen=True, slots=True)
class PciFunction:
    """One PCI function of NVIDIA: address as sysfs writes it, device id, class (six hex digits), bound driver.

    Device id and class are "" where they could not be read. `subsystem` is ``10de:18be``, `numa` the memory node,
    `virtual_functions` how many are switched on; `vgpu_types` tells that its driver offers virtual GPUs. `gone` is
    set when the function answers with ones only: it has fallen off the bus.
    """

    address: str
    device: str
    pci_class: str
    virtual: bool
    driver: str | None
    subsystem: str | None = None
    numa: int | None = None
    virtual_functions: int | None = None
    vgpu_types: bool = False
    gone: bool = False

    @property
    def product(self) -> Product | None:
        """What the table of names knows of it."""
        return product(self.device, self.subsystem)

    @property
    def is_gpu(self) -> bool:
        """A GPU that this host could use: display class, no virtual function, not passed through to a VM."""
        return self._is_gpu_device and not self.virtual and not self.passed_through

    @property
    def _is_gpu_device(self) -> bool:
        if self.pci_class in ("", "ffffff"):  # unreadable: then the id decides, or that the driver held it as a GPU
            return self.gone or self.product is not None
        return self.pci_class[:4] in _GPU_CLASSES

    @property
    def is_nvswitch(self) -> bool:
        """An NVSwitch (class 0680) of this host; PCIe bridges of NVIDIA have class 0604."""
        return self.pci_class[:4] == "0680" and not self.passed_through

    @property
    def passed_through(self) -> bool:
        """Given to a virtual machine: no fault, and never to be touched."""
        return self.driver is not None and _HANDED_OVER.search(self.driver) is not None

    @property
    def kind(self) -> Kind | None:
        """Why it counts as no GPU of this host although it is worth a word; None for a GPU, and for what is none."""
        if not (self._is_gpu_device or self.pci_class[:4] in ("0680", "0380")):
            return None
        if self.virtual:
            return "virtual-function"
        if self.passed_through:
            return "passed-through"
        if self.is_nvswitch:
            return "nvswitch"
        return "display" if self.pci_class[:4] == "0380" else None


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
    """The functions in ``address device class virtual key=value…`` lines; None when the bus was not looked at.

    `drivers` are the bound drivers that the lines do not name.
    """
    if text is None:
        return None
    return _parse_pci(text, tuple(sorted(drivers.items())))


@lru_cache(maxsize=256)
def _parse_pci(text: str, drivers: tuple[tuple[str, str], ...]) -> tuple[PciFunction, ...]:
    bound, found = dict(drivers), {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        address = bus_address(match[1]) if match else None
        if match and address and address not in found:
            more = dict(pair.split("=", 1) for pair in match[5].split())
            found[address] = _function(address, match, more, bound.get(address))
    return tuple(sorted(found.values(), key=lambda f: (len(f.address), f.address)))


def _function(address: str, match: re.Match[str], more: Mapping[str, str], driver: str | None) -> PciFunction:
    device, pci_class = (text.removeprefix("0x").removeprefix("-").lower() for text in (match[2], match[3]))
    subsystem = _SUBSYSTEM.fullmatch(more.get("sub", ""))
    node = number(more.get("numa"))
    ones = "0xffff" in (more.get("vendor"), match[2].lower())
    return PciFunction(
        address,
        "" if ones else device,
        pci_class,
        match[4] == "1",
        value(more.get("driver")) or driver,
        subsystem=f"{subsystem[1]}:{subsystem[2]}".lower() if subsystem else None,
        numa=node if node is not None and node >= 0 else None,
        virtual_functions=number(more.get("vfs")),
        vgpu_types=more.get("mdev") == "1",
        gone=ones or more.get("width") == _LINK_IS_GONE,
    )
