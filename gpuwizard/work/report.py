"""How a run ended on each of its hosts: told, written down, and handed back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gpuwizard.events import HostOutcome, Stage
from gpuwizard.work.cordon import with_cordons
from gpuwizard.work.shared_run import SharedRun

__all__ = ["Report", "close_run"]


@dataclass(frozen=True, slots=True)
class Report:
    """How a run ended. `cluster_error` is set when an object could not be applied or was not tried."""

    outcomes: Mapping[str, HostOutcome] = field(default_factory=dict)
    cluster_error: str | None = None


def close_run(run: SharedRun, hosts: Iterable[str], what: str = "run", stage: Stage = "rollback") -> Report:
    """Emit the outcome of each of `hosts`, in their order, and end the journal. A host that was never begun is
    unchanged: `what` ended before its turn."""
    left_out = f"not begun: the {what} ended before its turn"
    outcomes: Mapping[str, HostOutcome] = {
        name: run.outcomes.get(name, HostOutcome(name, "unchanged", left_out, stage, begun=False)) for name in hosts
    }
    outcomes = with_cordons(run, outcomes)
    for outcome in outcomes.values():
        run.emit(outcome)
    run.journal.finish(outcomes.values(), run.cluster_error)
    return Report(outcomes, run.cluster_error)
