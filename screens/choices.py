"""Page 3: what the GPUs shall be to Kubernetes; each choice with its options, the recommended one and why."""

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Static

from gpuwizard.errors import GpuwizardError
from gpuwizard.pages import Problem
from gpuwizard.recommend import ChoiceField
from screens.page import PageScreen
from screens.topics import TextField, Topic, put, read, topics
from screens.topics import problems as impossible
from screens.widgets.choice import ChoiceBox, TypedField
from screens.widgets.rows import Column, Row, Rows
from screens.words import plain

__all__ = ["ChoicesScreen"]

_COLUMNS = (Column("", 1), Column("Choice", 12, 1), Column("Answer", 10))


class ChoicesScreen(PageScreen):
    """Topics on the left, the options of the chosen one on the right; every change is in the session at once."""

    PAGE = "choices"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "to_list", "To the list", show=False),
        Binding("f5", "reset", "Recommended ★", key_display="F5"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.topics: tuple[Topic, ...] = ()
        self._shown = ""

    def body(self) -> ComposeResult:
        with Container(classes="split"):
            yield Rows(_COLUMNS, id="list", classes="list", empty="working out what fits …")
            yield VerticalScroll(id="options", classes="pane", can_focus=False)

    def on_mount(self) -> None:
        self.work_out()

    def work_out(self) -> None:
        """Compute the options anew: a pure function over all probes, so in a thread."""
        self.run_worker(self._work_out(), name="topics", group="topics", description="topics", exclusive=True)

    async def _work_out(self) -> None:
        session = self.session
        try:
            self.topics = await asyncio.to_thread(topics, dict(session.probes), session.answers)
        except GpuwizardError as error:
            self.say(str(error), "error")
            return
        self.draw()

    def draw(self) -> None:
        rows = [self._row(topic) for topic in self.topics]
        self.query_one(Rows).show(rows, key=self.wizard.places.get("topic"))
        self._show_topic()
        if not self.query_one("#message", Static).content:
            self.say("★ recommended   • your own choice")

    def _row(self, topic: Topic) -> Row:
        answers = self.session.answers
        good = topic.as_recommended(answers)
        mark = Content.styled("★", "$text-success") if good else Content.styled("•", "$text-accent")
        title = Content("  ") + plain(topic.title) if topic.host else plain(topic.title)
        return topic.id, (mark, title, plain(topic.answer(answers), "$quiet" if good else ""))

    def _topic(self) -> Topic | None:
        key = self.query_one(Rows).key
        return next((t for t in self.topics if t.id == key), None)

    def _show_topic(self) -> None:
        """Build the pane for another topic, or draw the same one again without losing the cursor."""
        topic = self._topic()
        if topic is None:
            return
        if topic.id != self._shown:
            self._shown = topic.id
            self.call_later(self._build, topic)
            return
        for box in self.query(ChoiceBox):
            fresh = next((f for f in topic.fields if f.path == box.field.path), None)
            if isinstance(fresh, ChoiceField):
                box.field = fresh
                box.draw(read(self.session.answers, fresh.path))

    async def _build(self, topic: Topic) -> None:
        pane = self.query_one("#options")
        async with self.batch():
            await pane.remove_children()
            await pane.mount_all(self._widgets(topic))

    def _widgets(self, topic: Topic) -> list[ChoiceBox | TypedField]:
        answers, made = self.session.answers, list[ChoiceBox | TypedField]()
        for field in topic.fields:
            if isinstance(field, ChoiceField):
                made.append(ChoiceBox(field, read(answers, field.path), alone=len(topic.fields) == 1))
                continue
            value = self.wizard.places.get(f"typed {field.path}", read(answers, field.path))
            made.append(TypedField(field.path, field.title, field.help, value, self._wrong(field)))
        return made

    def _wrong(self, field: TextField) -> str | None:
        typed = self.wizard.places.get(f"typed {field.path}")
        return None if typed is None else put(self.session, field.path, typed)

    def on_rows_highlighted(self, event: Rows.Highlighted) -> None:
        self.wizard.places["topic"] = event.key
        self._show_topic()

    def on_rows_chosen(self) -> None:
        boxes = self.query_one("#options").query("OptionList, Input")
        if boxes:
            boxes.first().focus()

    def action_to_list(self) -> None:
        self.query_one(Rows).focus()

    def on_choice_box_picked(self, event: ChoiceBox.Picked) -> None:
        problem = put(self.session, event.path, event.value)
        if problem:
            self.say(problem, "error")
            return
        self.say("")
        self.draw()
        self.work_out()

    def on_typed_field_typed(self, event: TypedField.Typed) -> None:
        """Keep what is typed, also when it is wrong; only right values reach the answers."""
        problem = put(self.session, event.field.path, event.value)
        key = f"typed {event.field.path}"
        if problem:
            self.wizard.places[key] = event.value
        else:
            self.wizard.places.pop(key, None)
        event.field.judge(problem)
        if not self.problems():
            self.say("")
        self.query_one(Rows).show([self._row(topic) for topic in self.topics])

    def problems(self) -> Sequence[Problem]:
        found = []
        for topic in self.topics:
            wrong = [self._wrong(f) for f in topic.fields if isinstance(f, TextField)]
            words = [w for w in wrong if w] + list(impossible(self.session.answers, topic.fields))
            found += [Problem(topic.id, f"{topic.title}: {w}") for w in words]
        return (*found, *super().problems())

    def focus_field(self, field: str) -> None:
        if any(topic.id == field for topic in self.topics):
            self.wizard.places["topic"] = field
            self.draw()
        self.call_after_refresh(self._focus_wrong)

    def _focus_wrong(self) -> None:
        """To the text that cannot stay as it is; to the list when no text is to blame."""
        wrong = [field for field in self.query(TypedField) if field.problem is not None]
        (wrong[0].query_one(Input) if wrong else self.query_one(Rows)).focus()

    def action_reset(self) -> None:
        """Take the recommended option in this topic."""
        topic = self._topic()
        for field in topic.fields if topic else ():
            if isinstance(field, ChoiceField):
                put(self.session, field.path, field.recommended)
        self.draw()
        self.work_out()
