"""Page 5: the run, live: hosts with state, step and time, the log of the chosen one, the proof, and how it ended."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.widgets import Static

from gpuwizard.events import Event, HostOutcome
from screens.page import PageScreen
from screens.progress import CLUSTER, HostRun
from screens.widgets.lines import Line, Lines
from screens.widgets.rows import Column, Row, Rows
from screens.words import STYLES, counted, duration, mark, plain

__all__ = ["RunScreen", "closing_words"]

_KEY = "cluster:"
_COLUMNS = (
    Column("", 1),
    Column("Host", 13, 1),
    Column("State", 12, 1),
    Column("Step", 22, 4),
    Column("Proof", 9, 1),
    Column("Time", 5, right=True),
)
_GOOD = ("confirmed", "unchanged")
_WORST_FIRST = ("failed", "unconfirmed", "reverting", "rolled-back", "confirmed")
_RUNG_MARKS = {"passed": "✓", "failed": "✗", "skipped": "·", "running": "▶"}
_RUNG_STYLES = {"passed": STYLES["ok"], "failed": STYLES["error"], "running": STYLES["running"]}


class RunScreen(PageScreen):
    """Draws what the events add up to; leaving the page stops nothing."""

    PAGE = "apply"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "to_list", "To the list", show=False)]

    def __init__(self) -> None:
        super().__init__()
        self._logged: tuple[str, int] = ("", 0)

    def body(self) -> ComposeResult:
        yield Static(id="summary")
        with Container(classes="split -stack"):
            yield Rows(_COLUMNS, id="list", classes="list", empty="nothing was run yet: F2 goes back to the review")
            yield Lines(id="pane", classes="pane", follow=True)

    def draw(self) -> None:
        now = self.session.clock.monotonic()
        runs = self.wizard.progress.hosts
        hosts = [run for name, run in runs.items() if name != CLUSTER]
        if not self.wizard.busy:
            hosts.sort(key=lambda run: self._kind(run) != "error")
        rows = [self._row(run, now) for run in hosts]
        if runs:
            rows.append(self._row(runs[CLUSTER], now))
        self.query_one(Rows).show(rows, key=self.wizard.places.get("run"))
        self._draw_log()
        self._draw_summary()

    def progressed(self, events: Sequence[Event]) -> None:
        self.draw()

    def tick(self) -> None:
        if self.wizard.busy:
            self.draw()

    def _row(self, run: HostRun, now: float) -> Row:
        kind = self._kind(run)
        name = plain(run.name, "bold") if run.name else Content.styled("Cluster", "bold")
        state = run.state or ("waiting" if self.wizard.busy and run.name else "")
        if run.outcome is not None and not run.outcome.begun:
            state = "not begun"
        return run.name or _KEY, (
            mark(kind),
            name,
            plain(state, STYLES[kind]),
            self._step(run),
            _proof(run),
            Content(duration(run.elapsed(now)) if run.name else ""),
        )

    def _kind(self, run: HostRun) -> str:
        """The mark of a row: what went wrong stays wrong, whatever comes after it."""
        rungs = {rung.state for rung in run.rungs.values()}
        if "failed" in rungs or (run.settled and run.state not in _GOOD):
            return "error"
        if "running" in rungs:
            return "running"
        if run.outcome is not None and not run.outcome.begun:
            return "waiting"
        if run.settled or rungs:
            return "ok"
        return "running" if run.began is not None and self.wizard.busy else "waiting"

    def _step(self, run: HostRun) -> Content:
        if run.waiting is not None:
            wait = run.waiting
            return plain(f"{wait.condition} {wait.elapsed:.0f}/{wait.limit:.0f} s: {wait.last_seen}", "$quiet")
        if run.settled:
            last = list(run.rungs.values())[-1:]
            return plain(last[0].reason if last and last[0].state != "passed" else run.message, "$quiet")
        if run.step is not None and run.steps is not None:
            return plain(f"{run.step}/{run.steps} {run.message}")
        return plain(run.message)

    def _draw_log(self) -> None:
        key = self.query_one(Rows).key
        name = CLUSTER if key == _KEY else key
        run = self.wizard.progress.hosts.get(name) if name is not None else None
        pane = self.query_one(Lines)
        if run is None:
            pane.show(())
            self._logged = ("", 0)
            return
        shown, total = self._logged
        if shown != key:
            pane.show([_log_line(line) for line in run.lines])
        elif run.total > total:
            pane.add([_log_line(line) for line in run.since(total)])
        self._logged = (key or "", run.total)

    def _draw_summary(self) -> None:
        summary, busy = self.query_one("#summary", Static), self.wizard.busy
        session = self.session
        if busy in ("apply", "validate"):
            words = {"apply": "changing the hosts", "validate": "proving it with pods"}[busy]
            summary.update(Content(words))
            self.say("at work; leaving this page stops nothing", "running")
            return
        outcomes = [run.outcome for run in self.wizard.progress.hosts.values() if run.outcome is not None]
        if self.wizard.applied is None:
            summary.update("")
            self.say("")
            return
        summary.update(plain(_result(outcomes, session.validation)))
        undo = f"{session.rollback_command} {session.run_id}" if session.run_id else ""
        self.say(*closing_words(outcomes, undo=undo, stopped=self.wizard.stopped))

    def on_rows_highlighted(self, event: Rows.Highlighted) -> None:
        self.wizard.places["run"] = event.key
        self._draw_log()

    def on_rows_chosen(self) -> None:
        self.query_one(Lines).focus()

    def action_to_list(self) -> None:
        self.query_one(Rows).focus()


def _proof(run: HostRun) -> Content:
    """One mark per rung of the ladder, in order."""
    marks = Content("")
    for rung in run.rungs.values():
        marks = Content.assemble(marks, (_RUNG_MARKS[rung.state], _RUNG_STYLES.get(rung.state, "$quiet")))
    if run.rungs:
        passed = sum(1 for r in run.rungs.values() if r.state == "passed")
        tried = sum(1 for r in run.rungs.values() if r.state != "skipped")
        marks = Content.assemble(marks, f" {passed}/{tried}")
    return marks


def closing_words(outcomes: Sequence[HostOutcome], *, undo: str, stopped: bool) -> tuple[str, str]:
    """What the operator must know at the end of a run, the worst first, and its kind."""
    named = {word: [o.host for o in outcomes if o.outcome == word] for word in _WORST_FIRST}
    if named["failed"]:
        return f"look at {', '.join(named['failed'])} yourself: putting it back did not work", "error"
    if waiting := named["unconfirmed"] + named["reverting"]:
        return f"{', '.join(waiting)}: puts itself back unless it was confirmed", "warning"
    if stopped:
        return "stopped: what was in flight is put back", "warning"
    if named["confirmed"] and undo:
        return f"undo: {undo}", "ok"
    if named["rolled-back"]:
        return f"{', '.join(named['rolled-back'])}: put back, as it was before", "warning"
    return "nothing was changed", "ok"


def _result(outcomes: Sequence[HostOutcome], validation: object) -> str:
    """``3 confirmed · 1 rolled-back · proof: 3 of 4 hosts passed``."""
    tally: dict[str, int] = {}
    for outcome in outcomes:
        word = outcome.outcome if outcome.begun else "not begun"
        tally[word] = tally.get(word, 0) + 1
    parts = [f"{number} {word}" for word, number in tally.items()]
    if isinstance(validation, dict) and validation:
        passed = sum(1 for reason in validation.values() if reason is None)
        parts.append(f"proof: {passed} of {counted(len(validation), 'host')} passed")
    return " · ".join(parts) if parts else "done: nothing had to be changed"


def _log_line(line: str) -> Line:
    style = {"✓": "$text-success", "✗": "$text-error", "!": "$text-warning", "▶": "$text-accent", "■": "bold"}
    return Line(plain(line, style.get(line[:1], ""), 4000) if line[:1] != " " else Content("  ") + plain(line), 2)
