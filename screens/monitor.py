"""Page 6, and `gpuwizard monitor`: every GPU of every host, live, and gpuwizard's pods; what is not known is N/A."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from gpuwizard.events import Event
from screens.page import PageScreen
from screens.widgets.gpu_grid import GpuGrid
from screens.widgets.rows import Column, Row, Rows
from screens.words import STYLES, counted, mark, plain

if TYPE_CHECKING:
    from gpuwizard.work.pods import PodView

__all__ = ["MonitorScreen"]

_COLUMNS = (
    Column("", 1),
    Column("Pod", 20, 2),
    Column("Node", 12, 1, shown_from=100),
    Column("State", 10),
    Column("Ready", 5),
    Column("Restarts", 8, right=True),
    Column("Why", 14, 4),
)


class MonitorScreen(PageScreen):
    """Drawn once a second from what the engine has brought; the links are those of the probe."""

    PAGE = "monitor"
    AUTO_FOCUS = "#grid"

    def body(self) -> ComposeResult:
        yield Static(id="summary")
        yield GpuGrid(self.wizard.samples, id="grid")
        yield Static("Pods of gpuwizard", classes="heading", id="pods-title")
        yield Rows(_COLUMNS, id="pods", empty="none yet")

    def on_mount(self) -> None:
        self.set_interval(1.0, self.redraw)

    def progressed(self, events: Sequence[Event]) -> None:
        if any(event.stage == "probe" for event in events):
            self.draw()

    def draw(self) -> None:
        if not self.is_current and self.app.current_mode != "monitor":
            return
        hosts, problems = self._hosts()
        self.query_one(GpuGrid).show_hosts(hosts, problems)
        self.query_one("#pods", Rows).show([_pod_row(pod) for pod in self.wizard.samples.pods])
        self._draw_summary(hosts)

    def _hosts(self) -> tuple[list[str], dict[str, str]]:
        """Hosts worth a line: those with GPUs, and those that could not be looked at."""
        names, problems = [], dict(self.wizard.samples.problems)
        for name, record in self.session.hosts.items():
            if record.error is not None:
                names.append(name)
                problems[name] = str(record.error)
            elif record.probe is None:
                names.append(name)
            elif record.probe.facts.gpus:
                names.append(name)
                if record.probe.facts.driver.loaded is None:
                    problems.setdefault(name, "no NVIDIA driver: nothing can be measured")
        return names, problems

    def _draw_summary(self, hosts: Sequence[str]) -> None:
        samples = self.wizard.samples
        latest = [s for key in samples.history if (s := samples.history.latest(key)) and not samples.stale(key[0])]
        busy = _mean(s.utilization_pct for s in latest)
        power = [s.power_w for s in latest if s.power_w is not None]
        words = [f"{counted(len(latest), 'GPU')} on {counted(len(hosts), 'host')}"]
        words.append("busy N/A" if busy is None else f"busy {busy:.0f} %")
        words.append(f"{sum(power):.0f} W" if power else "power N/A")
        self.query_one("#summary", Static).update(Content(" · ".join(words)))
        stale = [host for host in hosts if samples.stale(host)]
        if samples.trouble:
            self.say(f"{samples.trouble}; trying again", "warning")
        elif stale:
            self.say(f"old numbers, no answer from {', '.join(stale)}", "warning")
        elif alarms := [f"{s.host} GPU {s.index}: {', '.join(s.alarms)}" for s in latest if s.alarms]:
            self.say("; ".join(alarms), "warning")
        elif self.wizard.busy == "probe":
            self.say("connecting", "running")
        else:
            self.say("N/A: the GPU does not say" if self._says_nothing(latest) else "")

    def _says_nothing(self, latest: Iterable[object]) -> bool:
        fields = ("utilization_pct", "memory_used_bytes", "temperature_c", "power_w")
        return any(getattr(sample, name) is None for sample in latest for name in fields)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _pod_row(pod: "PodView") -> Row:
    done = pod.phase == "Succeeded" or (pod.phase == "Running" and pod.ready[0] == pod.ready[1])
    kind = "ok" if done else "error" if pod.phase == "Failed" else "warning" if pod.reason else "running"
    state = "ending" if pod.terminating else pod.phase
    why = ": ".join(part for part in (pod.reason, pod.message) if part)
    return f"{pod.namespace}/{pod.name}", (
        mark(kind),
        plain(pod.name),
        plain(pod.node or "", "$quiet"),
        plain(state, STYLES[kind]),
        Content(f"{pod.ready[0]}/{pod.ready[1]}"),
        Content(str(pod.restarts)),
        plain(why, "$quiet"),
    )
