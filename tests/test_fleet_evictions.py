"""Eviction, disruption budgets, cordons and ReplicaSets of the simulated cluster, as a real API server answers."""

from typing import Any

import aiohttp
import pytest

from gpuwizard.errors import RefusedError
from gpuwizard.facts.cluster import Budget, NodePod, ObjectKey
from gpuwizard.fleet.api import SimulatedCluster
from gpuwizard.kube.cluster import Cluster, open_cluster
from gpuwizard.kube.problems import BudgetError, OutdatedError
from tests.kube_servers import Host, eventually, runtime, simulated
from tests.workloads import STUBBORN, budget, lone_pod, replica_set


def pods(server: SimulatedCluster, *, on: str = "", ready: bool = True) -> list[dict[str, Any]]:
    found = []
    for pod in server.store.list("Pod", "default"):
        serves = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or ())
        if "deletionTimestamp" not in pod["metadata"] and serves >= ready and on in ("", pod["spec"].get("nodeName")):
            found.append(pod)
    return found


def status(server: SimulatedCluster, name: str) -> dict[str, Any]:
    obj = server.store.get("PodDisruptionBudget", "default", name) or {}
    found: dict[str, Any] = obj.get("status") or {}
    return found


async def raw(server: SimulatedCluster, path: str, body: dict[str, Any], user: str = "admin") -> tuple[int, Any]:
    config = server.kubeconfig(user)
    url = config["clusters"][0]["cluster"]["server"] + path
    headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
    async with aiohttp.ClientSession() as session, session.post(url, json=body, headers=headers) as answer:
        return answer.status, await answer.json()


