"""Samples of one host over the connection that exists: one long-lived script, one line asked, one sample told."""

from collections.abc import AsyncIterator, Callable

from assets import asset
from gpuwizard.clock import Clock
from gpuwizard.errors import GpuwizardError, UnreachableError
from gpuwizard.monitor.model import Sample
from gpuwizard.monitor.parse import parse_sample
from gpuwizard.remote.transport import Script, Transport

__all__ = ["metrics_script", "watch_host"]


def metrics_script() -> Script:
    """The script that measures whenever it reads a line, and ends when its input does."""
    return Script(asset("remote/metrics.sh").read_text(encoding="utf-8"))


async def watch_host(
    transport: Transport,
    interval: float,
    on_samples: Callable[[str, tuple[Sample, ...]], None],
    clock: Clock,
    *,
    on_problem: Callable[[str, str | None], None] | None = None,
) -> None:
    """Measure every `interval` seconds (from one sample's begin to the next) until cancelled.

    A host that needs longer for a sample than `interval` is asked again only when it has answered. `on_samples` is
    called with an empty tuple where there is nothing to measure; `on_problem` with nvidia-smi's words or None.
    Raises UnreachableError when the link dies, GpuwizardError when the script ends by itself.
    """
    process = await transport.start(metrics_script())
    try:
        lines = process.lines()
        while True:
            began = clock.monotonic()
            await process.write_line("sample")
            answer = await _answer(lines)
            if answer is None:
                break
            reading = parse_sample(transport.name, clock.now(), answer)
            on_samples(transport.name, reading.samples)
            if on_problem is not None:
                on_problem(transport.name, reading.problem)
            await clock.sleep(max(0.0, interval - (clock.monotonic() - began)))
        status = await process.wait()
    finally:
        await process.close()
    if status is None or not transport.alive:
        raise UnreachableError("the link was lost while it was being watched", where=transport.name)
    raise GpuwizardError(f"the metrics script ended with status {status}", where=transport.name)


async def _answer(lines: AsyncIterator[str]) -> list[str] | None:
    """The lines of one sample; None when the output ended first."""
    collected: list[str] = []
    async for line in lines:
        if line.startswith("@@ sample "):
            collected.clear()
        elif line.startswith("@@ end "):
            return collected
        else:
            collected.append(line)
    return None
