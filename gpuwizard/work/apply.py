"""Apply a plan: guarded changes host by host, the cluster's objects after the canary, each node's label at the end."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpuwizard.actions import ApplyObject, EffectiveChange, LabelNode, Restart, WriteFile
from gpuwizard.answers.model import Answers
from gpuwizard.clean import clean_line
from gpuwizard.clock import Clock
from gpuwizard.errors import GpuwizardError, RefusedError, UsageError
from gpuwizard.events import Asker, Emit, HostOutcome, HostProgress, Note
from gpuwizard.journal import Journal
from gpuwizard.kube.cluster import Cluster
from gpuwizard.plan.model import HostPlan, Plan
from gpuwizard.plan.shown import shown_yaml
from gpuwizard.remote.transport import Transport
from gpuwizard.work.guard import Dumps, Guard, Hooks
from gpuwizard.work.guard_scripts import GuardedChange
from gpuwizard.work.health import control_plane_ready, node_settles, nothing_lost
from gpuwizard.work.load import load_of
from gpuwizard.work.old_pods import OldPods, running_pods
from gpuwizard.work.rollout import roll_out
from gpuwizard.work.shared_run import SharedRun, owner_text
from gpuwizard.work.stale import Look, still_holds

__all__ = ["CUT", "Report", "apply_plan", "time_limits"]

_BAD = ("rolled-back", "failed", "reverting", "unconfirmed")
_BEGUN = ("confirmed", "rolled-back", "reverting", "unconfirmed")
_NEVER_BEGUN = ("refused", "unreachable")
# Why a host reverted that says nothing against the change itself (guard-arm.sh, guard-change.sh, guard.py).
CUT = ("it was not confirmed within", "the host was restarted before", "the run was cut", "interrupted by")
_RESERVE = 20.0  # seconds of T for the stop of the unit and for the confirmation itself
_LEAST, _MOST = 15.0, 180.0  # seconds in which the unit must come up


@dataclass(frozen=True, slots=True)
class Report:
    """How a run ended. `cluster_error` is set when an object could not be applied or was not tried."""

    outcomes: Mapping[str, HostOutcome] = field(default_factory=dict)
    cluster_error: str | None = None


@dataclass(slots=True, kw_only=True)
class _Run(SharedRun):
    """What all hosts of one run share."""

    plan: Plan
    looks: Mapping[str, Look]
    resumed: bool = False
    objects_done: bool = False


async def apply_plan(
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
    looks: Mapping[str, Look] | None = None,
    resumed: bool = False,
) -> Report:
    """Run exactly the actions of `plan` and report each host from its own state (`safety.md`).

    Hosts that the plan refuses are `refused`, hosts without an action `unchanged` and never touched. When it is
    cancelled, what is in flight is put back, every host's outcome is emitted, and the cancellation goes on; a second
    one leaves at once. `resumed`: the run was begun by an earlier process and was cut; each host is asked first how it
    stands, and nothing is done twice. `looks` are the looks at the hosts that this process has had. Raises UsageError
    when the time limits of the answers cannot be met, and for the plan of an uninstall.
    """
    if plan.uninstalls:
        raise UsageError("this is the plan of an uninstall", remedy="gpuwizard uninstall, or resume the run it is of")
    time_limits(answers)
    run = _Run(hosts, cluster, answers, run_id, emit, clock, journal, plan=plan, looks=looks or {}, resumed=resumed)
    journal.begin(plan, answers)
    try:
        await _apply(run)
    finally:
        report = _report(run)
        for outcome in report.outcomes.values():
            emit(outcome)
        journal.finish(report.outcomes.values(), report.cluster_error)
    return report


async def _apply(run: _Run) -> None:
    todo: list[HostPlan] = []
    for host in run.plan.hosts:
        if host.refusals:
            refusal = host.refusals[0]
            kind = "unreachable" if refusal.id == "unreachable" else "refused"
            run.outcomes[host.name] = HostOutcome(host.name, kind, refusal.why)  # type: ignore[arg-type]
        elif not host.actions:
            run.outcomes[host.name] = HostOutcome(host.name, "unchanged", host.reason)
        elif host.name not in run.hosts and _touches(host):
            run.outcomes[host.name] = _away(run, host)
        else:
            todo.append(host)
    on_hosts = [h for h in todo if _touches(h)]
    to_begin, rollout, go_on = on_hosts, run.answers.rollout, True
    if run.resumed:
        to_begin, go_on = await _take_up(run, on_hosts)
        proved = any(o.outcome == "confirmed" for o in run.outcomes.values())
        rollout = rollout.model_copy(update={"canary": rollout.canary and not proved})

    async def objects() -> bool:
        if run.answers.rollout.canary and not _any_in_order(run, len(todo) > len(on_hosts)):
            if run.plan.cluster.actions:
                run.cluster_error = "the cluster's objects were not applied: no host is ready for them"
            return True
        done = await _objects(run)
        await _labels(run, todo)
        return done

    if not go_on:
        run.objects_done = all(run.journal.is_applied(a.key) for a in run.plan.cluster.actions)
    elif on_hosts:
        await roll_out(
            to_begin,
            lambda host: _change(run, host),
            rollout,
            load=await load_of(run, to_begin),
            after_canary=objects,
            outcomes=run.outcomes,
            emit=run.emit,
        )
        if any(run.outcomes[h.name].outcome != "confirmed" for h in on_hosts if h.name in run.outcomes):
            run.emit(Note("apply", "not every host is confirmed", "warning"))
    elif todo or not run.plan.hosts or not all(h.refusals for h in run.plan.hosts):
        await _objects(run)
    await _labels(run, todo)


def _away(run: _Run, host: HostPlan) -> HostOutcome:
    """There is no way to a host: what is said of it never comes from anywhere else."""
    if run.resumed and run.journal.outcome_of(host.name) not in _NEVER_BEGUN:
        why = "there is no connection to it: how the run stands there is not known"
        return HostOutcome(host.name, "unconfirmed", why)
    return HostOutcome(host.name, "unreachable", "there is no connection to it")


async def _take_up(run: _Run, hosts: Sequence[HostPlan]) -> tuple[list[HostPlan], bool]:
    """Ask each host how it stands and bring to an end what is under way there. Returns the hosts that were not begun,
    and whether they may be: not after a failure, and not while it is not known how another one stands."""

    async def one(host: HostPlan) -> HostOutcome | None:
        transport = run.hosts[host.name]
        guard = Guard(
            transport, guarded_change(run, host), _hooks(run, host, transport), emit=run.emit, clock=run.clock
        )
        try:
            outcome = await guard.go_on()
        finally:
            if guard.outcome is not None:
                run.outcomes[host.name] = guard.outcome
                run.journal.host(guard.outcome)
        if outcome is None and run.journal.outcome_of(host.name) in _BEGUN:
            outcome = HostOutcome(host.name, "unconfirmed", "the host's record of the run is gone")
        if outcome is not None:
            run.outcomes[host.name] = outcome
            run.journal.host(outcome)
            run.emit(HostProgress(host.name, "apply", outcome.outcome, outcome.reason))
        return outcome

    found = await asyncio.gather(*(one(host) for host in hosts))
    known = [*run.outcomes.values()]
    bad = [o for o in known if o.outcome in _BAD and not (o.outcome == "rolled-back" and o.reason.startswith(CUT))]
    for outcome in bad[:1]:
        run.emit(Note("apply", f"it is {outcome.outcome}: no further host is begun", "error", host=outcome.host))
    return [host for host, outcome in zip(hosts, found, strict=True) if outcome is None], not bad


def _any_in_order(run: _Run, label_only: bool) -> bool:
    """Is there a host that the cluster's objects would be for?"""
    idle = {h.name for h in run.plan.hosts if h.strategy == "none"}
    good = (name for name, o in run.outcomes.items() if o.outcome in ("confirmed", "unchanged") and name not in idle)
    return label_only or any(good)


