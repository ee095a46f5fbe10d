"""Put back what a run changed, from the hosts' own records and byte-exact, guarded by the same steps as the change."""

from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from gpuwizard.answers.model import Answers
from gpuwizard.clock import Clock
from gpuwizard.errors import GpuwizardError, RefusedError
from gpuwizard.events import Asker, Emit, HostOutcome, Note
from gpuwizard.journal import Journal, ObjectRecord, RunRecord
from gpuwizard.kube.cluster import Cluster
from gpuwizard.plan.model import HostPlan
from gpuwizard.plan.shown import shown_yaml
from gpuwizard.redact import is_redacted
from gpuwizard.remote.transport import Transport
from gpuwizard.work.apply import time_limits
from gpuwizard.work.cordon import lift_left
from gpuwizard.work.guard import Hooks
from gpuwizard.work.guard_scripts import call, host_state
from gpuwizard.work.report import Report, close_run
from gpuwizard.work.rollout import roll_out
from gpuwizard.work.shared_run import SharedRun
from gpuwizard.work.undo import FINE, guard_of, kept, progress_of, said, undo_change, undo_hooks, without_labels

__all__ = ["rollback"]

_UNTOUCHED = ("unchanged", "refused", "unreachable")


@dataclass(slots=True, kw_only=True)
class _Run(SharedRun):
    """What all hosts of one rollback share."""

    record: RunRecord
    resumed: bool = False


async def rollback(
    record: RunRecord,
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
    """Put back what the run `record` changed; `run_id` is the id of this rollback, a run of its own. `resumed`: an
    earlier process began it and was cut.

    What a host did is read from the host: a run that was never confirmed there is reverted, a confirmed one is put
    back as a new guarded change, and one that was put back already is left. A file that somebody changed since is
    left alone and the host refused. Labels go first and the cluster's objects last, each only while it still is as
    the run left it. Outcomes: ``confirmed`` is a host that is as it was before. Cancelling works as in `apply_plan`.
    """
    time_limits(answers)
    run = _Run(hosts, cluster, answers, run_id, emit, clock, journal, record=record, resumed=resumed)
    journal.begin_rollback(record.hosts, answers)
    try:
        await _roll_back(run)
    finally:
        report = close_run(run, [host.name for host in record.hosts], "rollback")
    return report


async def _roll_back(run: _Run) -> None:
    todo = []
    by_name = {h.name: h for h in run.record.hosts}
    for host in run.record.hosts:
        if not host.actions or host.outcome in _UNTOUCHED:
            run.outcomes[host.name] = HostOutcome(host.name, "unchanged", "the run did not touch it", "rollback")
        elif host.name not in run.hosts:
            run.outcomes[host.name] = HostOutcome(host.name, "unreachable", "there is no connection to it", "rollback")
        else:
            todo.append(HostPlan(host.name, "rollback", "", node_name=host.node, control_plane=host.control_plane))

    async def go_on() -> bool:
        return True

    await roll_out(
        todo,
        lambda planned: _host(run, planned),
        run.answers.rollout.model_copy(update={"canary": False}),
        load={},
        after_canary=go_on,
        outcomes=run.outcomes,
        emit=run.emit,
    )
    if all(name in run.outcomes and run.outcomes[name].outcome in FINE for name in by_name):
        await _objects(run)
    elif run.record.objects:
        run.cluster_error = "the cluster's objects stay, because not every host is as it was before"
    await lift_left(run, run.record, insist=True)


async def _host(run: _Run, host: HostPlan) -> HostOutcome:
    """One host: its labels, then its files."""
    labels = [label for label in run.record.labels if label.node == host.node_name]
    return progress_of(run, await without_labels(run, host, labels, lambda: _files(run, host)))


async def _files(run: _Run, host: HostPlan) -> HostOutcome:
    """What the host's own record says decides what is done there."""
    transport = run.hosts[host.name]
    hooks = undo_hooks(run, host)
    guard = guard_of(run, transport, undo_change(run, run.run_id, [run.record.id]), hooks)
    try:
        if run.resumed and (begun := await kept(run, guard, guard.go_on())) is not None:
            return begun
        done = await transport.run(call("status", run.record.id), root=True)
        state = host_state(done.stdout.decode("utf-8", "replace").splitlines())
        match state.word if state is not None else "none":
            case "none":
                return said(host.name, "unchanged", "this host has no record of the run")
            case "reverted" | "abandoned":
                return said(host.name, "unchanged", "it was put back already")
            case "confirmed":
                return await kept(run, guard, guard.run())
            case "reverting":  # under way by itself: nothing that we do restarts it
                return await _never_confirmed(run, host, Hooks())
            case _:
                return await _never_confirmed(run, host, hooks)
    except GpuwizardError as error:
        return said(host.name, "refused" if isinstance(error, RefusedError) else "unreachable", error.what)


async def _never_confirmed(run: _Run, host: HostPlan, hooks: Hooks) -> HostOutcome:
    """A run that was never confirmed is reverted now, which is what a rollback wants. Its node must be well before
    another one is begun."""
    guard = guard_of(run, run.hosts[host.name], undo_change(run, run.record.id, []), hooks)
    outcome = await kept(run, guard, guard.put_back("rollback"))
    if outcome.outcome != "rolled-back":
        return outcome
    try:
        await hooks.settle(run.answers.rollout.confirm_timeout)
    except GpuwizardError as error:
        return said(host.name, "failed", f"it was never confirmed, and is put back now, but {error.what}")
    return said(host.name, "confirmed", "it was never confirmed, and is put back now")


async def _objects(run: _Run) -> None:
    """The cluster's objects, last one first."""
    if run.record.objects and run.cluster is None:
        run.cluster_error = "the cluster is not connected: its objects stay"
        return
    for entry in reversed(run.record.objects):
        assert run.cluster is not None
        try:
            await _object(run, run.cluster, entry)
        except GpuwizardError as error:
            run.cluster_error = f"{entry.key}: {error}"
            run.emit(Note("rollback", run.cluster_error, "error"))
            return


async def _object(run: _Run, cluster: Cluster, entry: ObjectRecord) -> None:
    live = await cluster.get(entry.key)
    if live is None:
        return
    now = shown_yaml(live)
    if now == entry.before:
        return
    if not entry.before:
        await cluster.delete(entry.key)
        run.emit(Note("rollback", f"deleted {entry.key}"))
        return
    if now != entry.after:
        raise RefusedError("it was changed by somebody else since the run: it is left alone")
    if is_redacted(entry.before):
        raise RefusedError(
            "what it was before holds a secret, which was not kept: it is left alone",
            remedy="put it back by hand: README.txt in the run's folder says how",
        )
    await cluster.apply(yaml.safe_load(entry.before))
    run.emit(Note("rollback", f"{entry.key} is as it was before"))
