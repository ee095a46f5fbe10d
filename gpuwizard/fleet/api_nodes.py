"""The kubelet's reports about its node: Ready, heartbeats, runtime handlers, GPUs. Derived from the host's runtime.

Timing as measured (`kubernetes.md`, appendix E; `samples/kubernetes/watch_node_notready.jsonl`): a broken CRI is
noticed after 24 to 28 s, a mended one within 5 s; leases are renewed every 10 s, an unchanged status every 5 min.
"""

import re
import uuid
import zlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gpuwizard.fleet.api_events import Events
from gpuwizard.fleet.api_store import Store, timestamp
from gpuwizard.fleet.node import NodeRuntime, SimulatedNode
from gpuwizard.kube.paths import kind_of

__all__ = ["GPU", "NodeState", "report"]

Json = dict[str, Any]

GPU = "nvidia.com/gpu"
_LEASES = "kube-node-lease"
_CORDONED = "node.kubernetes.io/unschedulable"
_LEASE_EVERY = 10.0
_STATUS_EVERY = 300.0
_MENDED_AFTER = 5.0
_SILENT_AFTER = 40.0
_PRESSURES = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)


@dataclass(slots=True)
class NodeState:
    """One node as its kubelet remembers it. Times are engine seconds.

    `runtime` is what the host says now, None when it is off. `plugin_devices` is how many devices the plugin
    announced last; None before one ever registered. `images` are those that were pulled.
    """

    node: SimulatedNode
    index: int
    runtime: NodeRuntime | None = None
    broken_since: float | None = None
    mended_since: float | None = None
    silent_since: float | None = None
    leased: float = float("-inf")
    posted: float = float("-inf")
    ready: bool = True
    handlers: tuple[str, ...] = ()
    runtime_version: str = ""
    plugin_devices: int | None = None
    plugin_running: bool = False
    images: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    @property
    def address(self) -> str:
        """The node's address, from the range for documentation."""
        return f"192.0.2.{self.index + 10}" if self.index < 240 else f"198.51.100.{self.index - 230}"

    @property
    def architecture(self) -> str:
        """As the kubelet names it: ``amd64``, ``arm64``."""
        return self.node.labels.get("kubernetes.io/arch", "amd64")

    @property
    def kubelet_alive(self) -> bool:
        """K3s and RKE2 carry the kubelet in the service that owns the runtime; elsewhere it outlives containerd."""
        if self.runtime is None:
            return False
        embedded = re.search(r"\+(k3s|rke2)", self.node.kubelet_version) is not None
        return self.runtime.service_active or not embedded

    @property
    def cri_ok(self) -> bool:
        """Whether the kubelet could start a pod at this moment."""
        return self.runtime is not None and self.runtime.service_active and self.runtime.cri == "ok"

    @property
    def works(self) -> bool:
        """Whether the kubelet works on pods: it skips them while the runtime is down."""
        return self.kubelet_alive and self.ready

    @property
    def names_handlers(self) -> bool:
        """Whether the runtime tells the kubelet its handlers: containerd 2 does, 1.x does not."""
        return self.runtime is not None and re.match(r"containerd://v?[2-9]", self.runtime.runtime_version) is not None

    @property
    def patience(self) -> float:
        """Seconds until this node's kubelet calls a broken runtime down."""
        return 24.0 + zlib.crc32(self.name.encode()) % 5


def report(state: NodeState, store: Store, events: Events, now: float, wall: datetime) -> None:
    """One look of the kubelet and of the node controller at one node; `now` is engine time."""
    live = store.get("Node", "", state.name)
    if not state.kubelet_alive:
        if live is not None:
            _silent(state, live, store, events, now)
        return
    state.silent_since = None
    if live is None:
        live = _register(state, store)
        events.kubelet(state.name, live, "Normal", "Starting", "Starting kubelet.")
    elif state.posted == float("-inf"):
        _remember(state, live, now)
    live = _taint_cordoned(live, store)
    _judge(state, now)
    _post(state, live, store, events, now)
    if now - state.leased >= _LEASE_EVERY:
        state.leased = now
        _renew(state, store, wall)


