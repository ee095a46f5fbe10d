"""One host, however it is reached: over SSH, or this machine."""

import asyncio
import functools
import gc
import importlib
from types import ModuleType

from gpuwizard.events import Asker
from gpuwizard.remote.local import LocalTransport
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.target import HostTarget
from gpuwizard.remote.transport import Transport

__all__ = ["connect", "open_transport", "prepare"]


async def connect(target: HostTarget, options: ConnectOptions, ask: Asker) -> Transport:
    """Open the way to one host; an attempt of its own, so earlier failures of jump hosts do not count.

    Raises UnreachableError when the host does not answer, LoginError when it does not let us in or its key is not
    known, UsageError for a bad SSH configuration or key file, RefusedError for a real name in an isolated run.
    """
    await prepare(options)
    return await open_transport(target, options, ask)


async def prepare(options: ConnectOptions) -> None:
    """Load the SSH side away from the event loop and forget what failed before."""
    ssh = await asyncio.to_thread(_load)
    ssh.forget_failures(options)


@functools.cache
def _load() -> ModuleType:
    """The SSH side. What start-up made stays for good, and little of what a login leaves is garbage: a collector that
    looks at all of it, and often, would cost a millisecond a host."""
    ssh = importlib.import_module("gpuwizard.remote.ssh")
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    return ssh


async def open_transport(target: HostTarget, options: ConnectOptions, ask: Asker) -> Transport:
    """As `connect`, as part of a larger attempt that `prepare` began."""
    if target.is_local and target.name not in options.endpoints:
        return _local(options, ask)
    from gpuwizard.remote.ssh import open_ssh

    return await open_ssh(target, options, ask)


def _local(options: ConnectOptions, ask: Asker) -> LocalTransport:
    if options.isolated:
        from gpuwizard.errors import RefusedError

        raise RefusedError(
            "local is no host of the simulated fleet",
            remedy="a simulated run reaches nothing real; leave out --simulate for this machine",
        )
    return LocalTransport(options, ask)
