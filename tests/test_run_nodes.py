"""What was seen of a node before its restart outlives the process that saw it."""

import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpuwizard.answers.model import Answers
from gpuwizard.clock import FastClock
from gpuwizard.errors import GpuwizardError
from gpuwizard.events import Event, Note
from gpuwizard.facts.cluster import NodeView
from gpuwizard.plan.model import HostPlan
from gpuwizard.run_nodes import NODES, NodeLook, last_look, write_look
from gpuwizard.work.node_watch import NodeWatch

HOST = HostPlan("gpu1", "in-place", "", node_name="n1")


def test_the_last_look_at_a_host_counts(tmp_path: Path) -> None:
    assert last_look(tmp_path, "gpu1", "n1") is None
    first = NodeLook("gpu1", "n1", True, frozenset(["a", "b"]))
    again = NodeLook("gpu1", "n1", False, frozenset(["c"]))
    other = NodeLook("gpu2", "n2", True)
    for look in (first, other, again):
        write_look(tmp_path, look)
    assert last_look(tmp_path, "gpu1", "n1") == again
    assert last_look(tmp_path, "gpu2", "n2") == other
    assert last_look(tmp_path, "gpu1", "n9") is None
    assert stat.S_IMODE((tmp_path / NODES).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "cut", [b'{"host": "gpu1", "no', b"7", b'{"host": "gpu1", "node": "n1", "ready": true}', b"\xff"]
)
def test_a_line_that_was_cut_hides_no_other(tmp_path: Path, cut: bytes) -> None:
    first, second = NodeLook("gpu1", "n1", True, frozenset("a")), NodeLook("gpu1", "n1", True, frozenset("b"))
    write_look(tmp_path, first)
    with (tmp_path / NODES).open("ab") as file:
        file.write(cut)
    assert last_look(tmp_path, "gpu1", "n1") == first
    write_look(tmp_path, second)
    assert last_look(tmp_path, "gpu1", "n1") == second


class OneNode:
    """A cluster of one node whose heartbeat moves on, and its one pod."""

    def __init__(self) -> None:
        self.node_ready, self.pod_ready, self.beats = True, True, 0

    async def node(self, name: str) -> NodeView:
        self.beats += 1
        return NodeView(name, ready=self.node_ready, heartbeat=f"2026-11-21T01:00:{self.beats:02}Z")

    async def list_pods(self, *_: str, **__: str) -> tuple[dict[str, Any], ...]:
        conditions = [{"type": "Ready", "status": str(self.pod_ready)}]
        meta = {"namespace": "shop", "name": "web", "uid": "u1"}
        return ({"metadata": meta, "status": {"phase": "Running", "conditions": conditions}},)


def watch(cluster: OneNode | None, folder: Path, events: list[Event], *, restarts: bool = True) -> NodeWatch:
    """A watch as each process makes its own."""
    answers = Answers.model_validate({"rollout": {"node_hold": 1}})
    run: Any = SimpleNamespace(
        cluster=cluster,
        answers=answers,
        emit=events.append,
        clock=FastClock(1000),
        journal=SimpleNamespace(folder=folder),
    )
    return NodeWatch(run, HOST, "apply", restarts=restarts)


@pytest.mark.parametrize("same_process", [True, False])
async def test_a_pod_that_broke_is_found_by_whoever_settles(tmp_path: Path, same_process: bool) -> None:
    cluster, events = OneNode(), list[Event]()
    before = watch(cluster, tmp_path, events)
    await before.look()
    cluster.pod_ready = False
    after = before if same_process else watch(cluster, tmp_path, events)
    with pytest.raises(GpuwizardError, match=r"what ran before does not run any more: shop/web"):
        await after.settle(30)
    cluster.pod_ready = True
    await after.settle(30)


@pytest.mark.parametrize("same_process", [True, False])
async def test_a_node_that_was_not_ready_is_not_waited_for(tmp_path: Path, same_process: bool) -> None:
    cluster, events = OneNode(), list[Event]()
    cluster.node_ready = False
    before = watch(cluster, tmp_path, events)
    await before.look()
    await (before if same_process else watch(cluster, tmp_path, events)).settle(30)
    assert [e.message for e in events if isinstance(e, Note)] == ["the node was not Ready before; it is not waited for"]


async def test_a_run_of_a_version_that_wrote_nothing_down_says_so(tmp_path: Path) -> None:
    cluster, events = OneNode(), list[Event]()
    cluster.pod_ready = False
    await watch(cluster, tmp_path, events).settle(30)
    assert "which pods ran before is not known: they are not watched" in [
        e.message for e in events if isinstance(e, Note)
    ]


async def test_nothing_is_watched_where_nothing_restarts(tmp_path: Path) -> None:
    for still in (watch(OneNode(), tmp_path, [], restarts=False), watch(None, tmp_path, [])):
        await still.look()
        await still.settle(30)
    assert not (tmp_path / NODES).exists()