def _taint_cordoned(live: Json, store: Store) -> Json:
    """A cordoned node carries a taint; the node controller puts it there and takes it away."""
    taints = list(live.get("spec", {}).get("taints") or ())
    there = any(t["key"] == _CORDONED for t in taints)
    if there == bool(live.get("spec", {}).get("unschedulable")):
        return live
    taints = [t for t in taints if t["key"] != _CORDONED]
    if not there:
        taints.append({"effect": "NoSchedule", "key": _CORDONED, "timeAdded": store.now()})
    spec = {k: v for k, v in live["spec"].items() if k != "taints"}
    return store.replace({**live, "spec": {**spec, "taints": taints} if taints else spec})


def _remember(state: NodeState, live: Json, now: float) -> None:
    """After a restart of the simulation: what the stored node says about devices, images and readiness."""
    ready = {c["type"]: c["status"] for c in live.get("status", {}).get("conditions", ())}.get("Ready", "True")
    if ready != "True":
        state.ready, state.broken_since = False, now - state.patience
    capacity = live.get("status", {}).get("capacity", {})
    if GPU in capacity:
        state.plugin_devices = int(capacity[GPU])
    for image in live.get("status", {}).get("images") or ():
        state.images.update(image["names"])


def _judge(state: NodeState, now: float) -> None:
    runtime = state.runtime
    assert runtime is not None
    if state.cri_ok:
        state.broken_since = None
        state.mended_since = now if state.mended_since is None else state.mended_since
        if state.ready or now - state.mended_since >= _MENDED_AFTER:
            state.ready = True
        state.runtime_version = runtime.runtime_version
        state.handlers = runtime.handlers
        return
    state.mended_since = None
    state.broken_since = now if state.broken_since is None else state.broken_since
    if now - state.broken_since >= state.patience:
        state.ready = False
        state.runtime_version = runtime.runtime_version.partition("://")[0] + "://Unknown"


def _register(state: NodeState, store: Store) -> Json:
    labels = {
        "beta.kubernetes.io/arch": state.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": state.architecture,
        "kubernetes.io/hostname": state.name,
        "kubernetes.io/os": "linux",
        **state.node.labels,
    }
    annotations = {
        "node.alpha.kubernetes.io/ttl": "0",
        "volumes.kubernetes.io/controller-managed-attach-detach": "true",
    }
    node = {"metadata": {"name": state.name, "labels": labels, "annotations": annotations}, "spec": {}}
    return store.create(kind_of("Node"), "", node, "kubelet")


def _renew(state: NodeState, store: Store, wall: datetime) -> None:
    spec = {"holderIdentity": state.name, "leaseDurationSeconds": 40, "renewTime": timestamp(wall, micro=True)}
    live = store.get("Lease", _LEASES, state.name)
    if live is None:
        store.create(kind_of("Lease"), _LEASES, {"metadata": {"name": state.name}, "spec": spec}, "kubelet")
    else:
        store.replace({**live, "spec": spec})


def _silent(state: NodeState, live: Json, store: Store, events: Events, now: float) -> None:
    """The node controller's view of a kubelet that no longer renews its lease."""
    state.silent_since = now if state.silent_since is None else state.silent_since
    ready = next(c for c in live["status"]["conditions"] if c["type"] == "Ready")
    if now - state.silent_since < _SILENT_AFTER or ready["status"] == "Unknown":
        return
    conditions = [
        {
            **c,
            "status": "Unknown",
            "reason": "NodeStatusUnknown",
            "message": "Kubelet stopped posting node status.",
            "lastTransitionTime": store.now(),
        }
        for c in live["status"]["conditions"]
    ]
    state.ready = False
    state.posted = 0.0
    _store(live, {**live["status"], "conditions": conditions}, "unreachable", store)
    message = f"Node {state.name} status is now: NodeNotReady"
    events.controller("node-controller", live, "Normal", "NodeNotReady", message)


