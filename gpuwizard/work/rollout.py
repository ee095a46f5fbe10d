"""In which order hosts are changed: a canary first, then a few at a time, and nothing new after a failure."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from gpuwizard.answers.model import Rollout
from gpuwizard.events import Emit, HostOutcome, Note, Waiting
from gpuwizard.plan.model import HostPlan

__all__ = ["Change", "canary_order", "roll_out"]

Change = Callable[[HostPlan], Awaitable[HostOutcome]]
_BAD = ("rolled-back", "failed", "reverting", "unconfirmed")


@dataclass(slots=True)
class _Course:
    """What one rollout shares between its hosts. `failed` is the first host that ended badly, `restarting` the one
    that holds the lock of the control plane."""

    change: Change
    outcomes: dict[str, HostOutcome]
    control_plane: asyncio.Lock
    emit: Emit
    failed: str | None = None
    restarting: str = ""


def canary_order(hosts: Sequence[HostPlan], load: Mapping[str, int]) -> tuple[HostPlan, ...]:
    """Workers before control-plane hosts, the least loaded first (`load` counts pods by host; unknown counts as
    none), then by name."""
    return tuple(sorted(hosts, key=lambda h: (h.control_plane, load.get(h.name, 0), h.name)))


async def roll_out(
    hosts: Sequence[HostPlan],
    change: Change,
    rollout: Rollout,
    *,
    load: Mapping[str, int],
    after_canary: Callable[[], Awaitable[bool]],
    outcomes: dict[str, HostOutcome],
    emit: Emit,
) -> None:
    """Change `hosts`; how each ended lands in `outcomes` as soon as it is known.

    The canary is the first host that ends confirmed: one that is refused or away proves nothing, so the next one
    takes its place. `after_canary` runs between it and the rest (the cluster's objects); when it returns False
    nothing new is begun. At most `max_unavailable` hosts are worked on at a time, and never two control-plane hosts.
    A first failure stops new hosts; those are left out of `outcomes`.
    """
    course = _Course(change, outcomes, asyncio.Lock(), emit)
    queue = list(canary_order(hosts, load))
    if rollout.canary:
        while queue and not course.failed:
            first = queue.pop(0)
            emit(Note("apply", "this host goes first", host=first.name))
            await _one(course, first)
            if outcomes[first.name].outcome == "confirmed":
                break
    if course.failed or not await after_canary():
        return
    await _batches(course, queue, rollout.max_unavailable)


async def _batches(course: _Course, queue: list[HostPlan], at_once: int) -> None:
    async def worker() -> None:
        while queue and not course.failed:
            host = queue.pop(0)
            if not host.control_plane:
                await _one(course, host)
                continue
            if course.control_plane.locked():
                course.emit(_queued(host, course.restarting))
            async with course.control_plane:
                if course.failed:
                    queue.append(host)
                    return
                course.restarting = host.name
                await _one(course, host)

    tasks = [asyncio.create_task(worker()) for _ in range(min(at_once, len(queue)))]
    if not tasks:
        return
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        await _cancelled(tasks)
        raise
    unexpected = [error for task in tasks if (error := task.exception()) is not None]
    if unexpected:
        raise unexpected[0]


def _queued(host: HostPlan, first: str) -> Waiting:
    last, likely = f"{first} is at work", "control-plane hosts are changed one after the other"
    return Waiting(host.name, "apply", "no other control-plane host is being changed", last, 0, 0, likely)


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Each task puts its host back before it ends; a second cancellation has them leave at once."""
    try:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise


async def _one(course: _Course, host: HostPlan) -> None:
    outcome = await course.change(host)
    course.outcomes[host.name] = outcome
    if outcome.outcome in _BAD and course.failed is None:
        course.failed = host.name
        course.emit(Note("apply", "it failed: no further host is begun", "error", host=host.name))
