"""What a guarded change leaves to whoever runs it: questions that only the run can answer."""

import base64
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

__all__ = ["Dumps", "Hooks", "dumps_in"]


@dataclass(frozen=True, slots=True)
class Dumps:
    """What the host's own runtime makes of the files as they are and of the staged ones; None where none was made."""

    before: bytes | None
    after: bytes | None


async def _nothing() -> None:
    return None


async def _nothing_left(_: float) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the run knows and the guard does not; each raises GpuwizardError to refuse or to have it put back.

    `check` runs under the lock before anything else; `accept` sees the dumps before the revert is armed; `clear` then
    makes the node ready for the restart, for as long as that takes, since nothing is armed yet; `settle` gets the
    seconds that are left and returns when the node is well.
    """

    check: Callable[[], Awaitable[None]] = _nothing
    accept: Callable[[Dumps], None] = lambda _: None
    settle: Callable[[float], Awaitable[None]] = _nothing_left
    clear: Callable[[], Awaitable[None]] = _nothing


def dumps_in(lines: Sequence[str]) -> Dumps:
    """The dumps that `prepare` printed, each over lines of its own."""

    def found(which: str) -> bytes | None:
        mark = f"@dump-{which} "
        parts = [line.removeprefix(mark) for line in lines if line.startswith(mark)]
        return base64.b64decode("".join(parts)) if parts else None

    return Dumps(found("before"), found("after"))