def _post(state: NodeState, live: Json, store: Store, events: Events, now: float) -> None:
    old = live.get("status") or {}
    status = _status(state, old, store.now())
    quiet = _without_beats(status) == _without_beats(old)
    if quiet and now - state.posted < _STATUS_EVERY:
        return
    state.posted = now
    before = {c["type"]: c["status"] for c in old.get("conditions", ())}.get("Ready")
    after = "True" if state.ready else "False"
    _store(live, status, "" if state.ready else "not-ready", store)
    if before != after:
        word = "NodeReady" if state.ready else "NodeNotReady"
        events.kubelet(state.name, live, "Normal", word, f"Node {state.name} status is now: {word}")


def _store(live: Json, status: Json, taint: str, store: Store) -> None:
    """Store a status and the taint of the node controller that goes with it."""
    spec = dict(live.get("spec") or {})
    ours = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    taints = [t for t in spec.get("taints", ()) if t["key"] not in ours]
    if taint:
        key = f"node.kubernetes.io/{taint}"
        had = next((t for t in spec.get("taints", ()) if t["key"] == key), None)
        taints.append(had or {"effect": "NoSchedule", "key": key, "timeAdded": store.now()})
    spec.pop("taints", None)
    if taints:
        spec["taints"] = taints
    store.replace({**live, "spec": spec, "status": status})


def _status(state: NodeState, old: Json, stamp: str) -> Json:
    memory = "131890124Ki"
    shared = {"cpu": "32", "hugepages-1Gi": "0", "hugepages-2Mi": "0", "memory": memory, "pods": "110"}
    capacity = {**shared, "ephemeral-storage": "459850824Ki"}
    allocatable = {**shared, "ephemeral-storage": "423798519059"}
    if state.plugin_devices is not None:
        capacity[GPU] = str(state.plugin_devices)
        allocatable[GPU] = str(state.plugin_devices if state.plugin_running else 0)
    status: Json = {
        "addresses": [
            {"address": state.address, "type": "InternalIP"},
            {"address": state.name, "type": "Hostname"},
        ],
        "allocatable": dict(sorted(allocatable.items())),
        "capacity": dict(sorted(capacity.items())),
        "conditions": _conditions(state, old, stamp),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "images": [{"names": [name], "sizeBytes": 29_537_281} for name in sorted(state.images)],
        "nodeInfo": _node_info(state, old),
    }
    if state.names_handlers:
        features = {"recursiveReadOnlyMounts": True, "userNamespaces": False}
        names = sorted({"", *state.handlers})
        status["runtimeHandlers"] = [{"features": features, "name": name} for name in names]
    return status


def _conditions(state: NodeState, old: Json, stamp: str) -> list[Json]:
    wanted = [(kind, "False", reason, message) for kind, reason, message in _PRESSURES]
    if state.ready:
        wanted.append(("Ready", "True", "KubeletReady", "kubelet is posting ready status"))
    else:
        wanted.append(("Ready", "False", "KubeletNotReady", "container runtime is down"))
    before = {c["type"]: c for c in old.get("conditions") or ()}
    conditions = []
    for kind, status, reason, message in wanted:
        had = before.get(kind, {})
        since = had["lastTransitionTime"] if had.get("status") == status else stamp
        conditions.append(
            {
                "lastHeartbeatTime": stamp,
                "lastTransitionTime": since,
                "message": message,
                "reason": reason,
                "status": status,
                "type": kind,
            }
        )
    return conditions


def _node_info(state: NodeState, old: Json) -> Json:
    identity = str(uuid.uuid5(uuid.NAMESPACE_DNS, state.name))
    return {
        "architecture": state.architecture,
        "bootID": old.get("nodeInfo", {}).get("bootID") or str(uuid.uuid4()),
        "containerRuntimeVersion": state.runtime_version,
        "kernelVersion": "6.12.48",
        "kubeProxyVersion": "",
        "kubeletVersion": state.node.kubelet_version,
        "machineID": identity.replace("-", ""),
        "operatingSystem": "linux",
        "osImage": "Debian GNU/Linux 13 (trixie)",
        "systemUUID": identity,
    }


def _without_beats(status: Json) -> Json:
    beatless = [{k: v for k, v in c.items() if k != "lastHeartbeatTime"} for c in status.get("conditions") or ()]
    return {**status, "conditions": beatless}
