"""The controllers of the simulated cluster: DaemonSets, garbage collection, namespaces."""

import hashlib
import json
from typing import Any

from gpuwizard.fleet.api_events import Events
from gpuwizard.fleet.api_scheduler import matches_node, tolerates
from gpuwizard.fleet.api_status import Refused
from gpuwizard.fleet.api_store import Store
from gpuwizard.kube.paths import KINDS, kind_of

__all__ = ["run_daemon_sets", "sweep"]

Json = dict[str, Any]

_COMPONENT = "daemonset-controller"
_HASH = "controller-revision-hash"
_OWNERS = {kind.kind for kind in KINDS}  # a pod of any other kind of owner is left alone
_TOLERATED = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)


def run_daemon_sets(store: Store, events: Events) -> None:
    """Create, replace and delete the pods of every DaemonSet, and write its status."""
    nodes = [n for n in store.list("Node") if "status" in n]
    for daemon_set in list(store.list("DaemonSet")):
        if "deletionTimestamp" not in daemon_set["metadata"]:
            _run(daemon_set, nodes, store, events)


def sweep(store: Store) -> None:
    """Delete what belongs to deleted owners, and empty namespaces that are being deleted."""
    for pod in list(store.list("Pod")):
        owners = pod["metadata"].get("ownerReferences") or ()
        for owner in owners:
            if owner["kind"] not in _OWNERS:
                continue
            live = store.get(owner["kind"], pod["metadata"]["namespace"], owner["name"])
            if live is None or live["metadata"]["uid"] != owner["uid"]:
                _delete(pod, store)
    for namespace in list(store.list("Namespace")):
        if "deletionTimestamp" not in namespace["metadata"]:
            continue
        name = namespace["metadata"]["name"]
        inside = [o for k in KINDS if k.namespaced for o in store.list(k.kind, name)]
        for obj in inside:
            _delete(obj, store)
        if not inside:
            store.remove(namespace)


def _delete(obj: Json, store: Store) -> None:
    meta = obj["metadata"]
    if store.get(obj["kind"], meta["namespace"], meta["name"]) is not None:
        store.delete(kind_of(obj["kind"]), meta["namespace"], meta["name"])


def _run(daemon_set: Json, nodes: list[Json], store: Store, events: Events) -> None:
    meta, spec = daemon_set["metadata"], daemon_set["spec"]
    template = spec["template"]
    revision = _revision(template)
    pods = [p for p in store.list("Pod", meta["namespace"]) if _owned(p, daemon_set)]
    by_node: dict[str, list[Json]] = {}
    for pod in pods:
        by_node.setdefault(_target(pod), []).append(pod)
    wanted = [n for n in nodes if _should_run(template["spec"], n)]
    names = {n["metadata"]["name"] for n in wanted}
    for node, own in by_node.items():
        for pod in own if node not in names else own[1:]:
            _remove(daemon_set, pod, store, events)
    may_stop = int(spec["updateStrategy"].get("rollingUpdate", {}).get("maxUnavailable", 1))
    may_stop -= sum(1 for n in names if not any(_ready(p) for p in by_node.get(n, ())))
    for node in sorted(names):
        own = by_node.get(node, [])
        if not own:
            _create(daemon_set, node, revision, store, events)
            continue
        pod = own[0]
        outdated = pod["metadata"]["labels"].get(_HASH) != revision
        failed = pod["status"]["phase"] in ("Failed", "Succeeded")
        if failed or (outdated and (may_stop > 0 or not _ready(pod))):
            may_stop -= 1 if _ready(pod) else 0
            _remove(daemon_set, pod, store, events)
    _write_status(daemon_set, names, by_node, revision, store)


def _owned(pod: Json, daemon_set: Json) -> bool:
    uid = daemon_set["metadata"]["uid"]
    return any(o["uid"] == uid for o in pod["metadata"].get("ownerReferences") or ())


