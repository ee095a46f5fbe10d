"""Workloads and disruption budgets for tests: as small as Kubernetes takes them."""

from typing import Any

from gpuwizard.kube.cluster import Cluster

Json = dict[str, Any]

STUBBORN = ["sh", "-c", "trap '' TERM; sleep 1000"]
"""A command that ignores SIGTERM: its pod is there until its grace is over."""


def pod_spec(*, command: list[str] | None = None, empty_dir: bool = False, grace: int = 30, **more: Any) -> Json:
    container: Json = {"name": "c", "image": "registry.local/web:1", "imagePullPolicy": "IfNotPresent"}
    if command:
        container["command"] = command
    volumes = [{"name": "scratch", "emptyDir": {}}] if empty_dir else []
    return {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": grace, **more}


def replica_set(name: str, replicas: int, *, labels: dict[str, str] | None = None, **spec: Any) -> Json:
    labels = labels or {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod_spec(**spec)}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def budget(name: str, labels: dict[str, str] | None, **rule: Any) -> Json:
    selector = {} if labels is None else {"matchLabels": labels}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": selector, **rule},
    }


async def lone_pod(cluster: Cluster, name: str, labels: dict[str, str] | None = None, **spec: Any) -> Json:
    """A pod without a controller, in the namespace default."""
    meta = {"name": name, "namespace": "default", "labels": labels or {"app": name}}
    return dict(
        await cluster.create_pod({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod_spec(**spec)})
    )
