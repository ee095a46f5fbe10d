"""What the SSH logins of one run have parsed and opened: keys, known hosts, connections to jump hosts."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from gpuwizard.remote.hostkeys import KnownHosts
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.ssh.hops import Hops
from gpuwizard.remote.ssh.identities import KeyRing

__all__ = ["SshState", "state_of"]


@dataclass(slots=True)
class SshState:
    """Shared by all hosts of a run; belongs to one event loop."""

    keys: KeyRing
    hops: Hops
    known: dict[tuple[Path, ...], KnownHosts] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def known_hosts(self, paths: tuple[Path, ...]) -> KnownHosts:
        """The parsed files; read once."""
        async with self.lock:
            if paths not in self.known:
                self.known[paths] = await asyncio.to_thread(KnownHosts.read, paths)
            return self.known[paths]


def state_of(options: ConnectOptions) -> SshState:
    """The state behind `options`, made on first use."""
    if options.shared.ssh is None:
        options.shared.ssh = SshState(KeyRing(), Hops())
    return options.shared.ssh
