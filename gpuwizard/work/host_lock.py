"""The run lock of one host: held by a script there for as long as it hears heartbeats from here."""

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import aclosing

from gpuwizard.clock import Clock
from gpuwizard.errors import GpuwizardError, RefusedError, UnreachableError
from gpuwizard.events import Emit, Stage, Waiting
from gpuwizard.remote.transport import Payload, RemoteProcess, Transport
from gpuwizard.work.guard_scripts import call, lock_script
from gpuwizard.work.host_line import Answer, HostLine, answer_of
from gpuwizard.work.likely import likely_of_lock

__all__ = ["HostLock"]

_BEAT = 5.0  # the holder ends after 30 s of silence (`safety.md`, order on one host, 1)


class HostLock:
    """Take it before anything is looked at, release it at the very end. Taking it again after the link was lost is
    allowed: the same run id takes over from its own former holder."""

    def __init__(
        self,
        transport: Transport,
        run_id: str,
        owner: str,
        clock: Clock,
        emit: Emit = lambda _: None,
        stage: Stage = "apply",
    ) -> None:
        self._transport = transport
        self._run_id = run_id
        self._owner = owner
        self._clock = clock
        self._emit = emit
        self._stage: Stage = stage
        self._process: RemoteProcess | None = None
        self._line: HostLine | None = None
        self._beating: asyncio.Task[None] | None = None

    @property
    def held(self) -> bool:
        """True while the holder is known to run."""
        return self._beating is not None and not self._beating.done()

    async def take(self, payloads: tuple[Payload, ...] = ()) -> None:
        """Take the lock; `payloads` are there for the guard's `prepare` while it is held.

        Raises RefusedError with the owner's text when it is busy, else as `Transport.start`.
        """
        await self._drop()
        process = await self._transport.start(lock_script(self._run_id, self._owner, payloads), root=True)
        self._process = process
        answer = ""
        async with aclosing(process.lines()) as lines:  # type: ignore[type-var]
            async for line in lines:
                if line.startswith("@lock waiting "):
                    self._say_waiting(line.removeprefix("@lock waiting "))
                elif line.startswith("@lock "):
                    answer = line.removeprefix("@lock ")
                    break
        if answer == "held":
            self._line = HostLine(process, self._transport.name)
            self._beating = asyncio.create_task(self._beat(process))
            return
        await self._drop()
        if answer.startswith("busy "):
            raise RefusedError(
                f"the host is locked: {answer.removeprefix('busy ')}",
                where=self._transport.name,
                remedy="wait until that run has ended",
            )
        if answer.startswith("unusable "):
            what = f"there can be no run lock: {answer.removeprefix('unusable ')}"
            raise RefusedError(what, where=self._transport.name, remedy="make it a folder that is root's alone")
        raise GpuwizardError("the run lock could not be taken", where=self._transport.name)

    async def guard(self, *words: str, timeout: float, on_line: Callable[[str], None]) -> Answer:
        """Call the guard of the run with role and arguments: over the holder's channel while the lock is held, else by
        one of its own (never ``prepare``, whose payloads came with the lock). Raises as `HostLine.call` and
        `Transport.run`."""
        if self._line is not None and self.held:
            return await self._line.call(*words, timeout=timeout, on_line=on_line)
        role, *arguments = words
        if role == "prepare":
            raise UnreachableError("the lock of the host was lost", where=self._transport.name)
        done = await self._transport.run(
            call(role, self._run_id, *arguments), root=True, timeout=timeout, on_line=on_line
        )
        return answer_of(done, self._transport.name)

    def _say_waiting(self, text: str) -> None:
        """The former holder of this very run still has it; it is made to go (lock.sh)."""
        elapsed, _, rest = text.partition(" ")
        limit, _, owner = rest.partition(" ")
        if elapsed.isdigit() and limit.isdigit():
            self._emit(
                Waiting(
                    self._transport.name,
                    self._stage,
                    "the run lock of the host is free",
                    f"held by {owner or 'an earlier link of this run'}",
                    float(elapsed),
                    float(limit),
                    likely_of_lock(),
                )
            )

    async def release(self) -> None:
        """Give it back; harmless when it is not held or the link is gone."""
        if self._process is not None:
            with contextlib.suppress(GpuwizardError):
                await self._process.write_line("release")
        await self._drop()

    async def _beat(self, process: RemoteProcess) -> None:
        ended = asyncio.create_task(process.wait())
        try:
            while not ended.done():
                beat = asyncio.create_task(self._clock.sleep(_BEAT))
                try:
                    await asyncio.wait({beat, ended}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    beat.cancel()
                if not ended.done():
                    await process.write_line("beat")
        except UnreachableError:
            return
        finally:
            ended.cancel()

    async def _drop(self) -> None:
        beating, self._beating = self._beating, None
        process, self._process, self._line = self._process, None, None
        if beating is not None:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
        if process is not None:
            with contextlib.suppress(GpuwizardError):
                await process.close()
