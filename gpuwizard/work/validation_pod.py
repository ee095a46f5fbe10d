"""The pod that proves that a GPU reaches a pod on one node: it runs nvidia-smi, which only the nvidia runtime puts into
it (`kubernetes.md §6`)."""

import re
from collections.abc import Mapping
from typing import Any

from gpuwizard.facts.cluster import NodeView
from gpuwizard.steps.identity import MANAGED_BY, OWNER, RUNTIME_CLASS
from gpuwizard.work.pods import VALIDATION

__all__ = ["GPU", "RUN", "namespace_manifest", "pod_manifest", "run_label"]

GPU = "nvidia.com/gpu"
RUN = "gpuwizard.dev/run"
_HOSTNAME = "kubernetes.io/hostname"
_SPARE_SECONDS = 120  # the cluster ends the pod by itself when gpuwizard no longer can


def run_label(run_id: str) -> str:
    """A run id as a label value: at most 63 characters of the allowed ones."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", run_id)[:63].strip("._-") or "run"


def namespace_manifest(name: str) -> dict[str, Any]:
    """The namespace for validation pods where the plan made none."""
    labels = {MANAGED_BY: OWNER, VALIDATION: "true", "pod-security.kubernetes.io/enforce": "baseline"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def pod_manifest(
    node: NodeView, namespace: str, image: str, run_id: str, timeout: float, *, runtime_class: bool = True
) -> dict[str, Any]:
    """The pod for one node. It asks for one GPU when the node has any to give; else the runtime alone shows it all
    GPUs. `timeout` is in seconds."""
    container: dict[str, Any] = {
        "name": "nvidia-smi",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["nvidia-smi", "-L"],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if node.allocatable.get(GPU, "0") != "0":
        container["resources"] = {"limits": {GPU: "1"}}
    else:
        container["env"] = [
            {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"},
            {"name": "NVIDIA_DRIVER_CAPABILITIES", "value": "utility"},
        ]
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "tolerations": [{"operator": "Exists"}],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "activeDeadlineSeconds": int(timeout) + _SPARE_SECONDS,
        "containers": [container],
        **_placement(node),
    }
    if runtime_class:
        spec["runtimeClassName"] = RUNTIME_CLASS
    labels = {
        MANAGED_BY: OWNER,
        "app.kubernetes.io/name": "gpuwizard-check",
        VALIDATION: "true",
        RUN: run_label(run_id),
    }
    meta = {"generateName": "gpuwizard-check-", "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def _placement(node: NodeView) -> Mapping[str, Any]:
    """By the hostname label, which may differ from the name; by name where the node has no such label. Never by
    nodeName, which passes the scheduler and its count of devices by."""
    hostname = node.labels.get(_HOSTNAME)
    if hostname:
        return {"nodeSelector": {_HOSTNAME: hostname}}
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node.name]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"affinity": {"nodeAffinity": required}}
