"""Take gpuwizard's changes back, as a plan says that was reviewed: host by host under the rules of an apply, then the
cluster's objects."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from gpuwizard.actions import ApplyObject, LabelNode
from gpuwizard.answers.model import Answers
from gpuwizard.clock import Clock
from gpuwizard.errors import GpuwizardError, RefusedError
from gpuwizard.events import Asker, Emit, HostOutcome, Note
from gpuwizard.journal import Journal, LabelRecord
from gpuwizard.kube.cluster import Cluster
from gpuwizard.plan.model import HostPlan, Plan
from gpuwizard.plan.shown import shown_yaml
from gpuwizard.remote.transport import Transport
from gpuwizard.run_parts import part_id
from gpuwizard.work.apply import CUT, time_limits
from gpuwizard.work.cordon import lift_left
from gpuwizard.work.load import load_of
from gpuwizard.work.report import Report, close_run
from gpuwizard.work.rollout import roll_out
from gpuwizard.work.shared_run import SharedRun
from gpuwizard.work.undo import (
    FINE,
    guard_of,
    kept,
    labels_again,
    progress_of,
    said,
    undo_change,
    undo_hooks,
    without_labels,
)

__all__ = ["uninstall"]


@dataclass(slots=True, kw_only=True)
class _Run(SharedRun):
    """What all hosts of one uninstall share."""

    plan: Plan
    resumed: bool = False


async def uninstall(
    plan: Plan,
    hosts: Mapping[str, Transport],
    cluster: Cluster | None,
    answers: Answers,
    run_id: str,
    emit: Emit,
    ask: Asker,
    clock: Clock,
    journal: Journal,
    *,
    resumed: bool = False,
) -> Report:
    """Run exactly the actions of `plan` (`plan/uninstall.py`); `run_id` is the id of this run. `resumed`: an earlier
    process began it and was cut.

    On each host the node's label goes first, then every run of ours that stands there is taken back, from the host's
    own copies and guarded as an apply is: canary, batches, never two control-plane hosts, nothing new after a failure.
    The cluster's objects go last and only when every host of the plan is as it was before. Outcomes and cancelling
    are as in `apply_plan`.
    """
    time_limits(answers)
    run = _Run(hosts, cluster, answers, run_id, emit, clock, journal, plan=plan, resumed=resumed)
    journal.begin(plan, answers)
    try:
        await _uninstall(run)
    finally:
        report = close_run(run, [host.name for host in plan.hosts])
    return report


async def _uninstall(run: _Run) -> None:
    todo = []
    for host in run.plan.hosts:
        if host.refusals:
            kind = "unreachable" if host.refusals[0].id == "unreachable" else "refused"
            run.outcomes[host.name] = said(host.name, kind, host.refusals[0].why)
        elif not host.actions:
            run.outcomes[host.name] = said(host.name, "unchanged", host.reason)
        elif host.takes_back and host.name not in run.hosts:
            run.outcomes[host.name] = said(host.name, "unreachable", "there is no connection to it")
        else:
            todo.append(host)

    async def go_on() -> bool:
        return True

    rollout = run.answers.rollout
    if run.resumed:
        todo = await _take_up(run, todo)
        proved = any(o.outcome == "confirmed" for o in run.outcomes.values())
        rollout = rollout.model_copy(update={"canary": rollout.canary and not proved})
    await roll_out(
        todo,
        lambda host: _host(run, host),
        rollout,
        load=await load_of(run, todo),
        after_canary=go_on,
        outcomes=run.outcomes,
        emit=run.emit,
    )
    if all(h.name in run.outcomes and run.outcomes[h.name].outcome in FINE for h in run.plan.hosts):
        await _objects(run)
    elif run.plan.cluster.actions:
        run.cluster_error = "the cluster's objects stay, because not every host is as it was before"
    await lift_left(run, insist=True)


async def _take_up(run: _Run, hosts: list[HostPlan]) -> list[HostPlan]:
    """Ask each host how it stands and bring to an end what is under way there. Returns the hosts that are still to be
    done: none after a failure, and none while it is not known how another one stands."""

    async def one(host: HostPlan) -> HostOutcome | None:
        for number, _ in enumerate(host.takes_back, start=1):
            change = undo_change(run, part_id(run.run_id, number), ())
            guard = guard_of(run, run.hosts[host.name], change, undo_hooks(run, host))
            begun = await kept(run, guard, guard.go_on())
            if begun is None or begun.outcome not in FINE:
                return begun
        return None  # whatever is left of it, its label perhaps, is done again without harm

    found = await asyncio.gather(*(one(host) for host in hosts))
    bad = False
    for host, outcome in zip(hosts, found, strict=True):
        if outcome is None:
            run.outcomes.pop(host.name, None)
            continue
        run.outcomes[host.name] = progress_of(run, outcome)
        run.journal.host(outcome)
        await labels_again(run, host, _labels(host))
        bad = bad or not (outcome.outcome == "rolled-back" and outcome.reason.startswith(CUT))
    return [] if bad else [host for host, outcome in zip(hosts, found, strict=True) if outcome is None]


def _labels(host: HostPlan) -> list[LabelRecord]:
    """The labels that go, as what a run has set."""
    actions = [a for a in host.actions if isinstance(a, LabelNode)]
    return [LabelRecord(a.node, a.key, a.after, str(a.before)) for a in actions]


async def _host(run: _Run, host: HostPlan) -> HostOutcome:
    """One host: its label, then its files, then it is written down that the label is gone."""
    labels = _labels(host)
    outcome = await without_labels(run, host, labels, lambda: _files(run, host))
    if outcome.outcome in FINE and run.cluster is not None:
        for label in labels:
            if not run.journal.is_labelled(label.node, label.key):
                run.journal.label_set(label.node, label.key, label.after, None)
    run.journal.host(outcome)
    return progress_of(run, outcome)


async def _files(run: _Run, host: HostPlan) -> HostOutcome:
    """One guarded change after the other; the first that does not end well is how the host ended."""
    ended = said(host.name, "confirmed", "its node's label is gone")
    for number, back in enumerate(host.takes_back, start=1):
        change = undo_change(run, part_id(run.run_id, number), back.runs, back.aims, boot_id=host.boot_id)
        guard = guard_of(run, run.hosts[host.name], change, undo_hooks(run, host))
        begun = await kept(run, guard, guard.go_on()) if run.resumed else None
        ended = begun if begun is not None else await kept(run, guard, guard.run())
        if ended.outcome not in FINE:
            return ended
        ended = said(host.name, "confirmed", f"as it was before {', '.join(back.runs)}")
    return ended


async def _objects(run: _Run) -> None:
    """The cluster's objects in the plan's order: the device plugin first."""
    if run.plan.cluster.refusals:
        run.cluster_error = "; ".join(r.why for r in run.plan.cluster.refusals)
        return
    for action in run.plan.cluster.actions:
        try:
            if run.cluster is None:
                raise RefusedError("the cluster is not connected")
            await _object(run, run.cluster, action)
        except GpuwizardError as error:
            run.cluster_error = f"{action.key}: {error}"
            run.emit(Note("rollback", run.cluster_error, "error"))
            return


async def _object(run: _Run, cluster: Cluster, action: ApplyObject) -> None:
    if run.journal.is_applied(action.key):
        return
    live = await cluster.get(action.key)
    if live is not None and "deletionTimestamp" not in live["metadata"]:
        if shown_yaml(live) != action.before:
            raise RefusedError("it was changed since the plan was made: it is left alone", remedy="plan again")
        await cluster.delete(action.key)
        run.emit(Note("rollback", f"deleted {action.key}"))
    run.journal.object_applied(action.key)
