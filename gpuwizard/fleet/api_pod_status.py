"""The status of a pod as its kubelet writes it, built from what happened to its container (`samples/kubernetes`)."""

from dataclasses import dataclass
from typing import Any, Literal

from gpuwizard.fleet.api_nodes import GPU

__all__ = ["Stage", "pod_status", "rejected_status", "terminated", "waiting"]

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a pod is: its phase, the state of its containers, and what the conditions follow from."""

    phase: Literal["Pending", "Running", "Succeeded", "Failed"]
    state: Json
    sandbox: bool
    last_state: Json
    restarts: int
    devices: tuple[str, ...]
    address: str
    pod_address: str
    started: str
    container_id: str


def waiting(reason: str, message: str = "") -> Json:
    """A container state."""
    return {"waiting": {"message": message, "reason": reason} if message else {"reason": reason}}


def terminated(code: int, reason: str, started: str, finished: str, container_id: str, message: str = "") -> Json:
    """A container state."""
    ended: Json = {"containerID": container_id, "exitCode": code, "finishedAt": finished}
    if message:
        ended["message"] = message
    return {"terminated": {**ended, "reason": reason, "startedAt": started}}


def pod_status(pod: Json, stage: Stage, now: str) -> Json:
    """The whole status of a pod on a node."""
    old = pod.get("status") or {}
    status: Json = {
        "conditions": _conditions(pod, stage, old, now),
        "containerStatuses": [_container(c, stage) for c in pod["spec"].get("containers") or ()],
        "hostIP": stage.address,
        "hostIPs": [{"ip": stage.address}],
        "observedGeneration": pod["metadata"].get("generation", 1),
        "phase": stage.phase,
        "qosClass": old.get("qosClass", "BestEffort"),
        "startTime": old.get("startTime") or stage.started,
    }
    if stage.sandbox:
        status["podIP"] = stage.pod_address
        status["podIPs"] = [{"ip": stage.pod_address}]
    if stage.devices:
        status["allocatedResources"] = {GPU: str(len(stage.devices))}
    return status


def rejected_status(reason: str, message: str, now: str) -> Json:
    """The status of a pod that the kubelet does not admit."""
    return {"message": message, "phase": "Failed", "qosClass": "BestEffort", "reason": reason, "startTime": now}


def _container(container: Json, stage: Stage) -> Json:
    running = "running" in stage.state
    status: Json = {
        "image": container["image"],
        "imageID": f"sha256:{'0' * 64}" if stage.container_id else "",
        "lastState": stage.last_state,
        "name": container["name"],
        "ready": running,
        "restartCount": stage.restarts,
        "started": running,
        "state": stage.state,
    }
    if stage.container_id:
        status["containerID"] = stage.container_id
    if stage.devices and stage.phase in ("Pending", "Running"):
        resources = [{"health": "Healthy", "resourceID": device} for device in stage.devices]
        status["allocatedResourcesStatus"] = [{"name": GPU, "resources": resources}]
    return status


def _conditions(pod: Json, stage: Stage, old: Json, now: str) -> list[Json]:
    names = ", ".join(c["name"] for c in pod["spec"].get("containers") or ())
    ended = stage.phase in ("Succeeded", "Failed")
    ready: Json
    match stage.phase:
        case "Succeeded":
            ready = {"status": "False", "reason": "PodCompleted"}
        case "Failed":
            ready = {"status": "False", "reason": "PodFailed"}
        case _ if "running" in stage.state:
            ready = {"status": "True"}
        case _:
            message = f"containers with unready status: [{names}]"
            ready = {"status": "False", "reason": "ContainersNotReady", "message": message}
    done = {"status": "True", "reason": "PodCompleted"} if stage.phase == "Succeeded" else {"status": "True"}
    wanted: list[tuple[str, Json]] = [
        ("PodReadyToStartContainers", {"status": "True" if stage.sandbox and not ended else "False"}),
        ("Initialized", done),
        ("Ready", ready),
        ("ContainersReady", ready),
        ("PodScheduled", {"status": "True"}),
    ]
    before = {c["type"]: c for c in old.get("conditions") or ()}
    conditions = []
    for kind, fields in wanted:
        had = before.get(kind, {})
        since = had["lastTransitionTime"] if had.get("status") == fields["status"] else now
        generation = pod["metadata"].get("generation", 1)
        times = {"lastProbeTime": None, "lastTransitionTime": since, "observedGeneration": generation}
        conditions.append({**times, **fields, "type": kind})
    return conditions
