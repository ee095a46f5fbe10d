"""ReplicaSets of the simulated cluster: as many pods as are wanted, made anew when one goes."""

from typing import Any

from gpuwizard.fleet.api_events import Events
from gpuwizard.fleet.api_status import Refused
from gpuwizard.fleet.api_store import Store
from gpuwizard.kube.paths import kind_of

__all__ = ["run_replica_sets"]

Json = dict[str, Any]
_COMPONENT = "replicaset-controller"


def run_replica_sets(store: Store, events: Events) -> None:
    """Create and delete the pods of every ReplicaSet, and write its status."""
    for replica_set in list(store.list("ReplicaSet")):
        if "deletionTimestamp" in replica_set["metadata"]:
            continue
        uid, namespace = replica_set["metadata"]["uid"], replica_set["metadata"]["namespace"]
        pods = [p for p in store.list("Pod", namespace) if _works_for(p, uid)]
        wanted = replica_set["spec"]["replicas"]
        for _ in range(wanted - len(pods)):
            _create(replica_set, store, events)
        for pod in pods[wanted:]:
            _delete(replica_set, pod, store, events)
        _write_status(replica_set, pods[:wanted], store)


def _works_for(pod: Json, uid: str) -> bool:
    meta = pod["metadata"]
    alive = "deletionTimestamp" not in meta and pod["status"]["phase"] not in ("Succeeded", "Failed")
    return alive and any(o["uid"] == uid for o in meta.get("ownerReferences") or ())


def _create(replica_set: Json, store: Store, events: Events) -> None:
    meta, template = replica_set["metadata"], replica_set["spec"]["template"]
    owner = {
        "apiVersion": "apps/v1",
        "blockOwnerDeletion": True,
        "controller": True,
        "kind": "ReplicaSet",
        "name": meta["name"],
        "uid": meta["uid"],
    }
    inner = template.get("metadata", {})
    pod_meta = {**inner, "generateName": f"{meta['name']}-", "ownerReferences": [owner]}
    try:
        pod = {"metadata": pod_meta, "spec": template["spec"]}
        created = store.create(kind_of("Pod"), meta["namespace"], pod, "kube-controller-manager")
    except Refused as refused:
        events.controller(_COMPONENT, replica_set, "Warning", "FailedCreate", f"Error creating: {refused.message}")
        return
    text = f"Created pod: {created['metadata']['name']}"
    events.controller(_COMPONENT, replica_set, "Normal", "SuccessfulCreate", text)


def _delete(replica_set: Json, pod: Json, store: Store, events: Events) -> None:
    meta = pod["metadata"]
    store.delete(kind_of("Pod"), meta["namespace"], meta["name"])
    events.controller(_COMPONENT, replica_set, "Normal", "SuccessfulDelete", f"Deleted pod: {meta['name']}")


def _write_status(replica_set: Json, pods: list[Json], store: Store) -> None:
    meta = replica_set["metadata"]
    live = store.get("ReplicaSet", meta["namespace"], meta["name"])
    ready = sum(
        any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions") or ()) for p in pods
    )
    status = {"fullyLabeledReplicas": len(pods), "observedGeneration": meta["generation"], "replicas": len(pods)}
    if ready:
        status |= {"availableReplicas": ready, "readyReplicas": ready}
    if live is not None and live.get("status") != status:
        store.replace({**live, "status": status})
