"""Whom a restart meets, as a person and a program are told before it; it is no part of what will be done."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuwizard.answers.model import Answers
from gpuwizard.clock import FastClock
from gpuwizard.facts.cluster import Budget, ClusterView, NodePod, NodeView
from gpuwizard.fleet.api import SimulatedCluster
from gpuwizard.kube.cluster import open_cluster
from gpuwizard.kube.views import pod_view
from gpuwizard.plan.blast import Blast, blast_list, blast_words
from gpuwizard.plan.build import build_plan
from gpuwizard.plan.drain import DrainTerms
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
FULL = Budget("default", "web", allowed=0, healthy=2, desired=2)
ROOMY = replace(FULL, allowed=1, healthy=3)
GUARDED = replace(WEB, budgets=(FULL,))
CACHE = replace(WEB, name="cache-0", keeps_data=True)
DRAIN = DrainTerms("drain")


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


@pytest.mark.parametrize(
    ("pods", "terms", "words"),
    [
        ((WEB, PROXY, ETCD), None, []),
        ((WEB,), DrainTerms("cordon"), ["this node takes no new pods meanwhile (cordon); those that run stay"]),
        ((PROXY, ETCD), DRAIN, ["the drain of this node evicts no pod"]),
        ((WEB, TRAIN, PROXY), DRAIN, ["the drain of this node evicts 2 pods: default/web-1, ml/train-0"]),
        (None, DRAIN, ["the drain of this node evicts pods that are not known"]),
        (
            (LONE, CACHE),
            DRAIN,
            [
                "the drain of this node evicts 2 pods: default/notebook, default/cache-0",
                "the drain is refused: no controller would bring back default/notebook (rollout.drain_force = true "
                "evicts them)",
                "the drain is refused: the emptyDir of default/cache-0 would be lost (rollout.drain_delete_emptydir = "
                "true consents to that)",
            ],
        ),
        (
            (LONE, CACHE),
            DrainTerms("drain", delete_emptydir=True, force=True),
            ["the drain of this node evicts 2 pods: default/notebook, default/cache-0"],
        ),
        (
            (GUARDED,),
            DRAIN,
            [
                "the drain of this node evicts 1 pod: default/web-1",
                "disruption budget default/web allows no disruption now (needs 2 healthy, has 2): the drain waits with "
                "default/web-1",
            ],
        ),
        (
            (replace(WEB, budgets=(ROOMY,)),),
            DRAIN,
            ["the drain of this node evicts 1 pod: default/web-1"],
        ),
        (
            (replace(WEB, budgets=(ROOMY,)), replace(CACHE, keeps_data=False, budgets=(ROOMY,))),
            DRAIN,
            [
                "the drain of this node evicts 2 pods: default/web-1, default/cache-0",
                "disruption budget default/web allows 1 disruption now (needs 2 healthy, has 3): the drain waits with "
                "default/web-1, default/cache-0",
            ],
        ),
        (
            (replace(WEB, budgets=(FULL, replace(FULL, name="all"))),),
            DRAIN,
            [
                "the drain of this node evicts 1 pod: default/web-1",
                "the drain is refused: more than one disruption budget guards default/web-1 (web, all), and Kubernetes "
                "evicts no such pod (leave one of them)",
            ],
        ),
        # what does not serve counts for no budget, and what has not started may always go
        ((replace(GUARDED, ready=False),), DRAIN, ["the drain of this node evicts 1 pod: default/web-1"]),
        ((replace(GUARDED, running=False),), DRAIN, ["the drain of this node evicts 1 pod: default/web-1"]),
        (
            (replace(WEB, budgets=None),),
            DRAIN,
            [
                "the drain of this node evicts 1 pod: default/web-1",
                "whether disruption budgets stand in its way is not known: this user may not list them",
            ],
        ),
    ],
)
def test_what_a_drain_would_do_is_said_with_what_blocks_it(
    pods: tuple[NodePod, ...] | None, terms: DrainTerms | None, words: list[str]
) -> None:
    without = list(blast_words([Blast("n1", pods)]))
    assert [w for w in blast_words([Blast("n1", pods, drain=terms)]) if w not in without] == words


def test_the_plan_tells_the_drain_in_lines_and_json(tmp_path: Path) -> None:
    answers = Answers.model_validate({"rollout": {"drain": "drain"}})
    made = build_plan({"n1": containerd_host("2.1.9", {MAIN: DEBIAN})}, answers, view(GUARDED, LONE, PROXY))
    assert "  ! the drain of this node evicts 2 pods: default/notebook, default/web-1" in list(plan_lines(made))
    drain = plan_json(made)["hosts"][0]["blast_radius"]["drain"]
    assert (drain["mode"], drain["evicts"]) == ("drain", ["default/notebook", "default/web-1"])
    assert [line.split(" (")[0] for line in drain["blocked_by"]] == [
        "the drain is refused: no controller would bring back default/notebook",
        "disruption budget default/web allows no disruption now",
    ]
    save_plan(made, answers, tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json")[0] == made
    quiet = build_plan({"n1": containerd_host("2.1.9", {MAIN: DEBIAN})}, Answers(), view(GUARDED))
    assert quiet.hash == made.hash
    assert plan_json(quiet)["hosts"][0]["blast_radius"]["drain"] is None


@pytest.mark.parametrize(
    ("manage", "seen", "why"),
    [
        (False, None, "rollout.drain asks for a drain of its node before the restart, and kubernetes.manage is false"),
        (
            True,
            ClusterView(error="nothing listens there"),
            "rollout.drain asks for a drain of its node before the restart, and the cluster was not looked at",
        ),
    ],
)
def test_a_node_that_cannot_be_drained_as_asked_is_refused(manage: bool, seen: ClusterView | None, why: str) -> None:
    probe = containerd_host("2.1.9", {MAIN: DEBIAN})
    kubernetes = replace(probe.facts.kubernetes, node_name="n1")
    probes = {"n1": replace(probe, facts=replace(probe.facts, kubernetes=kubernetes))}
    asked = Answers.model_validate({"rollout": {"drain": "drain"}, "kubernetes": {"manage": manage}})
    (host,) = build_plan(probes, asked, seen).hosts
    assert [(r.id, r.why) for r in host.refusals] == [("no-drain", why)]
    assert host.actions == ()
    left = Answers.model_validate({"kubernetes": {"manage": manage}})
    assert build_plan(probes, left, seen).hosts[0].refusals == ()
