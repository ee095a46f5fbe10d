"""The run lock of a host: one holder at a time, heartbeats, takeover by the same run."""

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuwizard.clock import FastClock
from gpuwizard.errors import RefusedError
from gpuwizard.work.host_lock import HostLock
from tests.guard_tree import SHELLS, SPEED, Tree, TreeTransport, missing_shells

pytestmark = pytest.mark.skipif(bool(missing_shells()), reason=f"shells not installed: {missing_shells()}")


@pytest.fixture(params=SHELLS, ids=list(SHELLS))
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    root = tmp_path / "host"
    root.mkdir()
    return Tree(root, SHELLS[request.param]).build()


def lock_of(tree: Tree, run_id: str, *, speed: float = SPEED) -> HostLock:
    return HostLock(TreeTransport(tree), run_id, f"somebody on laptop, run {run_id}", FastClock(speed))


def is_free(tree: Tree) -> bool:
    return subprocess.run(["flock", "-n", tree.path("/var/lib/gpuwizard/lock"), "true"]).returncode == 0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_second_run_is_refused_with_the_owners_text(tree: Tree) -> None:
    first = lock_of(tree, "run-1")
    await first.take()
    with pytest.raises(RefusedError, match="somebody on laptop, run run-1"):
        await lock_of(tree, "run-2").take()
    assert first.held
    await first.release()
    second = lock_of(tree, "run-2")
    await second.take()
    await second.release()
    await until(lambda: is_free(tree))


async def test_heartbeats_keep_it_and_silence_loses_it(tree: Tree) -> None:
    lock = lock_of(tree, "run-1")
    await lock.take()
    await asyncio.sleep(45 / SPEED)
    assert lock.held, "with heartbeats it outlives the 30 s"
    await lock.release()
    silent = lock_of(tree, "run-2", speed=0.001)
    await silent.take()
    await until(lambda: not silent.held)
    await until(lambda: is_free(tree))
    await silent.release()


async def test_the_same_run_takes_over_from_its_own_dead_link(tree: Tree) -> None:
    dead = lock_of(tree, "run-1")
    await dead.take()
    again = lock_of(tree, "run-1")
    await again.take()
    await until(lambda: not dead.held)
    assert again.held
    await dead.release()
    assert again.held, "the former holder's farewell does not end the new one"
    with pytest.raises(RefusedError):
        await lock_of(tree, "run-2").take()
    await again.release()


async def test_a_closed_channel_gives_it_back(tree: Tree) -> None:
    transport = TreeTransport(tree)
    lock = HostLock(transport, "run-1", "somebody", FastClock(SPEED))
    await lock.take()
    transport.cut()
    await until(lambda: not lock.held)
    await lock.release()
    await until(lambda: is_free(tree))


@pytest.mark.parametrize("state", ["armed", "applying", "healthy", "reverting"])
async def test_an_unconfirmed_change_of_another_run_counts_as_busy(tree: Tree, state: str) -> None:
    folder = tree.run_folder("run-1")
    folder.mkdir(parents=True)
    (folder / "state").write_text(f"{state} 1795228135 \n")
    (folder / "armed").write_text("1795228999\n")
    with pytest.raises(RefusedError, match="run run-1 has a change on this host that is not confirmed yet"):
        await lock_of(tree, "run-2").take()
    own = lock_of(tree, "run-1")
    await own.take()
    await own.release()


@pytest.mark.parametrize("state", ["confirmed", "reverted", "abandoned", "prepared"])
async def test_a_run_that_is_over_does_not_block(tree: Tree, state: str) -> None:
    folder = tree.run_folder("run-1")
    folder.mkdir(parents=True)
    (folder / "state").write_text(f"{state} 1795228135 \n")
    lock = lock_of(tree, "run-2")
    await lock.take()
    await lock.release()


async def test_a_folder_that_cannot_be_trusted_is_no_lock_that_somebody_holds(tree: Tree) -> None:
    elsewhere = tree.path("/tmp")
    tree.path("/var/lib/gpuwizard").symlink_to(elsewhere)
    with pytest.raises(RefusedError, match=r"there can be no run lock: .*/var/lib/gpuwizard is a symlink") as caught:
        await lock_of(tree, "run-1").take()
    assert "wait until" not in caught.value.remedy
    assert not list(elsewhere.iterdir())
