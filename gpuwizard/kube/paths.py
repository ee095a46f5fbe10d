"""Where each kind of object lives in the API: a small table, so that no discovery round trip is needed."""

from dataclasses import dataclass
from urllib.parse import quote

from gpuwizard.errors import UsageError
from gpuwizard.facts.cluster import ObjectKey

__all__ = ["KINDS", "Kind", "kind_of", "path_of"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object: its API version, its name in URLs, and whether it lives in namespaces."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def group(self) -> str:
        """``apps`` of ``apps/v1``; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """URL path of the collection (all namespaces when `namespace` is empty), or of one object of it."""
        parts = ["/apis" if self.group else "/api", self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts += [self.plural, *(quote(p, safe="") for p in (name, subresource) if p)]
        return "/".join(parts)


KINDS: tuple[Kind, ...] = (
    Kind("v1", "Namespace", "namespaces", False),
    Kind("v1", "Node", "nodes", False),
    Kind("v1", "Pod", "pods", True),
    Kind("v1", "Event", "events", True),
    Kind("v1", "ConfigMap", "configmaps", True),
    Kind("v1", "ServiceAccount", "serviceaccounts", True),
    Kind("v1", "Secret", "secrets", True),
    Kind("v1", "Service", "services", True),
    Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims", True),
    Kind("apps/v1", "DaemonSet", "daemonsets", True),
    Kind("apps/v1", "Deployment", "deployments", True),
    Kind("apps/v1", "StatefulSet", "statefulsets", True),
    Kind("batch/v1", "Job", "jobs", True),
    Kind("batch/v1", "CronJob", "cronjobs", True),
    Kind("apps/v1", "ReplicaSet", "replicasets", True),
    Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", True),
    Kind("node.k8s.io/v1", "RuntimeClass", "runtimeclasses", False),
    Kind("coordination.k8s.io/v1", "Lease", "leases", True),
)
_BY_NAME = {k.kind: k for k in KINDS}


def kind_of(name: str, api_version: str | None = None) -> Kind:
    """The table's entry for ``Pod``. Raises UsageError for a kind or API version that gpuwizard does not handle."""
    kind = _BY_NAME.get(name)
    if kind is None or (api_version is not None and api_version != kind.api_version):
        raise UsageError(f"gpuwizard does not handle Kubernetes objects of kind {api_version or ''} {name}".strip())
    return kind


def path_of(key: ObjectKey, subresource: str = "") -> str:
    """URL path of one object. Raises UsageError as `kind_of`."""
    return kind_of(key.kind, key.api_version).path(key.namespace, key.name, subresource)
