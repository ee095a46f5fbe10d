"""Calls of the guard over the channel of the lock's holder: no login, no sudo and no shell of its own for each."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

from gpuwizard.errors import GpuwizardError, UnreachableError
from gpuwizard.remote.transport import Completed, RemoteProcess

__all__ = ["Answer", "HostLine", "answer_of"]

_LATE = 20.0  # seconds in which a call that was given up must have ended; a step that must not be cut takes that long


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call of the guard said: its exit status, the cleaned lines of its stdout, and what stood on stderr."""

    status: int
    lines: tuple[str, ...]
    complaint: str = ""

    @property
    def ok(self) -> bool:
        """Exit status 0."""
        return self.status == 0


def answer_of(done: Completed, host: str) -> Answer:
    """The same of a script that had a channel of its own. Raises UnreachableError when no exit status came."""
    if done.status is None:
        raise UnreachableError("the link was lost", where=host)
    return Answer(
        done.status,
        tuple(done.stdout.decode("utf-8", "replace").splitlines()),
        done.stderr.decode("utf-8", "replace").strip(),
    )


class HostLine:
    """The open channel to lock.sh on one host. One call runs at a time; the heartbeats go on beside it."""

    def __init__(self, process: RemoteProcess, host: str) -> None:
        self._process = process
        self._host = host
        self._number = 0
        self._late: int | None = None  # a call that was given up and has not said yet that it ended

    async def call(self, *words: str, timeout: float, on_line: Callable[[str], None]) -> Answer:
        """Call the guard with role and arguments; `on_line` gets each line as it comes.

        A call that is cancelled, or takes longer than `timeout` seconds, is made to end on the host. Raises
        UnreachableError when the link or the holder ends meanwhile, GpuwizardError when `timeout` is over, ValueError
        for a word that does not fit on a line.
        """
        if any(c in word for word in words for c in "\t\n\r\0"):
            raise ValueError("a word of a call is one line without tabs")
        if self._late is not None:
            await self._until_over(self._late)
        self._number += 1
        number, complained = self._number, self._process.stderr
        await self._process.write_line("\t".join((f"call {number}", *words)))
        self._late = number
        try:
            async with asyncio.timeout(timeout):
                status, lines = await self._heard(number, on_line)
        except TimeoutError:
            await self._stop()
            raise GpuwizardError(
                f"no end after {timeout:g} s", where=self._host, remedy="see what hangs there: `ps -ef` on the host"
            ) from None
        except asyncio.CancelledError:
            await self._stop()
            raise
        self._late = None
        return Answer(status, lines, self._process.stderr.removeprefix(complained).strip())

    async def _heard(self, number: int, on_line: Callable[[str], None]) -> tuple[int, tuple[str, ...]]:
        """The exit status of call `number`, and its lines."""
        end = f"@end {number} "
        lines: list[str] = []
        source = cast(AsyncGenerator[str, None], self._process.lines())
        async with aclosing(source) as coming:
            async for line in coming:
                if line.startswith(end):
                    return int(line.removeprefix(end)), tuple(lines)
                lines.append(line)
                on_line(line)
        raise UnreachableError("the link was lost", where=self._host)

    async def _stop(self) -> None:
        with contextlib.suppress(UnreachableError):
            await self._process.write_line("stop")

    async def _until_over(self, number: int) -> None:
        try:
            async with asyncio.timeout(_LATE):
                await self._heard(number, lambda _: None)
        except TimeoutError:
            raise UnreachableError("an earlier step on the host does not end", where=self._host) from None
        self._late = None
