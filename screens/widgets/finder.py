"""One line in which one types what is looked for; what it does with a list or a text is its screen's business."""

from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Label, Static

__all__ = ["Finder"]


class _Words(Input):
    """The text field: Esc and Enter leave it, and so do the arrows towards the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "clear_and_leave", "Clear", show=False),
        Binding("enter,down,up", "leave", "To the list", show=False),
    ]

    def action_clear_and_leave(self) -> None:
        self.value = ""
        self.post_message(Finder.Left(cleared=True))

    def action_leave(self) -> None:
        self.post_message(Finder.Left(cleared=False))


class _Side(Static):
    """The right end of the line: what is shown; a click changes it."""

    ALLOW_SELECT = False

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.post_message(Finder.Pressed())


class Finder(Horizontal):
    """A text field with what it found. It is one line high, wherever it stands."""

    @dataclass
    class Changed(Message):
        """Something else is looked for."""

        text: str

    @dataclass
    class Left(Message):
        """The field was left: the focus goes back to what is searched. `cleared` when nothing is looked for now."""

        cleared: bool

    class Pressed(Message):
        """A click on the words at the right."""

    def __init__(self, hint: str, *, text: str = "", id: str | None = None, classes: str = "") -> None:
        super().__init__(id=id, classes=f"finder {classes}")
        self._hint = hint
        self._text = text

    def compose(self) -> ComposeResult:
        yield Label("/", classes="finder-sign")
        yield _Words(self._text, placeholder=self._hint, compact=True, classes="finder-words")
        yield _Side(classes="finder-side")

    @property
    def text(self) -> str:
        """What is looked for."""
        return self.query_one(_Words).value.strip() if self.is_mounted else self._text

    def begin(self) -> None:
        """Put the focus here."""
        words = self.query_one(_Words)
        words.focus()
        words.action_select_all()

    def set(self, text: str) -> None:
        """Look for something else."""
        self.query_one(_Words).value = text

    def hint(self, words: str) -> None:
        """What is shown while nothing is looked for."""
        self.query_one(_Words).placeholder = words

    def clear(self) -> None:
        """Look for nothing."""
        self.query_one(_Words).value = ""

    def say(self, content: Content) -> None:
        """The words at the right."""
        self.query_one(_Side).update(content)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(event.value.strip()))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
