"""Whom a restart meets, as a person and a program are told before it; it is no part of what will be done."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuwizard.answers.model import Answers
from gpuwizard.clock import FastClock
from gpuwizard.facts.cluster import ClusterView, NodePod, NodeView
from gpuwizard.fleet.api import SimulatedCluster
from gpuwizard.kube.cluster import open_cluster
from gpuwizard.kube.views import pod_view
from gpuwizard.plan.blast import Blast, blast_list, blast_words
from gpuwizard.plan.build import build_plan
from gpuwizard.plan.jsonable import plan_json
from gpuwizard.plan.store import load_plan, save_plan
from gpuwizard.show.plan import plan_lines
from tests.plan_probes import MAIN, containerd_host

DEBIAN = (Path(__file__).parent / "data" / "containerd_defaults" / "debian.toml").read_text()
WEB = NodePod("default", "web-1", "n1", "ReplicaSet")
PROXY = NodePod("kube-system", "kube-proxy-x", "n1", "DaemonSet")
ETCD = NodePod("kube-system", "etcd-n1", "n1", mirror=True)
LONE = NodePod("default", "notebook", "n1")
TRAIN = NodePod("ml", "train-0", "n1", "Job", gpu=True)


def pod(**parts: Any) -> dict[str, Any]:
    meta = {"name": "p", "namespace": "default"} | parts.pop("metadata", {})
    return {"metadata": meta, "spec": {"nodeName": "n1"} | parts}


def owner(kind: str, *, controller: bool) -> dict[str, Any]:
    return {"ownerReferences": [{"kind": kind, "name": "o", "controller": controller}]}


@pytest.mark.parametrize(
    ("given", "controller", "mirror", "gpu", "unmanaged"),
    [
        (pod(), "", False, False, True),
        (pod(metadata=owner("ReplicaSet", controller=True)), "ReplicaSet", False, False, False),
        (pod(metadata=owner("Custom", controller=False)), "", False, False, True),
        (
            pod(metadata=owner("Node", controller=True) | {"annotations": {"kubernetes.io/config.mirror": "ab"}}),
            "",
            True,
            False,
            False,
        ),
        (pod(runtimeClassName="nvidia"), "", False, True, True),
        (pod(runtimeClassName="kata"), "", False, False, True),
        (pod(containers=[{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]), "", False, True, True),
        (
            pod(containers=[{}], initContainers=[{"resources": {"limits": {"nvidia.com/mig-1g.5gb": 1}}}]),
            *("", False, True, True),
        ),
        (pod(containers=[{"resources": {"limits": {"cpu": "1"}, "requests": None}}]), "", False, False, True),
    ],
)
def test_what_a_pod_is(given: dict[str, Any], controller: str, mirror: bool, gpu: bool, unmanaged: bool) -> None:
    view = pod_view(given)
    assert (view.controller, view.mirror, view.gpu, view.unmanaged) == (controller, mirror, gpu, unmanaged)


@pytest.mark.parametrize(
    ("blasts", "words"),
    [
        ([None], []),
        ([Blast("n1", ())], ["no pod runs on this node"]),
        ([Blast("n1", (WEB,))], ["1 pod runs on this node"]),
        (
            [Blast("n1", (LONE, WEB, PROXY, ETCD, TRAIN), control_plane=True, etcd=True)],
            [
                "5 pods run on this node: 1 of DaemonSets, 1 static, 1 with GPUs (ml/train-0)",
                "no controller would bring back default/notebook",
                "this node is in the control plane and a member of etcd",
            ],
        ),
        ([Blast("n1", (), etcd=True)], ["no pod runs on this node", "this node is a member of etcd"]),
        (
            [Blast("n1", (LONE,) * 4), Blast("n2", (PROXY,), control_plane=True), None],
            [
                "5 pods run on these 2 nodes: 1 of DaemonSets",
                "no controller would bring back default/notebook, default/notebook, default/notebook and 1 more",
                "n2 of these 2 nodes: in the control plane",
            ],
        ),
        (
            [Blast("n1", None)],
            ["which pods run on this node is not known: the cluster does not let this user list them"],
        ),
    ],
)
def test_it_is_said_in_a_few_words(blasts: list[Blast | None], words: list[str]) -> None:
    assert list(blast_words(blasts)) == words


def test_the_list_of_one_node_has_every_pod_and_says_where_it_ends() -> None:
    assert list(blast_list(Blast("n1", (LONE, TRAIN, ETCD)))) == [
        "default/notebook: no controller",
        "ml/train-0: of a Job, uses a GPU",
        "kube-system/etcd-n1: static",
    ]
    long = list(blast_list(Blast("n1", (WEB,) * 203)))
    assert len(long) == 201
    assert long[-1] == "and 3 more: plan --json lists all"


def view(*pods: NodePod, labels: dict[str, str] | None = None) -> ClusterView:
    return ClusterView("https://example.test", "v1.33.1", (NodeView("n1", True, labels or {}),), pods=pods)


def test_plan_and_json_tell_it_and_the_hash_does_not_count_it(tmp_path: Path) -> None:
    probes = {"n1": containerd_host("2.1.9", {MAIN: DEBIAN})}
    quiet = build_plan(probes, Answers(), view())
    elsewhere = replace(WEB, node="n2")
    busy = build_plan(probes, Answers(), view(WEB, LONE, elsewhere, labels={"node-role.kubernetes.io/etcd": "true"}))
    assert (busy.hash, busy.fingerprint) == (quiet.hash, quiet.fingerprint)
    lines = list(plan_lines(busy))
    assert "  ! 2 pods run on this node" in lines
    assert "  ! no controller would bring back default/notebook" in lines
    assert "  ! this node is a member of etcd" in lines
    blast = plan_json(busy)["hosts"][0]["blast_radius"]
    assert (blast["node"], blast["control_plane"], blast["etcd_member"]) == ("n1", False, True)
    assert [(p["name"], p["controller"], p["comes_back"]) for p in blast["pods"]] == [
        ("notebook", None, False),
        ("web-1", "ReplicaSet", True),
    ]
    save_plan(busy, Answers(), tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json")[0] == busy


def test_a_host_that_does_not_restart_meets_nobody() -> None:
    made = build_plan({"n1": containerd_host("2.1.9", {MAIN: DEBIAN})}, Answers(host={"n1": {"skip": True}}), view(WEB))
    assert made.hosts[0].blast is None
    assert plan_json(made)["hosts"][0]["blast_radius"] is None


async def test_the_cluster_lists_pods_that_run_somewhere() -> None:
    server = SimulatedCluster({}, FastClock(50))
    config = await server.start()
    cluster = await open_cluster(config=config)
    try:
        spec = {"containers": [{"name": "c", "image": "ubuntu:24.04"}]}
        await cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "work"}})
        for name, node in (("here", {"nodeName": "n9"}), ("nowhere", {})):
            meta = {"name": name, "namespace": "work"}
            await cluster.create_pod({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec | node})
        assert (await cluster.view(())).pods == (NodePod("work", "here", "n9", running=False, ready=False),)
    finally:
        await cluster.close()
        await server.stop()
