"""Page 2: host by host, what is right and wrong, the proof, the cause and what to do; Enter shows every fact."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content

from gpuwizard.events import Event
from gpuwizard.session import HostRecord
from screens.describe_host import fact_lines, finding_lines
from screens.hosts import MENDED, trouble_first, verdict
from screens.page import PageScreen
from screens.questions import TextScreen
from screens.widgets.lines import Lines, heading, text
from screens.widgets.rows import Column, Row, Rows
from screens.words import counted, mark, plain

__all__ = ["FindingsScreen"]

_COLUMNS = (Column("", 1), Column("Host", 10, 1), Column("Verdict", 10, right=True))


class FindingsScreen(PageScreen):
    """Hosts on the left, trouble on top; what is known of the chosen one on the right."""

    PAGE = "findings"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f5", "look", "Again", key_display="F5"),
        Binding("f6", "facts", "Facts", key_display="F6"),
    ]

    def body(self) -> ComposeResult:
        with Container(classes="split"):
            yield Rows(_COLUMNS, id="list", classes="list", empty="no host")
            yield Lines(id="pane", classes="pane")

    def draw(self) -> None:
        records = sorted(self.session.hosts.values(), key=trouble_first)
        self.query_one(Rows).show([self._row(r) for r in records], key=self.wizard.places.get("host"))
        self._draw_host()
        bad = sum(1 for r in records if r.error is not None or verdict(r)[0] == "error")
        mended = sum(1 for r in records if r.error is None and verdict(r)[1] == MENDED)
        if self.wizard.busy == "probe":
            self.say("looking at the hosts again", "running")
        elif bad:
            self.say(
                f"{counted(bad, 'host')} need{'s' if bad == 1 else ''} you first; the plan mends {mended}", "warning"
            )
        elif mended:
            self.say(f"the plan mends {counted(mended, 'host')}", "ok")
        else:
            self.say("no error on any host", "ok")

    def progressed(self, events: Sequence[Event]) -> None:
        if any(event.stage == "probe" for event in events):
            self.draw()

    def _row(self, record: HostRecord) -> Row:
        name = plain(record.name)
        if record.error is not None:
            return record.name, (mark("error"), name, Content.styled("no answer", "$text-error"))
        if record.probe is None:
            return record.name, (mark("running"), name, Content.styled("looking", "$quiet"))
        kind, words = verdict(record)
        style = {"error": "$text-error", "warning": "$text-warning"}.get(kind, "$text-success")
        return record.name, (mark(kind), name, Content.styled(words, style))

    def _record(self) -> HostRecord | None:
        return self.session.hosts.get(self.query_one(Rows).key or "")

    def _draw_host(self) -> None:
        from gpuwizard.show import gpu_summary, runtime_summary

        record = self._record()
        if record is None:
            self.query_one(Lines).show(())
            return
        lines = [heading(plain(record.name, "$text-accent"))]
        if record.probe is not None:
            facts = record.probe.facts
            system = facts.os.pretty_name or facts.os.id or "unknown system"
            summary = f"{system} · {gpu_summary(facts)} · {runtime_summary(facts)}"
            lines.append(text(plain(summary, "$quiet")))
        self.query_one(Lines).show([*lines, text(), *finding_lines(record)])

    def on_rows_highlighted(self, event: Rows.Highlighted) -> None:
        self.wizard.places["host"] = event.key
        self._draw_host()

    def on_rows_chosen(self) -> None:
        self.action_facts()

    def action_facts(self) -> None:
        """Every fact of the chosen host."""
        record = self._record()
        if record is not None:
            self.app.push_screen(TextScreen(f"All facts of {record.name}", tuple(fact_lines(record))))

    def action_look(self) -> None:
        """Look at all hosts again, over the open connections."""
        self.wizard.begin_probe()
        self.draw()
