"""A relay in front of an sshd: it delays both directions, stalls now and then, and drops connections."""

import asyncio
import time

__all__ = ["Relay"]


class Relay:
    """`delay`: seconds in each direction. `stall`: every third second nothing passes for so long. `lives`: seconds
    after which a connection is dropped without a word; every later one lives twice as long as the one before."""

    def __init__(self, address: str, *, delay: float, stall: float, lives: float) -> None:
        self._address, self._delay, self._stall, self._lives = address, delay, stall, lives
        self._began = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        self.dropped = 0

    async def start(self) -> int:
        """Listen on the loopback; the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """End everything."""
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._address, 22)
        life = self._lives
        self._lives *= 2
        ways = [asyncio.create_task(self._pass(reader, back)), asyncio.create_task(self._pass(there, writer))]
        self._tasks |= set(ways)
        try:
            _, pending = await asyncio.wait(ways, timeout=life or None, return_when=asyncio.FIRST_COMPLETED)
            if len(pending) == 2:
                self.dropped += 1
        finally:
            for task in ways:
                task.cancel()
            for end in (writer, back):
                end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Bytes arrive `delay` after they were read, in their order, however many are on the way."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if self._stall and int(time.monotonic() - self._began) % 3 == 2:
                    await asyncio.sleep(self._stall)
                if not data:
                    return
                writer.write(data)
                await writer.drain()

        delivering = asyncio.create_task(deliver())
        try:
            while data := await reader.read(65536):
                queue.put_nowait((time.monotonic() + self._delay, data))
            queue.put_nowait((time.monotonic() + self._delay, b""))
            await delivering
        except ConnectionError:
            return
        finally:
            delivering.cancel()
