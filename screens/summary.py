"""How far a look at the hosts has come, and how they stand, on one line of the screen."""

from collections.abc import Mapping

from textual.content import Content

from gpuwizard.session import Session
from gpuwizard.show.overview import KINDS, Group, Overview
from gpuwizard.show.progress import SHORT, STANDING, finished, keeping_waiting
from screens.words import MARKS, STYLES, duration, plain

__all__ = ["progress_line", "tally_line"]

_BAR = 12


def progress_line(session: Session, overview: Overview) -> Content:
    """While hosts are being looked at: how many are done, running, failed, the time, and who keeps one waiting."""
    tally, total, done = overview.tally(), len(overview.order), finished(overview)
    full = done * _BAR // total if total else 0
    parts = [plain(f"{done} of {total} done", "bold")]
    if tally.get("running"):
        parts.append(Content.styled(f"{tally['running']} running", STYLES["running"]))
    if tally.get("failed"):
        parts.append(Content.styled(f"{tally['failed']} failed", STYLES["error"]))
    if session.probe_began is not None:
        parts.append(Content(duration(session.clock.monotonic() - session.probe_began)))
    if waiting := keeping_waiting(session, overview):
        parts.append(plain(waiting, "$quiet"))
    bar = Content.assemble(("█" * full, STYLES["ok"]), ("░" * (_BAR - full), "$quiet"), " ")
    return bar + Content(" · ").join(parts)


def tally_line(session: Session, overview: Overview, width: int = 80) -> Content:
    """When nothing runs: how many hosts stand how, and how long the look took, on `width` cells."""
    took = ""
    if session.probe_began is not None and session.probe_ended is not None:
        took = f"  in {duration(session.probe_ended - session.probe_began)}"
    full, short = (_tally(overview, words) + Content.styled(took, "$quiet") for words in (STANDING, SHORT))
    return full if full.cell_length <= width else short


def _tally(overview: Overview, words: Mapping[Group, str]) -> Content:
    parts = [
        Content.styled(f"{MARKS[KINDS[group]]} {number} {words[group]}", STYLES[KINDS[group]])
        for group, number in overview.tally().items()
    ]
    return Content("  ").join(parts)
