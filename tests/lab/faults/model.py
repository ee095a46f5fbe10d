"""What a fault is, when it strikes, and how a host may end."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from tests.lab.faults.site import Site

__all__ = ["FLAVOURS", "Cell", "End", "Ending", "Fault", "Moment"]

End: TypeAlias = Literal["as before", "applied", "foreign"]

FLAVOURS = {
    "bookworm": "containerd 1.6, in place",
    "trixie": "containerd 1.7, in place",
    "sid": "containerd 2.x, drop-in",
}
"""The lab's hosts and what a plan does on them."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When a fault strikes: at the `nth` word that the host is at `step`, before another byte leaves the laptop; or
    afterwards, when `until` holds inside the host and `pause` seconds have gone by."""

    step: str
    nth: int = 1
    until: str = ""
    pause: float = 0.0

    @property
    def at_once(self) -> bool:
        """It strikes while the laptop stands still."""
        return not self.until and not self.pause


@dataclass(frozen=True, slots=True, eq=False)
class Fault:
    """One row of the table. `says` is a regular expression that the report must match: the end state, and why (without
    a report, because the laptop died: the host's own state and its reason). `before` runs inside the host ahead of the
    plan, `between` between plan and apply, `strike` at the `moment`; `play` is who does what meanwhile. `simulated`:
    not the real thing, and why."""

    name: str
    group: str
    ends: tuple[End, ...]
    says: str
    before: str = ""
    between: Callable[["Site"], None] | None = None
    moment: Moment | None = None
    strike: Callable[["Site"], None] | None = None
    play: Callable[["Site"], Awaitable[None]] | None = None
    host: Mapping[str, Any] = field(default_factory=dict)
    rollout: Mapping[str, float] = field(default_factory=dict)
    suites: tuple[str, ...] = tuple(FLAVOURS)
    user: str = "admin"
    simulated: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault on one flavour."""

    fault: Fault
    suite: str

    @property
    def name(self) -> str:
        """How it is called in reports."""
        return f"{self.fault.group}: {self.fault.name} [{self.suite}]"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a cell ended, from the host alone. `wrong` says what makes it broken; empty when nothing does."""

    end: str
    outcome: str
    wrong: tuple[str, ...]
    seconds: float
