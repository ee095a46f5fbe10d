"""Many logins at once, bounded, each reported as it comes."""

import asyncio
from collections.abc import Callable, Sequence

from gpuwizard.errors import GpuwizardError
from gpuwizard.events import Asker
from gpuwizard.remote.connect import open_transport, prepare
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.target import HostTarget
from gpuwizard.remote.transport import Transport

__all__ = ["connect_all"]


async def connect_all(
    targets: Sequence[HostTarget],
    options: ConnectOptions,
    ask: Asker,
    *,
    parallel: int,
    on_result: Callable[[HostTarget, Transport | GpuwizardError], None],
    on_start: Callable[[HostTarget], None] = lambda target: None,
) -> None:
    """Log in to all `targets`, at most `parallel` at a time and at most eight at a time through one jump host.

    One attempt a host: a failed login is not repeated, and a jump host that failed fails all hosts behind it.
    `on_start` hears when it is a host's turn; `on_result` gets each host's transport, now the caller's to close, or
    its error. When this is cancelled, the
    transports that were not handed over are closed.
    """
    if not targets:
        return
    await prepare(options)
    free = asyncio.Semaphore(parallel)

    async def one(target: HostTarget) -> None:
        result: Transport | GpuwizardError
        async with free:
            on_start(target)
            try:
                result = await open_transport(target, options, ask)
            except GpuwizardError as error:
                result = error
        on_result(target, result)

    tasks = [asyncio.create_task(one(target), name=f"login {target.name}") for target in targets]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
