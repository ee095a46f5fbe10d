"""What a PCI device id of NVIDIA is: product, chip and generation, from the table that gpuwizard ships.

A host without a driver has nothing that could name its GPU, and slim systems have no pci.ids (`hosts.md §2.3`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from assets import asset

__all__ = ["Product", "generation_of_capability", "product"]

_GENERATIONS: Mapping[str, str] = {
    "GF": "fermi",
    "GK": "kepler",
    "GM": "maxwell",
    "GP": "pascal",
    "GV": "volta",
    "TU": "turing",
    "GA": "ampere",
    "AD": "ada",
    "GH": "hopper",
    "GB": "blackwell",
    "GR": "rubin",
}
_CAPABILITIES: Mapping[int, str] = {
    2: "fermi",
    3: "kepler",
    5: "maxwell",
    6: "pascal",
    7: "volta",
    8: "ampere",
    9: "hopper",
    10: "blackwell",
    11: "blackwell",
    12: "blackwell",
}
_SHARED_MEMORY = frozenset(("GB10B", "GB20B"))  # the chips of Jetson Thor, and of GB10 and N1X


@dataclass(frozen=True, slots=True)
class Product:
    """A GPU as the table knows it. `name` is None for ids that never became a product."""

    name: str | None
    chip: str

    @property
    def generation(self) -> str | None:
        """``hopper`` for GH100; None for a chip that is newer than this release."""
        return _GENERATIONS.get(self.chip[:2])

    @property
    def shares_memory(self) -> bool:
        """True where CPU and GPU have one memory (`hosts.md §2.5`)."""
        return self.chip in _SHARED_MEMORY


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Product]:
    """Key (``2335``, or ``2342:1809`` with the subsystem) → product."""
    found: dict[str, Product] = {}
    chip = ""
    for line in asset("gpus/names.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        if not line.startswith(" "):
            chip = line
            continue
        key, _, name = line[1:].partition(" ")
        found[key] = Product(name or None, chip)
    return found


def product(device: str, subsystem: str | None = None) -> Product | None:
    """The product with that device id (four small hex digits); None when it is not known to be a GPU.

    `subsystem` (``10de:18be``) tells apart the boards that share an id, such as A2 and A16.
    """
    table = _table()
    if subsystem is not None and subsystem.startswith("10de:"):
        exact = table.get(f"{device}:{subsystem[5:]}")
        if exact is not None:
            return exact
    return table.get(device)


def generation_of_capability(capability: str | None) -> str | None:
    """The generation for a compute capability (``8.9`` → ``ada``), for GPUs whose id says nothing."""
    major, dot, minor = (capability or "").partition(".")
    if not dot or not (major.isdecimal() and minor.isdecimal()) or len(major) > 2:
        return None
    if (major, minor) in (("7", "5"), ("8", "9")):
        return "turing" if major == "7" else "ada"
    return _CAPABILITIES.get(int(major))
