"""A time limit that does not run while a person is typing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType

__all__ = ["Patience"]


class Patience:
    """``async with Patience(10) as patience``: raises TimeoutError after that many seconds of real time, not
    counting those spent inside ``async with patience.paused()``."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(None)
        self._pauses = 0
        self._left = seconds

    async def __aenter__(self) -> "Patience":
        await self._timeout.__aenter__()
        self._timeout.reschedule(asyncio.get_running_loop().time() + self._seconds)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._timeout.__aexit__(kind, error, traceback)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Stop the time while the body runs; it goes on with what was left."""
        loop = asyncio.get_running_loop()
        if self._pauses == 0:
            when = self._timeout.when()
            self._left = self._seconds if when is None else when - loop.time()
            if not self._timeout.expired():
                self._timeout.reschedule(None)
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            if self._pauses == 0 and not self._timeout.expired():
                self._timeout.reschedule(loop.time() + max(self._left, 0.0))
