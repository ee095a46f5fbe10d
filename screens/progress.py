"""What the events of a run add up to, host by host: folded ten times a second, drawn by whoever is on screen."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never, get_args

from gpuwizard.events import (
    Event,
    HostOutcome,
    HostProgress,
    LogLine,
    Note,
    Outcome,
    PodProgress,
    Rung,
    StageChanged,
    Waiting,
)
from gpuwizard.plan.model import Plan

__all__ = ["CLUSTER", "HostRun", "Progress"]

CLUSTER = ""
KEPT = 4_000
_OUTCOMES = get_args(Outcome)
_RUN_STAGES = ("apply", "validate", "rollback")


@dataclass(slots=True)
class HostRun:
    """One host of the run; the key `CLUSTER` stands for what concerns no single host.

    `lines` are the last lines of its log; `total` counts all that ever came, so that a reader knows how many of them
    are new. `began` and `ended` are the clock's seconds.
    """

    name: str
    state: str = ""
    message: str = ""
    step: int | None = None
    steps: int | None = None
    began: float | None = None
    ended: float | None = None
    outcome: HostOutcome | None = None
    waiting: Waiting | None = None
    rungs: dict[str, Rung] = field(default_factory=dict)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT))
    total: int = 0

    @property
    def settled(self) -> bool:
        """True once the host itself is finished, well or not."""
        return self.state in _OUTCOMES

    def write(self, line: str) -> None:
        """Add a line to the log."""
        self.lines.append(line)
        self.total += 1

    def since(self, total: int) -> list[str]:
        """The lines that came after the first `total`."""
        new = min(self.total - total, len(self.lines))
        return list(self.lines)[len(self.lines) - new :] if new > 0 else []

    def elapsed(self, now: float) -> float | None:
        """Seconds of work so far."""
        if self.began is None:
            return None
        return (self.ended if self.ended is not None else now) - self.began


@dataclass(slots=True)
class Progress:
    """A whole run of apply and validate."""

    hosts: dict[str, HostRun] = field(default_factory=dict)

    def begin(self, plan: Plan) -> None:
        """Forget the run before; the hosts of this plan take part."""
        self.hosts = {host.name: HostRun(host.name) for host in plan.hosts} | {CLUSTER: HostRun(CLUSTER)}
        for host in plan.hosts:
            if host.refusals:
                self.hosts[host.name].state, self.hosts[host.name].message = "refused", host.refusals[0].why
            elif not host.actions:
                self.hosts[host.name].state, self.hosts[host.name].message = "unchanged", host.reason

    def fold(self, events: Sequence[Event], now: float) -> None:
        """Take in events; `now` is the clock's time."""
        for event in events:
            if event.stage in _RUN_STAGES:
                self._take(event, now)

    def _host(self, name: str | None) -> HostRun:
        return self.hosts.setdefault(name or CLUSTER, HostRun(name or CLUSTER))

    def _take(self, event: Event, now: float) -> None:
        run = self._host(event.host)
        if run.began is None and not isinstance(event, HostOutcome):
            run.began = now
        match event:
            case HostProgress():
                self._went_on(run, event, now)
            case LogLine():
                run.write(f"  {event.text}")
            case Waiting():
                told = run.waiting
                if told is None or (told.condition, told.last_seen) != (event.condition, event.last_seen):
                    run.write(f"… {event.condition}: {event.last_seen}")
                if event.likely and (told is None or told.likely != event.likely):
                    run.write(f"  likely: {event.likely}")
                run.waiting = event
            case PodProgress():
                reason = " · ".join(part for part in (event.reason, event.message) if part)
                run.write(f"  pod {event.pod}: {event.phase}{' · ' + reason if reason else ''}")
            case Rung():
                self._rung(run, event, now)
            case HostOutcome():
                run.outcome, run.waiting = event, None
                run.ended = now if run.ended is None else run.ended
                run.state, run.message = event.outcome, event.reason
                run.write(f"■ {event.outcome}{': ' + event.reason if event.reason else ''}")
            case Note():
                run.write(f"{'!' if event.level != 'info' else '·'} {event.message}")
            case StageChanged():
                run.write(f"■ {event.stage} {event.state}{': ' + event.message if event.message else ''}")
            case _:
                assert_never(event)

    def _went_on(self, run: HostRun, event: HostProgress, now: float) -> None:
        run.waiting = None
        run.write(f"▶ {event.state}{': ' + event.message if event.message else ''}")
        if run.settled:
            return  # what comes after the end, such as the node's label, is for the log
        run.state, run.message = event.state, event.message
        run.step, run.steps = event.step, event.steps
        if run.settled:
            run.ended = now

    def _rung(self, run: HostRun, event: Rung, now: float) -> None:
        run.rungs[event.name] = event
        run.waiting = None
        if event.state == "running":
            run.ended = None
            run.write(f"▶ {event.name}")
            return
        run.ended = now
        mark = {"passed": "✓", "failed": "✗", "skipped": "·"}[event.state]
        run.write(f"{mark} {event.name}: {event.state}{': ' + event.reason if event.reason else ''}")
