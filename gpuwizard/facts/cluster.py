"""What the Kubernetes API said, as data: nodes, live objects and what a server-side dry run makes of ours."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = ["Budget", "ClusterView", "NodePod", "NodeView", "ObjectKey", "ObjectState", "key_of"]

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """Which object: `namespace` is empty for cluster-scoped kinds."""

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def key_of(manifest: Json) -> ObjectKey:
    """Return the key of a manifest (a parsed YAML object)."""
    meta = manifest["metadata"]
    return ObjectKey(manifest["apiVersion"], manifest["kind"], meta.get("namespace", ""), meta["name"])


@dataclass(frozen=True, slots=True)
class ObjectState:
    """One object we want to own: the live object (None: absent) and the server's dry-run answer.

    `error` is the server's refusal of the dry run (conflict, forbidden, invalid). `unchecked` says why no dry run
    was possible (its namespace or CRD is created by the same plan).
    """

    live: Json | None
    dry_run: Json | None
    error: str | None = None
    unchecked: str | None = None


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node as the API shows it. `allocatable` and `capacity` hold the raw quantity strings.

    `ready_reason`, `ready_message` and `ready_since` are those of its Ready condition; `heartbeat` is the kubelet's
    last sign of life (its lease, or the condition). `unschedulable` is true when the node is cordoned.
    """

    name: str
    ready: bool | None
    labels: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    allocatable: Mapping[str, str] = field(default_factory=dict)
    capacity: Mapping[str, str] = field(default_factory=dict)
    runtime_version: str | None = None
    runtime_handlers: tuple[str, ...] = ()
    kubelet_version: str | None = None
    ready_reason: str = ""
    ready_message: str = ""
    ready_since: datetime | None = None
    heartbeat: datetime | None = None
    unschedulable: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """A disruption budget as its controller counts: how many pods may go now, how many are healthy and must be.
    `always_unready`: a pod that is not ready may go whatever the count."""

    namespace: str
    name: str
    allowed: int
    healthy: int
    desired: int
    always_unready: bool = False

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class NodePod:
    """A pod that has not ended. `controller` is the kind of what owns it, empty for none; `mirror`: the kubelet runs
    it from a file; `gpu`: it asks for a device of NVIDIA, or runs under the nvidia runtime class; `keeps_data`: it has
    an emptyDir, which ends with it. `budgets` guard it; they are None where they are hidden from this user, and empty
    where nobody asked for them. `running`: it has started; `ready`: it serves."""

    namespace: str
    name: str
    node: str
    controller: str = ""
    mirror: bool = False
    gpu: bool = False
    keeps_data: bool = False
    running: bool = True
    ready: bool = True
    budgets: tuple[Budget, ...] | None = ()

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def unmanaged(self) -> bool:
        """True when nothing makes it anew once it has died."""
        return not self.controller and not self.mirror


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The cluster at the moment of planning. `server` is its URL; `error` is set when it could not be reached.
    `pods` are None when this user may not list them."""

    server: str | None = None
    version: str | None = None
    nodes: tuple[NodeView, ...] = ()
    objects: Mapping[ObjectKey, ObjectState] = field(default_factory=dict)
    error: str | None = None
    pods: tuple[NodePod, ...] | None = None

    def node(self, name: str) -> NodeView | None:
        """The node of that name."""
        return next((n for n in self.nodes if n.name == name), None)