def _touches(host: HostPlan) -> bool:
    """True when something is done on the host itself, not only through the API."""
    return any(isinstance(a, WriteFile | Restart) for a in host.actions)


async def _change(run: _Run, host: HostPlan) -> HostOutcome:
    """The guarded change of one host; its outcome is kept even when the task is cancelled meanwhile."""
    transport = run.hosts[host.name]
    guard = Guard(transport, guarded_change(run, host), _hooks(run, host, transport), emit=run.emit, clock=run.clock)
    try:
        outcome = await guard.run()
    finally:
        if guard.outcome is not None:
            run.outcomes[host.name] = guard.outcome
            run.journal.host(guard.outcome)
    run.emit(HostProgress(host.name, "apply", outcome.outcome, outcome.reason))
    if outcome.outcome == "confirmed" and run.objects_done:
        await _label(run, host)
    return outcome


def guarded_change(run: _Run, host: HostPlan) -> GuardedChange:
    """The plan's actions for one host as the host gets them."""
    timeout, limit, hold = time_limits(run.answers)
    restart = next((a for a in host.actions if isinstance(a, Restart)), None)
    return GuardedChange(
        run_id=run.run_id,
        by=owner_text(run.run_id, run.clock),
        files=tuple(a.change for a in host.actions if isinstance(a, WriteFile)),
        undo=restart.undo if restart else (),
        unit=restart.activation.unit if restart else None,
        verb=restart.activation.verb if restart else "restart",
        snap=restart.activation.snap if restart else None,
        check=restart.check if restart else None,
        reads=host.reads,
        boot_id=host.boot_id,
        timeout=timeout,
        limit=limit,
        hold=hold,
    )