def _target(pod: Json) -> str:
    affinity = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return str(affinity["nodeSelectorTerms"][0]["matchFields"][0]["values"][0])


def _ready(pod: Json) -> bool:
    conditions = pod["status"].get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _revision(template: Json) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def _should_run(pod_spec: Json, node: Json) -> bool:
    """A node gets a pod when the template selects it and tolerates its taints (those of `_TOLERATED` always)."""
    if not matches_node(pod_spec, node):
        return False
    always = {"tolerations": [{"key": k, "effect": e, "operator": "Exists"} for k, e in _TOLERATED]}
    automatic = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    return all(
        tolerates(pod_spec, taint) or tolerates(always, taint) or taint["key"] in automatic
        for taint in node.get("spec", {}).get("taints") or ()
        if taint["effect"] in ("NoSchedule", "NoExecute")
    )


def _create(daemon_set: Json, node: str, revision: str, store: Store, events: Events) -> None:
    meta, template = daemon_set["metadata"], daemon_set["spec"]["template"]
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    automatic = [{"effect": effect, "key": key, "operator": "Exists"} for key, effect in _TOLERATED]
    automatic += [{"effect": "NoSchedule", "key": key, "operator": "Exists"} for key, _ in _TOLERATED[:2]]
    spec = {
        **template["spec"],
        "affinity": {**template["spec"].get("affinity", {}), "nodeAffinity": required},
        "tolerations": [*template["spec"].get("tolerations", ()), *automatic],
    }
    inner = template.get("metadata", {})
    owner = {
        "apiVersion": "apps/v1",
        "blockOwnerDeletion": True,
        "controller": True,
        "kind": "DaemonSet",
        "name": meta["name"],
        "uid": meta["uid"],
    }
    generation = meta["annotations"]["deprecated.daemonset.template.generation"]
    labels = {**inner.get("labels", {}), _HASH: revision, "pod-template-generation": generation}
    pod_meta = {"generateName": f"{meta['name']}-", "labels": labels, "ownerReferences": [owner]}
    if inner.get("annotations"):
        pod_meta["annotations"] = inner["annotations"]
    pod = {"metadata": pod_meta, "spec": spec}
    try:
        created = store.create(kind_of("Pod"), meta["namespace"], pod, "kube-controller-manager")
    except Refused as refused:
        events.controller(_COMPONENT, daemon_set, "Warning", "FailedCreate", f"Error creating: {refused.message}")
        return
    text = f"Created pod: {created['metadata']['name']}"
    events.controller(_COMPONENT, daemon_set, "Normal", "SuccessfulCreate", text)


def _remove(daemon_set: Json, pod: Json, store: Store, events: Events) -> None:
    if "deletionTimestamp" in pod["metadata"]:
        return
    text = f"Deleted pod: {pod['metadata']['name']}"
    events.controller(_COMPONENT, daemon_set, "Normal", "SuccessfulDelete", text)
    _delete(pod, store)


def _write_status(
    daemon_set: Json, names: set[str], by_node: dict[str, list[Json]], revision: str, store: Store
) -> None:
    meta = daemon_set["metadata"]
    live = store.get("DaemonSet", meta["namespace"], meta["name"])
    if live is None:
        return
    running = [own[0] for node, own in by_node.items() if node in names]
    ready = sum(1 for p in running if _ready(p))
    status = {
        "currentNumberScheduled": len(running),
        "desiredNumberScheduled": len(names),
        "numberMisscheduled": sum(1 for node in by_node if node not in names),
        "numberReady": ready,
        "observedGeneration": meta["generation"],
        "updatedNumberScheduled": sum(1 for p in running if p["metadata"]["labels"].get(_HASH) == revision),
    }
    if ready:
        status["numberAvailable"] = ready
    if len(names) > ready:
        status["numberUnavailable"] = len(names) - ready
    if live.get("status") != status:
        store.replace({**live, "status": status})
