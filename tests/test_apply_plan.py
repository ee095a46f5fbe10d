"""A whole plan against hosts that are folders and a simulated cluster whose nodes follow them."""

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gpuwizard.actions import Activation, ApplyObject, LabelNode, Restart, WriteFile
from gpuwizard.answers.model import Answers
from gpuwizard.clock import FastClock
from gpuwizard.errors import UsageError
from gpuwizard.events import Choice, Event, HostOutcome, HostProgress, Note, SecretPrompt
from gpuwizard.facts.cluster import ObjectKey, key_of
from gpuwizard.fleet.node import NodeRuntime
from gpuwizard.journal import Journal, find_run
from gpuwizard.kube.cluster import Cluster
from gpuwizard.plan.build import boot_of, reads_of, versions_of
from gpuwizard.plan.model import ClusterPlan, HostPlan, Plan
from gpuwizard.plan.shown import shown_yaml
from gpuwizard.run_nodes import NODES
from gpuwizard.secret import Secret
from gpuwizard.steps import device_plugin, runtime_class
from gpuwizard.work.apply import apply_plan
from gpuwizard.work.probe import probe_host
from gpuwizard.work.report import Report
from gpuwizard.work.rollback import rollback
from tests.guard_tree import CHECK, MAIN, NVIDIA, PLAIN, SPEED, Tree, TreeTransport, edit, missing_shells
from tests.kube_servers import runtime, simulated

pytestmark = pytest.mark.skipif(bool(missing_shells()), reason=f"shells not installed: {missing_shells()}")
LABEL = "gpuwizard.dev/gpu"
NEW = PLAIN + NVIDIA


class Nobody:
    """An asker whom nobody should ask anything here."""

    async def choose(self, question: Choice) -> str:
        return question.default

    async def secret(self, question: SecretPrompt) -> Secret | None:
        return None


@dataclass
class Node:
    """A node of the simulated cluster whose runtime is a tree's."""

    name: str
    tree: Tree
    kubelet_version: str = "v1.36.2"

    @property
    def labels(self) -> dict[str, str]:
        return {}

    async def runtime(self) -> NodeRuntime:
        live = (self.tree.root / "standin/live").read_bytes()
        active = (self.tree.root / "standin/units/containerd.service/active").read_text().strip() == "active"
        seen = runtime("2.1.9", nvidia=b"nvidia" in live, name=self.name)
        if b"NODEDOWN" in live:
            seen = replace(seen, cri="error", cri_message="cni plugin not initialized")
        return replace(seen, service_active=active)


@dataclass
class World:
    """Hosts, cluster, and what the engine said."""

    transports: dict[str, TreeTransport]
    cluster: Cluster
    clock: FastClock
    state: Path
    events: list[Event]

    def tree(self, name: str) -> Tree:
        return self.transports[name].tree

    async def plan(self, *names: str, after: dict[str, bytes] | None = None, objects: bool = True) -> Plan:
        hosts = [await self._host(name, (after or {}).get(name, NEW)) for name in names or self.transports]
        wanted = [runtime_class.manifest(), *device_plugin.manifests(answers())] if objects else []
        view = await self.cluster.view(wanted)
        actions = []
        for manifest in wanted:
            key = key_of(manifest)
            live = view.objects[key].live
            if live is None:
                actions.append(ApplyObject(f"cluster:{key}", key, manifest, "", shown_yaml(manifest), f"create {key}"))
        return Plan(tuple(hosts), ClusterPlan(tuple(actions), server=self.cluster.server), "hash", "fingerprint")

    async def _host(self, name: str, after: bytes) -> HostPlan:
        probe = await probe_host(self.transports[name], sudo_password_known=True)
        return HostPlan(
            name=name,
            strategy="in-place",
            reason="",
            actions=(
                WriteFile(f"{name}:file", edit(MAIN, PLAIN, after), "change"),
                Restart(f"{name}:restart", Activation("containerd.service"), CHECK, "restart"),
                LabelNode(f"{name}:label", name, LABEL, None, "true", "label"),
            ),
            reads=reads_of(probe),
            versions=versions_of(probe),
            boot_id=boot_of(probe),
            node_name=name,
        )

    async def apply(self, plan: Plan, run_id: str = "run-1", **rollout: Any) -> Report:
        with Journal.open(self.state, run_id, plan, clock=self.clock) as journal:
            return await apply_plan(
                plan,
                self.transports,
                self.cluster,
                answers(**rollout),
                run_id,
                self._both(journal),
                Nobody(),
                self.clock,
                journal,
            )

    async def resume(self, plan: Plan, run_id: str = "run-1", **rollout: Any) -> Report:
        """Go on with a run whose process is gone."""
        with Journal.resume(self.state, run_id, self.clock) as journal:
            emit, chosen = self._both(journal), answers(**rollout)
            return await apply_plan(
                plan, self.transports, self.cluster, chosen, run_id, emit, Nobody(), self.clock, journal, resumed=True
            )

    async def roll_back(self, run_id: str, new_id: str = "run-back") -> Report:
        with Journal.open(self.state, new_id, rolls_back=run_id, clock=self.clock) as journal:
            record = find_run(self.state, run_id)
            return await rollback(
                record,
                self.transports,
                self.cluster,
                record.answers,
                new_id,
                self._both(journal),
                Nobody(),
                self.clock,
                journal,
            )

    def _both(self, journal: Journal) -> Any:
        def emit(event: Event) -> None:
            self.events.append(event)
            journal.emit(event)

        return emit

    async def labels(self) -> dict[str, str | None]:
        return {n.name: n.labels.get(LABEL) for n in await self.cluster.nodes()}

    def told(self) -> list[str]:
        """Confirmations, labels and objects in the order in which they were told."""
        lines = []
        for event in self.events:
            if isinstance(event, HostProgress) and event.state in ("confirmed", "labelled", "rolled-back"):
                lines.append(f"{event.host} {event.state}")
            elif isinstance(event, Note) and event.message.startswith("applied"):
                lines.append(event.message)
        return lines


