"""What a rollback and an uninstall share on one host: order rules, the labels that go first, the guarded way back."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from gpuwizard.errors import GpuwizardError, RefusedError
from gpuwizard.events import HostOutcome, HostProgress, Note, Waiting
from gpuwizard.journal import LabelRecord
from gpuwizard.kube.cluster import Cluster
from gpuwizard.plan.model import HostPlan
from gpuwizard.remote.transport import Transport
from gpuwizard.steps.identity import PLUGIN_NAME
from gpuwizard.work.apply import time_limits
from gpuwizard.work.cordon import clear_node, lift
from gpuwizard.work.guard import Guard, Hooks
from gpuwizard.work.guard_scripts import GuardedChange
from gpuwizard.work.node_watch import NodeWatch
from gpuwizard.work.shared_run import SharedRun, owner_text

__all__ = [
    "FINE",
    "guard_of",
    "kept",
    "labels_again",
    "progress_of",
    "said",
    "undo_change",
    "undo_hooks",
    "without_labels",
]

FINE = ("confirmed", "unchanged")
_LEAVES = 60.0  # seconds that a device plugin gets to end
_POLL = 1.0
_Ended = TypeVar("_Ended", HostOutcome, HostOutcome | None)


def said(host: str, outcome: str, reason: str) -> HostOutcome:
    """The outcome of a host on which nothing had to be done or could be."""
    return HostOutcome(host, outcome, reason, "rollback")  # type: ignore[arg-type]


def undo_change(
    run: SharedRun,
    run_id: str,
    restores: Sequence[str],
    aims: Sequence[tuple[str, str, str]] = (),
    *,
    boot_id: str | None = None,
) -> GuardedChange:
    """The guarded change that puts back what the runs `restores` did, as run `run_id` of the host; `boot_id` is the
    boot in which its plan was made."""
    timeout, limit, hold = time_limits(run.answers)
    by = owner_text(run.run_id, run.clock)
    return GuardedChange(
        run_id,
        by,
        boot_id=boot_id,
        timeout=timeout,
        limit=limit,
        hold=hold,
        restores=tuple(restores),
        aims=tuple(aims),
    )


def guard_of(run: SharedRun, transport: Transport, change: GuardedChange, hooks: Hooks) -> Guard:
    """The driver of `change` on one host."""
    return Guard(transport, change, hooks, emit=run.emit, clock=run.clock, stage="rollback")


async def kept(run: SharedRun, guard: Guard, work: Awaitable[_Ended]) -> _Ended:
    """Await `work` of `guard`; its outcome is written down and its cordon lifted even when the task is cancelled
    meanwhile."""
    try:
        return await work
    finally:
        if guard.outcome is not None:
            run.outcomes[guard.outcome.host] = guard.outcome
            run.journal.host(guard.outcome)
            await lift(run, guard.outcome.host, changed=guard.changed)


def undo_hooks(run: SharedRun, host: HostPlan) -> Hooks:
    """The rules of an apply hold for the way back as well: no control-plane node restarts while another one is away,
    a node that was Ready must be so again, and the pods that ran on it before must run."""
    watch = NodeWatch(run, host, "rollback", restarts=True)
    clear = clear_node(run, host.name, host.node_name, "rollback")
    return Hooks(check=watch.look, settle=watch.settle, clear=clear)


async def without_labels(
    run: SharedRun, host: HostPlan, labels: Sequence[LabelRecord], work: Callable[[], Awaitable[HostOutcome]]
) -> HostOutcome:
    """Take the labels of a host's node back, so that the device plugin leaves before its handler does, then do `work`.
    Where that does not end well the host is still as it was, and gets its labels again."""
    gone = [label for label in labels if await _label(run, host, label)]
    outcome: HostOutcome | None = None
    try:
        if gone:
            await _plugin_leaves(run, host)
        outcome = await work()
    finally:
        ended = outcome or run.outcomes.get(host.name)
        if gone and (ended is None or ended.outcome not in FINE):
            with contextlib.suppress(asyncio.CancelledError):
                await labels_again(run, host, gone)
    return outcome


async def _label(run: SharedRun, host: HostPlan, label: LabelRecord) -> bool:
    """Give a label its former value; False when there was nothing to do or it could not be."""
    try:
        if run.cluster is None:
            raise RefusedError("the cluster is not connected")
        return await _set(run, run.cluster, label)
    except GpuwizardError as error:
        run.cluster_error = run.cluster_error or f"label of {label.node}: {error}"
        run.emit(Note("rollback", f"label of {label.node}: {error}", "error", host.name))
        return False


async def _set(run: SharedRun, cluster: Cluster, label: LabelRecord) -> bool:
    node = await cluster.node(label.node)
    if node is None or node.labels.get(label.key) == label.before:
        return False
    if node.labels.get(label.key) != label.after:
        raise RefusedError(f"{label.key} was changed by somebody else since the run: it is left alone")
    await cluster.label_node(label.node, {label.key: label.before})
    run.emit(Note("rollback", f"label {label.key} of {label.node} is as it was before"))
    return True


async def labels_again(run: SharedRun, host: HostPlan, labels: Sequence[LabelRecord]) -> None:
    """Give the node of a host that stays as it was the labels that it lost for a change that did not come about."""
    cluster = run.cluster
    if cluster is None:
        return
    for label in labels:
        try:
            node = await cluster.node(label.node)
            if node is None or node.labels.get(label.key) != label.before:
                continue
            await cluster.label_node(label.node, {label.key: label.after})
        except GpuwizardError as error:
            run.cluster_error = run.cluster_error or f"label of {label.node}: {error}"
            run.emit(Note("rollback", f"label {label.key} of {label.node} is gone: {error}", "error", host.name))
        else:
            run.emit(Note("rollback", f"label {label.key} of {label.node} is there again: the host stays as it was"))


async def _plugin_leaves(run: SharedRun, host: HostPlan) -> None:
    """Wait until the device plugin has left the node. One that does not leave is said, and keeps nothing from going
    on: it loses its handler then."""
    began = run.clock.monotonic()
    selector = f"app.kubernetes.io/name={PLUGIN_NAME}"
    while run.cluster is not None:
        try:
            pods = await run.cluster.list_pods(
                run.answers.kubernetes.namespace, selector, f"spec.nodeName={host.node_name}"
            )
        except GpuwizardError as error:
            run.emit(
                Note("rollback", f"whether the device plugin has left is not known: {error}", "warning", host.name)
            )
            return
        passed = run.clock.monotonic() - began
        if not pods:
            return
        name = pods[0]["metadata"]["name"]
        if passed >= _LEAVES:
            run.emit(Note("rollback", f"device plugin pod {name} is still there", "warning", host.name))
            return
        what, likely = "the device plugin has left the node", "its pod ends; it is killed when its grace is over"
        run.emit(Waiting(host.name, "rollback", what, name, passed, _LEAVES, likely))
        await run.clock.sleep(_POLL)


def progress_of(run: SharedRun, outcome: HostOutcome) -> HostOutcome:
    """Tell how a host ended."""
    run.emit(HostProgress(outcome.host, "rollback", outcome.outcome, outcome.reason))
    return outcome
