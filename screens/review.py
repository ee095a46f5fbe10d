"""Page 4: every change before it is made, host by host: actions, refusals, diffs, what the runtime will see."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.widgets import Button, Static

from gpuwizard.events import Event
from gpuwizard.plan.model import Plan
from screens.page import PageScreen
from screens.plan_text import cluster_lines, host_lines, host_state, plan_summary, restarting
from screens.questions import ConfirmScreen
from screens.widgets.lines import Line, Lines, text
from screens.widgets.rows import Column, Row, Rows
from screens.words import STYLES, counted, mark, plain

__all__ = ["ReviewScreen"]

_CLUSTER = "cluster:"
_COLUMNS = (Column("", 1), Column("Where", 12, 1), Column("What", 16))
_ORDER = {"running": 0, "error": 2, "ok": 3}


class ReviewScreen(PageScreen):
    """The very plan object that will be run; it is made when one comes here and holds until something changes."""

    PAGE = "review"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "to_list", "To the list", show=False),
        Binding("f5", "look", "Again", key_display="F5"),
        Binding("f8", "apply", "Apply", key_display="F8"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._drawn: Plan | None = None

    def body(self) -> ComposeResult:
        yield Static(id="summary")
        with Container(classes="split -stack"):
            yield Rows(_COLUMNS, id="list", classes="list", empty="building the plan …")
            yield Lines(id="pane", classes="pane")

    def extra_buttons(self) -> Sequence[Button]:
        return (Button("Apply F8", id="apply", variant="warning", compact=True),)

    def on_mount(self) -> None:
        if self.session.plan is None:
            self.wizard.begin_plan()

    def draw(self) -> None:
        plan = self.session.plan
        button = self.query_one("#apply", Button)
        button.disabled = plan is None or self._applied() or bool(self.wizard.busy)
        if plan is None:
            self._drawn = None
            self.query_one("#summary", Static).update("")
            self.query_one(Rows).show(())
            self.query_one(Lines).show(())
            failed = self.wizard.failure is not None and not self.wizard.busy
            self.say(
                "there is no plan: F5 tries again" if failed else "looking at the cluster and building the plan",
                "error" if failed else "running",
            )
            return
        button.label = Content("Prove F8" if plan.empty else "Apply F8")
        self.query_one("#summary", Static).update(Content(plan_summary(plan)))
        if self._drawn is not plan:
            self._drawn = plan
            self.query_one(Rows).show(self._rows(plan), key=self.wizard.places.get("review"))
            self._draw_item()
        self._say(plan)

    def _say(self, plan: Plan) -> None:
        if self._applied():
            self.say("this plan was run; F5 makes a new one", "ok")
        elif plan.empty:
            self.say("nothing to change", "ok")
        else:
            self.say("nothing is changed yet")

    def _applied(self) -> bool:
        return self.wizard.applied is not None and self.wizard.applied is self.session.plan

    def progressed(self, events: Sequence[Event]) -> None:
        if self.session.plan is not self._drawn:
            self.draw()

    def _rows(self, plan: Plan) -> list[Row]:
        rows: list[tuple[int, Row]] = []
        for host in plan.hosts:
            kind, words = host_state(host)
            row = (host.name, (mark(kind), plain(host.name), Content.styled(words, STYLES[kind])))
            rows.append((_ORDER[kind], row))
        cluster = plan.cluster
        if cluster.actions or cluster.refusals or cluster.server:
            kind = "error" if cluster.refusals else "running" if cluster.actions else "ok"
            words = {"error": "refused", "ok": "no change"}.get(kind, counted(len(cluster.actions), "object"))
            cells = (mark(kind), Content.styled("Cluster", "bold"), Content.styled(words, STYLES[kind]))
            rows.append((_ORDER[kind], (_CLUSTER, cells)))
        return [row for _, row in sorted(rows, key=lambda item: item[0])]

    def _draw_item(self) -> None:
        plan, key = self.session.plan, self.query_one(Rows).key
        lines: list[Line] = []
        if plan is not None and key == _CLUSTER:
            lines = list(cluster_lines(plan.cluster))
        elif plan is not None:
            lines = [line for host in plan.hosts if host.name == key for line in host_lines(host)]
        self.query_one(Lines).show(lines)

    def on_rows_highlighted(self, event: Rows.Highlighted) -> None:
        self.wizard.places["review"] = event.key
        self._draw_item()

    def on_descendant_focus(self) -> None:
        """In a narrow terminal the list makes room for the diff that is being read."""
        self.query_one(".split").set_class(self.query_one(Lines).has_focus, "-reading")

    def on_rows_chosen(self) -> None:
        self.query_one(Lines).focus()

    def action_to_list(self) -> None:
        self.query_one(Rows).focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "apply":
            self.action_apply()
        else:
            super().on_button_pressed(event)

    def action_look(self) -> None:
        """Look at the hosts again and build the plan anew."""
        self.wizard.begin_plan(look_again=True)
        self.session.plan = None
        self.draw()

    def action_forward(self) -> None:
        if self.wizard.busy:
            self.say("still at work: wait a moment", "warning")
        elif self.session.plan is None or self._applied():
            super().action_forward()
        else:
            self.action_apply()

    def action_apply(self) -> None:
        """Ask, naming every host that restarts; then run the plan."""
        plan = self.session.plan
        if plan is None or self.wizard.busy or self._applied():
            return
        if plan.empty:
            self.wizard.begin_apply()
            return
        changing = [h.name for h in plan.hosts if h.changes]
        title = f"Apply this plan to {counted(len(changing), 'host')}?"
        self.app.push_screen(ConfirmScreen(title, self._warning(plan), "Apply"), self._confirmed)

    def _warning(self, plan: Plan) -> list[Line]:
        lines = []
        restarts = restarting(plan)
        if restarts:
            lines.append(text("The container runtime restarts on:"))
            lines += [Line(Content.assemble("  ! ", plain(f"{host}  ({unit})")), 4) for host, unit in restarts]
        refused = [h.name for h in plan.hosts if h.refusals]
        if refused:
            lines.append(text(plain(f"Left alone, because refused: {', '.join(refused)}", limit=2000)))
        if plan.cluster.actions:
            server = plan.cluster.server or "the cluster"
            lines.append(text(plain(f"{counted(len(plan.cluster.actions), 'object')} at {server}")))
        order = "One host first, then the others. " if self.session.answers.rollout.canary else ""
        lines += [text(), text(f"{order}A host that is not well afterwards puts itself back.")]
        return lines

    def _confirmed(self, sure: bool | None) -> None:
        if sure:
            self.wizard.begin_apply()
