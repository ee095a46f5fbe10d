"""A rollback holds the rules of an apply: control-plane hosts, failures, labels, and what is told of a refusal."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gpuwizard.actions import WriteFile
from gpuwizard.events import HostProgress, Note, Waiting
from gpuwizard.journal import Journal
from gpuwizard.plan.model import Plan
from tests.guard_tree import MAIN, NVIDIA, PLAIN, SPEED, Tree, TreeTransport, change_of, edit, missing_shells
from tests.kube_servers import Host, runtime, simulated
from tests.test_apply_plan import NEW, Node, World, answers, world

pytestmark = pytest.mark.skipif(bool(missing_shells()), reason=f"shells not installed: {missing_shells()}")


@dataclass
class Server(Node):
    """A node of the control plane."""

    @property
    def labels(self) -> dict[str, str]:
        return {"node-role.kubernetes.io/control-plane": ""}


@asynccontextmanager
async def servers(folder: Path, *names: str, away: str = "") -> AsyncIterator[World]:
    transports = {}
    for name in names:
        root = folder / name
        root.mkdir()
        transports[name] = TreeTransport(Tree(root, "dash").build(), name)
    nodes: list[Any] = [Server(name, t.tree) for name, t in transports.items()]
    if away:
        nodes.append(
            Host(away, replace(runtime(), service_active=False), {"node-role.kubernetes.io/control-plane": ""})
        )
    async with simulated(*nodes, speed=SPEED) as (_, cluster, clock):
        yield World(transports, cluster, clock, folder / "state", [])


def never_confirmed(w: World, plan: Plan) -> None:
    """A laptop that died while every host was healthy and armed."""
    with Journal.open(w.state, "run-1", plan, clock=w.clock) as journal:
        journal.begin(plan, answers())
    for name in w.transports:
        tree = w.tree(name)
        assert tree.prepare(change_of(edit(MAIN, PLAIN, NEW), timeout=3000)).returncode == 0
        assert tree.guard("arm").returncode == tree.guard("begin").returncode == 0
        assert tree.wait_for("healthy") == "healthy"


async def planned(w: World) -> Plan:
    plan = await w.plan(objects=False)
    return replace(plan, hosts=tuple(replace(host, control_plane=True) for host in plan.hosts))


async def test_no_server_is_put_back_while_another_one_is_away(tmp_path: Path) -> None:
    async with servers(tmp_path, "a", away="c") as w:
        never_confirmed(w, await planned(w))
        while (node := await w.cluster.node("c")) is None or node.ready is not False:
            await w.clock.sleep(1)
        report = await w.roll_back("run-1")
        assert report.outcomes["a"].outcome == "refused"
        assert "other control-plane nodes are not Ready: c" in report.outcomes["a"].reason
        assert w.tree("a").state() == "healthy"
        assert w.tree("a").path(MAIN).read_bytes() == NEW


async def test_servers_of_a_run_that_was_never_confirmed_go_back_one_after_the_other(tmp_path: Path) -> None:
    async with servers(tmp_path, "a", "b") as w:
        never_confirmed(w, await planned(w))
        report = await w.roll_back("run-1")
        assert {n: (o.outcome, o.reason) for n, o in report.outcomes.items()} == dict.fromkeys(
            "ab", ("confirmed", "it was never confirmed, and is put back now")
        )
        hosts = [str(e.host) for e in w.events if isinstance(e, HostProgress | Waiting) and e.stage == "rollback"]
        assert hosts == sorted(hosts), "b is begun when a has ended"
        waited = {e.host for e in w.events if isinstance(e, Waiting) and "stays Ready for 45 s" in e.condition}
        assert waited == {"a", "b"}, "the node is well before the next one"
        assert all(w.tree(n).path(MAIN).read_bytes() == PLAIN for n in "ab")


async def test_a_server_that_does_not_come_back_stops_the_others(tmp_path: Path) -> None:
    async with servers(tmp_path, "a", "b") as w:
        plan = await planned(w)
        down = PLAIN + b"# NODEDOWN\n"
        w.tree("a").path(MAIN).write_bytes(down)
        with Journal.open(w.state, "run-1", plan, clock=w.clock) as journal:
            journal.begin(plan, answers())
        for name, before in (("a", down), ("b", PLAIN)):
            tree = w.tree(name)
            assert tree.prepare(change_of(edit(MAIN, before, NEW), timeout=3000)).returncode == 0
            assert tree.guard("arm").returncode == tree.guard("begin").returncode == 0
            assert tree.wait_for("healthy") == "healthy"
        report = await w.roll_back("run-1")
        assert report.outcomes["a"].outcome == "failed"
        assert "is put back now, but node a did not settle: NotReady" in report.outcomes["a"].reason
        assert report.outcomes["b"].reason == "not begun: the rollback ended before its turn"
        assert w.tree("b").state() == "healthy"


async def test_a_host_that_stays_as_it_was_keeps_its_label(tmp_path: Path) -> None:
    async with world(tmp_path, "a", "b") as w:
        await w.apply(await w.plan())
        w.tree("a").path(MAIN).write_bytes(NEW + b"# mine\n")
        report = await w.roll_back("run-1")
        assert {n: o.outcome for n, o in report.outcomes.items()} == {"a": "refused", "b": "confirmed"}
        assert await w.labels() == {"a": "true", "b": None}
        notes = [e.message for e in w.events if isinstance(e, Note) and e.stage == "rollback"]
        assert "label gpuwizard.dev/gpu of a is there again: the host stays as it was" in notes


async def test_the_device_plugin_leaves_before_its_handler_does(tmp_path: Path) -> None:
    async with world(tmp_path, "a") as w:
        await w.apply(await w.plan())

        async def pods() -> list[str]:
            found = await w.cluster.list_pods("gpuwizard", "app.kubernetes.io/name=nvidia-device-plugin")
            return [pod["metadata"]["name"] for pod in found]

        for _ in range(200):
            if await pods():
                break
            await w.clock.sleep(1)
        w.events.clear()
        await w.roll_back("run-1")
        told = [e for e in w.events if isinstance(e, HostProgress | Waiting)]
        left = max(i for i, e in enumerate(told) if isinstance(e, Waiting) and "device plugin has left" in e.condition)
        lock = next(i for i, e in enumerate(told) if isinstance(e, HostProgress) and e.state == "lock")
        assert left < lock
        assert await pods() == []


@pytest.mark.parametrize(
    ("by", "remedy"),
    [
        ("", "(roll that one back first: gpuwizard rollback run-2)"),
        (
            "bob on desk",
            "(roll that one back first: gpuwizard rollback run-2 where it was made, "
            "or take back all of them: gpuwizard uninstall a)",
        ),
    ],
)
async def test_a_run_below_a_later_one_is_refused_with_what_to_do(tmp_path: Path, by: str, remedy: str) -> None:
    async with world(tmp_path, "a") as w:
        await w.apply(await w.plan())
        if by:
            tree = w.tree("a")
            later = change_of(
                edit(MAIN, NEW, NEW + NVIDIA.replace(b"nvidia", b"more")),
                run_id="run-2",
                by=f"{by}, run run-2, since 2026-11-21 01:14:00 UTC",
            )
            assert tree.prepare(later).returncode == 0
            assert tree.guard("arm", run_id="run-2").returncode == tree.guard("begin", run_id="run-2").returncode == 0
            tree.wait_for("healthy", run_id="run-2")
            assert tree.guard("confirm", run_id="run-2").returncode == 0
        else:
            plan = await w.plan(objects=False)
            again = WriteFile("a:file", edit(MAIN, NEW, NEW + b"# later\n"), "change")
            host = replace(plan.hosts[0], actions=(again, plan.hosts[0].actions[1]))
            assert (await w.apply(replace(plan, hosts=(host,)), "run-2")).outcomes["a"].outcome == "confirmed"
        report = await w.roll_back("run-1")
        assert report.outcomes["a"].outcome == "refused"
        reason = report.outcomes["a"].reason
        assert reason.startswith(f"{MAIN} was changed again by a later run: run-2 ({by}")
        assert reason.endswith(remedy)
        assert await w.labels() == {"a": "true"}
