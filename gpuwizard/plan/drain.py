"""What a drain of a node would evict, what it leaves, and what stands in its way: for the plan and for the run."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gpuwizard.actions import Refusal
from gpuwizard.answers.model import Rollout
from gpuwizard.facts.cluster import Budget, ClusterView, NodePod, NodeView

__all__ = ["Drain", "DrainTerms", "drain_json", "drain_refusal", "drain_words", "sorted_pods", "stays", "terms_of"]

_NAMED = 3


@dataclass(frozen=True, slots=True)
class DrainTerms:
    """What the answers ask for before a restart, and which pods may be evicted although that costs something."""

    mode: Literal["cordon", "drain"]
    delete_emptydir: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Drain:
    """The pods of one node, sorted. `leaves` are those of DaemonSets and static ones. `alone` and `keep_data` forbid
    the drain; `waits` says which budget has no room for which pods now, `stuck` which pods no eviction can move."""

    evicts: tuple[NodePod, ...] = ()
    leaves: tuple[NodePod, ...] = ()
    alone: tuple[NodePod, ...] = ()
    keep_data: tuple[NodePod, ...] = ()
    stuck: tuple[NodePod, ...] = ()
    waits: tuple[tuple[Budget, tuple[NodePod, ...]], ...] = field(default=())

    @property
    def refusals(self) -> tuple[tuple[str, str], ...]:
        """Why nothing may be evicted, each with what would change that."""
        return tuple(_refusals(self))


def terms_of(rollout: Rollout) -> DrainTerms | None:
    """The terms of the answers; None when nodes are to be left as they are."""
    if rollout.drain == "no":
        return None
    return DrainTerms(rollout.drain, rollout.drain_delete_emptydir, rollout.drain_force)


def stays(pod: NodePod) -> bool:
    """True for a pod that a drain leaves: its DaemonSet would put it back at once, its kubelet never lets it go."""
    return pod.mirror or pod.controller == "DaemonSet"


def sorted_pods(pods: Iterable[NodePod], terms: DrainTerms) -> Drain:
    """Sort the pods of one node, none of which has ended."""
    evicts: list[NodePod] = []
    leaves, alone, keep_data, stuck = list[NodePod](), list[NodePod](), list[NodePod](), list[NodePod]()
    for pod in pods:
        if stays(pod):
            leaves.append(pod)
            continue
        evicts.append(pod)
        if pod.unmanaged and not terms.force:
            alone.append(pod)
        if pod.keeps_data and not terms.delete_emptydir:
            keep_data.append(pod)
        if pod.running and len(pod.budgets or ()) > 1:
            stuck.append(pod)
    return Drain(tuple(evicts), tuple(leaves), tuple(alone), tuple(keep_data), tuple(stuck), _waits(evicts))


def drain_refusal(rollout: Rollout, view: ClusterView | None, node: NodeView | None, *, member: bool) -> Refusal | None:
    """Why a host that restarts cannot be drained as the answers ask; None when it can, or need not. `member`: the host
    itself says that it is part of a cluster."""
    if rollout.drain == "no" or node is not None or not member:
        return None
    why = "kubernetes.manage is false" if view is None else "the cluster was not looked at"
    return Refusal(
        "no-drain",
        f"rollout.drain asks for a {rollout.drain} of its node before the restart, and {why}",
        'give gpuwizard a way to the cluster, or set rollout.drain = "no"',
    )


def drain_words(pods: Sequence[NodePod] | None, terms: DrainTerms | None, where: str) -> Iterator[str]:
    """What is done with the nodes before the restart, who is evicted, and what blocks it as far as it is known."""
    if terms is None:
        return
    if terms.mode == "cordon":
        yield f"{where} takes no new pods meanwhile (cordon); those that run stay"
        return
    if pods is None:
        yield f"the drain of {where} evicts pods that are not known"
        return
    drain = sorted_pods(pods, terms)
    if not drain.evicts:
        yield f"the drain of {where} evicts no pod"
    else:
        yield f"the drain of {where} evicts {_count(drain.evicts)}: {_some(drain.evicts)}"
    yield from _blocked_words(drain)


def drain_json(pods: Sequence[NodePod] | None, terms: DrainTerms | None) -> dict[str, Any] | None:
    """The whole of it for ``gpuwizard.plan/1``; null when nodes are left as they are."""
    if terms is None:
        return None
    if terms.mode == "cordon" or pods is None:
        return {"mode": terms.mode, "evicts": [] if terms.mode == "cordon" else None, "blocked_by": []}
    drain = sorted_pods(pods, terms)
    return {"mode": terms.mode, "evicts": [str(p) for p in drain.evicts], "blocked_by": list(_blocked_words(drain))}


def _blocked_words(drain: Drain) -> Iterator[str]:
    for why, remedy in drain.refusals:
        yield f"the drain is refused: {why} ({remedy})"
    for budget, pods in drain.waits:
        yield (
            f"disruption budget {budget} allows {_disruptions(budget.allowed)} now "
            f"(needs {budget.desired} healthy, has {budget.healthy}): the drain waits with {_some(pods)}"
        )
    if any(pod.budgets is None for pod in drain.evicts):
        yield "whether disruption budgets stand in its way is not known: this user may not list them"


def _disruptions(number: int) -> str:
    return "no disruption" if number == 0 else f"{number} disruption{'' if number == 1 else 's'}"


def _refusals(drain: Drain) -> Iterator[tuple[str, str]]:
    if drain.alone:
        yield f"no controller would bring back {_some(drain.alone)}", "rollout.drain_force = true evicts them"
    if drain.keep_data:
        yield (
            f"the emptyDir of {_some(drain.keep_data)} would be lost",
            "rollout.drain_delete_emptydir = true consents to that",
        )
    if drain.stuck:
        named = [f"{pod} ({', '.join(b.name for b in pod.budgets or ())})" for pod in drain.stuck]
        yield (
            f"more than one disruption budget guards {_some(named)}, and Kubernetes evicts no such pod",
            "leave one of them",
        )


def _waits(pods: Sequence[NodePod]) -> tuple[tuple[Budget, tuple[NodePod, ...]], ...]:
    """The budgets that have less room than the node has pods under them."""
    under: dict[Budget, list[NodePod]] = {}
    for pod in pods:
        if pod.running and len(pod.budgets or ()) == 1:
            (budget,) = pod.budgets or ()
            if pod.ready or not (budget.always_unready or budget.healthy >= budget.desired > 0):
                under.setdefault(budget, []).append(pod)
    return tuple((budget, tuple(some)) for budget, some in under.items() if budget.allowed < len(some))


def _count(pods: Sequence[NodePod]) -> str:
    return "1 pod" if len(pods) == 1 else f"{len(pods)} pods"


def _some(names: Sequence[object]) -> str:
    more = len(names) - _NAMED
    return ", ".join(str(name) for name in names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
