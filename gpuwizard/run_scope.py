"""Which hosts of a run are still as the run left them, and what of it a rollback of some of them is about."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from gpuwizard.errors import UsageError
from gpuwizard.run_record import RunRecord

__all__ = ["part_of", "put_back"]


def put_back(run: RunRecord, runs: Iterable[RunRecord]) -> dict[str, str]:
    """The hosts of `run` that later ones of `runs` put back, with the id of the run that did."""
    found: dict[str, str] = {}
    for later in sorted(runs, key=lambda r: (r.started, r.id)):
        if later.rolls_back != run.id and not (later.uninstalls and later.started >= run.started):
            continue
        for host in later.hosts:
            done = host.outcome == "confirmed" or (
                host.outcome == "unchanged" and later.rolls_back and not host.reason.startswith("not begun")
            )
            if done and later.id != run.id:
                found.setdefault(host.name, later.id)
    return found


def part_of(run: RunRecord, names: Sequence[str], runs: Iterable[RunRecord]) -> tuple[RunRecord, tuple[str, ...]]:
    """The part of `run` that is about the hosts `names` (none: all of them), and the hosts that keep the run.

    The cluster's objects are part of it only when no other host keeps the run. Raises UsageError for a host that the
    run does not have.
    """
    known = [host.name for host in run.hosts]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(
            f"run {run.id} has no host {', '.join(unknown)}",
            remedy=f"its hosts are {', '.join(known)}" if known else "it has none",
        )
    gone = put_back(run, runs)
    hosts = tuple(host for host in run.hosts if not names or host.name in names)
    keep = tuple(
        h.name for h in run.hosts if names and h.touched and h.name not in names and h.name not in gone
    )  # fmt: skip
    nodes = {host.node for host in hosts}
    labels = tuple(label for label in run.labels if not names or label.node in nodes)
    return replace(run, hosts=hosts, labels=labels, objects=() if keep else run.objects), keep
