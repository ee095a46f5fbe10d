"""One guarded change driven from here, against a host that is a folder: links are cut, operators lose patience."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuwizard.clock import FastClock
from gpuwizard.errors import GpuwizardError, RefusedError
from gpuwizard.events import Event, HostProgress, Waiting
from gpuwizard.work.guard import Dumps, Guard, Hooks
from gpuwizard.work.guard_scripts import GuardedChange
from gpuwizard.work.host_lock import HostLock
from tests.guard_tree import (
    DROP_IN,
    IMPORTS,
    MAIN,
    NVIDIA,
    PLAIN,
    SPEED,
    Tree,
    TreeTransport,
    change_of,
    edit,
    missing_shells,
    started,
)

pytestmark = pytest.mark.skipif(bool(missing_shells()), reason=f"shells not installed: {missing_shells()}")
NEW = IMPORTS + PLAIN


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root = tmp_path / "host"
    root.mkdir()
    return Tree(root, "dash").build()


class Case:
    """A guard with its host, its events and its transport."""

    def __init__(self, tree: Tree, hooks: Hooks | None = None, **values: object) -> None:
        self.tree = tree
        self.events: list[Event] = []
        self.transport = TreeTransport(tree)
        self.change = changed(**values)
        self.guard = Guard(
            self.transport, self.change, hooks or Hooks(), emit=self.events.append, clock=FastClock(SPEED)
        )

    @property
    def steps(self) -> list[str]:
        return [e.state for e in self.events if isinstance(e, HostProgress)]

    def untouched(self) -> bool:
        return self.tree.path(MAIN).read_bytes() == PLAIN and not self.tree.path(DROP_IN).exists()


def changed(poison: bytes = b"", **values: object) -> GuardedChange:
    return change_of(edit(DROP_IN, None, NVIDIA), edit(MAIN, PLAIN, NEW + poison), **values)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


async def test_the_order_on_one_host(tree: Tree) -> None:
    case = Case(tree)
    outcome = await case.guard.run()
    assert outcome.outcome == "confirmed"
    order = [s for i, s in enumerate(case.steps) if s not in case.steps[:i]]
    assert order == ["lock", "check", "backup", "judge", "arm", "replace", "restart", "health", "confirm"]
    assert tree.path(MAIN).read_bytes() == NEW
    waits = [e for e in case.events if isinstance(e, Waiting)]
    assert any("stays up" in w.condition for w in waits)


async def test_what_the_host_refuses_is_told_in_its_own_words(tree: Tree) -> None:
    case = Case(tree, poison=b"SYNTAX\n")
    outcome = await case.guard.run()
    assert outcome.outcome == "refused"
    assert "expected newline" in outcome.reason
    assert case.untouched()


async def test_dumps_that_are_not_accepted_end_it_before_anything_is_armed(tree: Tree) -> None:
    seen: list[Dumps] = []

    def accept(dumps: Dumps) -> None:
        seen.append(dumps)
        raise RefusedError("it would lose the registry")

    outcome = await Case(tree, Hooks(accept=accept)).guard.run()
    assert (outcome.outcome, outcome.reason) == ("refused", "it would lose the registry")
    assert seen == [Dumps(PLAIN, NEW + NVIDIA)]
    assert not tree.run_folder().exists()
    assert not list((tree.root / "etc/systemd").rglob("gpuwizard*"))


async def test_a_host_that_is_busy_is_refused(tree: Tree) -> None:
    other = HostLock(TreeTransport(tree), "run-0", "ann on desk, run run-0", FastClock(SPEED))
    await other.take()
    outcome = await Case(tree).guard.run()
    assert outcome.outcome == "refused"
    assert "ann on desk" in outcome.reason
    await other.release()


async def test_a_node_that_does_not_settle_gets_its_files_back(tree: Tree) -> None:
    async def settle(left: float) -> None:
        assert 0 < left <= 200
        raise GpuwizardError("node n1 did not settle: NotReady (container runtime is down)")

    case = Case(tree, Hooks(settle=settle))
    outcome = await case.guard.run()
    assert outcome.outcome == "rolled-back"
    assert "container runtime is down" in outcome.reason
    assert case.untouched()


async def test_a_runtime_that_breaks_is_told_with_its_reason(tree: Tree) -> None:
    case = Case(tree, poison=b"# BREAKCRI\n")
    outcome = await case.guard.run()
    assert outcome.outcome == "rolled-back"
    assert "CRI plugin is error" in outcome.reason
    assert case.untouched()


async def test_a_lost_link_is_taken_up_again_and_confirmed(tree: Tree) -> None:
    case = Case(tree, hold=10)
    running = asyncio.create_task(case.guard.run())
    await until(lambda: "restart" in case.steps)
    case.transport.cut()
    await until(lambda: tree.state() == "healthy")
    case.transport.mend()
    outcome = await running
    assert outcome.outcome == "confirmed"
    assert any(isinstance(e, Waiting) and e.condition == "the host answers again" for e in case.events)


async def test_a_broken_runtime_is_undone_while_the_link_is_cut(tree: Tree) -> None:
    case = Case(tree, poison=b"# BREAKCRI\n")
    running = asyncio.create_task(case.guard.run())
    await until(lambda: "replace" in case.steps)
    case.transport.cut()
    assert tree.wait_for("reverted", "revert-failed") == "reverted"
    assert case.untouched()
    case.transport.mend()
    outcome = await running
    assert outcome.outcome == "rolled-back"


async def test_a_host_that_never_answers_again_is_reported_as_unconfirmed(tree: Tree) -> None:
    case = Case(tree, timeout=40, hold=1)
    running = asyncio.create_task(case.guard.run())
    await until(lambda: "replace" in case.steps)
    case.transport.cut()
    outcome = await running
    assert outcome.outcome == "unconfirmed"
    assert outcome.reverts_at is not None
    assert tree.wait_for("reverted") == "reverted"
    assert case.untouched()


async def test_an_interruption_while_it_is_armed_leaves_nothing(tree: Tree) -> None:
    tree.environment["STANDIN_SLOW_RUN"] = "10"
    case = Case(tree)
    running = asyncio.create_task(case.guard.run())
    await until(lambda: (tree.run_folder() / "armed").exists())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert case.guard.outcome is not None
    assert case.guard.outcome.outcome in ("unchanged", "rolled-back"), "as far as the arming had come"
    assert "interrupted by the operator" in case.guard.outcome.reason
    assert case.untouched()


@pytest.mark.parametrize("step", ["judge", "restart", "health"])
async def test_an_interruption_has_it_put_back(tree: Tree, step: str) -> None:
    case = Case(tree, hold=60)
    running = asyncio.create_task(case.guard.run())
    await until(lambda: step in case.steps)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert case.guard.outcome is not None
    assert case.guard.outcome.outcome in ("rolled-back", "unchanged")
    assert "interrupted by the operator" in case.guard.outcome.reason
    assert case.untouched()


async def test_a_second_interruption_leaves_at_once_and_says_what_will_happen(tree: Tree) -> None:
    case = Case(tree, hold=60, timeout=100)
    running = asyncio.create_task(case.guard.run())
    await until(lambda: "health" in case.steps)
    case.transport.cut()
    running.cancel()
    await asyncio.sleep(0.2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    outcome = case.guard.outcome
    assert outcome is not None
    assert outcome.outcome == "unconfirmed"
    assert outcome.reverts_at is not None
    assert tree.wait_for("reverted") == "reverted"


async def test_a_script_of_pid_1_that_vanished_is_undone(tree: Tree) -> None:
    """The detached script is killed, as by an operator or for memory: nobody waits for it for ever."""
    case = Case(tree, hold=60)
    running = asyncio.create_task(case.guard.run())
    await until(lambda: "health" in case.steps)
    pid = (tree.root / "standin/units/gpuwizard-go-run-1.service/process").read_text().strip()
    import os
    import signal

    os.killpg(int(pid), signal.SIGKILL)
    (tree.root / "standin/units/gpuwizard-go-run-1.service/active").write_text("inactive\n")
    outcome = await running
    assert outcome.outcome == "rolled-back"
    assert case.untouched()


async def test_a_host_that_was_restarted_meanwhile_is_undone_even_without_its_boot_unit(tree: Tree) -> None:
    async def settle(_: float) -> None:
        (tree.root / "proc/sys/kernel/random/boot_id").write_text("boot-2\n")
        case.transport.cut()
        case.transport.mend()
        raise GpuwizardError("the API says that the node restarted")

    case = Case(tree, Hooks(settle=settle))
    outcome = await case.guard.run()
    assert outcome.outcome == "rolled-back"
    assert case.untouched()


async def test_a_revert_that_failed_is_tried_again_when_it_is_asked_for(tree: Tree) -> None:
    """What a rollback of a run says of such a host is what comes of it now, not what came of it before."""

    async def settle(left: float) -> None:
        raise GpuwizardError("node n1 did not settle")

    lid = tree.root / "bin/mv"
    blocked = tree.path(MAIN)
    lid.write_text(
        f"""#!/bin/sh
