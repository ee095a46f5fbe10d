"""How far a look at the hosts has come, and how they stand, in one line of words."""

from collections.abc import Mapping

from gpuwizard.session import Session
from gpuwizard.show.overview import Group, Overview, waiting_for
from gpuwizard.show.words import count, duration

__all__ = ["SHORT", "STANDING", "finished", "keeping_waiting", "progress_words", "tally_words"]

STANDING: Mapping[Group, str] = {
    "failed": "without an answer",
    "error": "with errors",
    "mended": "that the plan mends",
    "warning": "with warnings",
    "running": "being looked at",
    "ok": "ok",
    "waiting": "not looked at",
}
"""How the hosts of each group stand."""

SHORT: Mapping[Group, str] = {
    "failed": "no answer",
    "error": "error",
    "mended": "plan mends",
    "warning": "warning",
    "running": "running",
    "ok": "ok",
    "waiting": "not looked at",
}
"""The same where there is no room."""

_LONG = 5.0
"""Seconds after which a host is named that keeps the others waiting."""


def finished(overview: Overview) -> int:
    """How many hosts have answered or failed."""
    tally = overview.tally()
    return len(overview.order) - tally.get("running", 0) - tally.get("waiting", 0)


def keeping_waiting(session: Session, overview: Overview) -> str:
    """The host that has taken longest, for how long, and what it waits for; empty while none takes long."""
    slowest = overview.slowest()
    seconds = slowest.elapsed(session.clock.monotonic()) if slowest is not None else None
    if slowest is None or seconds is None or seconds < _LONG:
        return ""
    return f"{slowest.name} {duration(seconds)}: {waiting_for(slowest)}"


def progress_words(session: Session, overview: Overview) -> str:
    """``412 of 1000 done · 30 running · 3 failed · 42 s · gpu17 31 s: waiting for nvidia-smi``."""
    tally = overview.tally()
    parts = [f"{finished(overview)} of {len(overview.order)} done"]
    parts += [f"{tally['running']} running"] if tally.get("running") else []
    parts += [f"{tally['failed']} failed"] if tally.get("failed") else []
    if session.probe_began is not None:
        parts.append(duration(session.clock.monotonic() - session.probe_began))
    waiting = keeping_waiting(session, overview)
    return " · ".join([*parts, waiting] if waiting else parts)


def tally_words(session: Session, overview: Overview) -> str:
    """``8 hosts in 3 s: 1 without an answer, 1 with errors, 6 ok``."""
    took = ""
    if session.probe_began is not None and session.probe_ended is not None:
        took = f" in {duration(session.probe_ended - session.probe_began)}"
    stand = ", ".join(f"{number} {STANDING[group]}" for group, number in overview.tally().items())
    return f"{count(len(overview.order), 'host')}{took}: {stand or 'none was looked at'}"
