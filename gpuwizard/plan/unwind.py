"""How the files of a host go back to what they were before our first run: its runs unwound, the newest first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gpuwizard.actions import FileChange, Refusal
from gpuwizard.facts.history import ABSENT, HostHistory, PastRow, PastRun
from gpuwizard.plan.diff import diff_text, unified_diff
from gpuwizard.secret import SecretBytes

__all__ = ["Unwound", "unwind"]

_SAME_UNIT = ("unit", "verb", "snap", "kind")


@dataclass(frozen=True, slots=True)
class Unwound:
    """One guarded change that takes `runs` back (the newest first, all of the same unit): `files` in the order in which
    they are written. `params` are those of the newest run."""

    runs: tuple[PastRun, ...]
    params: Mapping[str, str]
    files: tuple[FileChange, ...]


def unwind(history: HostHistory) -> tuple[Unwound, ...] | Refusal:
    """The guarded changes that take every standing run back, in order; a refusal where that would lose what somebody
    else wrote. Edits that only stood by for a revert do not count: no file of ours is left.

    The host does the same with its own copies (``table_from_runs``), and refuses when it does not come to these files.
    """
    now = dict(history.have)
    changes = []
    for group in _groups(history.runs):
        files = []
        for rows in _by_target(group):
            target = rows[0][1].target
            start = now.get(target, ABSENT)
            end = start
            for run, row in rows:
                if end == row.after:
                    end = row.before
                elif end != row.before:
                    return _foreign(history, run, row, end)
            if end != start:
                row = rows[-1][1]
                before, after = _content(history, start), _content(history, end)
                if (before is None) != (start == ABSENT) or (after is None) != (end == ABSENT):
                    return _damaged(run, row)
                files.append(FileChange(row.path, before, after, row.mode))
            now[target] = end
        if files:
            changes.append(Unwound(group, group[0].params, tuple(files)))
    return tuple(changes)


def _groups(runs: Sequence[PastRun]) -> Iterator[tuple[PastRun, ...]]:
    """Runs one after the other that are made live in the same way: one restart takes all of them back."""
    group: list[PastRun] = []
    for run in runs:
        if group and [group[0].params.get(k) for k in _SAME_UNIT] != [run.params.get(k) for k in _SAME_UNIT]:
            yield tuple(group)
            group = []
        group.append(run)
    if group:
        yield tuple(group)


def _by_target(runs: Sequence[PastRun]) -> Iterator[list[tuple[PastRun, PastRow]]]:
    """The rows of each file, the newest first. Its place is that of its oldest row: what an older run added first, for
    others to name it, goes last."""
    rows: dict[str, list[tuple[PastRun, PastRow]]] = {}
    for run in runs:
        for row in reversed(run.rows):
            if row.kind == "write":
                rows[row.target] = [*rows.pop(row.target, []), (run, row)]
    yield from rows.values()


def _content(history: HostHistory, sha: str) -> SecretBytes | None:
    return None if sha == ABSENT else history.contents.get(sha)


def _foreign(history: HostHistory, run: PastRun, row: PastRow, found: str) -> Refusal:
    """Somebody else changed a file after `run`: refused, with the difference between what it left and what is there."""
    ours, theirs = _content(history, row.after), _content(history, found)
    known = (ours is not None or row.after == ABSENT) and (theirs is not None or found == ABSENT)
    return Refusal(
        "foreign",
        f"{row.path} was changed by somebody else since {run.who}",
        f"decide by hand: sudo cat /var/lib/gpuwizard/runs/{run.id}/README.txt says how",
        diff_text(unified_diff(ours, theirs, row.path)) if known else "",
    )


def _damaged(run: PastRun, row: PastRow) -> Refusal:
    return Refusal(
        "backup",
        f"the copy of {row.path} that {run.who} made is gone",
        f"look at /var/lib/gpuwizard/runs/{run.id} on the host",
    )
