"""Real SSH servers on loopback, and an operator who answers from a list, for the tests of `gpuwizard.remote`."""

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from gpuwizard.events import Choice, SecretPrompt
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.target import HostTarget, parse_targets
from gpuwizard.remote.transport import Script
from gpuwizard.secret import Secret

HELLO = Script("main() { echo hello; }")
USER = "alice"
PASSWORD = f"pw-{secrets.token_hex(8)}"


@dataclass
class Operator:
    """Answers choices by id and secrets by id, in order; keeps the questions."""

    choices: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, list[str | None]] = field(default_factory=dict)
    asked: list[Choice | SecretPrompt] = field(default_factory=list)
    before_answer: Callable[[], object] | None = None

    async def choose(self, question: Choice) -> str:
        self.asked.append(question)
        return self.choices.get(question.id, question.default)

    async def secret(self, question: SecretPrompt) -> Secret | None:
        self.asked.append(question)
        if self.before_answer is not None:
            self.before_answer()
        waiting = self.secrets.get(question.id, [])
        answer = waiting.pop(0) if waiting else None
        return None if answer is None else Secret(answer)


@dataclass
class Peer:
    """A running server: where it is, what it saw."""

    port: int
    host_key: asyncssh.SSHKey
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    forwarded: list[tuple[str, int]] = field(default_factory=list)
    most_logins_at_once: int = 0
    logging_in: int = 0

    def known_line(self, host: str = "127.0.0.1") -> str:
        return f"[{host}]:{self.port} {self.host_key.export_public_key().decode().strip()}\n"

    def cut(self) -> None:
        """The link dies without a goodbye."""
        for connection in self.connections:
            connection.abort()


Challenge = tuple[str, str, str, Sequence[tuple[str, bool]]]


@dataclass
class Rules:
    """Who is let in. `challenges` are keyboard-interactive rounds; each wants exactly these answers."""

    password: str | None = None
    keys: Sequence[asyncssh.SSHKey] = ()
    challenges: Sequence[tuple[Challenge, Sequence[str]]] = ()
    both: bool = False
    may_forward: bool = True
    shell: Sequence[str] = ("/bin/sh", "-c")
    environment: dict[str, str] = field(default_factory=dict)
    slow: float = 0.0
    ciphers: Sequence[str] = ()


class _Server(asyncssh.SSHServer):
    def __init__(self, peer: Peer, rules: Rules) -> None:
        self.peer, self.rules, self.round = peer, rules, 0
        self.inside = False

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.conn = conn
        self.peer.connections.append(conn)
        self.peer.logging_in += 1
        self.peer.most_logins_at_once = max(self.peer.most_logins_at_once, self.peer.logging_in)

    def _settled(self) -> None:
        if not self.inside:
            self.inside = True
            self.peer.logging_in -= 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._settled()

    async def begin_auth(self, username: str) -> bool:
        await asyncio.sleep(self.rules.slow)
        return True

    def auth_completed(self) -> None:
        self.peer.logins.append(self.conn.get_extra_info("username"))
        self._settled()

    def public_key_auth_supported(self) -> bool:
        return bool(self.rules.keys)

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        good = any(key.public_data == k.public_data for k in self.rules.keys)
        self.peer.attempts.append(f"key {'good' if good else 'bad'}")
        return good

    def password_auth_supported(self) -> bool:
        return self.rules.password is not None

    def validate_password(self, username: str, password: str) -> bool:
        self.peer.attempts.append("password")
        return password == self.rules.password

    def kbdint_auth_supported(self) -> bool:
        return bool(self.rules.challenges)

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Challenge:
        self.round = 0
        return self.rules.challenges[0][0]

    def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> bool | Challenge:
        self.peer.attempts.append("keyboard-interactive")
        if list(responses) != list(self.rules.challenges[self.round][1]):
            return False
        self.round += 1
        return True if self.round == len(self.rules.challenges) else self.rules.challenges[self.round][0]

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        self.peer.forwarded.append((dest_host, dest_port))
        return self.rules.may_forward


