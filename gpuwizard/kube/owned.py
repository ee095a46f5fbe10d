"""Find what of a cluster is gpuwizard's, and what else is in its namespaces."""

import asyncio
from collections.abc import Mapping
from typing import Any

from gpuwizard.errors import RefusedError
from gpuwizard.facts.cluster import key_of
from gpuwizard.facts.owned import Owned
from gpuwizard.kube.cluster import Cluster
from gpuwizard.steps.identity import MANAGED_BY, OWNER

__all__ = ["find_owned"]

_OURS = ("DaemonSet", "Pod", "ConfigMap", "ServiceAccount", "RuntimeClass", "Namespace")
"""The kinds that gpuwizard makes, in the order in which they are taken away."""
_INHABITANTS = (
    "Pod",
    "ConfigMap",
    "Secret",
    "Service",
    "ServiceAccount",
    "PersistentVolumeClaim",
    "DaemonSet",
    "Deployment",
    "StatefulSet",
    "Job",
    "CronJob",
)
_MADE_BY_THE_CLUSTER = (("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default"))


async def find_owned(cluster: Cluster) -> Owned:
    """Everything with our label, and for each namespace among it what else is in it. Raises as `Cluster`."""
    selector = f"{MANAGED_BY}={OWNER}"
    found = await asyncio.gather(*(cluster.list_objects(kind, label_selector=selector) for kind in _OURS))
    objects = tuple(obj for kind in found for obj in kind if not _follows(obj))
    names = [obj["metadata"]["name"] for obj in objects if obj["kind"] == "Namespace"]
    others = await asyncio.gather(*(_others(cluster, name) for name in names))
    return Owned(objects, dict(zip(names, others, strict=True)))


def _follows(obj: Mapping[str, Any]) -> bool:
    """True for what goes by itself: it is on its way already, or another object owns it."""
    meta = obj["metadata"]
    return "deletionTimestamp" in meta or bool(meta.get("ownerReferences"))


async def _others(cluster: Cluster, namespace: str) -> tuple[str, ...] | None:
    try:
        found = await asyncio.gather(*(cluster.list_objects(kind, namespace) for kind in _INHABITANTS))
    except RefusedError:
        return None
    strangers = []
    for obj in (obj for kind in found for obj in kind):
        labels = obj["metadata"].get("labels") or {}
        known = (obj["kind"], obj["metadata"]["name"]) in _MADE_BY_THE_CLUSTER
        if labels.get(MANAGED_BY) != OWNER and not known:
            strangers.append(str(key_of(obj)))
    return tuple(sorted(strangers))
