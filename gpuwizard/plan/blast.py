"""Who is met when the runtime of a node restarts: its pods, those that would not come back, the control plane, etcd."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpuwizard.facts.cluster import ClusterView, NodePod, NodeView
from gpuwizard.plan.drain import DrainTerms, drain_json, drain_words

__all__ = ["CONTROL_PLANE", "Blast", "blast_json", "blast_list", "blast_of", "blast_words", "pods_by_node"]

CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
_ETCD = "node-role.kubernetes.io/etcd"
_NAMED = 3
_LISTED = 200


@dataclass(frozen=True, slots=True)
class Blast:
    """What runs on one node, as the cluster said when the plan was made. `pods` is None when it did not say. `drain`
    is set when the node is to be cordoned or drained before the restart."""

    node: str
    pods: tuple[NodePod, ...] | None
    control_plane: bool = False
    etcd: bool = False
    drain: DrainTerms | None = None


def pods_by_node(view: ClusterView | None) -> Mapping[str, tuple[NodePod, ...]] | None:
    """The pods of each node, by name; None when the cluster did not say."""
    if view is None or view.pods is None:
        return None
    found: dict[str, list[NodePod]] = {}
    for pod in sorted(view.pods, key=lambda p: (p.namespace, p.name)):
        found.setdefault(pod.node, []).append(pod)
    return {node: tuple(pods) for node, pods in found.items()}


def blast_of(
    node: NodeView,
    pods: Mapping[str, tuple[NodePod, ...]] | None,
    *,
    control_plane: bool,
    drain: DrainTerms | None = None,
) -> Blast:
    """The blast radius of one node. K3s and RKE2 label the members of etcd, kubeadm runs etcd as a static pod."""
    own = None if pods is None else pods.get(node.name, ())
    static = any(p.mirror and p.namespace == "kube-system" and p.name.startswith("etcd-") for p in own or ())
    server = control_plane or any(key in node.labels for key in CONTROL_PLANE)
    return Blast(node.name, own, server, static or node.labels.get(_ETCD) == "true", drain)


def blast_words(blasts: Iterable[Blast | None]) -> Iterator[str]:
    """A few sentences on nodes that restart together: how many pods, which use GPUs, which would not come back."""
    known = [blast for blast in blasts if blast is not None]
    if not known:
        return
    one = len(known) == 1
    where = "this node" if one else f"these {len(known)} nodes"
    pods = None if any(blast.pods is None for blast in known) else [p for blast in known for p in blast.pods or ()]
    if pods is None:
        yield f"which pods run on {where} is not known: the cluster does not let this user list them"
    else:
        yield from _pod_words(pods, where)
    yield from drain_words(pods, known[0].drain, where)
    for names, role in _roles(known):
        yield f"this node is {role}" if one else f"{_some(names)} of {where}: {role}"


def blast_list(blast: Blast | None) -> Iterator[str]:
    """Every pod of one node in a line, up to a limit that is said."""
    pods = blast.pods or () if blast is not None else ()
    for pod in pods[:_LISTED]:
        yield f"{pod}: {_kind(pod)}{', uses a GPU' if pod.gpu else ''}"
    if len(pods) > _LISTED:
        yield f"and {len(pods) - _LISTED} more: plan --json lists all"


def blast_json(blast: Blast | None) -> dict[str, Any] | None:
    """The whole of it for ``gpuwizard.plan/1``; null for a host that does not restart or is no node."""
    if blast is None:
        return None
    return {
        "node": blast.node,
        "control_plane": blast.control_plane,
        "etcd_member": blast.etcd,
        "drain": drain_json(blast.pods, blast.drain),
        "pods": None
        if blast.pods is None
        else [
            {
                "namespace": pod.namespace,
                "name": pod.name,
                "controller": pod.controller or None,
                "static": pod.mirror,
                "comes_back": not pod.unmanaged,
                "gpu": pod.gpu,
            }
            for pod in blast.pods
        ],
    }


def _pod_words(pods: Sequence[NodePod], where: str) -> Iterator[str]:
    if not pods:
        yield f"no pod runs on {where}"
        return
    kinds = Counter("DaemonSets" if p.controller == "DaemonSet" else "static" if p.mirror else "" for p in pods)
    parts = [f"{kinds['DaemonSets']} of DaemonSets"] if kinds["DaemonSets"] else []
    parts += [f"{kinds['static']} static"] if kinds["static"] else []
    gpu, alone = [str(p) for p in pods if p.gpu], [str(p) for p in pods if p.unmanaged]
    parts += [f"{len(gpu)} with GPUs ({_some(gpu)})"] if gpu else []
    run = "1 pod runs" if len(pods) == 1 else f"{len(pods)} pods run"
    yield f"{run} on {where}{': ' if parts else ''}{', '.join(parts)}"
    if alone:
        yield f"no controller would bring back {_some(alone)}"


def _roles(blasts: Sequence[Blast]) -> Iterator[tuple[list[str], str]]:
    server = [b.node for b in blasts if b.control_plane and not b.etcd]
    etcd = [b.node for b in blasts if b.etcd]
    if server:
        yield server, "in the control plane"
    if etcd:
        both = all(b.control_plane for b in blasts if b.etcd)
        yield etcd, "in the control plane and a member of etcd" if both else "a member of etcd"


def _kind(pod: NodePod) -> str:
    if pod.mirror:
        return "static"
    return f"of a {pod.controller}" if pod.controller else "no controller"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