def _hooks(run: _Run, host: HostPlan, transport: Transport) -> Hooks:
    restart = next((a for a in host.actions if isinstance(a, Restart)), None)
    was_ready, pods = True, OldPods()

    async def check() -> None:
        nonlocal was_ready, pods
        await still_holds(host, transport, run.looks.get(host.name), run.clock)
        if run.cluster is None or host.node_name is None or restart is None:
            return
        if host.control_plane:
            await control_plane_ready(run.cluster, host.node_name)
        node = await run.cluster.node(host.node_name)
        was_ready = node is not None and node.ready is True
        pods = await running_pods(run.cluster, host.node_name, host.name, run.emit)

    def accept(dumps: Dumps) -> None:
        nothing_lost(dumps.before, dumps.after, _containerd_version(host), _announced(host))

    async def settle(left: float) -> None:
        if run.cluster is None or host.node_name is None or restart is None:
            return
        if not was_ready:
            run.emit(Note("apply", "the node was not Ready before; it is not waited for", "warning", host.name))
            return
        await node_settles(
            run.cluster,
            host.node_name,
            hold=run.answers.rollout.node_hold,
            left=left,
            host=host.name,
            emit=run.emit,
            clock=run.clock,
            control_plane=host.control_plane,
            pods=pods,
        )

    return Hooks(check, accept, settle)


def _announced(host: HostPlan) -> tuple[EffectiveChange, ...]:
    return tuple(c for a in host.actions if isinstance(a, WriteFile | Restart) for c in a.effective)


def _containerd_version(host: HostPlan) -> str:
    """The version of the runtime that is judged, as the plan knew it."""
    restart = next((a for a in host.actions if isinstance(a, Restart)), None)
    path = restart.check.config_path if restart else None
    exact = host.versions.get(f"containerd {path}")
    return exact or next((v for k, v in sorted(host.versions.items()) if k.startswith("containerd")), "1.7.0")


