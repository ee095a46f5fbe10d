"""Why a node announces no GPUs: what its device plugin pod waits for, or why there is none."""

from collections.abc import Mapping
from typing import Any

from gpuwizard.errors import GpuwizardError
from gpuwizard.kube.cluster import Cluster
from gpuwizard.kube.views import event_time
from gpuwizard.steps.identity import PLUGIN_NAME
from gpuwizard.work.live import LiveView
from gpuwizard.work.pods import reason_of

__all__ = ["plugin_log", "plugin_pod", "plugin_reason"]

Json = Mapping[str, Any]


def plugin_pod(live: LiveView, node: str) -> Json | None:
    """The DaemonSet's pod on a node."""
    for pod in live.pods.values():
        owners = pod["metadata"].get("ownerReferences") or ()
        if pod.get("spec", {}).get("nodeName") == node and any(o.get("kind") == "DaemonSet" for o in owners):
            return pod
    return None


def plugin_reason(live: LiveView, node: str) -> str:
    """In words, what keeps the plugin of this node from announcing."""
    pod = plugin_pod(live, node)
    if pod is not None:
        name = pod["metadata"]["name"]
        return f"device plugin pod {name}: {reason_of(pod, live.events_of(name)) or pod['status'].get('phase')}"
    refused = [e for e in live.events_of(PLUGIN_NAME) if e.get("reason") == "FailedCreate"]
    if refused:
        return f"no device plugin pod: {max(refused, key=event_time).get('message')}"
    return "no device plugin pod of gpuwizard is on the node"


async def plugin_log(cluster: Cluster, live: LiveView, namespace: str, node: str) -> tuple[str, ...]:
    """The last lines of the plugin's log on this node, of its last life when it waits to be started again."""
    pod = plugin_pod(live, node)
    if pod is None:
        return ()
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    crashed = any("waiting" in (s.get("state") or {}) for s in statuses)
    try:
        text = await cluster.pod_log(namespace, pod["metadata"]["name"], 5, previous=crashed)
    except GpuwizardError:
        return ()
    return tuple(line.strip() for line in text.splitlines() if line.strip())
