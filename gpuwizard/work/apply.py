"""Apply a plan: guarded changes host by host, the cluster's objects after the canary, each node's label at the end."""

import asyncio
from collections.abc import Mapping, Sequence

from gpuwizard.actions import EffectiveChange, Restart, WriteFile
from gpuwizard.answers.model import Answers
from gpuwizard.clock import Clock
from gpuwizard.errors import UsageError
from gpuwizard.events import Asker, Emit, HostOutcome, HostProgress, Note
from gpuwizard.journal import Journal
from gpuwizard.kube.cluster import Cluster
from gpuwizard.plan.model import HostPlan, Plan
from gpuwizard.remote.transport import Transport
from gpuwizard.work.cluster_changes import ApplyRun, apply_objects, set_label, set_labels, touches
from gpuwizard.work.cordon import clear_node, lift, lift_left
from gpuwizard.work.guard import Dumps, Guard, Hooks
from gpuwizard.work.guard_scripts import GuardedChange
from gpuwizard.work.health import nothing_lost
from gpuwizard.work.load import load_of
from gpuwizard.work.node_watch import NodeWatch
from gpuwizard.work.report import Report, close_run
from gpuwizard.work.rollout import roll_out
from gpuwizard.work.shared_run import owner_text
from gpuwizard.work.stale import Look, still_holds

__all__ = ["CUT", "apply_plan", "time_limits"]

_BAD = ("rolled-back", "failed", "reverting", "unconfirmed")
_BEGUN = ("confirmed", "rolled-back", "reverting", "unconfirmed")
_NEVER_BEGUN = ("refused", "unreachable")
# Why a host reverted that says nothing against the change itself (guard-arm.sh, guard-change.sh, guard.py).
CUT = ("it was not confirmed within", "the host was restarted before", "the run was cut", "interrupted by")
_RESERVE = 20.0  # seconds of T for the stop of the unit and for the confirmation itself
_LEAST, _MOST = 15.0, 180.0  # seconds in which the unit must come up


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
    run = ApplyRun(hosts, cluster, answers, run_id, emit, clock, journal, plan=plan, looks=looks or {}, resumed=resumed)
    journal.begin(plan, answers)
    try:
        await _apply(run)
    finally:
        report = close_run(run, [host.name for host in plan.hosts], stage="apply")
    return report


async def _apply(run: ApplyRun) -> None:
    todo: list[HostPlan] = []
    for host in run.plan.hosts:
        if host.refusals:
            refusal = host.refusals[0]
            kind = "unreachable" if refusal.id == "unreachable" else "refused"
            run.outcomes[host.name] = HostOutcome(host.name, kind, refusal.why)  # type: ignore[arg-type]
        elif not host.actions:
            run.outcomes[host.name] = HostOutcome(host.name, "unchanged", host.reason)
        elif host.name not in run.hosts and touches(host):
            run.outcomes[host.name] = _away(run, host)
        else:
            todo.append(host)
    on_hosts = [h for h in todo if touches(h)]
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
        done = await apply_objects(run)
        await set_labels(run, todo)
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
        await apply_objects(run)
    await set_labels(run, todo)
    await lift_left(run, insist=run.resumed)


def _away(run: ApplyRun, host: HostPlan) -> HostOutcome:
    """There is no way to a host: what is said of it never comes from anywhere else."""
    if run.resumed and run.journal.outcome_of(host.name) not in _NEVER_BEGUN:
        why = "there is no connection to it: how the run stands there is not known"
        return HostOutcome(host.name, "unconfirmed", why)
    return HostOutcome(host.name, "unreachable", "there is no connection to it")


async def _take_up(run: ApplyRun, hosts: Sequence[HostPlan]) -> tuple[list[HostPlan], bool]:
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
                await lift(run, host.name, changed=guard.changed, insist=True)
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


def _any_in_order(run: ApplyRun, label_only: bool) -> bool:
    """Is there a host that the cluster's objects would be for?"""
    idle = {h.name for h in run.plan.hosts if h.strategy == "none"}
    good = (name for name, o in run.outcomes.items() if o.outcome in ("confirmed", "unchanged") and name not in idle)
    return label_only or any(good)


async def _change(run: ApplyRun, host: HostPlan) -> HostOutcome:
    """The guarded change of one host; its outcome is kept even when the task is cancelled meanwhile."""
    transport = run.hosts[host.name]
    guard = Guard(transport, guarded_change(run, host), _hooks(run, host, transport), emit=run.emit, clock=run.clock)
    try:
        outcome = await guard.run()
    finally:
        if guard.outcome is not None:
            run.outcomes[host.name] = guard.outcome
            run.journal.host(guard.outcome)
            await lift(run, host.name, changed=guard.changed)
    run.emit(HostProgress(host.name, "apply", outcome.outcome, outcome.reason))
    if outcome.outcome == "confirmed" and run.objects_done:
        await set_label(run, host)
    return outcome


def guarded_change(run: ApplyRun, host: HostPlan) -> GuardedChange:
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


def _hooks(run: ApplyRun, host: HostPlan, transport: Transport) -> Hooks:
    restarts = any(isinstance(a, Restart) for a in host.actions)
    watch = NodeWatch(run, host, "apply", restarts=restarts)

    async def check() -> None:
        await still_holds(host, transport, run.looks.get(host.name), run.clock)
        await watch.look()

    def accept(dumps: Dumps) -> None:
        nothing_lost(dumps.before, dumps.after, _containerd_version(host), _announced(host))

    clear = clear_node(run, host.name, host.node_name if restarts else None)
    return Hooks(check, accept, watch.settle, clear)


def _announced(host: HostPlan) -> tuple[EffectiveChange, ...]:
    return tuple(c for a in host.actions if isinstance(a, WriteFile | Restart) for c in a.effective)


def _containerd_version(host: HostPlan) -> str:
    """The version of the runtime that is judged, as the plan knew it."""
    restart = next((a for a in host.actions if isinstance(a, Restart)), None)
    path = restart.check.config_path if restart else None
    exact = host.versions.get(f"containerd {path}")
    return exact or next((v for k, v in sorted(host.versions.items()) if k.startswith("containerd")), "1.7.0")


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