async def _objects(run: _Run) -> bool:
    """Apply the cluster's objects in the plan's order; False when one could not be: then no label is set either."""
    plan = run.plan.cluster
    if plan.refusals:
        run.cluster_error = "; ".join(r.why for r in plan.refusals)
        run.emit(Note("apply", f"cluster: {run.cluster_error}", "error"))
        return True
    if not plan.actions:
        run.objects_done = True
        return True
    if run.cluster is None:
        run.cluster_error = "the cluster is not connected: its objects were not applied"
        run.emit(Note("apply", run.cluster_error, "error"))
        return True
    for action in plan.actions:
        try:
            await _object(run, run.cluster, action)
        except GpuwizardError as error:
            run.cluster_error = f"{action.key}: {error}"
            run.emit(Note("apply", run.cluster_error, "error"))
            return False
    run.objects_done = True
    return True


async def _object(run: _Run, cluster: Cluster, action: ApplyObject) -> None:
    if run.journal.is_applied(action.key):
        return
    live = await cluster.get(action.key)
    if run.resumed and live is not None and shown_yaml(live) == action.after:
        run.journal.object_applied(action.key)  # it was cut between the two
        return
    if (shown_yaml(live) if live is not None else "") != action.before:
        raise RefusedError("stale plan: it was changed since the plan was made", remedy="plan again")
    await cluster.apply(action.manifest)
    run.journal.object_applied(action.key)
    run.emit(Note("apply", f"applied {action.key}"))


async def _labels(run: _Run, hosts: Sequence[HostPlan]) -> None:
    """Labels that are still missing: of hosts that were confirmed before the objects were there, and of hosts where
    nothing else was to be done."""
    for host in hosts:
        outcome = run.outcomes.get(host.name)
        if not _touches(host) and outcome is None and run.objects_done:
            await _label(run, host)
            run.outcomes.setdefault(host.name, HostOutcome(host.name, "confirmed", "its node's label was set"))
        elif outcome is not None and outcome.outcome == "confirmed" and run.objects_done:
            await _label(run, host)


async def _label(run: _Run, host: HostPlan) -> None:
    """Set the labels of one confirmed host. A failure is the cluster's, not the host's."""
    for action in host.actions:
        if not isinstance(action, LabelNode) or run.journal.is_labelled(action.node, action.key):
            continue
        try:
            if run.cluster is None:
                raise RefusedError("the cluster is not connected")
            node = await run.cluster.node(action.node)
            now = node.labels.get(action.key) if node is not None else None
            if now not in (action.before, action.after):
                raise RefusedError(f"label {action.key} is now {clean_line(str(now))}: somebody else set it")
            if now != action.after:
                await run.cluster.label_node(action.node, {action.key: action.after})
        except GpuwizardError as error:
            run.cluster_error = run.cluster_error or f"label of {action.node}: {error}"
            run.emit(Note("apply", f"{action.node} was not labelled: {error}", "error", host.name))
            return
        run.journal.label_set(action.node, action.key, action.before, action.after)
        run.emit(HostProgress(host.name, "apply", "labelled", action.summary))


def _report(run: _Run) -> Report:
    """The outcomes in the plan's order; a host that was never begun is unchanged, with the reason."""
    outcomes = {}
    for host in run.plan.hosts:
        left_out = HostOutcome(host.name, "unchanged", "not begun: the run ended before its turn", begun=False)
        outcomes[host.name] = run.outcomes.get(host.name, left_out)
    return Report(outcomes, run.cluster_error)


def time_limits(answers: Answers) -> tuple[int, int, int]:
    """T, the limit for the unit to come up, and its hold, in seconds of the host.

    T counts stop, start, health and the node's hold (`safety.md` point 5). Raises UsageError when it is too short.
    """
    chosen = answers.rollout
    left = chosen.confirm_timeout - chosen.unit_hold - chosen.node_hold - _RESERVE
    if left < _LEAST:
        needed = chosen.unit_hold + chosen.node_hold + _RESERVE + _LEAST
        raise UsageError(
            f"rollout.confirm_timeout is too short for the holds: {chosen.confirm_timeout:g} s",
            remedy=f"make it at least {needed:g} s, or shorten rollout.unit_hold or rollout.node_hold",
        )
    return round(chosen.confirm_timeout), round(min(left, _MOST)), round(chosen.unit_hold)
