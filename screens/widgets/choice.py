"""One choice with all its options: what is recommended and why, what cannot work and why; and one typed field."""

from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Label, OptionList, Static
from textual.widgets.option_list import Option as Item

from gpuwizard.recommend import ChoiceField, Option
from screens.words import plain

__all__ = ["ChoiceBox", "TypedField"]

_UNSAID = ("", "true", "false", "skip")


class _Options(OptionList):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("space", "select", show=False)]


def prompt(option: Option, chosen: bool, recommended: bool, width: int) -> Content:
    """An option as it is drawn: mark, label, the value as the answers file calls it, the reason below."""
    mark = ("● ", "$text-accent") if chosen else ("○ ", "$quiet") if option.enabled else ("✗ ", "$quiet")
    label = plain(option.label, "bold" if chosen else "")
    if option.value not in _UNSAID:
        label = Content.assemble(label, " ", plain(f"({option.value})", "$quiet"))
    if recommended:
        label = Content.assemble(label, (" ★", "$text-success"))
    inner = max(width - 2, 20)
    lines = [Content("  ") + part for part in label.wrap(inner)]
    lines[0] = Content.assemble(mark, lines[0][2:])
    if option.reason:
        reason = "cannot be chosen: " + option.reason if not option.enabled else option.reason
        lines += [Content("    ") + part for part in plain(reason, "$quiet", 2000).wrap(inner - 2)]
    return Content("\n").join(lines)


class ChoiceBox(Vertical):
    """A choice. Selecting an option tells the page, which writes it to the session at once."""

    @dataclass
    class Picked(Message):
        """The operator chose `value` for the key `path` of the answers."""

        path: str
        value: str

    def __init__(self, field: ChoiceField, current: str, *, alone: bool) -> None:
        super().__init__(classes="choice -alone" if alone else "choice")
        self.field = field
        self.current = current

    def compose(self) -> ComposeResult:
        yield Static(plain(self.field.title), classes="heading")
        yield Static(plain(self.field.help, "$quiet", 2000))
        best = next((o for o in self.field.options if o.value == self.field.recommended), None)
        if best is not None:
            why = Content.assemble(("★ ", "$text-success"), plain(f"{best.label}: {self.field.reason}", limit=2000))
            yield Static(why, classes="why")
        yield _Options(markup=False, compact=True)

    def on_mount(self) -> None:
        self.draw(self.current)

    def on_resize(self, _: events.Resize) -> None:
        self.draw(self.current)

    def draw(self, current: str) -> None:
        """Draw with another value chosen; the cursor stays."""
        self.current = current
        options = self.query_one(OptionList)
        width = options.size.width - 3
        if width < 8:
            return
        highlighted = options.highlighted
        options.clear_options()
        options.add_options(
            Item(prompt(o, o.value == current, o.value == self.field.recommended, width), disabled=not o.enabled)
            for o in self.field.options
        )
        values = [o.value for o in self.field.options]
        start = values.index(current) if current in values else 0
        options.highlighted = highlighted if highlighted is not None else start

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.post_message(self.Picked(self.field.path, self.field.options[event.option_index].value))


class TypedField(Vertical):
    """A labelled input with what it means below it, or what is wrong with what was typed."""

    def __init__(self, path: str, title: str, help_text: str, value: str, problem: str | None) -> None:
        super().__init__(classes="typed")
        self.path, self.title_text, self.help_text, self.value, self.problem = path, title, help_text, value, problem

    @dataclass
    class Typed(Message):
        """The operator typed `value`; the page answers with `judge`."""

        field: "TypedField"
        value: str

    def compose(self) -> ComposeResult:
        with Horizontal(classes="field"):
            yield Label(plain(self.title_text))
            yield Input(self.value, compact=True)
        yield Static(classes="note")

    def on_mount(self) -> None:
        self.judge(self.problem)

    def judge(self, problem: str | None) -> None:
        """Say what is wrong, or what the field means."""
        self.problem = problem
        words = plain(f"✗ {problem}", "$text-error") if problem else plain(self.help_text, "$quiet", 2000)
        self.query_one(Static).update(words)
        self.query_one(Input).set_class(problem is not None, "-invalid")

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if event.value != self.value:
            self.value = event.value
            self.post_message(self.Typed(self, event.value))
