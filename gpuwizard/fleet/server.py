"""The SSH server of a simulated host: the real protocol on loopback, for the one key that was made for this run."""

import asyncio
import os
from typing import Any

import asyncssh

from gpuwizard.fleet.host import SimulatedHost
from gpuwizard.fleet.questions import write_all
from gpuwizard.remote.options import Endpoint

__all__ = ["ClientKey", "HostServer", "new_client_key"]

_GRACE = 5.0  # real seconds that a command has after its channel is gone


class ClientKey:
    """The key that opens the hosts of this run, and no other key does."""

    def __init__(self) -> None:
        self._key = asyncssh.generate_private_key("ssh-ed25519", comment="simulated fleet")

    @property
    def public(self) -> bytes:
        """Its public half, to compare with."""
        return self._key.public_data

    @property
    def text(self) -> str:
        """The private key in OpenSSH's form."""
        return self._key.export_private_key("openssh").decode("ascii")


def new_client_key() -> ClientKey:
    """Make the key of a run; some milliseconds of arithmetic."""
    return ClientKey()


class HostServer:
    """The sshd of one host."""

    def __init__(self, host: SimulatedHost, client: ClientKey) -> None:
        self._host = host
        self._client = client
        self._key = asyncssh.generate_private_key("ssh-ed25519", comment=host.name)
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._sessions: set[asyncio.Task[None]] = set()
        self._refusing = False
        self._grace = _GRACE
        self.logins = 0
        host.on_power_off(self.cut)

    async def open(self) -> Endpoint:
        """Listen on a free port of 127.0.0.1; returns how to get in. Raises OSError."""
        self._acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: _Login(self),
            server_host_keys=[self._key],
            process_factory=self._process,
            encoding=None,
            line_editor=False,
            allow_scp=False,
            agent_forwarding=False,
            x11_forwarding=False,
            gss_host=None,
            login_timeout=30,
        )
        port = self._acceptor.get_port()
        public = self._key.export_public_key("openssh").decode("ascii").strip()
        return Endpoint("127.0.0.1", port, self._host.spec.login, self._client.text, public)

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        self._acceptor.close()
        self._grace = 0.0
        self.cut()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        await self._acceptor.wait_closed()

    def cut(self) -> None:
        """Drop every connection without a word, as a broken link does."""
        for connection in list(self._connections):
            connection.abort()

    def block(self, blocked: bool = True) -> None:
        """Cut every connection, and each new one too until it is called with false."""
        self._refusing = blocked
        if blocked:
            self.cut()

    def admits(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether this is the login that was arranged."""
        spec = self._host.spec
        right = key.public_data == self._client.public and username == spec.login
        return right and "refuses-login" not in spec.faults

    def connected(self, connection: asyncssh.SSHServerConnection) -> None:
        """Somebody connects."""
        self._connections.add(connection)
        if self._refusing or not self._host.powered:
            connection.abort()

    def disconnected(self, connection: asyncssh.SSHServerConnection) -> None:
        """Somebody is gone."""
        self._connections.discard(connection)

    def _process(self, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        task = asyncio.create_task(self._run(process))
        self._sessions.add(task)
        task.add_done_callback(self._sessions.discard)

    async def _run(self, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        """One command: its streams are those of the channel, its end is the channel's."""
        stdin, to_stdin = os.pipe()
        from_stdout, stdout = os.pipe()
        from_stderr, stderr = os.pipe()
        try:
            child = await self._host.session(process.command, (stdin, stdout, stderr))
        except OSError:
            for descriptor in (to_stdin, from_stdout, from_stderr):
                os.close(descriptor)
            process.channel.abort()
            return
        feeder = asyncio.create_task(_feed(process.stdin, to_stdin))
        pumps = [
            asyncio.create_task(_pump(from_stdout, process.stdout)),
            asyncio.create_task(_pump(from_stderr, process.stderr)),
        ]
        ended = asyncio.create_task(child.wait())
        closed = asyncio.create_task(process.channel.wait_closed())
        try:
            await asyncio.wait({ended, closed}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                drained = asyncio.create_task(asyncio.wait(pumps))
                either: set[asyncio.Task[Any]] = {drained, closed}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                _finish(process, ended.result())
            else:
                await asyncio.wait({ended}, timeout=self._grace)
                child.kill()
        finally:
            for task in (ended, closed, feeder, *pumps):
                task.cancel()
            await process.wait_closed()


async def _feed(channel: "asyncssh.SSHReader[bytes]", descriptor: int) -> None:
    """Write what comes in to a pipe, and close it behind the last of it.

    asyncssh can do that by itself, but then asyncio drops what is still to be written when the end of the input comes
    while its buffer is full: a long script arrives without its last lines.
    """
    os.set_blocking(descriptor, False)
    try:
        while True:
            try:
                data = await channel.read(65536)
            except (asyncssh.BreakReceived, asyncssh.SignalReceived, asyncssh.TerminalSizeChanged):
                continue  # nobody there to get them
            if not data:
                return
            await write_all(descriptor, data)
    except (BrokenPipeError, asyncssh.Error, OSError):
        return  # the program reads no more, or the link is gone
    finally:
        os.close(descriptor)


async def _pump(descriptor: int, channel: "asyncssh.SSHWriter[bytes]") -> None:
    """Pass on what comes out of a pipe until it ends or the channel is gone."""
    reader = asyncio.StreamReader()
    with os.fdopen(descriptor, "rb", buffering=0) as pipe:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            while data := await reader.read(65536):
                channel.write(data)
                await channel.drain()
        except (BrokenPipeError, ConnectionError):
            return
        finally:
            transport.close()


def _finish(process: "asyncssh.SSHServerProcess[bytes]", status: int | None) -> None:
    """End the channel with the exit status; None: the process was lost with its host."""
    if status is None:
        process.channel.abort()
    elif status < 0:
        process.exit_with_signal("KILL" if status == -9 else "TERM")
    else:
        process.exit(status)


class _Login(asyncssh.SSHServer):
    """Who may come in."""

    def __init__(self, server: HostServer) -> None:
        self._server = server
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._server.connected(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._connection is not None:
            self._server.disconnected(self._connection)

    def begin_auth(self, username: str) -> bool:
        del username
        self._server.logins += 1
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return self._server.admits(username, key)
