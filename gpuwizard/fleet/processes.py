"""Processes on simulated hosts, as the fleet sees them: started through the keeper, waited for, ended."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from gpuwizard.errors import GpuwizardError
from gpuwizard.fleet.sandbox import Walls

__all__ = ["Child", "HostProcesses", "Keeper", "open_keeper"]

_PACKAGES = Path(__file__).resolve().parents[2]  # the folder that holds gpuwizard
_START = "import sys; sys.path.insert(0, sys.argv[1]); from gpuwizard.fleet.keeper import main; main()"


@dataclass(slots=True)
class Child:
    """One process of a host. `done` becomes its exit status: negative for a signal, None when its host went away."""

    pid: int
    done: "asyncio.Future[int | None]"

    async def wait(self) -> int | None:
        """The exit status once it has ended."""
        return await asyncio.shield(self.done)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to it and to what it started in its session."""
        if self.done.done():
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


@dataclass(slots=True)
class HostProcesses:
    """The way to the parent process of one host."""

    name: str
    link: socket.socket
    _starting: dict[int, "asyncio.Future[Child]"] = field(default_factory=dict)
    _running: dict[int, Child] = field(default_factory=dict)
    _last: int = 0
    _rest: bytes = b""
    _sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    _ready: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    gone: bool = False

    def listen(self) -> None:
        """Begin to read what the host's parent says."""
        self.link.setblocking(False)
        asyncio.get_running_loop().add_reader(self.link.fileno(), self._read)

    async def ready(self) -> None:
        """Wait until its walls stand. Raises GpuwizardError when they cannot be built."""
        await self._ready

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        streams: tuple[int, int, int],
        reach: tuple[list[str], list[str]] | None = None,
    ) -> Child:
        """Start a command with these standard streams, which are closed here.

        `reach` are the paths that it may write and read when it is not root on its host. Raises OSError when the
        host is gone.
        """
        self._last += 1
        number = self._last
        write, read = reach if reach is not None else (None, None)
        request = {"id": number, "argv": list(argv), "env": dict(env), "cwd": cwd, "write": write, "read": read}
        future: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._starting[number] = future
        try:
            if self.gone:
                raise ConnectionResetError("the host is powered off")
            async with self._sending:
                await _send(self.link, json.dumps(request).encode() + b"\n", streams)
            return await future
        finally:
            self._starting.pop(number, None)
            for descriptor in set(streams):
                os.close(descriptor)

    def _read(self) -> None:
        try:
            data = self.link.recv(65536)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._heard(json.loads(line))

    def _heard(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self._ready.set_result(None)
        elif "failed" in message:
            error = GpuwizardError("a simulated host cannot be walled off", where=message["failed"])
            self._ready.set_exception(error)
        elif "pid" in message:
            child = Child(message["pid"], asyncio.get_running_loop().create_future())
            self._running[message["id"]] = child
            waiting = self._starting.get(message["id"])
            if waiting is not None and not waiting.done():
                waiting.set_result(child)
        elif (child_ended := self._running.pop(message["id"], None)) is not None:
            child_ended.done.set_result(message["status"])

    def close(self) -> None:
        """Give the host up: its parent ends when it sees that, and everything below with it."""
        if self.gone:
            return
        self.gone = True
        asyncio.get_running_loop().remove_reader(self.link.fileno())
        self.link.close()
        if not self._ready.done():
            self._ready.set_exception(GpuwizardError("a simulated host did not start", where=self.name))
        for starting in self._starting.values():
            if not starting.done():
                starting.set_exception(ConnectionResetError("the host is powered off"))
        for child in self._running.values():
            child.done.set_result(None)
        self._running.clear()


@dataclass(slots=True)
class Keeper:
    """The keeper process and the socket to it."""

    process: subprocess.Popen[bytes]
    link: socket.socket
    _sending: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def open_host(self, name: str, walls: Walls) -> HostProcesses:
        """Fork the parent of a host behind its walls. Raises GpuwizardError when they cannot be built."""
        ours, theirs = socket.socketpair()
        host = HostProcesses(name, ours)
        host.listen()
        request = {"op": "open", "host": name, "walls": walls.as_json()}
        try:
            async with self._sending:
                await _send(self.link, json.dumps(request).encode() + b"\n", (theirs.fileno(),))
        finally:
            theirs.close()
        await host.ready()
        return host

    async def end_host(self, name: str) -> None:
        """Power a host off: everything that runs on it ends at once."""
        async with self._sending:
            await _send(self.link, json.dumps({"op": "end", "host": name}).encode() + b"\n", ())


@contextlib.asynccontextmanager
async def open_keeper(log: Path) -> AsyncIterator[Keeper]:
    """Start the keeper; at the end it and every process of every host are gone. Its complaints go to `log`."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with log.open("ab") as errors:
        process = await asyncio.to_thread(_start, theirs, errors)
    theirs.close()
    try:
        yield Keeper(process, ours)
    finally:
        ours.close()
        await asyncio.to_thread(process.wait)


def _start(link: socket.socket, errors: BinaryIO) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _START, str(_PACKAGES)],
        stdin=link.fileno(),
        stdout=errors,
        stderr=errors,
        env={},
        cwd="/",
        start_new_session=True,
    )


async def _send(link: socket.socket, data: bytes, descriptors: Sequence[int]) -> None:
    """Send all of `data`, the descriptors with its first byte."""
    loop = asyncio.get_running_loop()
    sent = 0
    while sent < len(data):
        try:
            sent += socket.send_fds(link, [data[sent:]], list(descriptors) if sent == 0 else [])
        except (BlockingIOError, InterruptedError):
            writable: asyncio.Future[None] = loop.create_future()
            loop.add_writer(link.fileno(), _resolve, writable)
            try:
                await writable
            finally:
                loop.remove_writer(link.fileno())


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
