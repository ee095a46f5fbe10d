"""Pods of gpuwizard as the operator sees them: one row each, and in one line why a pod is not where it should be.

The order of reasons follows `kubernetes.md §6`: what the kubelet or scheduler says beats what the phase says.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from gpuwizard.clean import clean_line
from gpuwizard.errors import GpuwizardError
from gpuwizard.kube.cluster import Cluster
from gpuwizard.kube.views import condition, event_time, parse_time
from gpuwizard.steps.identity import MANAGED_BY, OWNER

__all__ = ["VALIDATION", "PodView", "cause_of", "pod_view", "reason_of", "watch_pods"]

Json = Mapping[str, Any]
Role = Literal["device-plugin", "validation", "other"]

VALIDATION = "gpuwizard.dev/validation"

_ORDINARY_WAITS = ("ContainerCreating", "PodInitializing", "")
_NOISE = ("MissingClusterDNS", "DNSConfigForming", "BackOff")
_CAUSES: tuple[tuple[str, str], ...] = (
    (r"no runtime for \S+ is configured", "the node's container runtime has no such handler, or runs without it"),
    (r"RuntimeClass \S+ not found", "the cluster has no such runtime class"),
    (r"Insufficient nvidia\.com/gpu", "no GPU is announced on the node, or all are in use"),
    (r"untolerated taint|didn't match Pod's node affinity", "no node of that name takes the pod"),
    (r"ErrImage|ImagePull|pull image", "the node cannot get the image: registry, proxy, DNS or name"),
    (r"unresolvable CDI devices", "the CDI specification is missing or older than the driver"),
    (r"nvidia-container-cli|libnvidia-ml|driver not loaded", "the NVIDIA driver is not loaded on the node"),
    (r'"nvidia-container-runtime": executable file not found', "the NVIDIA container toolkit is not installed there"),
    (r'nvidia-smi"?: (executable file )?not found', "the pod did not run under the nvidia runtime"),
    (r"ERROR_LIBRARY_NOT_FOUND|could not load NVML", "the device plugin does not run under the nvidia runtime"),
    (r"unknown service runtime\.v1\.RuntimeService", "the CRI plugin of containerd is in error"),
    (r"container runtime is down", "the CRI plugin of containerd is in error, or containerd is stopped"),
    (r"UnexpectedAdmissionError", "the kubelet has not (yet) any device from the plugin: try again"),
    (r"violates PodSecurity", "the namespace forbids such pods"),
    (r"No devices (were )?found", "the driver lists no GPU in the container"),
)


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod as a row. `ready` is (ready containers, containers); `reason` says what it waits for or died of."""

    namespace: str
    name: str
    node: str | None
    role: Role
    phase: str
    ready: tuple[int, int]
    restarts: int
    reason: str = ""
    message: str = ""
    started: datetime | None = None
    terminating: bool = False


def pod_view(pod: Json, events: Sequence[Json] = ()) -> PodView:
    """The row of a pod."""
    meta, status = pod["metadata"], pod.get("status", {})
    statuses = status.get("containerStatuses") or ()
    labels = meta.get("labels") or {}
    reason, _, message = reason_of(pod, events).partition(": ")
    return PodView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        node=pod.get("spec", {}).get("nodeName"),
        role=_role(labels, pod),
        phase=str(status.get("phase") or "Unknown"),
        ready=(sum(1 for s in statuses if s.get("ready")), len(pod.get("spec", {}).get("containers") or ())),
        restarts=sum(int(s.get("restartCount", 0)) for s in statuses),
        reason=reason,
        message=message,
        started=parse_time(status.get("startTime")) or parse_time(meta.get("creationTimestamp")),
        terminating="deletionTimestamp" in meta,
    )


def _role(labels: Mapping[str, str], pod: Json) -> Role:
    if VALIDATION in labels:
        return "validation"
    owners = pod["metadata"].get("ownerReferences") or ()
    return "device-plugin" if any(o.get("kind") == "DaemonSet" for o in owners) else "other"


def reason_of(pod: Json, events: Iterable[Json] = ()) -> str:
    """Why the pod is not further, as ``Reason: message``; empty when there is nothing to explain.

    `events` are those about this pod, in any order.
    """
    status = pod.get("status", {})
    if status.get("reason"):
        return _said(status["reason"], status.get("message"))
    warnings = [e for e in events if e.get("type") == "Warning" and e.get("reason") not in _NOISE]
    warnings.sort(key=event_time)
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        said = _container_reason(container, warnings)
        if said:
            return said
    scheduled = condition(pod, "PodScheduled") or {}
    if scheduled.get("status") == "False":
        return _said(scheduled.get("reason"), scheduled.get("message"))
    if status.get("phase") in ("Running", "Succeeded"):
        return ""
    if warnings:
        return _said(warnings[-1].get("reason"), warnings[-1].get("message"))
    if status.get("containerStatuses"):
        return "ContainerCreating"
    return ""


def _container_reason(container: Json, warnings: Sequence[Json]) -> str:
    state = container.get("state") or {}
    wait = state.get("waiting") or {}
    if wait.get("reason", "") not in _ORDINARY_WAITS:
        message = wait.get("message")
        if wait["reason"] == "ImagePullBackOff" and "ErrImagePull" not in str(message):
            pulls = [e for e in warnings if str(e.get("message", "")).startswith("Failed to pull image")]
            message = pulls[-1].get("message") if pulls else message  # older kubelets name no cause in the status
        ended = (container.get("lastState") or {}).get("terminated")
        if wait["reason"] == "CrashLoopBackOff" and ended:
            return _said(wait["reason"], _ended(ended))
        return _said(wait["reason"], message)
    done = state.get("terminated")
    if done and done.get("exitCode") != 0:
        return _said(done.get("reason") or "Error", _ended(done))
    return ""


def _ended(terminated: Json) -> str:
    words = f"the container ended with status {terminated.get('exitCode')}"
    return f"{words}: {terminated['message']}" if terminated.get("message") else words


def _said(reason: Any, message: Any) -> str:
    return clean_line(f"{reason}: {message}" if message else str(reason or ""))


def cause_of(reason: str) -> str | None:
    """What a reason means, in our own words; None for one that speaks for itself."""
    return next((cause for pattern, cause in _CAUSES if re.search(pattern, reason)), None)


async def watch_pods(
    cluster: Cluster,
    namespace: str,
    on_pods: Callable[[tuple[PodView, ...]], None],
    on_lost: Callable[[GpuwizardError], None] | None = None,
) -> None:
    """Call `on_pods` with all pods of gpuwizard in `namespace` at every change, until cancelled.

    A lost link is taken up again; `on_lost` hears of it. Raises LoginError and RefusedError.
    """
    pods: dict[str, PodView] = {}
    on_pods(())
    async with aclosing(
        cluster.watch("Pod", namespace, label_selector=f"{MANAGED_BY}={OWNER}", on_lost=on_lost)
    ) as changes:
        async for change, pod in changes:
            name = pod["metadata"]["name"]
            if change == "DELETED":
                pods.pop(name, None)
            else:
                pods[name] = pod_view(pod)
            on_pods(tuple(pods[n] for n in sorted(pods)))
