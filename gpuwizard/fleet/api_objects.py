"""What the simulated server makes of an object before it stores it: defaults, normal forms, names and system fields."""

import copy
import secrets
import uuid
from collections.abc import Iterator
from typing import Any

from gpuwizard.kube.paths import Kind

__all__ = ["containers", "defaulted", "generated_name", "new_metadata", "normal_quantities", "pod_spec", "suffix"]

Json = dict[str, Any]

_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # no vowels, so that no words come about


def suffix(length: int = 5) -> str:
    """A random end for a generated name."""
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


def generated_name(prefix: str) -> str:
    """A name from ``generateName``."""
    return prefix[:58] + suffix()


def new_metadata(obj: Json, now: str) -> Json:
    """`obj` with what the server gives a new object: uid and creation time."""
    meta = {**obj["metadata"], "creationTimestamp": now, "uid": str(uuid.uuid4())}
    return {**obj, "metadata": meta}


def defaulted(kind: Kind, obj: Json) -> Json:
    """A copy of `obj` with the server's defaults, and quantities as strings."""
    result = copy.deepcopy(obj)
    match kind.kind:
        case "Pod":
            _default_pod_spec(result.setdefault("spec", {}))
            _default_pod(result)
        case "DaemonSet":
            _default_daemon_set(result)
        case "ReplicaSet":
            spec = result.setdefault("spec", {})
            spec.setdefault("replicas", 1)
            _default_pod_spec(spec.setdefault("template", {}).setdefault("spec", {}))
        case "Namespace":
            labels = result["metadata"].setdefault("labels", {})
            labels["kubernetes.io/metadata.name"] = result["metadata"]["name"]
            result.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
            result.setdefault("status", {}).setdefault("phase", "Active")
        case _:
            pass
    return result


def pod_spec(kind: Kind, obj: Json) -> Json | None:
    """The pod spec inside a Pod, DaemonSet or ReplicaSet; None for other kinds."""
    match kind.kind:
        case "Pod":
            spec = obj.get("spec")
        case "DaemonSet" | "ReplicaSet":
            spec = (obj.get("spec") or {}).get("template", {}).get("spec")
        case _:
            return None
    return spec if isinstance(spec, dict) else None


def normal_quantities(kind: Kind, obj: Json) -> Json:
    """A copy of `obj` whose resource quantities are strings, as the server keeps them."""
    result = copy.deepcopy(obj)
    for container in containers(pod_spec(kind, result) or {}):
        resources = container.get("resources") or {}
        for part in ("limits", "requests"):
            if part in resources:
                resources[part] = {name: str(value) for name, value in resources[part].items()}
    return result


def _default_daemon_set(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("revisionHistoryLimit", 10)
    strategy = spec.setdefault("updateStrategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxSurge", 0)
        rolling.setdefault("maxUnavailable", 1)
    _default_pod_spec(spec.setdefault("template", {}).setdefault("spec", {}))


def _default_pod_spec(spec: Json) -> None:
    for name, value in (
        ("dnsPolicy", "ClusterFirst"),
        ("restartPolicy", "Always"),
        ("schedulerName", "default-scheduler"),
        ("securityContext", {}),
        ("terminationGracePeriodSeconds", 30),
    ):
        spec.setdefault(name, value)
    for container in containers(spec):
        _default_container(container)
    for volume in spec.get("volumes") or ():
        for source in ("configMap", "secret", "projected"):
            if source in volume:
                volume[source].setdefault("defaultMode", 420)
        if "hostPath" in volume:
            volume["hostPath"].setdefault("type", "")


def containers(spec: Json) -> Iterator[Json]:
    """All containers of a pod spec."""
    yield from spec.get("initContainers") or ()
    yield from spec.get("containers") or ()


def _default_container(container: Json) -> None:
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].partition(":")[2]
    container.setdefault("imagePullPolicy", "Always" if tag in ("", "latest") and "@" not in image else "IfNotPresent")
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("resources", {})
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
    for variable in container.get("env") or ():
        reference = variable.get("valueFrom", {}).get("fieldRef")
        if reference is not None:
            reference.setdefault("apiVersion", "v1")


def _default_pod(pod: Json) -> None:
    spec = pod["spec"]
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    important = spec.get("priorityClassName") in ("system-node-critical", "system-cluster-critical")
    spec.setdefault("priority", 2000001000 if important else 0)
    spec.setdefault("serviceAccount", spec.get("serviceAccountName", "default"))
    spec.setdefault("serviceAccountName", "default")
    for container in containers(spec):
        resources = container["resources"]
        if "limits" in resources:
            requests = resources.setdefault("requests", {})
            for name, value in resources["limits"].items():
                requests.setdefault(name, value)
    tolerations = spec.setdefault("tolerations", [])
    everything = any(t.get("operator") == "Exists" and not t.get("key") for t in tolerations)
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not everything and not any(t.get("key") == key for t in tolerations):
            tolerations.append({"effect": "NoExecute", "key": key, "operator": "Exists", "tolerationSeconds": 300})
    status = pod.setdefault("status", {})
    status.setdefault("phase", "Pending")
    status.setdefault("qosClass", "BestEffort")
