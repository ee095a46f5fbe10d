"""Disruption budgets of the simulated cluster: their status as the disruption controller keeps it, and eviction.

Rules and words are those of Kubernetes' own controller and eviction subresource (policy/v1): a refusal is a 429 whose
cause names the budget; a pod under two budgets gets a failure of code 500 inside an answer of status 201.
"""

import math
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from gpuwizard.fleet.api_selectors import matches_labels
from gpuwizard.fleet.api_status import Refused, absent, outdated
from gpuwizard.fleet.api_store import Store
from gpuwizard.kube.paths import kind_of

__all__ = ["evict", "run_budgets"]

Json = dict[str, Any]

_POD, _BUDGET = kind_of("Pod"), kind_of("PodDisruptionBudget")
_DISRUPTED_FOR = timedelta(minutes=2)  # a pod that was to be evicted and is still there counts again after this
_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."
_TWO = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."


def run_budgets(store: Store, now: Callable[[], datetime]) -> None:
    """Write the status of every budget, as the disruption controller does."""
    for budget in list(store.list("PodDisruptionBudget")):
        status = _status(budget, store, now())
        if budget.get("status") != status:
            store.replace({**budget, "status": status})


def evict(store: Store, namespace: str, name: str, body: Json, *, dry_run: bool = False) -> Json:
    """Evict one pod as ``POST …/pods/NAME/eviction`` does; returns the Status. Raises Refused."""
    pod = store.get("Pod", namespace, name)
    if body.get("metadata", {}).get("name") != name:
        raise Refused(400, "BadRequest", "name in URL does not match name in Eviction object")
    if pod is None:
        raise absent(_POD, name)
    options = body.get("deleteOptions") or {}
    dry_run = dry_run or options.get("dryRun") == ["All"]
    if not _beyond_budgets(pod):
        budgets = [b for b in store.list("PodDisruptionBudget", namespace) if _guards(b, pod)]
        if len(budgets) > 1:
            return {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Failure",
                "message": _TWO,
                "code": 500,
            }
        if budgets and not _may_go_unready(pod, budgets[0]):
            _take_from(budgets[0], pod, store, dry_run=dry_run)
    wanted = (options.get("preconditions") or {}).get("uid")
    uid = pod["metadata"]["uid"]
    if wanted not in (None, uid):
        why = (
            f"the UID in the precondition ({wanted}) does not match the UID in record ({uid}). "
            "The object might have been deleted and then recreated"
        )
        raise outdated(_POD, name, why)
    if not dry_run:
        _mark(store, pod)
    grace = options.get("gracePeriodSeconds")
    store.delete(_POD, namespace, name, None if grace is None else int(grace), dry_run=dry_run)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _beyond_budgets(pod: Json) -> bool:
    """A pod that runs nothing, or goes already, disrupts nobody."""
    return pod["status"].get("phase") in ("Succeeded", "Failed", "Pending") or "deletionTimestamp" in pod["metadata"]


def _guards(budget: Json, pod: Json) -> bool:
    """In policy/v1 an empty selector takes every pod of the namespace, an absent one none."""
    selector = budget["spec"].get("selector")
    return selector is not None and matches_labels(selector, pod["metadata"].get("labels") or {})


def _ready(pod: Json) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or ())


def _may_go_unready(pod: Json, budget: Json) -> bool:
    """A pod that is not ready counts for no budget and may go, unless the rest is short of pods already."""
    if _ready(pod):
        return False
    status = budget.get("status") or {}
    enough = bool(status.get("currentHealthy", 0) >= status.get("desiredHealthy", 0) > 0)
    return enough or budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow"


def _take_from(budget: Json, pod: Json, store: Store, *, dry_run: bool) -> None:
    """Take one disruption from a budget. Raises Refused (429) when it has none."""
    name, status = budget["metadata"]["name"], budget.get("status") or {}
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 1):
        raise _too_many(f"The disruption budget {name} is still being processed by the server.", 10)
    allowed = status["disruptionsAllowed"]
    if allowed == 0:
        needs, has = status["desiredHealthy"], status["currentHealthy"]
        raise _too_many(f"The disruption budget {name} needs {needs} healthy pods and has {has} currently", 0)
    if dry_run:
        return
    disrupted = {**status.get("disruptedPods", {}), pod["metadata"]["name"]: store.now()}
    store.replace({**budget, "status": {**status, "disruptionsAllowed": allowed - 1, "disruptedPods": disrupted}})


