"""Kubernetes objects reduced to what gpuwizard looks at: pure functions over the API's JSON."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gpuwizard.clean import clean_line
from gpuwizard.facts.cluster import Budget, NodePod, NodeView

__all__ = ["condition", "event_time", "node_view", "parse_time", "pod_view"]

Json = Mapping[str, Any]

_MIRROR = "kubernetes.io/config.mirror"
_DEVICES = "nvidia.com/"


def parse_time(text: Any) -> datetime | None:
    """An API time (``2026-11-21T01:14:32Z``, with or without fractions) in UTC; None when it is none."""
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def condition(obj: Json, kind: str) -> Json | None:
    """The condition of that type in ``status.conditions``."""
    for entry in obj.get("status", {}).get("conditions") or ():
        if entry.get("type") == kind:
            return entry  # type: ignore[no-any-return]
    return None


def event_time(event: Json) -> str:
    """When an event was seen last, as text that sorts (`samples/kubernetes/events.json`: the scheduler's have no
    firstTimestamp, the kubelet's no eventTime)."""
    meta = event.get("metadata", {})
    return str(event.get("lastTimestamp") or event.get("eventTime") or meta.get("creationTimestamp") or "")


def node_view(node: Json, lease: Json | None = None) -> NodeView:
    """The view of a Node. `heartbeat` is the newer of the Ready condition's heartbeat and the lease's renewal:
    a kubelet posts an unchanged status only every five minutes, but renews its lease every ten seconds."""
    status = node.get("status", {})
    info = status.get("nodeInfo", {})
    ready = condition(node, "Ready") or {}
    beats = [parse_time(ready.get("lastHeartbeatTime")), parse_time((lease or {}).get("spec", {}).get("renewTime"))]
    return NodeView(
        name=node["metadata"]["name"],
        ready={"True": True, "False": False}.get(str(ready.get("status"))),
        labels=dict(node["metadata"].get("labels") or {}),
        addresses=tuple(a.get("address", "") for a in status.get("addresses") or ()),
        allocatable=dict(status.get("allocatable") or {}),
        capacity=dict(status.get("capacity") or {}),
        runtime_version=_text(info.get("containerRuntimeVersion")),
        runtime_handlers=tuple(h.get("name", "") for h in status.get("runtimeHandlers") or ()),
        kubelet_version=_text(info.get("kubeletVersion")),
        ready_reason=clean_line(str(ready.get("reason") or "")),
        ready_message=clean_line(str(ready.get("message") or "")),
        ready_since=parse_time(ready.get("lastTransitionTime")),
        heartbeat=max((b for b in beats if b), default=None),
        unschedulable=bool(node.get("spec", {}).get("unschedulable")),
    )


def pod_view(pod: Json, budgets: tuple[Budget, ...] | None = ()) -> NodePod:
    """The view of a Pod, and of the `budgets` that guard it. Only an owner that is its controller makes it anew; a
    mirror pod is owned by its Node."""
    meta, spec = pod["metadata"], pod.get("spec", {})
    mirror = _MIRROR in (meta.get("annotations") or {})
    owner = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), None)
    return NodePod(
        namespace=clean_line(str(meta.get("namespace", ""))),
        name=clean_line(str(meta["name"])),
        node=str(spec.get("nodeName") or ""),
        controller="" if owner is None or mirror else clean_line(str(owner.get("kind", ""))),
        mirror=mirror,
        gpu=spec.get("runtimeClassName") == "nvidia" or _asks_for_gpus(spec),
        keeps_data=any("emptyDir" in volume for volume in spec.get("volumes") or ()),
        running=pod.get("status", {}).get("phase") != "Pending",
        ready=(condition(pod, "Ready") or {}).get("status") == "True",
        budgets=budgets,
    )


def _asks_for_gpus(spec: Json) -> bool:
    containers = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
    asked = (c.get("resources") or {} for c in containers)
    return any(
        key.startswith(_DEVICES) for r in asked for key in {**(r.get("requests") or {}), **(r.get("limits") or {})}
    )


def _text(value: Any) -> str | None:
    return clean_line(value) if isinstance(value, str) and value else None
