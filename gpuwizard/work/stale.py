"""Does a host still stand as the plan saw it? (`safety.md`, order on one host, 2)"""

from dataclasses import dataclass

from gpuwizard.clean import clean_line
from gpuwizard.clock import Clock
from gpuwizard.errors import RefusedError
from gpuwizard.facts.model import Probe
from gpuwizard.plan.build import boot_of, reads_of, versions_of
from gpuwizard.plan.model import HostPlan
from gpuwizard.remote.transport import Transport
from gpuwizard.work.probe import probe_host

__all__ = ["FRESH", "Look", "still_holds"]

FRESH = 30.0
"""Seconds in which a look at a host is not repeated. Every file that the plan read and the boot are compared once more
by the host itself under its lock (`check_reads`, `check_boot` in guard-prepare.sh), however fresh the look is."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a host, and the clock's time (`Clock.monotonic`) when the look began."""

    probe: Probe
    at: float


async def still_holds(host: HostPlan, transport: Transport, look: Look | None, clock: Clock) -> None:
    """Compare the host with what the plan saw; it is looked at again unless `look` is fresh.

    Raises RefusedError that names the first difference, and as `probe_host`.
    """
    fresh = look is not None and 0 <= clock.monotonic() - look.at < FRESH
    seen = look.probe if look is not None and fresh else await probe_host(transport, sudo_password_known=True)
    for what, planned, now in (
        ("", host.reads, reads_of(seen)),
        ("the version of ", host.versions, versions_of(seen)),
        ("the ", {"boot": host.boot_id or ""}, {"boot": boot_of(seen) or host.boot_id or ""}),
    ):
        for key in sorted({*planned, *now}):
            if planned.get(key) != now.get(key):
                old, new = (clean_line(str(v.get(key, "not there")))[:20] for v in (planned, now))
                raise RefusedError(
                    f"stale plan: {what}{key} was {old}, is {new}", where=host.name, remedy="look again and plan again"
                )