def eviction(name: str, **options: Any) -> dict[str, Any]:
    named = {"name": name, "namespace": "default"}
    return {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": named, "deleteOptions": options}


@pytest.mark.parametrize(
    ("rule", "desired", "allowed"),
    [
        ({"minAvailable": 2}, 2, 2),
        ({"minAvailable": 4}, 4, 0),
        ({"minAvailable": "50%"}, 2, 2),
        ({"minAvailable": "60%"}, 3, 1),
        ({"maxUnavailable": 1}, 3, 1),
        ({"maxUnavailable": "30%"}, 2, 2),
        ({"maxUnavailable": 0}, 4, 0),
    ],
)
async def test_a_budget_counts_as_its_controller_does(rule: dict[str, Any], desired: int, allowed: int) -> None:
    async with simulated(Host("a", runtime())) as (server, cluster, _):
        await cluster.apply(replica_set("web", 4))
        await eventually(lambda: len(pods(server)) == 4, server)
        await cluster.apply(budget("web", {"app": "web"}, **rule))
        await eventually(lambda: status(server, "web").get("currentHealthy") == 4, server)
        said = status(server, "web")
        assert (said["desiredHealthy"], said["disruptionsAllowed"], said["expectedPods"]) == (desired, allowed, 4)
        assert said["conditions"][0]["reason"] == ("SufficientPods" if allowed else "InsufficientPods")


async def test_an_eviction_takes_from_the_budget_and_the_next_is_refused_with_its_name() -> None:
    async with simulated(Host("a", runtime())) as (server, cluster, _):
        await cluster.apply(replica_set("web", 2, command=STUBBORN))
        await cluster.apply(budget("web", {"app": "web"}, minAvailable=1))
        await eventually(lambda: status(server, "web").get("disruptionsAllowed") == 1, server)
        first, second = pods(server)
        code, answer = await raw(server, path(first), eviction(first["metadata"]["name"]))
        assert (code, answer["status"], answer["code"]) == (201, "Success", 201)
        marked = server.store.get("Pod", "default", first["metadata"]["name"]) or {}
        assert "EvictionByEvictionAPI" in [c.get("reason") for c in marked["status"]["conditions"]]
        assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
        code, answer = await raw(server, path(second), eviction(second["metadata"]["name"]))
        assert (code, answer["reason"]) == (429, "TooManyRequests")
        assert answer["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
        (cause,) = answer["details"]["causes"]
        assert cause["reason"] == "DisruptionBudget"
        assert cause["message"].startswith("The disruption budget web needs 1 healthy pods and has ")
        await eventually(
            lambda: status(server, "web").get("disruptionsAllowed") == 1 and len(pods(server)) == 2, server
        )
        assert await cluster.evict(second) is True, "the ReplicaSet has made a new one"


def path(pod: dict[str, Any]) -> str:
    return f"/api/v1/namespaces/default/pods/{pod['metadata']['name']}/eviction"


async def test_two_budgets_are_a_failure_inside_a_201() -> None:
    async with simulated(Host("a", runtime())) as (server, cluster, _):
        await cluster.apply(replica_set("web", 2))
        await cluster.apply(budget("one", {"app": "web"}, maxUnavailable=1))
        await cluster.apply(budget("two", None, maxUnavailable=1))
        await eventually(lambda: len(pods(server)) == 2, server)
        pod = pods(server)[0]
        code, answer = await raw(server, path(pod), eviction(pod["metadata"]["name"]))
        assert (code, answer["status"], answer["code"]) == (201, "Failure", 500)
        with pytest.raises(BudgetError, match="more than one PodDisruptionBudget") as caught:
            await cluster.evict(pod)
        assert caught.value.for_good


async def test_a_pod_that_is_gone_or_another_one_is_not_evicted() -> None:
    async with simulated(Host("a", runtime())) as (server, cluster, _):
        old = await lone_pod(cluster, "solo")
        await eventually(lambda: len(pods(server)) == 1, server)
        stranger = {**old, "metadata": {**old["metadata"], "uid": "0000"}}
        assert await cluster.evict(stranger) is False
        code, answer = await raw(server, path(old), eviction("solo", preconditions={"uid": "0000"}))
        assert (code, answer["reason"]) == (409, "Conflict")
        assert "the UID in the precondition (0000) does not match the UID in record" in answer["message"]
        code, answer = await raw(server, path(old), eviction("other"))
        assert (code, answer["message"]) == (400, "name in URL does not match name in Eviction object")
        assert await cluster.evict(old) is True
        await eventually(lambda: not list(server.store.list("Pod", "default")), server)
        assert await cluster.evict(old) is False
        assert (await raw(server, path(old), eviction("solo")))[0] == 404


async def test_pods_that_serve_nobody_need_no_budget() -> None:
    async with simulated(Host("a", runtime())) as (server, cluster, _):
        await cluster.apply(replica_set("web", 1, command=["false"]))
        await cluster.apply(budget("web", {"app": "web"}, maxUnavailable=0))
        await eventually(lambda: status(server, "web").get("expectedPods") == 1, server)
        await eventually(lambda: "CrashLoopBackOff" in str(pods(server, ready=False)), server)
        await eventually(lambda: status(server, "web")["currentHealthy"] == 0, server)
        (pod,) = pods(server, ready=False)
        with pytest.raises(BudgetError, match="needs 1 healthy pods and has 0"):
            await cluster.evict(pod)
        await cluster.apply(budget("web", {"app": "web"}, maxUnavailable=0, unhealthyPodEvictionPolicy="AlwaysAllow"))
        assert await cluster.evict(pod) is True


async def test_a_dry_run_evicts_nothing_and_a_viewer_may_not() -> None:
    async with simulated(Host("a", runtime())) as (server, cluster, _):
        await cluster.apply(replica_set("web", 1))
        await cluster.apply(budget("web", {"app": "web"}, maxUnavailable=1))
        await eventually(lambda: status(server, "web").get("disruptionsAllowed") == 1, server)
        (pod,) = pods(server)
        code, _ = await raw(server, path(pod), eviction(pod["metadata"]["name"], dryRun=["All"]))
        assert code == 201
        assert pods(server) == [pod]
        assert status(server, "web")["disruptionsAllowed"] == 1
        code, answer = await raw(server, path(pod), eviction(pod["metadata"]["name"]), "viewer")
        assert code == 403
        assert 'cannot create resource "pods/eviction"' in answer["message"]


async def test_a_pod_that_ignores_sigterm_stays_for_its_grace() -> None:
    async with simulated(Host("a", runtime())) as (server, cluster, clock):
        slow = await lone_pod(cluster, "slow", command=STUBBORN, grace=20)
        quick = await lone_pod(cluster, "quick")
        await eventually(lambda: len(pods(server)) == 2, server)
        began = clock.monotonic()
        assert await cluster.evict(slow)
        assert await cluster.evict(quick)
        await eventually(lambda: server.store.get("Pod", "default", "quick") is None, server)
        assert clock.monotonic() - began < 15
        await eventually(lambda: server.store.get("Pod", "default", "slow") is None, server)
        assert clock.monotonic() - began >= 20


async def test_a_cordoned_node_is_tainted_and_gets_no_pods_but_those_of_daemon_sets() -> None:
    async with simulated(Host("a", runtime()), Host("b", runtime())) as (server, cluster, _):
        view = await cluster.patch_node("a", {"spec": {"unschedulable": True}}, what="cordon")
        assert view.unschedulable
        await cluster.apply(replica_set("web", 3))
        daemon = replica_set("daemon", 1)
        del daemon["spec"]["replicas"]
        await cluster.apply({**daemon, "kind": "DaemonSet"})
        await eventually(lambda: len(pods(server)) == 5, server)
        assert [p["metadata"]["labels"]["app"] for p in pods(server, on="a")] == ["daemon"]
        node = server.store.get("Node", "", "a") or {}
        assert [(t["key"], t["effect"]) for t in node["spec"]["taints"]] == [
            ("node.kubernetes.io/unschedulable", "NoSchedule")
        ]
        await cluster.patch_node("a", {"spec": {"unschedulable": None}}, what="uncordon")
        await eventually(lambda: "taints" not in (server.store.get("Node", "", "a") or {})["spec"], server)


async def test_a_patch_for_another_version_of_a_node_is_refused() -> None:
    async with simulated(Host("a", runtime())) as (_, cluster, _):
        live = await cluster.get(ObjectKey("v1", "Node", "", "a"))
        assert live is not None
        version = {"resourceVersion": live["metadata"]["resourceVersion"]}
        await cluster.label_node("a", {"x": "1"})
        with pytest.raises(OutdatedError, match="the object has been modified"):
            await cluster.patch_node("a", {"metadata": version, "spec": {"unschedulable": True}}, what="cordon")


async def test_the_cluster_says_of_each_pod_which_budgets_guard_it() -> None:
    async with simulated(Host("a", runtime())) as (server, cluster, _):
        await cluster.apply(replica_set("web", 1, empty_dir=True))
        await cluster.apply(budget("web", {"app": "web"}, minAvailable=1))
        await lone_pod(cluster, "solo")
        await eventually(lambda: status(server, "web").get("currentHealthy") == 1 and len(pods(server)) == 2, server)
        solo, web = sorted(await cluster.pods(budgets=True), key=str)
        assert solo == NodePod("default", "solo", "a")
        assert (web.controller, web.keeps_data) == ("ReplicaSet", True)
        assert web.budgets == (Budget("default", "web", allowed=0, healthy=1, desired=1),)
        assert [p.budgets for p in await cluster.pods()] == [(), ()], "nobody asked for them"


async def test_budgets_that_are_hidden_are_not_known() -> None:
    async with simulated(Host("a", runtime())) as (server, cluster, _):
        await lone_pod(cluster, "solo")
        await eventually(lambda: len(pods(server)) == 1, server)
        viewer: Cluster = await open_cluster(config=server.kubeconfig("viewer"))
        try:
            assert [p.budgets for p in await viewer.pods(budgets=True)] == [None]
            with pytest.raises(RefusedError, match='cannot create resource "pods/eviction"'):
                await viewer.evict(pods(server)[0])
        finally:
            await viewer.close()
