"""Calls of the guard over the channel of the lock's holder: their ends, links that go, operators who give up."""

import asyncio
import subprocess
from collections.abc import AsyncIterator

import pytest

from gpuwizard.clock import FastClock
from gpuwizard.errors import GpuwizardError, UnreachableError
from gpuwizard.remote.transport import Payload
from gpuwizard.work.guard_scripts import host_state, prepare_payloads
from gpuwizard.work.host_line import HostLine
from gpuwizard.work.host_lock import HostLock
from tests.guard_tree import SPEED, Tree, TreeTransport, change_of, two_files

SLOW = b"""case $1 in
prepare) (echo "@step check $2"; sleep 25 >/dev/null 2>&1; echo "@step backup") ;;
esac
exit 5
"""


def is_free(tree: Tree) -> bool:
    return subprocess.run(["flock", "-n", tree.path("/var/lib/gpuwizard/lock"), "true"]).returncode == 0


async def line_to(tree: Tree, *payloads: Payload) -> tuple[HostLock, TreeTransport]:
    transport = TreeTransport(tree)
    lock = HostLock(transport, "run-1", "somebody", FastClock(SPEED))
    await lock.take(payloads)
    return lock, transport


async def test_every_call_tells_its_lines_and_its_end(tree: Tree) -> None:
    lock, transport = await line_to(tree, *prepare_payloads(change_of(*two_files())))
    heard: list[str] = []
    nothing = await lock.guard("status", timeout=30, on_line=heard.append)
    assert (nothing.status, nothing.lines, heard) == (0, ("@state none 0 ",), ["@state none 0 "])
    prepared = await lock.guard("prepare", timeout=30, on_line=heard.append)
    assert prepared.ok
    assert any(line.startswith("@step judge ") for line in prepared.lines)
    state = host_state((await lock.guard("status", timeout=30, on_line=heard.append)).lines)
    assert state is not None
    assert state.word == "prepared"
    refused = await lock.guard("begin", timeout=30, on_line=heard.append)
    assert not refused.ok
    assert refused.lines[-1] == "@error the run is prepared, not armed"
    await lock.release()
    over_its_own_channel = await lock.guard("status", timeout=30, on_line=heard.append)
    assert over_its_own_channel.lines[0].startswith("@state prepared ")
    await transport.close()


async def test_a_call_that_takes_too_long_is_ended_and_the_next_one_is_not_mistaken_for_it(tree: Tree) -> None:
    tree.environment["STANDIN_SPEED"] = "1"  # longer than a late end is waited for
    lock, _ = await line_to(tree, Payload("guard.sh", SLOW))
    with pytest.raises(GpuwizardError, match=r"no end after 0\.1 s"):
        await lock.guard("prepare", timeout=0.1, on_line=lambda _: None)
    after = await lock.guard("status", timeout=30, on_line=lambda _: None)
    assert after.lines == ("@state none 0 ",)
    await lock.release()


async def test_a_call_that_is_cancelled_is_ended(tree: Tree) -> None:
    tree.environment["STANDIN_SPEED"] = "1"
    lock, _ = await line_to(tree, Payload("guard.sh", SLOW))
    begun = asyncio.Event()
    call = asyncio.create_task(lock.guard("prepare", timeout=30, on_line=lambda _: begun.set()))
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    after = await lock.guard("status", timeout=30, on_line=lambda _: None)
    assert after.lines == ("@state none 0 ",)
    left = subprocess.run(["pgrep", "-f", f"{tree.root}/tmp/.*guard.sh"], capture_output=True, text=True)
    assert left.stdout == "", "what it had started is gone as well"
    await lock.release()


async def test_a_step_that_runs_keeps_the_lock_when_the_link_goes(tree: Tree) -> None:
    tree.environment["STANDIN_SPEED"] = "25"  # the step takes a second
    lock, transport = await line_to(tree, Payload("guard.sh", SLOW))
    begun = asyncio.Event()
    call = asyncio.create_task(lock.guard("prepare", timeout=30, on_line=lambda _: begun.set()))
    await begun.wait()
    transport.cut()
    with pytest.raises(UnreachableError):
        await call
    assert not is_free(tree)
    async with asyncio.timeout(30):
        while not is_free(tree):
            await asyncio.sleep(0.05)
    await lock.release()


async def test_a_word_that_would_be_two_is_not_sent(tree: Tree) -> None:
    lock, _ = await line_to(tree)
    with pytest.raises(ValueError, match="without tabs"):
        await lock.guard("undo", "a\tb", timeout=30, on_line=lambda _: None)
    await lock.release()


class Mumbling:
    """A holder whose calls say something on stderr, each its own."""

    def __init__(self) -> None:
        self.stderr = ""
        self._coming: list[str] = []

    async def write_line(self, text: str) -> None:
        number = text.split()[1]
        if number != "2":
            self.stderr = f"{self.stderr}\ntrouble of call {number}".strip()
        self._coming = [f"@end {number} 1"]

    async def lines(self) -> AsyncIterator[str]:
        while self._coming:
            yield self._coming.pop(0)

    async def wait(self) -> int | None:
        return None

    async def close(self) -> None:
        return None


async def test_each_call_is_blamed_for_its_own_complaints_alone() -> None:
    line = HostLine(Mumbling(), "node1")
    said = [(await line.call("status", timeout=5, on_line=lambda _: None)).complaint for _ in range(3)]
    assert said == ["trouble of call 1", "", "trouble of call 3"]


async def test_an_undo_of_what_had_hardly_begun_leaves_nothing(tree: Tree) -> None:
    lock, _ = await line_to(tree, *prepare_payloads(change_of(*two_files())))
    await lock.guard("prepare", timeout=30, on_line=lambda _: None)
    for name in ("params", "table", "state"):
        (tree.run_folder() / name).unlink()
    undone = await lock.guard("undo", "interrupted", timeout=30, on_line=lambda _: None)
    assert (undone.status, undone.lines) == (0, ("@state none 0 ",))
    assert not tree.run_folder().exists()
    await lock.release()