for last; do :; done
[ "$last" != "{blocked.resolve()}" ] || ! cmp -s "{tree.run_folder()}/after/002" "$last" || {{
    echo "mv: cannot move: ${{STANDIN_WHY-No space left on device}}" >&2; exit 1
}}
exec /bin/mv "$@"
"""
    )
    lid.chmod(0o755)
    outcome = await Case(tree, Hooks(settle=settle)).guard.run()
    assert outcome.outcome == "failed"
    assert "node n1 did not settle; putting it back failed: " in outcome.reason
    assert "no space is left on the file system of /etc/containerd" in outcome.reason
    assert "by hand: /var/lib/gpuwizard/runs/run-1/README.txt" in outcome.reason
    tree.environment["STANDIN_WHY"] = "Read-only file system"
    again = Case(tree)
    outcome = await again.guard.put_back("rollback")
    assert outcome.outcome == "failed"
    assert "the file system of /etc/containerd is read-only" in outcome.reason
    failures = [e.message for e in again.events if isinstance(e, HostProgress) and e.state == "revert-failed"]
    assert any("read-only" in message for message in failures)
    lid.unlink()
    outcome = await Case(tree).guard.put_back("rollback")
    assert (outcome.outcome, outcome.reason) == ("rolled-back", "rollback")
    assert tree.path(MAIN).read_bytes() == PLAIN
    assert not tree.path(DROP_IN).exists()


async def test_a_revert_that_was_killed_is_begun_again(tree: Tree) -> None:
    started(tree, edit(DROP_IN, None, NVIDIA), edit(MAIN, PLAIN, NEW))
    tree.wait_for("healthy")
    (tree.run_folder() / "state").write_text("reverting 1 node n1 did not settle\n")
    outcome = await Case(tree).guard.go_on()
    assert outcome is not None
    assert (outcome.outcome, outcome.reason) == ("rolled-back", "node n1 did not settle")
    assert tree.path(MAIN).read_bytes() == PLAIN
