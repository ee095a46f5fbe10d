"""What apply does through the Kubernetes API: the cluster's objects in the plan's order, and each node's label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpuwizard.actions import ApplyObject, LabelNode, Restart, WriteFile
from gpuwizard.clean import clean_line
from gpuwizard.errors import GpuwizardError, RefusedError
from gpuwizard.events import HostOutcome, HostProgress, Note
from gpuwizard.kube.cluster import Cluster
from gpuwizard.plan.model import HostPlan, Plan
from gpuwizard.plan.shown import shown_yaml
from gpuwizard.work.shared_run import SharedRun
from gpuwizard.work.stale import Look

__all__ = ["ApplyRun", "apply_objects", "set_label", "set_labels", "touches"]


@dataclass(slots=True, kw_only=True)
class ApplyRun(SharedRun):
    """What all hosts of one apply share. `objects_done`: the cluster has what its nodes' labels are for."""

    plan: Plan
    looks: Mapping[str, Look]
    resumed: bool = False
    objects_done: bool = False


def touches(host: HostPlan) -> bool:
    """True when something is done on the host itself, not only through the API."""
    return any(isinstance(a, WriteFile | Restart) for a in host.actions)


async def apply_objects(run: ApplyRun) -> bool:
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


async def _object(run: ApplyRun, cluster: Cluster, action: ApplyObject) -> None:
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


async def set_labels(run: ApplyRun, hosts: Sequence[HostPlan]) -> None:
    """Labels that are still missing: of hosts that were confirmed before the objects were there, and of hosts where
    nothing else was to be done."""
    for host in hosts:
        outcome = run.outcomes.get(host.name)
        if not touches(host) and outcome is None and run.objects_done:
            await set_label(run, host)
            run.outcomes.setdefault(host.name, HostOutcome(host.name, "confirmed", "its node's label was set"))
        elif outcome is not None and outcome.outcome == "confirmed" and run.objects_done:
            await set_label(run, host)


async def set_label(run: ApplyRun, host: HostPlan) -> None:
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