async def _serve(process: asyncssh.SSHServerProcess[bytes], rules: Rules) -> None:
    """Run the command as sshd does: the login shell with ``-c``."""
    child = await asyncio.create_subprocess_exec(
        *rules.shell,
        process.command or "",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": "/", **rules.environment},
        start_new_session=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    pumps = [
        asyncio.create_task(_feed(process.stdin, child.stdin)),
        asyncio.create_task(_drain(child.stdout, process.stdout)),
        asyncio.create_task(_drain(child.stderr, process.stderr)),
    ]
    gone = asyncio.create_task(process.wait_closed())
    ended = asyncio.create_task(child.wait())
    try:
        await asyncio.wait({gone, ended}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            await asyncio.wait(pumps[1:], timeout=0.5)
            process.exit(ended.result())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()
        for task in (*pumps, gone, ended):
            task.cancel()
        await asyncio.gather(*pumps, gone, ended, return_exceptions=True)
        child._transport.close()  # type: ignore[attr-defined]


async def _feed(source: asyncssh.SSHReader[bytes], sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.close()


async def _drain(source: asyncio.StreamReader, sink: asyncssh.SSHWriter[bytes]) -> None:
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()


@asynccontextmanager
async def ssh_server(rules: Rules, *, port: int = 0, host_key: asyncssh.SSHKey | None = None) -> AsyncIterator[Peer]:
    """A server that follows `rules`, with a new host key unless one is given."""
    key = host_key or asyncssh.generate_private_key("ssh-ed25519")
    peer = Peer(0, key)
    running: set[asyncio.Task[None]] = set()

    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await _serve(process, rules)
        finally:
            running.discard(task)

    acceptor = await asyncssh.create_server(
        lambda: _Server(peer, rules),
        "127.0.0.1",
        port,
        server_host_keys=[key],
        process_factory=serve,
        encoding=None,
        gss_host=None,
        encryption_algs=list(rules.ciphers) or (),
    )
    peer.port = acceptor.get_port()
    try:
        yield peer
    finally:
        acceptor.close()
        for connection in peer.connections:
            connection.abort()
        for connection in peer.connections:
            await connection.wait_closed()
        # each ends by itself, because its connection is gone: one that is cancelled at its end would leave its shell
        late = (await asyncio.wait(running, timeout=5))[1] if running else set()
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        await acceptor.wait_closed()


def target(peer: Peer, user: str | None = USER, host: str = "127.0.0.1") -> HostTarget:
    """`peer` as the operator would name it."""
    return parse_targets([f"{user + '@' if user else ''}{host}:{peer.port}"])[0]


def known(path: Path, *peers: Peer) -> Path:
    """A known_hosts file with these peers."""
    path.write_text("".join(peer.known_line() for peer in peers))
    return path


def with_password(folder: Path, *peers: Peer, **changes: object) -> ConnectOptions:
    """Options that let us in to password servers whose keys are known."""
    settings: dict[str, object] = {
        "known_hosts": known(folder / "known_hosts", *peers),
        "password": Secret(PASSWORD),
        "connect_timeout": 5.0,
        "ssh_config": Path("/dev/null"),
    }
    return ConnectOptions(**{**settings, **changes})  # type: ignore[arg-type]


class _Pipe(asyncio.Protocol):
    """One end of a relay: hands on what comes, unless the cable is out."""

    def __init__(self, relay: "Relay", other: "_Pipe | None") -> None:
        self.relay, self.other, self.early = relay, other, b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.relay.ends.append(transport)
        if self.relay.refuse:
            self.relay.refuse -= 1
            transport.close()
            return
        if self.other is None:
            self.other = _Pipe(self.relay, self)
            connecting = asyncio.get_running_loop().create_connection(
                lambda: self.other,
                "127.0.0.1",
                self.relay.upstream,  # type: ignore[arg-type, return-value]
            )
            self.relay.tasks.append(asyncio.ensure_future(connecting))
        elif self.early:
            transport.write(self.early)

    def data_received(self, data: bytes) -> None:
        if self.relay.silent or self.other is None:
            return
        if self.other.transport is None:
            self.other.early += data
        else:
            self.other.transport.write(data)


class Relay:
    """A cable between us and a server that can be pulled out: afterwards nothing arrives, and no error comes.

    The next `refuse` connections are closed at once.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.silent = False
        self.refuse = 0
        self.ends: list[asyncio.Transport] = []
        self.tasks: list[asyncio.Future[object]] = []
        self.port = 0


@asynccontextmanager
async def relay_to(peer: Peer) -> AsyncIterator[Relay]:
    """A relay in front of `peer`."""
    relay = Relay(peer.port)
    server = await asyncio.get_running_loop().create_server(lambda: _Pipe(relay, None), "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        for end in relay.ends:
            end.abort()
        await asyncio.gather(*relay.tasks, return_exceptions=True)
        await asyncio.sleep(0)
