"""Page 4: every change before it is made: what the runtime will see in words, the diffs, once for hosts alike."""

from collections.abc import Hashable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal
from textual.content import Content
from textual.widgets import Button, Static

from gpuwizard.events import Event
from gpuwizard.plan.model import Plan
from gpuwizard.show.words import folded
from screens.page import PageScreen
from screens.plan_rows import PlanRows
from screens.plan_text import cluster_lines, group_lines, plan_summary, restarting, word_lines
from screens.questions import ConfirmScreen
from screens.widgets.lines import Line, Lines, text
from screens.widgets.rows import Column, LazyRows, Rows
from screens.words import counted, plain

__all__ = ["ReviewScreen"]

_COLUMNS = (
    Column("", 1),
    Column("Where", 16, 2),
    Column("What", 29),
    Column("What the runtime will see", 50, 1, shown_from=102),
)
_SINGLE = 8
"""So many hosts that restart are named one a line in the question, more of them together."""


class ReviewScreen(PageScreen):
    """The very plan object that will be run; it is made when one comes here and holds until something changes."""

    PAGE = "review"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "to_list", "To the list", show=False),
        Binding("f4", "unfold", "Hosts", key_display="F4"),
        Binding("space,right", "unfold", "Hosts", show=False),
        Binding("left", "fold", "Together", show=False),
        Binding("f5", "look", "Again", key_display="F5"),
        Binding("f8", "apply", "Apply", key_display="F8"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._drawn: Plan | None = None
        self._plan_rows = PlanRows()
        self._beside = False

    def body(self) -> ComposeResult:
        yield Static(id="summary")
        with Container(classes="split -stack"):
            rows = LazyRows(_COLUMNS, self._cells, self._stamp, id="list", classes="list", empty="building the plan …")
            yield rows
            with Horizontal(id="reading"):
                yield Lines(id="pane", classes="pane")
                yield Lines(id="words", classes="pane")

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
            self.query_one(LazyRows).show_keys(())
            for lines in self.query(Lines):
                lines.show(())
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
            self._plan_rows = PlanRows(plan, self.wizard.places.get("review:open", "").split("\n"))
            self.query_one(LazyRows).forget()
            self._draw_rows(self.wizard.places.get("review"))
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

    def _cells(self, key: str) -> tuple[Content, ...]:
        return self._plan_rows.cells(key)

    def _stamp(self, key: str) -> Hashable:
        return self._plan_rows.is_open(key)

    def _draw_rows(self, key: str | None = None) -> None:
        """The rows, with the cursor on `key` or where it is."""
        keys = self._plan_rows.keys()
        self.query_one(LazyRows).show_keys(keys, key if key in keys else None)
        self._draw_item()
        self.refresh_bindings()

    def _draw_item(self) -> None:
        """What is done to the hosts of this row; in a wide terminal its meaning stands beside it."""
        plan, key = self.session.plan, self.query_one(LazyRows).key
        self._beside = self.has_class("-wide")
        pane, words = self.query_one("#pane", Lines), self.query_one("#words", Lines)
        group = self._plan_rows.group(key or "")
        words.display = self._beside and group is not None and bool(group.actions)
        if group is not None:
            pane.show(group_lines(group, words=not self._beside))
            words.show(word_lines(group))
        else:
            pane.show(cluster_lines(plan.cluster) if plan is not None and key is not None else ())

    def on_resize(self) -> None:
        self.call_after_refresh(self._resized)

    def _resized(self) -> None:
        if self.built and self._drawn is not None and self.has_class("-wide") != self._beside:
            self._draw_item()

    def on_rows_highlighted(self, event: Rows.Highlighted) -> None:
        self.wizard.places["review"] = event.key
        self._draw_item()
        self.refresh_bindings()

    def action_unfold(self) -> None:
        """Show the hosts of a group one by one, or together again."""
        self._fold(None)

    def action_fold(self) -> None:
        """The hosts of this group together again."""
        self._fold(False)

    def _fold(self, wanted: bool | None) -> None:
        """Open or close the group under the cursor, or that of the host under it; None: the other way round."""
        rows = self.query_one(LazyRows)
        group = self._plan_rows.group_key(rows.key or "")
        if group is None:
            return
        opened = not self._plan_rows.is_open(group) if wanted is None else wanted
        self.wizard.places["review:open"] = "\n".join(self._plan_rows.open(group, opened=opened))
        key = rows.key if opened else group
        self.wizard.places["review"] = key or group
        self._draw_rows(key)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("unfold", "fold"):
            if not self.built or not self._plan_rows.grouped:
                return False
            on_group = self._plan_rows.group_key(self.query_one(LazyRows).key or "") is not None
            return True if on_group else None  # greyed, so that the keys beside it do not move
        return super().check_action(action, parameters)

    def on_descendant_focus(self) -> None:
        """In a narrow terminal the list makes room for the diff that is being read."""
        self.query_one(".split").set_class(self.query_one("#pane").has_focus, "-reading")

    def on_rows_chosen(self) -> None:
        self.query_one("#pane").focus()

    def action_to_list(self) -> None:
        self.query_one(LazyRows).focus()

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
            lines += [Line(Content.assemble("  ! ", plain(words, limit=4000)), 4) for words in _restarts(restarts)]
        refused = [h.name for h in plan.hosts if h.refusals]
        if refused:
            lines.append(text(plain(f"Left alone, because refused: {folded(refused, ', ')}", limit=4000)))
        if plan.cluster.actions:
            server = plan.cluster.server or "the cluster"
            lines.append(text(plain(f"{counted(len(plan.cluster.actions), 'object')} at {server}")))
        order = "One host first, then the others. " if self.session.answers.rollout.canary else ""
        lines += [text(), text(f"{order}A host that is not well afterwards puts itself back.")]
        return lines

    def _confirmed(self, sure: bool | None) -> None:
        if sure:
            self.wizard.begin_apply()


def _restarts(restarts: Sequence[tuple[str, str]]) -> list[str]:
    """Every host that restarts with its unit: one a line, or many of one unit together."""
    if len(restarts) <= _SINGLE:
        return [f"{host}  ({unit})" for host, unit in restarts]
    units: dict[str, list[str]] = {}
    for host, unit in restarts:
        units.setdefault(unit, []).append(host)
    return [f"{counted(len(hosts), 'host')}: {folded(hosts, ', ')}  ({unit})" for unit, hosts in units.items()]