def answers(**rollout: Any) -> Answers:
    values = {"unit_hold": 2, "node_hold": 45, "confirm_timeout": 300, **rollout}
    return Answers.model_validate({"rollout": values})


@asynccontextmanager
async def world(folder: Path, *names: str) -> AsyncIterator[World]:
    transports = {}
    for name in names:
        root = folder / name
        root.mkdir()
        transports[name] = TreeTransport(Tree(root, "dash").build(), name)
    nodes: Any = [Node(name, t.tree) for name, t in transports.items()]
    async with simulated(*nodes, speed=SPEED) as (_, cluster, clock):
        yield World(transports, cluster, clock, folder / "state", [])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


async def test_canary_then_objects_then_labels_and_all_of_it_back_again(folder: Path) -> None:
    async with world(folder, "a", "b", "c") as w:
        report = await w.apply(await w.plan())
        assert {n: o.outcome for n, o in report.outcomes.items()} == dict.fromkeys("abc", "confirmed")
        assert report.cluster_error is None
        told = w.told()
        assert told[0] == "a confirmed"
        first_label = next(i for i, line in enumerate(told) if line.endswith("labelled"))
        assert all(line.startswith("applied") for line in told[1:first_label])
        for name in "bc":
            assert told.index(f"{name} confirmed") < told.index(f"{name} labelled")
        assert await w.labels() == dict.fromkeys("abc", "true")
        said = [e for e in w.events if isinstance(e, HostOutcome)]
        assert sorted(o.host for o in said) == ["a", "b", "c"], "said once per host"

        record = find_run(w.state, "run-1")
        assert record.finished
        assert [(h.name, h.outcome) for h in record.hosts] == [(n, "confirmed") for n in "abc"]
        assert len(record.labels) == 3
        assert record.objects

        back = await w.roll_back("run-1")
        assert {o.outcome for o in back.outcomes.values()} == {"confirmed"}
        assert back.cluster_error is None
        assert all(w.tree(n).path(MAIN).read_bytes() == PLAIN for n in "abc")
        assert await w.labels() == dict.fromkeys("abc")
        for entry in record.objects:
            live = await w.cluster.get(entry.key)
            assert live is None or live["metadata"].get("deletionTimestamp"), entry.key
        again = await w.roll_back("run-1", "run-back-2")
        assert {o.outcome for o in again.outcomes.values()} == {"unchanged"}


async def test_a_node_that_goes_not_ready_is_put_back_and_stops_the_rest(folder: Path) -> None:
    async with world(folder, "a", "b") as w:
        report = await w.apply(await w.plan(after={"a": NEW + b"# NODEDOWN\n"}))
        assert report.outcomes["a"].outcome == "rolled-back"
        assert "container runtime is down" in report.outcomes["a"].reason
        assert report.outcomes["b"].outcome == "unchanged"
        assert w.tree("a").path(MAIN).read_bytes() == PLAIN
        assert not w.tree("b").run_folder().exists()
        assert await w.labels() == {"a": None, "b": None}
        assert await w.cluster.get(ObjectKey("node.k8s.io/v1", "RuntimeClass", "", "nvidia")) is None


async def test_a_stale_host_is_refused_and_the_others_go_on(folder: Path) -> None:
    async with world(folder, "a", "b") as w:
        plan = await w.plan()
        w.tree("a").path(MAIN).write_bytes(PLAIN + b"# by hand\n")
        report = await w.apply(plan)
        assert report.outcomes["a"].outcome == "refused"
        assert MAIN in report.outcomes["a"].reason
        assert report.outcomes["b"].outcome == "confirmed", "the next one is the canary"
        assert await w.labels() == {"a": None, "b": "true"}


async def test_an_object_that_changed_since_the_plan_is_not_overwritten(folder: Path) -> None:
    async with world(folder, "a") as w:
        plan = await w.plan()
        await w.cluster.apply(runtime_class.manifest())
        report = await w.apply(plan)
        assert report.outcomes["a"].outcome == "confirmed"
        assert report.cluster_error is not None
        assert "stale plan" in report.cluster_error
        assert await w.labels() == {"a": None}, "no label without the objects"


