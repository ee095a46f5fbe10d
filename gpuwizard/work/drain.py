"""Drain one node by the eviction API: disruption budgets are honoured, and what stands in the way is said by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuwizard.clean import clean_line
from gpuwizard.errors import LoginError, RefusedError, UnreachableError
from gpuwizard.events import HostProgress, Stage, Waiting
from gpuwizard.facts.cluster import ObjectKey
from gpuwizard.kube.budgets import budget_view, budgets_of, selects
from gpuwizard.kube.cluster import Cluster
from gpuwizard.kube.problems import BudgetError
from gpuwizard.kube.views import pod_view
from gpuwizard.plan.drain import DrainTerms, sorted_pods, stays
from gpuwizard.work.likely import likely_of_api
from gpuwizard.work.shared_run import SharedRun

__all__ = ["drain"]

Json = Mapping[str, Any]

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 5.0
_NAMED = 3
_KEPT = "the other pods of the budget are not ready yet, or it lets none go: see its minAvailable or maxUnavailable"
_GOING = "the containers still end; the kubelet kills them when their grace is over"


@dataclass(slots=True)
class _Work:
    """One drain: `evicted` are uids of pods that were asked to go, `kept` why a pod is still there."""

    run: SharedRun
    cluster: Cluster
    host: str
    node: str
    stage: Stage
    evicted: set[str] = field(default_factory=set)
    kept: dict[str, str] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)


async def drain(run: SharedRun, cluster: Cluster, host: str, node: str, stage: Stage) -> None:
    """Evict the pods of `node` and wait until they are gone. Pods of DaemonSets, static and ended ones are left.

    Before anything is evicted, pods are looked for that must not be (no controller, an emptyDir, two budgets). A pod
    that a budget keeps is tried again with back-off. Raises RefusedError with what blocked it, at the latest after
    `rollout.drain_timeout`; LoginError.
    """
    work = _Work(run, cluster, host, node, stage)
    rollout = run.answers.rollout
    terms = DrainTerms("drain", rollout.drain_delete_emptydir, rollout.drain_force)
    began, pause = run.clock.monotonic(), _FIRST_PAUSE
    run.emit(HostProgress(host, stage, "drain", f"evicting the pods of node {node}"))
    while True:
        try:
            pods = await _pods(work, terms)
            if not pods:
                break
            await _evict(work, pods)
            last, likely = _last(work, pods), _KEPT if work.kept else _GOING
        except LoginError:
            raise
        except UnreachableError as error:
            last = f"the API server cannot be reached: {error.what}"
            likely = likely_of_api(error, control_plane=False)
        elapsed = run.clock.monotonic() - began
        if elapsed >= rollout.drain_timeout:
            raise RefusedError(
                f"node {node} was not drained in {rollout.drain_timeout:g} s: {last}",
                remedy="nothing was changed on the host; make room for its pods, give rollout.drain_timeout more "
                'time, or set rollout.drain to "cordon" or "no"',
            )
        run.emit(Waiting(host, stage, f"node {node} is drained", last, elapsed, rollout.drain_timeout, likely))
        await run.clock.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    count = len(work.shown)
    run.emit(HostProgress(host, stage, "drained", f"{count} pod{'' if count == 1 else 's'} left node {node}"))


async def _pods(work: _Work, terms: DrainTerms) -> list[Json]:
    """The pods that have yet to go. Raises RefusedError when there are some that must not be evicted."""
    listed = await work.cluster.list_pods("", field_selector=f"spec.nodeName={work.node}")
    budgets = await work.cluster.budgets() or ()
    alive = [p for p in listed if p.get("status", {}).get("phase") not in ("Succeeded", "Failed")]
    moving = [(pod, view) for pod in alive if not stays(view := pod_view(pod, budgets_of(pod, budgets)))]
    to_ask = [view for pod, view in moving if pod["metadata"]["uid"] not in work.evicted and not _going(pod)]
    forbidden = sorted_pods(to_ask, terms).refusals
    if forbidden:
        raise RefusedError(
            f"node {work.node} is not drained: {'; '.join(why for why, _ in forbidden)}",
            remedy=f"nothing was changed on the host; {', '.join(remedy for _, remedy in forbidden)}",
        )
    return [pod for pod, _ in moving]


def _going(pod: Json) -> bool:
    return "deletionTimestamp" in pod["metadata"]


async def _evict(work: _Work, pods: Sequence[Json]) -> None:
    """Ask for the eviction of every pod that was not asked to go yet. Raises RefusedError for one that never will."""
    work.kept.clear()
    for pod in pods:
        uid, name = pod["metadata"]["uid"], _name(pod)
        work.shown[uid] = name
        if uid in work.evicted or _going(pod):
            continue
        try:
            await work.cluster.evict(pod)
        except BudgetError as error:
            if error.for_good:
                raise RefusedError(
                    f"node {work.node} is not drained: more than one disruption budget guards {name}, and Kubernetes "
                    "evicts no such pod",
                    remedy="nothing was changed on the host; leave one of the budgets",
                ) from error
            work.kept[uid] = await _budget_words(work, pod, error)
            continue
        work.evicted.add(uid)
        work.run.emit(HostProgress(work.host, work.stage, "evict", f"pod {name} is evicted"))


async def _budget_words(work: _Work, pod: Json, error: BudgetError) -> str:
    """Which budget keeps a pod, how many disruptions it allows, and which pods it counts."""
    namespace = pod["metadata"]["namespace"]
    if not error.budget:
        return error.what
    try:
        live = await work.cluster.get(ObjectKey("policy/v1", "PodDisruptionBudget", namespace, error.budget))
        others = await work.cluster.list_pods(namespace)
    except RefusedError:  # budgets are hidden from this user: the server's own words say as much as may be known
        return error.what
    if live is None:
        return error.what
    budget = budget_view(live)
    guarded = [p["metadata"]["name"] for p in others if selects(live["spec"].get("selector"), _labels(p))]
    return (
        f"disruption budget {budget} allows {budget.allowed} disruptions (needs {budget.desired} healthy, has "
        f"{budget.healthy}; it guards {_some(sorted(guarded))})"
    )


def _last(work: _Work, pods: Sequence[Json]) -> str:
    """What is still there, and why."""
    kept = [f"{work.shown[uid]} is kept: {why}" for uid, why in work.kept.items()]
    going = [f"{_name(p)} is terminating ({_grace(p)})" for p in pods if p["metadata"]["uid"] not in work.kept]
    return _some([*kept, *going], "; ")


def _grace(pod: Json) -> str:
    """The seconds that a pod has to end by itself before it is killed."""
    own = pod.get("spec", {}).get("terminationGracePeriodSeconds", 30)
    return f"grace {pod['metadata'].get('deletionGracePeriodSeconds', own)} s"


def _labels(pod: Json) -> Mapping[str, str]:
    return pod["metadata"].get("labels") or {}


def _name(pod: Json) -> str:
    return clean_line(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}")


def _some(names: Sequence[str], between: str = ", ") -> str:
    more = len(names) - _NAMED
    return between.join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