def _too_many(cause: str, after: int) -> Refused:
    details: Json = {"causes": [{"reason": "DisruptionBudget", "message": cause}]}
    if after:
        details["retryAfterSeconds"] = after
    return Refused(429, "TooManyRequests", _REFUSED, details)


def _mark(store: Store, pod: Json) -> None:
    """The condition that tells why a pod goes."""
    kept = [c for c in pod["status"].get("conditions") or () if c["type"] != "DisruptionTarget"]
    told = {
        "lastProbeTime": None,
        "lastTransitionTime": store.now(),
        "message": "Eviction API: evicting",
        "reason": "EvictionByEvictionAPI",
        "status": "True",
        "type": "DisruptionTarget",
    }
    store.replace({**pod, "status": {**pod["status"], "conditions": [*kept, told]}})


def _status(budget: Json, store: Store, now: datetime) -> Json:
    old, meta, spec = budget.get("status") or {}, budget["metadata"], budget["spec"]
    pods = [p for p in store.list("Pod", meta["namespace"]) if _guards(budget, p)]
    disrupted = dict(_still_disrupted(old.get("disruptedPods") or {}, pods, now))
    healthy = sum(
        1
        for p in pods
        if "deletionTimestamp" not in p["metadata"] and p["metadata"]["name"] not in disrupted and _ready(p)
    )
    expected, desired = _wanted(spec, pods, store)
    allowed = max(healthy - desired, 0) if expected > 0 else 0
    status: Json = {
        "conditions": [_condition(old, allowed > 0, meta.get("generation", 1), store.now())],
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "disruptionsAllowed": allowed,
        "expectedPods": expected,
        "observedGeneration": meta.get("generation", 1),
    }
    return {**status, "disruptedPods": disrupted} if disrupted else status


def _still_disrupted(disrupted: Json, pods: list[Json], now: datetime) -> Iterator[tuple[str, str]]:
    """Evictions that were granted and that no deletion has followed yet."""
    there = {p["metadata"]["name"] for p in pods if "deletionTimestamp" not in p["metadata"]}
    for name, since in disrupted.items():
        if name in there and datetime.fromisoformat(since) + _DISRUPTED_FOR > now:
            yield name, since


def _wanted(spec: Json, pods: list[Json], store: Store) -> tuple[int, int]:
    """How many pods there should be, and how many of them must be healthy."""
    if spec.get("maxUnavailable") is not None:
        expected = _scale(pods, store)
        return expected, max(expected - _part(spec["maxUnavailable"], expected), 0)
    least = spec.get("minAvailable", 1)
    if isinstance(least, int):
        return len(pods), least
    expected = _scale(pods, store)
    return expected, _part(least, expected)


def _scale(pods: list[Json], store: Store) -> int:
    """The replicas that the controllers of the pods are to keep; pods without one count for nothing."""
    scales = {}
    for pod in pods:
        for owner in pod["metadata"].get("ownerReferences") or ():
            live = store.get("ReplicaSet", pod["metadata"]["namespace"], owner["name"])
            if owner.get("controller") and owner["kind"] == "ReplicaSet" and live is not None:
                scales[owner["uid"]] = live["spec"]["replicas"]
    return sum(scales.values())


def _part(value: int | str, whole: int) -> int:
    """A number, or a percentage rounded up."""
    return value if isinstance(value, int) else math.ceil(int(value.rstrip("%")) * whole / 100)


def _condition(old: Json, allowed: bool, generation: int, now: str) -> Json:
    status = "True" if allowed else "False"
    before: Json = next(iter(old.get("conditions") or ()), {})
    return {
        "lastTransitionTime": before["lastTransitionTime"] if before.get("status") == status else now,
        "message": "",
        "observedGeneration": generation,
        "reason": "SufficientPods" if allowed else "InsufficientPods",
        "status": status,
        "type": "DisruptionAllowed",
    }