async def test_hosts_without_an_action_are_never_touched(folder: Path) -> None:
    async with world(folder, "a", "b") as w:
        plan = await w.plan("a", objects=False)
        idle = HostPlan("b", "in-place", "handler nvidia is there and right")
        report = await w.apply(replace(plan, hosts=(*plan.hosts, idle)))
        assert report.outcomes["b"] == HostOutcome("b", "unchanged", "handler nvidia is there and right")
        assert not w.tree("b").path("/var/lib/gpuwizard").exists()


async def test_only_labels_and_objects(folder: Path) -> None:
    async with world(folder, "a") as w:
        plan = await w.plan()
        host = replace(plan.hosts[0], actions=tuple(a for a in plan.hosts[0].actions if isinstance(a, LabelNode)))
        report = await w.apply(replace(plan, hosts=(host,)))
        assert report.outcomes["a"].outcome == "confirmed"
        assert await w.labels() == {"a": "true"}
        assert not w.tree("a").path("/var/lib/gpuwizard").exists()


async def test_an_interruption_puts_every_host_back_and_reports_each(folder: Path) -> None:
    async with world(folder, "a", "b") as w:
        running = asyncio.create_task(w.apply(await w.plan(objects=False), canary=False, unit_hold=60))
        async with asyncio.timeout(30):
            while {e.host for e in w.events if isinstance(e, HostProgress) and e.state == "health"} != {"a", "b"}:
                await asyncio.sleep(0.02)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        said = {e.host: e.outcome for e in w.events if isinstance(e, HostOutcome)}
        assert said == {"a": "rolled-back", "b": "rolled-back"}
        assert all(w.tree(n).path(MAIN).read_bytes() == PLAIN for n in "ab")
        assert [h.outcome for h in find_run(w.state, "run-1").hosts] == ["rolled-back", "rolled-back"]


async def test_a_rollback_leaves_what_was_changed_since(folder: Path) -> None:
    async with world(folder, "a") as w:
        await w.apply(await w.plan())
        w.tree("a").path(MAIN).write_bytes(NEW + b"# mine\n")
        report = await w.roll_back("run-1")
        assert report.outcomes["a"].outcome == "refused"
        assert "changed by somebody else" in report.outcomes["a"].reason
        assert w.tree("a").path(MAIN).read_bytes() == NEW + b"# mine\n"
        assert report.cluster_error is not None


async def test_a_time_limit_that_cannot_hold_is_refused_before_anything(folder: Path) -> None:
    async with world(folder, "a") as w:
        plan = await w.plan(objects=False)
        with pytest.raises(UsageError, match="too short"):
            await w.apply(plan, confirm_timeout=60, unit_hold=30, node_hold=45)
        assert not w.tree("a").path("/var/lib/gpuwizard").exists()


class Killed(BaseException):
    """The process is gone: nothing that would be done on the way out is done."""


def pod_that_needs_the_old_handler(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pod shop/web of node a runs for as long as its host's runtime is as it was."""
    listed = w.cluster.list_pods

    async def list_pods(namespace: str, label_selector: str = "", field_selector: str = "") -> Any:
        if not field_selector.startswith("spec.nodeName="):
            return await listed(namespace, label_selector, field_selector)
        ready = "False" if b"nvidia" in (w.tree("a").root / "standin/live").read_bytes() else "True"
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}
        return ({"metadata": {"namespace": "shop", "name": "web", "uid": "1"}, "status": status},)

    monkeypatch.setattr(w.cluster, "list_pods", list_pods)


async def test_a_pod_that_ran_before_and_does_not_any_more_has_the_host_put_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(folder, "a") as w:
        pod_that_needs_the_old_handler(w, monkeypatch)
        report = await w.apply(await w.plan(objects=False), node_hold=5)
        assert report.outcomes["a"].outcome == "rolled-back"
        assert report.outcomes["a"].reason == "what ran before does not run any more: shop/web (Running)"
        assert w.tree("a").path(MAIN).read_bytes() == PLAIN
        assert not (w.state / "runs" / "run-1" / NODES).exists()


async def test_a_run_that_was_cut_knows_the_pods_that_ran_before_the_restart(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(folder, "a") as w:
        pod_that_needs_the_old_handler(w, monkeypatch)
        plan = await w.plan(objects=False)
        with monkeypatch.context() as dying:
            dying.setattr(Journal, "emit", killed_at_health)
            dying.setattr(Journal, "finish", lambda *_: None)
            with pytest.raises(Killed):
                await w.apply(plan, node_hold=5)
        assert w.tree("a").path(MAIN).read_bytes() == NEW
        report = await w.resume(plan, node_hold=5)
        assert report.outcomes["a"].outcome == "rolled-back"
        assert report.outcomes["a"].reason == "what ran before does not run any more: shop/web (Running)"
        assert w.tree("a").path(MAIN).read_bytes() == PLAIN
        assert stat.S_IMODE((w.state / "runs" / "run-1").stat().st_mode) == 0o700


def killed_at_health(_: Journal, event: Event) -> None:
    if isinstance(event, HostProgress) and event.state == "health":
        raise Killed
