"""What is known of NVIDIA's driver branches for Linux: kind, end of life, CUDA (`hosts.md §3.6` to `§3.8`)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Literal

from gpuwizard.facts.text import version_key

__all__ = ["BRANCHES", "CUDA_FLOORS", "Branch", "branch_of", "ended", "older"]


@dataclass(frozen=True, slots=True)
class Branch:
    """A driver branch. `kind`: long-term support, production, new features, or legacy. `end` is the last day of
    support; of two that NVIDIA's page and others name, the later one. None: not known."""

    number: int
    kind: Literal["long-term support", "production", "new feature", "legacy"]
    end: date | None
    cuda: str


BRANCHES: Mapping[int, Branch] = {
    branch.number: branch
    for branch in (
        Branch(470, "legacy", date(2024, 9, 30), "11.4"),
        Branch(535, "long-term support", date(2026, 6, 30), "12.2"),
        Branch(550, "production", date(2025, 4, 30), "12.4"),
        Branch(570, "production", date(2026, 1, 31), "12.8"),
        Branch(575, "new feature", date(2026, 6, 30), "12.9"),
        Branch(580, "long-term support", date(2028, 8, 31), "13.0"),
        Branch(590, "new feature", date(2026, 12, 31), "13.1"),
        Branch(595, "production", date(2027, 3, 31), "13.2"),
        Branch(610, "new feature", date(2027, 8, 31), "13.3"),
    )
}
"""By number. 615 and later are left out: what they are was not known when this was written."""
CUDA_FLOORS = ((13, "580.65.06"), (12, "525.60.13"))
"""CUDA's major release and the first driver that runs its programs, by minor version compatibility."""
_OLDEST_LIVING = 580


def branch_of(version: str | None) -> int | None:
    """580 for ``580.95.05``; None for what is no version of the desktop and datacentre driver (Jetson's 540.4.0
    included: the caller knows by the kind of host)."""
    match = re.match(r"([0-9]{3})\.[0-9]", version or "")
    return int(match[1]) if match else None


@lru_cache(maxsize=256)
def older(version: str | None, than: str) -> bool:
    """True when `version` is certainly older."""
    return branch_of(version) is not None and version_key(version or "") < version_key(than)


def ended(number: int, today: date) -> Branch | Literal["long ago"] | None:
    """The branch, when its support has ended before `today`. Branches before 580 that are not listed ended before
    those that are: they were legacy, new feature and older production branches."""
    branch = BRANCHES.get(number)
    if branch is not None:
        return branch if branch.end is not None and branch.end < today else None
    return "long ago" if number < _OLDEST_LIVING else None
