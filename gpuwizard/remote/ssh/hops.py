"""Connections to jump hosts: one for all hosts behind it, opened on first use, closed after the last."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import asyncssh

from gpuwizard.errors import GpuwizardError

__all__ = ["Hold", "Hops"]

Opener: TypeAlias = Callable[[], Awaitable["Opened"]]


@dataclass(frozen=True, slots=True)
class Opened:
    """An open connection, and what must be released after it."""

    connection: asyncssh.SSHClientConnection
    through: "Hold | None"


class _Hop:
    __slots__ = ("task", "users")

    def __init__(self, task: "asyncio.Task[Opened]") -> None:
        self.task = task
        self.users = 0


class Hold:
    """The use of one jump connection by one host, or by the next jump behind it."""

    def __init__(self, hops: "Hops", key: str, hop: _Hop) -> None:
        self._hops = hops
        self._hop: _Hop | None = hop
        self.key = key

    @property
    def connection(self) -> asyncssh.SSHClientConnection:
        """The connection; call only after `Hops.acquire` returned."""
        assert self._hop is not None
        return self._hop.task.result().connection

    async def release(self) -> None:
        """Give it back; the last one closes it."""
        hop, self._hop = self._hop, None
        if hop is not None:
            await self._hops.release(self.key, hop)


class Hops:
    """All jump connections of a run. A login that failed is not tried again by the hosts that come after."""

    def __init__(self) -> None:
        self._open: dict[str, _Hop] = {}
        self._failed: dict[str, GpuwizardError] = {}

    def forget_failures(self) -> None:
        """A new attempt by the operator: failed jump hosts may be tried again."""
        self._failed.clear()

    async def acquire(self, key: str, opener: Opener) -> Hold:
        """The connection that `key` names, opened by `opener` if there is none. Raises what `opener` raised."""
        if key in self._failed:
            raise self._failed[key]
        hop = self._open.get(key)
        if hop is None or (hop.task.done() and _is_dead(hop.task)):
            hop = self._open[key] = _Hop(asyncio.create_task(_run(opener), name=f"jump {key}"))
        hold = Hold(self, key, hop)
        hop.users += 1
        try:
            await asyncio.shield(hop.task)
        except BaseException as error:
            if isinstance(error, GpuwizardError):
                self._failed[key] = error
            await hold.release()
            raise
        return hold

    async def release(self, key: str, hop: _Hop) -> None:
        """One user less. An attempt that nobody waits for any more is cancelled."""
        hop.users -= 1
        if hop.users:
            return
        if self._open.get(key) is hop:
            del self._open[key]
        hop.task.cancel()
        with contextlib.suppress(asyncio.CancelledError, GpuwizardError):
            opened = await hop.task
            await _close(opened)


async def _run(opener: Opener) -> Opened:
    return await opener()


def _is_dead(task: "asyncio.Task[Opened]") -> bool:
    return task.cancelled() or task.exception() is not None or task.result().connection.is_closed()


async def _close(opened: Opened) -> None:
    opened.connection.close()
    try:
        async with asyncio.timeout(2.0):
            await opened.connection.wait_closed()
    except TimeoutError:
        opened.connection.abort()
    if opened.through is not None:
        await opened.through.release()
