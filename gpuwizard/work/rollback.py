"""Put back what a run changed, from the hosts' own records and byte-exact, guarded by the same steps as the change."""

from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from gpuwizard.answers.model import Answers
from gpuwizard.clock import Clock
from gpuwizard.errors import GpuwizardError, RefusedError
from gpuwizard.events import Asker, Emit, HostOutcome, HostProgress, Note
from gpuwizard.journal import Journal, LabelRecord, ObjectRecord, RunHost, RunRecord
from gpuwizard.kube.cluster import Cluster
from gpuwizard.plan.model import HostPlan
from gpuwizard.plan.shown import shown_yaml
from gpuwizard.remote.transport import Transport
from gpuwizard.work.apply import Report, time_limits
from gpuwizard.work.cordon import clear_node, lift, lift_left, with_cordons
from gpuwizard.work.guard import Guard, Hooks
from gpuwizard.work.guard_scripts import GuardedChange, call, host_state
from gpuwizard.work.health import control_plane_ready, node_settles
from gpuwizard.work.rollout import roll_out
from gpuwizard.work.shared_run import SharedRun, owner_text

__all__ = ["rollback"]

_UNTOUCHED = ("unchanged", "refused", "unreachable")
_FINE = ("confirmed", "unchanged")


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
    journal.begin_rollback([h.name for h in record.hosts], answers)
    try:
        await _roll_back(run)
    finally:
        left_out = "not begun: the rollback ended before its turn"
        outcomes = {
            h.name: run.outcomes.get(h.name, HostOutcome(h.name, "unchanged", left_out, "rollback", begun=False))
            for h in record.hosts
        }
        outcomes = with_cordons(run, outcomes)
        for outcome in outcomes.values():
            emit(outcome)
        journal.finish(outcomes.values(), run.cluster_error)
    return Report(outcomes, run.cluster_error)


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
        lambda planned: _host(run, by_name[planned.name]),
        run.answers.rollout.model_copy(update={"canary": False}),
        load={},
        after_canary=go_on,
        outcomes=run.outcomes,
        emit=run.emit,
    )
    if all(name in run.outcomes and run.outcomes[name].outcome in _FINE for name in by_name):
        await _objects(run)
    elif run.record.objects:
        run.cluster_error = "the cluster's objects stay, because not every host is as it was before"
    await lift_left(run, run.record, insist=True)


async def _host(run: _Run, host: RunHost) -> HostOutcome:
    """One host: its label, then its files."""
    await _labels(run, host)
    transport = run.hosts[host.name]
    guard: Guard | None = None
    try:
        if run.resumed:
            guard = _guard(run, transport, _change(run, run.run_id, run.record.id), _hooks(run, host))
            if (begun := await guard.go_on()) is not None:
                run.emit(HostProgress(host.name, "rollback", begun.outcome, begun.reason))
                return begun
        done = await transport.run(call("status", run.record.id), root=True)
        state = host_state(done.stdout.decode("utf-8", "replace").splitlines())
        match state.word if state is not None else "none":
            case "none":
                outcome = _said(host, "unchanged", "this host has no record of the run")
            case "reverted" | "abandoned":
                outcome = _said(host, "unchanged", "it was put back already")
            case "confirmed":
                guard = _guard(run, transport, _change(run, run.run_id, run.record.id), _hooks(run, host))
                outcome = await guard.run()
            case _:
                guard = _guard(run, transport, _change(run, run.record.id, None), Hooks())
                outcome = _as_rollback(await guard.put_back("rollback"))
    except GpuwizardError as error:
        outcome = _said(host, "refused" if isinstance(error, RefusedError) else "unreachable", error.what)
    finally:
        if guard is not None and guard.outcome is not None:
            run.outcomes[host.name] = guard.outcome
            run.journal.host(guard.outcome)
            await lift(run, host.name, changed=guard.changed)
    run.emit(HostProgress(host.name, "rollback", outcome.outcome, outcome.reason))
    return outcome


def _said(host: RunHost, outcome: str, reason: str) -> HostOutcome:
    return HostOutcome(host.name, outcome, reason, "rollback")  # type: ignore[arg-type]


def _as_rollback(outcome: HostOutcome) -> HostOutcome:
    """A run that is reverted now is what a rollback wants."""
    if outcome.outcome != "rolled-back":
        return outcome
    return HostOutcome(outcome.host, "confirmed", "it was never confirmed, and is put back now", "rollback")


def _guard(run: _Run, transport: Transport, change: GuardedChange, hooks: Hooks) -> Guard:
    return Guard(transport, change, hooks, emit=run.emit, clock=run.clock, stage="rollback")


def _change(run: _Run, run_id: str, restores: str | None) -> GuardedChange:
    timeout, limit, hold = time_limits(run.answers)
    by = owner_text(run.run_id, run.clock)
    return GuardedChange(run_id, by, timeout=timeout, limit=limit, hold=hold, restores=restores)


def _hooks(run: _Run, host: RunHost) -> Hooks:
    was_ready = True

    async def check() -> None:
        nonlocal was_ready
        if run.cluster is None or host.node is None:
            return
        if host.control_plane:
            await control_plane_ready(run.cluster, host.node)
        node = await run.cluster.node(host.node)
        was_ready = node is not None and node.ready is True

    async def settle(left: float) -> None:
        if run.cluster is None or host.node is None or not was_ready:
            return
        hold = run.answers.rollout.node_hold
        await node_settles(
            run.cluster,
            host.node,
            hold=hold,
            left=left,
            host=host.name,
            emit=run.emit,
            clock=run.clock,
            stage="rollback",
        )

    return Hooks(check=check, settle=settle, clear=clear_node(run, host.name, host.node, "rollback"))


async def _labels(run: _Run, host: RunHost) -> None:
    """Give the node the labels back that it had, so that the device plugin leaves before its handler does."""
    for label in run.record.labels:
        if label.node != host.node or run.cluster is None:
            continue
        try:
            await _label(run, run.cluster, label)
        except GpuwizardError as error:
            run.cluster_error = run.cluster_error or f"label of {label.node}: {error}"
            run.emit(Note("rollback", f"label of {label.node}: {error}", "error", host.name))


async def _label(run: _Run, cluster: Cluster, label: LabelRecord) -> None:
    node = await cluster.node(label.node)
    if node is None or node.labels.get(label.key) == label.before:
        return
    if node.labels.get(label.key) != label.after:
        raise RefusedError(f"{label.key} was changed by somebody else since the run: it is left alone")
    await cluster.label_node(label.node, {label.key: label.before})
    run.emit(Note("rollback", f"label {label.key} of {label.node} is as it was before"))


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
    await cluster.apply(yaml.safe_load(entry.before))
    run.emit(Note("rollback", f"{entry.key} is as it was before"))
