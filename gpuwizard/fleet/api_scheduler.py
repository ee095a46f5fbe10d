"""The simulated scheduler: which node a pod goes to, or why none, in the real one's words."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from gpuwizard.fleet.api_events import Events
from gpuwizard.fleet.api_nodes import GPU
from gpuwizard.fleet.api_objects import containers
from gpuwizard.fleet.api_selectors import matches_labels
from gpuwizard.fleet.api_store import Store

__all__ = ["requested", "schedule", "tolerates"]

Json = dict[str, Any]

_AFFINITY = "node(s) didn't match Pod's node affinity/selector"
_UNHELPFUL = "Preemption is not helpful for scheduling"
_NO_VICTIMS = "No preemption victims found for incoming pod"


def schedule(store: Store, events: Events) -> None:
    """Bind every pending pod that fits somewhere; say of the others why not."""
    nodes = [n for n in store.list("Node") if "status" in n]
    for pod in list(store.list("Pod")):
        if pod["spec"].get("nodeName") or "deletionTimestamp" in pod["metadata"]:
            continue
        if pod["status"]["phase"] != "Pending":
            continue
        pods = list(store.list("Pod"))
        problems = {n["metadata"]["name"]: _problem(pod, n, pods) for n in nodes}
        fitting = [n for n in nodes if problems[n["metadata"]["name"]] is None]
        if fitting:
            _bind(pod, _least_loaded(fitting, pods), store, events)
        else:
            _unschedulable(pod, [p for p in problems.values() if p is not None], store, events)


def requested(pod: Json, resource: str = GPU) -> int:
    """How many of a resource the pod's containers request."""
    return sum(int(c.get("resources", {}).get("requests", {}).get(resource, "0")) for c in containers(pod["spec"]))


def tolerates(pod_spec: Json, taint: Json) -> bool:
    """Whether one of the pod's tolerations covers the taint."""
    for toleration in pod_spec.get("tolerations") or ():
        same_effect = toleration.get("effect") in (None, "", taint["effect"])
        same_key = toleration.get("key") in (None, "", taint["key"])
        exists = toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")
        if same_effect and same_key and exists:
            return True
    return False


def _problem(pod: Json, node: Json, pods: Iterable[Json]) -> tuple[str, str] | None:
    """Why the pod does not fit on the node, and what preemption would say of it."""
    spec = pod["spec"]
    for taint in _taints(node):
        if taint["effect"] in ("NoSchedule", "NoExecute") and not tolerates(spec, taint):
            if taint["key"] == "node.kubernetes.io/unschedulable":
                return "node(s) were unschedulable", _UNHELPFUL
            return f"node(s) had untolerated taint(s) {{{taint['key']}: {taint.get('value', '')}}}", _UNHELPFUL
    if not matches_node(spec, node):
        return _AFFINITY, _UNHELPFUL
    wanted = requested(pod)
    if wanted:
        name = node["metadata"]["name"]
        room = int(node["status"].get("allocatable", {}).get(GPU, "0"))
        used = sum(requested(p) for p in pods if p["spec"].get("nodeName") == name and _holds(p))
        if wanted > room:
            return f"Insufficient {GPU}", _UNHELPFUL
        if wanted > room - used:
            return f"Insufficient {GPU}", _NO_VICTIMS
    return None


def matches_node(spec: Json, node: Json) -> bool:
    """nodeSelector and required node affinity."""
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(k) != v for k, v in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(
        matches_labels({"matchExpressions": term.get("matchExpressions")}, labels)
        and matches_labels({"matchExpressions": term.get("matchFields")}, fields)
        for term in required["nodeSelectorTerms"]
    )


def _taints(node: Json) -> list[Json]:
    taints = list(node.get("spec", {}).get("taints") or ())
    if node.get("spec", {}).get("unschedulable"):
        taints.append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
    return taints


def _holds(pod: Json) -> bool:
    return pod["status"].get("phase") not in ("Succeeded", "Failed")


def _least_loaded(nodes: list[Json], pods: list[Json]) -> Json:
    load = Counter(p["spec"].get("nodeName") for p in pods if _holds(p))
    return min(nodes, key=lambda n: (load[n["metadata"]["name"]], n["metadata"]["name"]))


def _bind(pod: Json, node: Json, store: Store, events: Events) -> None:
    meta, name = pod["metadata"], node["metadata"]["name"]
    scheduled = {
        "lastProbeTime": None,
        "lastTransitionTime": store.now(),
        "observedGeneration": meta.get("generation", 1),
        "status": "True",
        "type": "PodScheduled",
    }
    status = {**pod["status"], "conditions": [scheduled]}
    bound = store.replace({**pod, "spec": {**pod["spec"], "nodeName": name}, "status": status})
    text = f"Successfully assigned {meta['namespace']}/{meta['name']} to {name}"
    events.scheduler(bound, "Normal", "Scheduled", text, "Binding")


def _unschedulable(pod: Json, problems: list[tuple[str, str]], store: Store, events: Events) -> None:
    total = len(problems)
    why = _counted(p[0] for p in problems)
    preemption = _counted(p[1] for p in problems)
    if total:
        message = (
            f"0/{total} nodes are available: {why}. no new claims to deallocate, "
            f"preemption: 0/{total} nodes are available: {preemption}."
        )
    else:
        message = "no nodes available to schedule pods"
    before = next((c for c in pod["status"].get("conditions") or () if c["type"] == "PodScheduled"), None)
    if before is not None and before.get("message") == message:
        return
    condition = {
        "lastProbeTime": None,
        "lastTransitionTime": before["lastTransitionTime"] if before else store.now(),
        "message": message,
        "observedGeneration": pod["metadata"].get("generation", 1),
        "reason": "Unschedulable",
        "status": "False",
        "type": "PodScheduled",
    }
    stored = store.replace({**pod, "status": {**pod["status"], "conditions": [condition]}})
    events.scheduler(stored, "Warning", "FailedScheduling", message, "Scheduling")


def _counted(reasons: Iterable[str]) -> str:
    return ", ".join(sorted(f"{n} {reason}" for reason, n in Counter(reasons).items()))
