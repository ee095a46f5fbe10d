"""One SSH channel as a wire, and opening one."""

import asyncio
import signal

import asyncssh

from gpuwizard.clean import clean_line
from gpuwizard.errors import UnreachableError
from gpuwizard.remote.exchange import Exchange
from gpuwizard.remote.ssh.lean import lean_channel
from gpuwizard.remote.ssh.login import Login

__all__ = ["ChannelWire", "open_channel"]

_GRACE = 2.0
"""Seconds to wait for the end of output after the exit status: a child of the script may hold the channel open."""
_ENVIRONMENT: dict[bytes | str, bytes | str] = {"LC_ALL": "C"}
"""Asked of sshd so that sudo speaks English; a server that does not accept it ignores it."""


async def open_channel(
    connection: asyncssh.SSHClientConnection, login: Login, host: str, command: str, exchange: Exchange
) -> "ChannelWire":
    """Start `command` without a terminal. Raises UnreachableError."""
    wire = ChannelWire(exchange, login)
    try:
        await connection.create_session(
            lambda: wire,
            command,
            encoding=None,
            env=_ENVIRONMENT,
            send_env=None,
            request_pty=False,
            x11_forwarding=False,
        )
    except (asyncssh.Error, OSError) as error:
        if login.lost or connection.is_closed():
            raise UnreachableError(
                "the link was lost", where=host, remedy="check the host and the network between"
            ) from error
        raise UnreachableError(
            f"the host opens no further channel: {clean_line(str(error), 200)}",
            where=host,
            remedy="MaxSessions of its sshd may be too low, or the key allows no commands",
        ) from error
    return wire


class ChannelWire(asyncssh.SSHClientSession[bytes]):
    """An exec channel (`exchange.Wire`)."""

    def __init__(self, exchange: Exchange, login: Login) -> None:
        self._exchange = exchange
        self._login = login
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._status: int | None = None
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """The channel is open."""
        lean_channel(chan)
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Output of the script."""
        self._exchange.received(data, error=datatype == asyncssh.EXTENDED_DATA_STDERR)

    def exit_status_received(self, status: int) -> None:
        """The script has ended; its output may still be on the way."""
        self._status = status
        self._late = asyncio.get_running_loop().call_later(_GRACE, self.close)

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        """A signal ended it: 128 + its number, as a shell says it."""
        self._status = 128 + _signal_number(signal)

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is closed. Whether the whole link is gone is known a moment later."""
        if self._late is not None:
            self._late.cancel()
        if exc is not None or self._status is not None:
            self._exchange.finished(self._status, link_lost=self._status is None)
            return
        asyncio.get_running_loop().call_soon(self._finish_without_status)

    def _finish_without_status(self) -> None:
        self._exchange.finished(None, link_lost=self._login.lost)

    def write(self, data: bytes) -> bool:
        """Send to stdin; False when it is closed."""
        if self._channel is None or self._channel.is_closing():
            return False
        try:
            self._channel.write(data)
        except OSError:
            return False
        return True

    def write_eof(self) -> None:
        """End stdin."""
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write_eof()

    def flow(self, *, reading: bool) -> None:
        """Pause or resume what comes in."""
        if self._channel is not None:
            (self._channel.resume_reading if reading else self._channel.pause_reading)()

    def kill(self) -> None:
        """Signal what sshd started, then close."""
        if self._channel is not None and not self._channel.is_closing():
            try:
                self._channel.send_signal("KILL")
            except (OSError, ValueError):
                self._channel.abort()
        self.close()

    def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            self._channel.close()


def _signal_number(name: str) -> int:
    try:
        return signal.Signals[f"SIG{name}"].value
    except KeyError:
        return 0
