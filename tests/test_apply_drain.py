"""Cordon and drain before a restart: what blocks it is said by name, and no cordon is left that nobody knows of."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpuwizard.describe import event_json
from gpuwizard.events import HostOutcome, HostProgress, Note, Waiting
from gpuwizard.facts.cluster import ObjectKey
from gpuwizard.fleet.api import SimulatedCluster
from gpuwizard.journal import Journal, find_run
from gpuwizard.kube.cluster import Cluster, open_cluster
from gpuwizard.show import run_line
from gpuwizard.steps.identity import CORDONED_BY
from gpuwizard.work.apply import apply_plan
from gpuwizard.work.report import Report
from tests.guard_tree import MAIN, PLAIN, SPEED, Tree, TreeTransport, missing_shells
from tests.kube_servers import eventually, simulated
from tests.test_apply_plan import NEW, Nobody, Node, World, answers
from tests.test_fleet_evictions import pods, status
from tests.workloads import STUBBORN, budget, lone_pod, replica_set

pytestmark = pytest.mark.skipif(bool(missing_shells()), reason=f"shells not installed: {missing_shells()}")


@dataclass
class Clustered(World):
    """A world with its API server at hand, and its answers."""

    server: SimulatedCluster

    async def run(self, *names: str, after: dict[str, bytes] | None = None, **rollout: Any) -> Report:
        plan = await self.plan(*names, after=after, objects=False)
        return await self.apply(plan, **{"drain": "drain", "drain_timeout": 20, "node_hold": 5, **rollout})

    def node(self, name: str) -> tuple[bool, str | None]:
        """Whether it is cordoned, and by which run."""
        live = self.server.store.get("Node", "", name) or {}
        by = (live["metadata"].get("annotations") or {}).get(CORDONED_BY)
        return bool(live["spec"].get("unschedulable")), by

    def on(self, name: str) -> list[str]:
        return [p["metadata"]["name"] for p in pods(self.server, on=name)]

    def steps(self, host: str) -> list[str]:
        return [e.state for e in self.events if isinstance(e, HostProgress) and e.host == host]

    def waits(self) -> list[Waiting]:
        return [e for e in self.events if isinstance(e, Waiting) and "is drained" in e.condition]

    async def runs_on(self, node: str, name: str = "web", replicas: int = 1, **spec: Any) -> None:
        """Replicas that live on `node`: the others are cordoned while they are placed."""
        others = [n for n in self.transports if n != node]
        for other in others:
            await self.cluster.patch_node(other, {"spec": {"unschedulable": True}}, what="cordon")
        await self.cluster.apply(replica_set(name, replicas, **spec))
        await eventually(lambda: len([p for p in self.on(node) if p.startswith(name)]) == replicas, self.server)
        for other in others:
            await self.cluster.patch_node(other, {"spec": {"unschedulable": None}}, what="uncordon")

    async def when(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(40):
            while not holds():
                await asyncio.sleep(0.02)


@asynccontextmanager
async def clustered(folder: Path, *names: str) -> AsyncIterator[Clustered]:
    transports = {}
    for name in names:
        root = folder / name
        root.mkdir()
        transports[name] = TreeTransport(Tree(root, "dash").build(), name)
    nodes: Any = [Node(name, t.tree) for name, t in transports.items()]
    async with simulated(*nodes, speed=SPEED) as (server, cluster, clock):
        yield Clustered(transports, cluster, clock, folder / "state", [], server)


async def test_pods_move_away_the_host_is_changed_and_its_node_takes_pods_again(tmp_path: Path) -> None:
    async with clustered(tmp_path, "a", "b") as w:
        await w.runs_on("a", replicas=2)
        report = await w.run("a")
        assert report.outcomes["a"] == HostOutcome("a", "confirmed")
        assert report.cluster_error is None
        assert w.on("a") == []
        steps = w.steps("a")
        assert [s for s in steps if s in ("judge", "cordon", "drain", "evict", "drained", "arm", "restart")] == [
            *("judge", "cordon", "drain", "evict", "evict", "drained", "arm", "restart")
        ]
        assert steps.index("uncordon") > steps.index("confirm")
        assert w.node("a") == (False, None)
        await eventually(lambda: len(w.on("b")) == 2, w.server)
        assert find_run(w.state, "run-1").cordons == ()
        told = {e.state: e.message for e in w.events if isinstance(e, HostProgress)}
        assert told["cordon"] == "node a takes no new pods until this host is done"
        assert told["drained"] == "2 pods left node a"
        assert told["uncordon"] == "node a takes pods again"


async def test_a_cordon_alone_leaves_the_pods(tmp_path: Path) -> None:
    async with clustered(tmp_path, "a", "b") as w:
        await w.runs_on("a")
        before = w.on("a")
        running = asyncio.create_task(w.run("a", drain="cordon"))
        await w.when(lambda: "restart" in w.steps("a"))
        assert w.node("a") == (True, "run-1")
        assert (await running).outcomes["a"].outcome == "confirmed"
        assert w.on("a") == before
        assert "evict" not in w.steps("a")
        assert w.node("a") == (False, None)


async def test_without_the_answer_no_node_is_touched(tmp_path: Path) -> None:
    async with clustered(tmp_path, "a") as w:
        await w.run("a", drain="no")
        assert {"cordon", "drain", "uncordon"} & set(w.steps("a")) == set()
        assert not find_run(w.state, "run-1").cordons


async def test_a_budget_that_never_has_room_refuses_the_host_and_is_named(tmp_path: Path) -> None:
    async with clustered(tmp_path, "a", "b") as w:
        await w.runs_on("a")
        await w.cluster.apply(budget("web", {"app": "web"}, minAvailable=1))
        await eventually(lambda: status(w.server, "web").get("currentHealthy") == 1, w.server)
        (pod,) = w.on("a")
        report = await w.run("a", "b", canary=False, max_unavailable=1)
        outcome = report.outcomes["a"]
        assert outcome.outcome == "refused"
        assert outcome.reason.startswith(
            f"node a was not drained in 20 s: default/{pod} is kept: disruption budget default/web allows 0 "
            f"disruptions (needs 1 healthy, has 1; it guards {pod}) (nothing was changed on the host; "
        )
        assert report.outcomes["b"].outcome == "confirmed", "one that is not drained stops no other"
        assert w.on("a") == [pod]
        assert w.node("a") == (False, None)
        assert w.tree("a").path(MAIN).read_bytes() == PLAIN
        assert not {"arm", "replace", "restart"} & set(w.steps("a"))
        first = w.waits()[0]
        assert first.limit == 20
        assert first.likely.startswith("the other pods of the budget are not ready yet, or it lets none go")
        said = event_json(first, w.clock.now())
        assert (said["kind"], said["host"], said["stage"]) == ("waiting", "a", "apply")
        assert said["data"]["condition"] == "node a is drained"
        assert f"it guards {pod})" in said["data"]["last_seen"]
        pauses = [later.elapsed - earlier.elapsed for earlier, later in zip(w.waits(), w.waits()[1:], strict=False)]
        assert max(pauses) > 2 * min(pauses), "it asks less and less often"


async def test_a_budget_that_gets_room_is_waited_for(tmp_path: Path) -> None:
    async with clustered(tmp_path, "a", "b") as w:
        await w.runs_on("a", replicas=2)
        await w.cluster.apply(budget("web", {"app": "web"}, maxUnavailable=0))
        await eventually(lambda: status(w.server, "web").get("currentHealthy") == 2, w.server)
        running = asyncio.create_task(w.run("a", drain_timeout=300))
        await w.when(lambda: bool(w.waits()))
        await w.cluster.apply(budget("web", {"app": "web"}, maxUnavailable=1))
        assert (await running).outcomes["a"] == HostOutcome("a", "confirmed")
        assert w.on("a") == []
        assert w.node("a") == (False, None)


async def test_one_pod_after_the_other_where_a_budget_lets_only_one_go(tmp_path: Path) -> None:
    async with clustered(tmp_path, "a", "b") as w:
        await w.runs_on("a", replicas=3)
        await w.cluster.apply(budget("web", {"app": "web"}, maxUnavailable=1))
        await eventually(lambda: status(w.server, "web").get("disruptionsAllowed") == 1, w.server)
        least = 3
        running = asyncio.create_task(w.run("a", drain_timeout=300))
        while not running.done():
            least = min(least, len(pods(w.server)))
            await asyncio.sleep(0.01)
        assert running.result().outcomes["a"].outcome == "confirmed"
        assert least == 2, "never more than one was away"


REFUSED = {
    "two budgets": (
        "more than one disruption budget guards default/web-",
        "(all, web), and Kubernetes evicts no such pod",
    ),
    "an emptyDir": ("the emptyDir of default/web-", "rollout.drain_delete_emptydir = true consents to that"),
    "no controller": ("no controller would bring back default/solo", "rollout.drain_force = true evicts them"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_may_not_be_evicted_is_named_before_anything_is(tmp_path: Path, case: str) -> None:
    async with clustered(tmp_path, "a", "b") as w:
        await w.runs_on("a", empty_dir=case == "an emptyDir")
        await w.runs_on("a", "idle")
        match case:
            case "two budgets":
                for name in ("all", "web"):
                    await w.cluster.apply(budget(name, {"app": "web"}, maxUnavailable=1))
            case "no controller":
                await lone_pod(w.cluster, "solo", nodeName="a")
                await eventually(lambda: "solo" in w.on("a"), w.server)
        before = w.on("a")
        report = await w.run("a")
        assert report.outcomes["a"].outcome == "refused"
        for words in REFUSED[case]:
            assert words in report.outcomes["a"].reason
        assert "evict" not in w.steps("a")
        assert w.on("a") == before
        assert w.node("a") == (False, None)
        assert w.tree("a").path(MAIN).read_bytes() == PLAIN


async def test_with_consent_such_pods_are_evicted(tmp_path: Path) -> None:
    async with clustered(tmp_path, "a", "b") as w:
        await w.runs_on("a", empty_dir=True)
        await lone_pod(w.cluster, "solo", nodeName="a")
        await eventually(lambda: "solo" in w.on("a"), w.server)
        report = await w.run("a", drain_force=True, drain_delete_emptydir=True)
        assert report.outcomes["a"].outcome == "confirmed"
        assert w.on("a") == []


async def test_pods_of_daemon_sets_and_ended_ones_are_left(tmp_path: Path) -> None:
    async with clustered(tmp_path, "a") as w:
        daemon = replica_set("daemon", 1)
        del daemon["spec"]["replicas"]
        await w.cluster.apply({**daemon, "kind": "DaemonSet"})
        await lone_pod(w.cluster, "job", command=["true"], restartPolicy="Never")
        await eventually(lambda: "Succeeded" in str(w.server.store.get("Pod", "default", "job")), w.server)
        await eventually(lambda: len(w.on("a")) == 1, w.server)
        kept = w.on("a")
        report = await w.run("a")
        assert report.outcomes["a"].outcome == "confirmed"
        assert w.on("a") == kept
        assert w.server.store.get("Pod", "default", "job") is not None


async def test_a_pod_that_takes_its_time_is_waited_for_and_told(tmp_path: Path) -> None:
    async with clustered(tmp_path, "a", "b") as w:
        await w.runs_on("a", command=STUBBORN, grace=12)
        (pod,) = w.on("a")
        report = await w.run("a", drain_timeout=120)
        assert report.outcomes["a"].outcome == "confirmed"
        assert f"default/{pod} is terminating (grace 12 s)" in {e.last_seen for e in w.waits()}


async def test_a_node_that_somebody_else_cordoned_stays_so(tmp_path: Path) -> None:
    async with clustered(tmp_path, "a", "b") as w:
        await w.runs_on("a")
        await w.cluster.patch_node("a", {"spec": {"unschedulable": True}}, what="cordon")
        report = await w.run("a")
        assert report.outcomes["a"].outcome == "confirmed"
        assert w.on("a") == [], "the drain was asked for all the same"
        assert w.node("a") == (True, None)
        assert {"cordon", "uncordon"} & set(w.steps("a")) == set()
        notes = [e.message for e in w.events if isinstance(e, Note)]
        assert "node a was cordoned by somebody else before, and stays so" in notes


async def test_the_cordon_of_another_run_stays_that_runs(tmp_path: Path) -> None:
    async with clustered(tmp_path, "a") as w:
        theirs = {"metadata": {"annotations": {CORDONED_BY: "run-0"}}, "spec": {"unschedulable": True}}
        await w.cluster.patch_node("a", theirs, what="cordon")
        await w.run("a")
        assert w.node("a") == (True, "run-0")
        assert "node a was cordoned by run run-0 before, and stays so" in [
            e.message for e in w.events if isinstance(e, Note)
        ]


async def test_a_host_that_is_put_back_takes_pods_again(tmp_path: Path) -> None:
    async with clustered(tmp_path, "a", "b") as w:
        report = await w.run("a", after={"a": NEW + b"# NODEDOWN\n"}, node_hold=45)
        assert report.outcomes["a"].outcome == "rolled-back"
        assert w.node("a") == (False, None)
        assert w.steps("a")[-2:] == ["uncordon", "rolled-back"]


async def test_an_interrupted_drain_lifts_the_cordon(tmp_path: Path) -> None:
    async with clustered(tmp_path, "a", "b") as w:
        await w.runs_on("a")
        await w.cluster.apply(budget("web", {"app": "web"}, maxUnavailable=0))
        await eventually(lambda: status(w.server, "web").get("currentHealthy") == 1, w.server)
        running = asyncio.create_task(w.run("a", drain_timeout=3000))
        await w.when(lambda: bool(w.waits()))
        assert w.node("a") == (True, "run-1")
        assert [c.node for c in find_run(w.state, "run-1").cordons] == ["a"], "it is written down while it stands"
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        (said,) = [e for e in w.events if isinstance(e, HostOutcome)]
        assert (said.outcome, said.reason) == ("unchanged", "interrupted by the operator before anything was changed")
        assert w.node("a") == (False, None)
        assert not find_run(w.state, "run-1").cut


async def test_somebody_writes_to_the_node_at_the_same_time(tmp_path: Path) -> None:
    """A kubelet and others patch nodes all the time: a conflict is tried again, and nothing of theirs is lost."""
    async with clustered(tmp_path, "a") as w:
        get, tries = w.cluster.get, 0

        async def outrun(key: ObjectKey) -> Any:
            nonlocal tries
            live = await get(key)
            if key.kind == "Node" and tries < 3:
                tries += 1
                await w.cluster.label_node("a", {"theirs": str(tries)})
            return live

        w.cluster.get = outrun  # type: ignore[method-assign]
        report = await w.run("a", drain="cordon")
        assert report.outcomes["a"].outcome == "confirmed"
        assert tries == 3
        node = await w.cluster.node("a")
        assert node is not None
        assert node.labels["theirs"] == "3"
        assert w.node("a") == (False, None)


async def test_a_cordon_that_cannot_be_lifted_is_reported_with_what_lifts_it(tmp_path: Path) -> None:
    async with clustered(tmp_path, "a") as w:
        running = asyncio.create_task(w.run("a", drain="cordon"))
        await w.when(lambda: "confirm" in w.steps("a"))
        await w.server.stop()
        report = await running
        words = (
            "node a is still cordoned by run run-1: `gpuwizard resume run-1` lifts it, by hand `kubectl uncordon a` "
            "and `kubectl annotate node a gpuwizard.dev/cordoned-by-`"
        )
        assert report.outcomes["a"] == HostOutcome("a", "confirmed", words)
        assert report.cluster_error is not None
        waited = [e for e in w.events if isinstance(e, Waiting) and e.condition == "node a can be uncordoned"]
        assert waited[-1].limit == 60
        assert waited[-1].elapsed > 30
        record = find_run(w.state, "run-1")
        assert record.cut
        assert "apply: 1 confirmed (still cordons a)" in run_line(record)
        assert record.to_json()["cordons"] == ["a"]
        await w.server.start()
        back = await w.roll_back("run-1")
        assert back.outcomes["a"].outcome == "confirmed"
        assert back.cluster_error is None
        assert w.node("a") == (False, None)
        record = find_run(w.state, "run-1")
        assert (record.cordons, record.cut) == ((), False)
        assert not (w.state / "runs" / "run-1" / "run.plan").exists()


async def test_without_a_way_to_the_cluster_nothing_is_changed(tmp_path: Path) -> None:
    async with clustered(tmp_path, "a") as w:
        plan = await w.plan(objects=False)
        asked = answers(drain="drain")
        with Journal.open(w.state, "run-2", plan, clock=w.clock) as journal:
            report = await apply_plan(
                plan, w.transports, None, asked, "run-2", w.events.append, Nobody(), w.clock, journal
            )
        assert report.outcomes["a"].outcome == "refused"
        assert report.outcomes["a"].reason == (
            "rollout.drain asks for a drain of node a, and the cluster is not connected (see to the way to the "
            'cluster, or set rollout.drain = "no")'
        )
        assert w.tree("a").path(MAIN).read_bytes() == PLAIN


async def test_an_api_server_that_goes_away_during_the_drain_is_waited_for(tmp_path: Path) -> None:
    async with clustered(tmp_path, "a", "b") as w:
        await w.runs_on("a")
        await w.cluster.apply(budget("web", {"app": "web"}, maxUnavailable=0))
        await eventually(lambda: status(w.server, "web").get("currentHealthy") == 1, w.server)
        running = asyncio.create_task(w.run("a", drain_timeout=3000))
        await w.when(lambda: bool(w.waits()))
        await w.server.stop()
        await w.when(lambda: w.waits()[-1].last_seen.startswith("the API server cannot be reached: "))
        await w.server.start()
        await w.cluster.apply(budget("web", {"app": "web"}, maxUnavailable=1))
        assert (await running).outcomes["a"].outcome == "confirmed"
        assert w.on("a") == []


async def test_a_rollback_drains_as_well_and_lifts_its_own_cordon(tmp_path: Path) -> None:
    async with clustered(tmp_path, "a", "b") as w:
        await w.run("a")
        await w.runs_on("a")
        w.events.clear()
        back = await w.roll_back("run-1")
        assert back.outcomes["a"].outcome == "confirmed"
        assert [s for s in w.steps("a") if s in ("cordon", "drained", "restart", "uncordon")] == [
            *("cordon", "drained", "restart", "uncordon")
        ]
        assert w.on("a") == []
        assert w.node("a") == (False, None)
        assert w.tree("a").path(MAIN).read_bytes() == PLAIN


async def test_budgets_that_this_user_may_not_see_are_named_by_the_server(tmp_path: Path) -> None:
    async with clustered(tmp_path, "a", "b") as w:
        await w.runs_on("a")
        await w.cluster.apply(budget("web", {"app": "web"}, minAvailable=1))
        await eventually(lambda: status(w.server, "web").get("currentHealthy") == 1, w.server)
        w.cluster = await _blind(w.server)
        try:
            report = await w.run("a")
        finally:
            await w.cluster.close()
        assert "is kept: The disruption budget web needs 1 healthy pods and has 1 currently" in (
            report.outcomes["a"].reason
        )


async def _blind(server: SimulatedCluster) -> Cluster:
    """A client that is shown no budget."""
    cluster = await open_cluster(config=server.kubeconfig())
    get = cluster.get

    async def hidden(key: ObjectKey) -> Any:
        return None if key.kind == "PodDisruptionBudget" else await get(key)

    async def none_listed() -> None:
        return None

    cluster.get = hidden  # type: ignore[method-assign]
    cluster.budgets = none_listed  # type: ignore[method-assign]
    return cluster
