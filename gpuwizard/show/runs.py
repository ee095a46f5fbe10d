"""The runs that have been, as lines of plain text: who, when, what, where, and how it ended."""

import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

from gpuwizard.clean import clean_line
from gpuwizard.run_record import RunHost, RunRecord
from gpuwizard.run_scope import put_back
from gpuwizard.show.words import folded, listed

__all__ = ["run_blocks", "run_line"]

_ENOUGH = 4


def run_line(run: RunRecord, runs: Sequence[RunRecord] = ()) -> str:
    """One run in one line, fields two spaces apart: for pipes."""
    fields = [run.id, run.started, _who(run), _ended(run)]
    fields.append("; ".join(clean_line(text, 1000) for text in (*_where(run), *_undone(run, runs))))
    return "  ".join(field for field in fields if field)


def run_blocks(runs: Sequence[RunRecord], width: int) -> Iterator[str]:
    """The runs for a terminal of that width: a heading and a few lines below it for each."""
    width = max(40, min(width, 100))
    for run in runs:
        yield from _wrapped(f"{run.id}  {_minute(run.started)}  {_who(run)}", width, "", "  ")
        for text in (_ended(run), *_where(run), *_undone(run, runs)):
            yield from _wrapped(clean_line(text, 4000), width, "  ", "    ")
        yield ""
    yield from _wrapped("gpuwizard rollback RUN puts a run back, with HOST… only there.", width, "", "")


def _wrapped(text: str, width: int, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
    )


def _minute(time: str) -> str:
    """``2026-11-21T01:14:00Z`` as ``2026-11-21 01:14 UTC``."""
    return f"{time[:10]} {time[11:16]} UTC" if time.endswith("Z") else time


def _who(run: RunRecord) -> str:
    return clean_line(f"{run.user or 'somebody'}@{run.laptop or 'unknown'}", 100)


def _ended(run: RunRecord) -> str:
    """``apply: 2 confirmed, 1 refused``."""
    counts = Counter(host.outcome or "unknown" for host in run.hosts)
    ended = ", ".join(f"{number} {word}" for word, number in sorted(counts.items())) or "no hosts"
    what = f"rollback of {run.rolls_back}" if run.rolls_back else run.kind
    state = " (is running)" if run.running else "" if run.finished else " (was cut)"
    cordons = f" (still cordons {listed([c.node for c in run.cordons], _ENOUGH)})" if run.cordons else ""
    return f"{what}: {ended}{state}{cordons}"


def _where(run: RunRecord) -> Iterator[str]:
    """The hosts with what was to be done there; those with the same changes and the same end together."""
    alike: dict[tuple[str | None, tuple[str, ...]], list[RunHost]] = {}
    for host in run.hosts:
        does = tuple(_short(deed, host) for deed in host.does)
        alike.setdefault((host.outcome, does), []).append(host)
    mixed = len({host.outcome for host in run.hosts}) > 1
    for (outcome, does), hosts in alike.items():
        names = folded(host.name for host in hosts)
        words = f" ({outcome or 'unknown'})" if mixed else ""
        verb = "take back " if run.kind == "rollback" and does else ""
        yield f"{names}{words}: {verb}{', '.join(does) or 'nothing'}"
    objects = [str(entry.key) for entry in run.objects]
    if objects:
        verb = "take back " if run.kind == "rollback" else "remove " if run.kind == "uninstall" else ""
        yield f"cluster: {verb}{listed(objects, _ENOUGH)}"
    if run.cluster_error:
        yield f"cluster: {run.cluster_error}"


def _short(deed: str, host: RunHost) -> str:
    """A change without the name of its node, so that hosts that were changed alike read alike."""
    return clean_line(re.sub(rf" node {re.escape(host.node)}(?= |$)", " node", deed) if host.node else deed, 300)


def _undone(run: RunRecord, runs: Sequence[RunRecord]) -> Iterator[str]:
    """Which later run put it back, and where if not everywhere."""
    by: dict[str, list[str]] = {}
    for host, later in put_back(run, runs).items():
        by.setdefault(later, []).append(host)
    touched = {host.name for host in run.hosts if host.touched}
    for later, hosts in by.items():
        there = [name for name in hosts if name in touched]
        if there:
            where = "" if set(there) == touched else f" on {folded(there)}"
            yield f"put back{where} by {later}"
