"""All GPUs of all hosts, one line each; only the lines in sight are made, so 512 GPUs cost as much as 20."""

from collections.abc import Sequence

from textual.content import Content

from gpuwizard.monitor.model import Sample
from screens.samples import Samples
from screens.widgets.rows import Column, Rows
from screens.words import amount, duration, mark, plain

__all__ = ["GpuGrid", "curve", "level"]

_COLUMNS = (
    Column("", 1),
    Column("Host", 10, 2),
    Column("GPU", 3, right=True),
    Column("Model", 16, 2, shown_from=100),
    Column("Busy", 13),
    Column("Memory", 21),
    Column("Temp", 6, right=True),
    Column("Power", 9, right=True),
    Column("Busy until now", 16, 4, shown_from=112),
)
_BLOCKS = "▁▂▃▄▅▆▇█"
_BAR = 6


def level(part: float | None, width: int = _BAR) -> Content:
    """A bar of `width` cells filled to `part` (0 to 1); dots where it is not known."""
    if part is None:
        return Content.styled("·" * width, "$quiet")
    full = max(0, min(width, round(part * width)))
    style = "$text-error" if part >= 0.95 else "$text-warning" if part >= 0.8 else "$text-success"
    return Content.assemble(("█" * full, style), ("░" * (width - full), "$quiet"))


def curve(values: Sequence[float | None], width: int) -> Content:
    """Percentages as a line of blocks, newest at the right; a gap where nothing was known."""
    shown = list(values)[-width:]
    drawn = "".join(" " if v is None else _BLOCKS[max(0, min(7, int(v * 8 // 101)))] for v in shown)
    return Content.styled(drawn.rjust(width), "$text-accent")


class GpuGrid(Rows):
    """Rows are keys of the history; hosts that have not answered yet stand there too, and say so."""

    def __init__(self, samples: Samples, id: str | None = None) -> None:
        super().__init__(_COLUMNS, empty="no host with a GPU is connected", id=id)
        self.samples = samples
        self.keys: tuple[tuple[str, str | None], ...] = ()
        self.problems: dict[str, str] = {}

    def show_hosts(self, hosts: Sequence[str], problems: dict[str, str]) -> None:
        """Draw the GPUs of these hosts with what is known now; `problems` are hosts that cannot be watched."""
        self.problems = problems
        by_host: dict[str, list[tuple[str, str | None]]] = {}
        for host, gpu in self.samples.history:
            by_host.setdefault(host, []).append((host, gpu))
        keys: list[tuple[str, str | None]] = []
        for host in hosts:
            keys += by_host.get(host) or [(host, None)]
        self.keys = tuple(keys)
        self.show([(f"{host} {gpu or ''}", ()) for host, gpu in keys])
        self.forget()

    def cells(self, index: int) -> tuple[Content, ...]:
        host, gpu = self.keys[index]
        sample = self.samples.history.latest((host, gpu)) if gpu is not None else None
        name = plain(host, "bold") if index == 0 or self.keys[index - 1][0] != host else plain(host, "$quiet")
        if host in self.problems and sample is None:
            return mark("error"), name, plain(self.problems[host], "$text-error")
        if sample is None:
            return mark("waiting"), name, Content.styled("waiting for the first sample", "$quiet")
        age = self.samples.age(host) or 0.0
        if self.samples.stale(host):
            words = f"old: the last sample came {duration(age)} ago; it said {_old(sample)}"
            return mark("warning"), name, plain(words, "$text-warning")
        trouble = sample.alarms or sample.faults
        sign = mark("warning") if trouble else Content(" ")
        return (
            sign,
            name,
            Content("" if sample.index is None else str(sample.index)),
            plain(", ".join(trouble) if trouble else sample.name or "", "$text-warning" if trouble else "$quiet"),
            _busy(sample),
            _memory(sample),
            _number(sample.temperature_c, "°C"),
            _power(sample),
            self._curve(host, gpu),
        )

    def _curve(self, host: str, gpu: str | None) -> Content:
        width = self.widths()[-1]
        if not width or gpu is None:
            return Content("")
        return curve(self.samples.history.series((host, gpu), lambda s: s.utilization_pct), width)


def _busy(sample: Sample) -> Content:
    value = sample.utilization_pct
    number = "N/A" if value is None else f"{value:.0f} %"
    return Content.assemble(level(None if value is None else value / 100), f" {number:>6}")


def _memory(sample: Sample) -> Content:
    used, total = sample.memory_used_bytes, sample.memory_total_bytes
    part = used / total if used is not None and total else None
    if sample.unified_memory:
        return Content.assemble(("shared ", "$text-accent"), _pair(used, total))
    return Content.assemble(level(part, 4), f" {_pair(used, total)}")


def _pair(used: int | None, total: int | None) -> str:
    if used is None and total is None:
        return "N/A"
    if used is None or total is None:
        return f"{amount(used)} / {amount(total)}"
    return f"{used / 2**30:.1f} / {total / 2**30:.{0 if total >= 100 * 2**30 else 1}f} GiB"


def _number(value: float | None, unit: str) -> Content:
    return Content.styled("N/A", "$quiet") if value is None else Content(f"{value:.0f} {unit}")


def _power(sample: Sample) -> Content:
    if sample.power_w is None:
        return Content.styled("N/A", "$quiet")
    limit = "" if sample.power_limit_w is None else f"/{sample.power_limit_w:.0f}"
    return Content(f"{sample.power_w:.0f}{limit} W")


def _old(sample: Sample) -> str:
    busy = "N/A" if sample.utilization_pct is None else f"{sample.utilization_pct:.0f} %"
    return f"busy {busy}, memory {_pair(sample.memory_used_bytes, sample.memory_total_bytes)}"
