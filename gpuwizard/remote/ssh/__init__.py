"""Hosts over SSH: the only importer of asyncssh on the client's side, with `hostkeys`."""

import asyncio
from collections.abc import Callable

from gpuwizard.errors import UnreachableError
from gpuwizard.events import Asker
from gpuwizard.remote.exchange import Exchange
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.running import RunningScript, Side, run_script, start_script
from gpuwizard.remote.ssh.channel import ChannelWire, open_channel
from gpuwizard.remote.ssh.opening import Link, open_link
from gpuwizard.remote.ssh.state import state_of
from gpuwizard.remote.target import HostTarget
from gpuwizard.remote.transport import Completed, Script

__all__ = ["SshTransport", "forget_failures", "open_ssh"]

_CLOSE_TIMEOUT = 2.0


async def open_ssh(target: HostTarget, options: ConnectOptions, ask: Asker) -> "SshTransport":
    """Log in to `target`. Raises as `connect.connect`."""
    return SshTransport(target, options, ask, await open_link(target, options, ask))


def forget_failures(options: ConnectOptions) -> None:
    """A new attempt by the operator: jump hosts that failed may be tried again, known hosts are read again."""
    state = state_of(options)
    state.hops.forget_failures()
    state.known.clear()


class SshTransport:
    """One host over one SSH connection (`Transport`)."""

    def __init__(self, target: HostTarget, options: ConnectOptions, ask: Asker, link: Link) -> None:
        self._target = target
        self._options = options
        self._ask = ask
        self._link: Link | None = link
        self._lock = asyncio.Lock()
        user = link.settings.user
        self._side = Side(target.name, user, user == "root", self._open, options, ask)

    def __repr__(self) -> str:
        return f"SshTransport({self.name!r}, {'alive' if self.alive else 'dead'})"

    @property
    def name(self) -> str:
        """The host as the operator wrote it."""
        return self._target.name

    @property
    def alive(self) -> bool:
        """False once the link is known to be gone."""
        return self._link is not None and not self._link.login.lost

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
        """Log in again unless the link is alive. Raises UnreachableError."""
        async with self._lock:
            if self.alive:
                return
            await self._drop()
            state_of(self._options).hops.forget_failures()
            self._link = await open_link(self._target, self._options, self._ask)

    async def close(self) -> None:
        """Close the link, and the jump connection when nobody else uses it."""
        async with self._lock:
            await self._drop()

    async def _drop(self) -> None:
        link, self._link = self._link, None
        if link is None:
            return
        link.connection.close()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await link.connection.wait_closed()
        except TimeoutError:
            link.connection.abort()
        if link.through is not None:
            await link.through.release()

    async def _open(self, command: str, exchange: Exchange) -> ChannelWire:
        if self._link is None or self._link.login.lost:
            raise UnreachableError(
                "the link is closed", where=self.name, remedy="check the host and the network between"
            )
        return await open_channel(self._link.connection, self._link.login, self.name, command, exchange)
