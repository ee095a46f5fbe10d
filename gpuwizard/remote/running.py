"""Running scripts over any wire: the root dialogue, the time limit, the exit. `ssh` and `local` supply the wire."""

import asyncio
import contextlib
import functools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from gpuwizard.errors import GpuwizardError, LoginError, UnreachableError
from gpuwizard.events import Asker
from gpuwizard.remote.exchange import STDOUT_LIMIT, Exchange, Gate, Signal, Wire
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.patience import Patience
from gpuwizard.remote.script import render
from gpuwizard.remote.sudo import PLAIN_COMMAND, sudo_command, sudo_problem
from gpuwizard.remote.transport import Completed, Script

__all__ = ["Opener", "RunningScript", "Side", "run_script", "start_script"]

Opener: TypeAlias = Callable[[str, Exchange], Awaitable[Wire]]
"""Start a command on the host and let it feed the exchange. Raises UnreachableError."""

_START_TIMEOUT = 60.0
_QUEUE_HIGH, _QUEUE_LOW = 4000, 1000


@dataclass(frozen=True, slots=True)
class Side:
    """The host as scripts see it. `is_root`: the login itself is root's."""

    name: str
    user: str
    is_root: bool
    open: Opener
    options: ConnectOptions
    ask: Asker


async def run_script(
    side: Side,
    script: Script,
    *,
    root: bool,
    timeout: float,
    on_line: Callable[[str], None] | None,
    on_data: Callable[[bytes], None] | None,
) -> Completed:
    """Run to the end. Raises as `Transport.run`."""
    token = _token()
    wire: Wire | None = None
    try:
        async with Patience(timeout) as patience:
            new = functools.partial(Exchange, token, on_line=on_line, on_data=on_data)
            exchange, wire = await _entered(side, new, patience, root=root)
            wire.write(render(script, token))
            wire.write_eof()
            await exchange.over.wait()
    except TimeoutError:
        raise _too_slow(side, timeout) from None
    finally:
        if wire is not None and not exchange.ended.is_set():
            wire.kill()
    _check(side, exchange)
    return Completed(exchange.status, bytes(exchange.stdout), bytes(exchange.stderr))


async def start_script(side: Side, script: Script, *, root: bool) -> "RunningScript":
    """Start and return once the script runs. Raises as `Transport.start`."""
    token = _token()
    wire: Wire | None = None
    running: RunningScript | None = None
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    try:
        async with Patience(_START_TIMEOUT) as patience:
            new = functools.partial(Exchange, token, on_line=lines.put_nowait, keep=False)
            exchange, wire = await _entered(side, new, patience, root=root)
            wire.write(render(script, token, lines=True))
            await exchange.signals.get()
        _check(side, exchange)
        running = RunningScript(side.name, exchange, wire, lines)
    except TimeoutError:
        raise _too_slow(side, _START_TIMEOUT) from None
    finally:
        if running is None and wire is not None:
            wire.kill()
    return running


class RunningScript:
    """A script that goes on running (`RemoteProcess`). `stderr` is the tail of what it said there."""

    def __init__(self, host: str, exchange: Exchange, wire: Wire, lines: asyncio.Queue[str | None]) -> None:
        self._host = host
        self._exchange = exchange
        self._wire = wire
        self._queue = lines
        self._paused = False

    @property
    def stderr(self) -> str:
        """The last of what the script said on stderr, cleaned."""
        return self._exchange.noise()

    async def lines(self) -> AsyncIterator[str]:
        """Cleaned lines of stdout, until the script or the link ends. Raises what went wrong in taking them."""
        while True:
            line = await self._next()
            if line is None:
                return
            yield line

    async def _next(self) -> str | None:
        self._flow()
        if self._queue.empty() and not self._exchange.over.is_set():
            line = asyncio.ensure_future(self._queue.get())
            ended = asyncio.ensure_future(self._exchange.over.wait())
            try:
                await asyncio.wait({line, ended}, return_when=asyncio.FIRST_COMPLETED)
                if line.done():
                    return line.result()
            finally:
                for task in (line, ended):
                    task.cancel()
                await asyncio.gather(line, ended, return_exceptions=True)
        if self._queue.empty():
            self._exchange.raise_broken()
            return None
        return self._queue.get_nowait()

    def _flow(self) -> None:
        """Stop reading from a host that talks faster than its lines are used."""
        waiting = self._queue.qsize()
        if not self._paused and waiting > _QUEUE_HIGH:
            self._paused = True
            self._wire.flow(reading=False)
        elif self._paused and waiting < _QUEUE_LOW:
            self._paused = False
            self._wire.flow(reading=True)

    async def write_line(self, text: str) -> None:
        """Send one line. Raises UnreachableError when the link or the script has ended."""
        if "\n" in text:
            raise ValueError("one line at a time")
        self._exchange.raise_broken()
        if self._exchange.ended.is_set() or not self._wire.write(text.encode() + b"\n"):
            raise UnreachableError(
                "the link is gone" if self._exchange.link_lost else "the script there has ended",
                where=self._host,
                remedy="it is opened again when the host answers",
            )

    async def wait(self) -> int | None:
        """The exit status; None when the link died first. Raises what went wrong in taking what it said."""
        await self._exchange.over.wait()
        self._exchange.raise_broken()
        return self._exchange.status

    async def close(self) -> None:
        """Close the channel: the script's standard input ends, and its output goes nowhere."""
        if not self._exchange.ended.is_set():
            self._wire.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    await self._exchange.ended.wait()


