"""How the engine talks to a host: one script, one channel. `ssh` and `local` implement it; the fleet is reached
through `ssh` like any host."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Completed", "Payload", "RemoteProcess", "Script", "Transport"]


@dataclass(frozen=True, slots=True)
class Payload:
    """Bytes that travel inside a script; the script uses them only after length and sha256 are checked."""

    name: str
    data: bytes

    def __repr__(self) -> str:
        return f"Payload({self.name!r}, {len(self.data)} bytes)"


@dataclass(frozen=True, slots=True)
class Script:
    """A remote script: the text of an asset (a function ``main`` and its helpers), its arguments and payloads.

    `arguments` become ``$1 …`` of ``main``. A payload NAME lies in the file ``$PAYLOADS/NAME`` while the script
    runs. How it is made safe against a cut transfer: `remote/script.py`.
    """

    text: str
    arguments: tuple[str, ...] = ()
    payloads: tuple[Payload, ...] = field(default=(), repr=False)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Completed:
    """A finished script. `status` is None when the channel died without an exit status. `stdout` is raw bytes:
    parsers clean what they show."""

    status: int | None
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        """Exit status 0."""
        return self.status == 0


class RemoteProcess(Protocol):
    """A script that goes on running: the lock holder, a log that is followed, metrics."""

    @property
    def stderr(self) -> str:
        """The last of what it said on standard error, cleaned."""
        ...

    def lines(self) -> AsyncIterator[str]:
        """Lines of standard output, cleaned, without their newline; ends when the process or the link ends."""
        ...

    async def write_line(self, text: str) -> None:
        """Send one line to the script's standard input. Raises UnreachableError when the link is gone."""
        ...

    async def wait(self) -> int | None:
        """The exit status; None when the link died first."""
        ...

    async def close(self) -> None:
        """End the channel; what PID 1 of the host owns goes on."""
        ...


class Transport(Protocol):
    """One open way to one host."""

    @property
    def name(self) -> str:
        """The host as the operator wrote it, without user and port."""
        ...

    @property
    def alive(self) -> bool:
        """False once the link is known to be gone."""
        ...

    async def run(
        self,
        script: Script,
        *,
        root: bool = False,
        timeout: float = 60.0,
        on_line: Callable[[str], None] | None = None,
        on_data: Callable[[bytes], None] | None = None,
    ) -> Completed:
        """Run `script` to its end with ``sh -s``; `on_line` gets each cleaned line of stdout as it comes, `on_data`
        its raw bytes in pieces of any size.

        Raises UnreachableError when the link dies, LoginError when root is wanted and sudo refuses, GpuwizardError
        when `timeout` seconds pass, and what `on_line` or `on_data` raises, as it is: the link stays usable.
        """
        ...

    async def start(self, script: Script, *, root: bool = False) -> RemoteProcess:
        """Start `script` and return while it runs. Raises as `run`."""
        ...

    async def reconnect(self) -> None:
        """Open the link again after it died. Raises UnreachableError."""
        ...

    async def close(self) -> None:
        """Close the link."""
        ...
