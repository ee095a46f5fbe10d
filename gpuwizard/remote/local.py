"""This machine as a host: the same scripts in the same shell, without SSH."""

import asyncio
import contextlib
import getpass
import os
import signal
from collections.abc import Callable

from gpuwizard.errors import UnreachableError
from gpuwizard.events import Asker
from gpuwizard.remote.exchange import Exchange
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.running import RunningScript, Side, run_script, start_script
from gpuwizard.remote.target import LOCAL
from gpuwizard.remote.transport import Completed, Script

__all__ = ["LocalTransport"]

_GRACE = 2.0
"""Seconds to wait for the end of output after the exit: a child may have kept the pipe."""


class LocalTransport:
    """Runs scripts here (`Transport`)."""

    def __init__(self, options: ConnectOptions, ask: Asker) -> None:
        self._side = Side(LOCAL, _user(), os.geteuid() == 0, _open, options, ask)

    @property
    def name(self) -> str:
        """Always `local`."""
        return LOCAL

    @property
    def alive(self) -> bool:
        """Always true."""
        return True

    async def run(
        self,
        script: Script,
        *,
        root: bool = False,
        timeout: float = 60.0,
        on_line: Callable[[str], None] | None = None,
        on_data: Callable[[bytes], None] | None = None,
    ) -> Completed:
        """Run `script` to its end (`Transport.run`)."""
        return await run_script(self._side, script, root=root, timeout=timeout, on_line=on_line, on_data=on_data)

    async def start(self, script: Script, *, root: bool = False) -> RunningScript:
        """Start `script` (`Transport.start`)."""
        return await start_script(self._side, script, root=root)

    async def reconnect(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.geteuid()}"


async def _open(command: str, exchange: Exchange) -> "_Process":
    """Start `command` in a session of its own, so that Ctrl-C in the terminal does not reach it."""
    environment = {k: v for k, v in os.environ.items() if "PASSWORD" not in k} | {"LC_ALL": "C"}
    try:
        _, process = await asyncio.get_running_loop().subprocess_exec(
            lambda: _Process(exchange), "/bin/sh", "-c", command, env=environment, start_new_session=True
        )
    except OSError as error:
        raise UnreachableError(
            f"no shell can be started here: {error.strerror}", where=LOCAL, remedy="check `/bin/sh` and `ulimit -u`"
        ) from error
    return process


class _Process(asyncio.SubprocessProtocol):
    """A local process as a wire."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._transport: asyncio.SubprocessTransport | None = None
        self._open_pipes = {1, 2}
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._exchange.received(data, error=fd == 2)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open_pipes.discard(fd)
        self._finish_if_done()

    def process_exited(self) -> None:
        self._late = asyncio.get_running_loop().call_later(_GRACE, self._finish)
        self._finish_if_done()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish()

    def _finish_if_done(self) -> None:
        if not self._open_pipes and self._transport is not None and self._transport.get_returncode() is not None:
            self._finish()

    def _finish(self) -> None:
        if self._late is not None:
            self._late.cancel()
        assert self._transport is not None
        code = self._transport.get_returncode()
        self._exchange.finished(code if code is None or code >= 0 else 128 - code, link_lost=False)
        self._transport.close()

    def write(self, data: bytes) -> bool:
        """Send to stdin; False when it is closed."""
        pipe = self._stdin()
        if pipe is None or pipe.is_closing():
            return False
        pipe.write(data)
        return True

    def write_eof(self) -> None:
        """Close stdin."""
        pipe = self._stdin()
        if pipe is not None and not pipe.is_closing():
            pipe.close()

    def flow(self, *, reading: bool) -> None:
        """Pause or resume stdout."""
        pipe = self._transport.get_pipe_transport(1) if self._transport else None
        if isinstance(pipe, asyncio.ReadTransport) and not pipe.is_closing():
            (pipe.resume_reading if reading else pipe.pause_reading)()

    def kill(self) -> None:
        """End the whole session of the process; nothing of it is left for the end of the event loop."""
        if self._transport is not None and self._transport.get_returncode() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._transport.get_pid(), signal.SIGKILL)
        self.close()
        if self._transport is not None:
            self._transport.close()

    def close(self) -> None:
        """Close the pipes; a process that writes then ends."""
        self.write_eof()
        for fd in (1, 2):
            pipe = self._transport.get_pipe_transport(fd) if self._transport else None
            if pipe is not None:
                pipe.close()

    def _stdin(self) -> asyncio.WriteTransport | None:
        pipe = self._transport.get_pipe_transport(0) if self._transport else None
        return pipe if isinstance(pipe, asyncio.WriteTransport) else None