async def _entered(
    side: Side, new: Callable[..., Exchange], patience: Patience, *, root: bool
) -> tuple[Exchange, Wire]:
    """A channel whose shell, root's where wanted, waits for the script. `new` makes its exchange."""
    if not root or side.is_root:
        exchange = new()
        return exchange, await side.open(PLAIN_COMMAND, exchange)
    wires: list[Wire] = []

    async def opened() -> _AtGate:
        prompt, mark = _token(), _token()
        exchange = new(gate=Gate(prompt, mark))
        wires.append(await side.open(sudo_command(prompt, mark), exchange))
        return _AtGate(exchange, wires[-1], await exchange.signals.get())

    try:
        gate = await opened()
        if gate.signal == "prompt":
            gate = await _with_password(side, gate, opened, patience)
    except BaseException:
        for wire in wires:
            wire.kill()
        raise
    if gate.signal == "ended":
        raise _no_root(side, gate.exchange)
    return gate.exchange, gate.wire


@dataclass(frozen=True, slots=True)
class _AtGate:
    """A channel in the sudo dialogue, and the last thing that happened there."""

    exchange: Exchange
    wire: Wire
    signal: Signal


async def _with_password(
    side: Side, gate: _AtGate, opened: Callable[[], Awaitable[_AtGate]], patience: Patience
) -> _AtGate:
    """Answer sudo's prompt. A second prompt means that the password is wrong: the channel is closed at once."""
    tried = False
    async with contextlib.AsyncExitStack() as stack:
        turns = side.options.shared.sudo.turn(side.name, side.ask, side.options.sudo_password)
        async with patience.paused():
            turn = await stack.enter_async_context(turns)
        while True:
            async with patience.paused():
                password = await turn.next()
            if password is None:
                raise _no_password(side, tried=tried)
            if tried:
                gate = await opened()
                if gate.signal != "prompt":
                    return gate
            gate.wire.write(password.reveal().encode().split(b"\n")[0] + b"\n")
            signal = await gate.exchange.signals.get()
            if signal == "open":
                turn.accepted(password)
            if signal != "prompt":
                return _AtGate(gate.exchange, gate.wire, signal)
            gate.wire.close()
            turn.refused()
            tried = True


def _check(side: Side, exchange: Exchange) -> None:
    """Raise for an exchange in which the script did not run, whose link died, or in which we ourselves failed."""
    exchange.raise_broken()
    if exchange.overflowed:
        raise GpuwizardError(
            f"the script said more than {STDOUT_LIMIT >> 20} MiB",
            where=side.name,
            remedy="run again; if it stays, report it",
        )
    if exchange.ended.is_set() and exchange.link_lost:
        raise UnreachableError("the link was lost", where=side.name, remedy="check the host and the network between")
    if exchange.ended.is_set() and not exchange.begun:
        said = exchange.last_words() or f"exit status {exchange.status}"
        raise LoginError(
            f"the host let us in but runs no script: {said}",
            where=side.name,
            remedy=f"the login shell of {side.user} must be able to run `/bin/sh -s`",
        )


def _too_slow(side: Side, seconds: float) -> GpuwizardError:
    return GpuwizardError(
        f"no end after {seconds:g} s", where=side.name, remedy="see what hangs there: `ps -ef` on the host"
    )


def _no_root(side: Side, exchange: Exchange) -> UnreachableError:
    exchange.raise_broken()
    if exchange.link_lost:
        return UnreachableError("the link was lost", where=side.name, remedy="check the host and the network between")
    return sudo_problem(exchange.noise(), exchange.status, host=side.name, user=side.user)


def _no_password(side: Side, *, tried: bool) -> LoginError:
    if tried:
        return LoginError(
            f"sudo refused the password of {side.user}",
            where=side.name,
            remedy="check it by hand with `sudo -v` on this host; -K asks for it at the start",
        )
    return LoginError(
        f"sudo wants the password of {side.user}",
        where=side.name,
        remedy="-K asks for it, GPUWIZARD_SUDO_PASSWORD holds it, or allow sudo without a password",
    )


def _token() -> str:
    return f"gpuwizard_{secrets.token_hex(12)}"
