"""Questions over a page: one at a time, by key, mouse or Escape; Escape is always the answer that is safe."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from gpuwizard.errors import GpuwizardError
from gpuwizard.events import Choice, SecretPrompt
from gpuwizard.secret import Secret
from screens.widgets.lines import Line, Lines, text
from screens.words import block, plain

__all__ = ["ChoiceScreen", "ConfirmScreen", "PathScreen", "SecretScreen", "TextScreen", "error_screen"]


class Options(OptionList):
    """A list to choose from; the space bar chooses too."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("space", "select", show=False)]


class ChoiceScreen(ModalScreen[str]):
    """A question with fixed answers: the cursor stands on the safe one."""

    AUTO_FOCUS = "OptionList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "safe", "Safe answer", show=False),
        *(Binding(str(n), f"pick({n})", show=False) for n in range(1, 10)),
    ]

    def __init__(self, question: Choice) -> None:
        super().__init__()
        self.question = question

    def compose(self) -> ComposeResult:
        asked = self.question
        with Vertical(classes="dialog"):
            yield Static(plain(asked.title), classes="dialog-title")
            yield Lines(classes="dialog-body", id="question")
            options = [
                Option(Content.assemble((f"{number} ", "$quiet"), plain(label)), id=value)
                for number, (value, label) in enumerate(asked.options, 1)
            ]
            yield Options(*options, markup=False, compact=True, id="answers")
            default = dict(asked.options).get(asked.default, "")
            yield Static(Content.assemble("Enter chooses · Esc: ", plain(default)), classes="dialog-keys")

    def on_mount(self) -> None:
        asked = self.question
        where = (text(plain(f"on {asked.host}", "$quiet")),) if asked.host else ()
        lines = (*where, *(Line(line) for line in block(asked.body)))
        self.query_one(Lines).show(lines)
        self.query_one(Lines).styles.height = min(max(len(lines), 1) + 2, 14)
        values = [value for value, _ in asked.options]
        self.query_one(OptionList).highlighted = values.index(asked.default) if asked.default in values else 0

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id or self.question.default)

    def action_safe(self) -> None:
        self.dismiss(self.question.default)

    def action_pick(self, number: int) -> None:
        if number <= len(self.question.options):
            self.query_one(OptionList).highlighted = number - 1


class SecretScreen(ModalScreen[Secret | None]):
    """A password or one-time code; it goes straight into a `Secret` and nowhere else."""

    AUTO_FOCUS = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "No answer", show=False)]

    def __init__(self, prompt: SecretPrompt) -> None:
        super().__init__()
        self.prompt = prompt

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(plain(self.prompt.title), classes="dialog-title")
            yield Static(plain(f"on {self.prompt.host}", "$quiet"))
            for line in block(self.prompt.body):
                yield Static(line)
            yield Input(password=not self.prompt.echo, compact=True, id="secret")
            with Horizontal(classes="dialog-buttons"):
                yield Button("Cancel Esc", id="cancel", compact=True)
                yield Button("OK Enter", id="ok", variant="primary", compact=True)

    def on_input_submitted(self) -> None:
        self._answer()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "ok":
            self._answer()
        else:
            self.dismiss(None)

    def _answer(self) -> None:
        value = self.query_one(Input).value
        self.query_one(Input).clear()
        self.dismiss(Secret(value))

    def action_leave(self) -> None:
        self.dismiss(None)


class ConfirmScreen(ModalScreen[bool]):
    """Yes or no to something that changes the world; the focus stands on no."""

    AUTO_FOCUS = "#no"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "no", "No", show=False),
        Binding("left,up", "app.focus_previous", show=False),
        Binding("right,down", "app.focus_next", show=False),
    ]

    def __init__(self, title: str, lines: Sequence[Line], yes: str, no: str = "Cancel") -> None:
        super().__init__()
        self.heading, self.lines, self.yes, self.no = title, tuple(lines), yes, no

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(plain(self.heading), classes="dialog-title")
            yield Lines(classes="dialog-body")
            with Horizontal(classes="dialog-buttons"):
                yield Button(f"{self.no} Esc", id="no", compact=True)
                yield Button(self.yes, id="yes", variant="warning", compact=True)

    def on_mount(self) -> None:
        pane = self.query_one(Lines)
        pane.show(self.lines)
        pane.styles.height = min(len(self.lines) + 2, 14)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_no(self) -> None:
        self.dismiss(False)


class PathScreen(ModalScreen[Path | None]):
    """Where to write a file."""

    AUTO_FOCUS = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False)]

    def __init__(self, title: str, hint: str, path: Path) -> None:
        super().__init__()
        self.heading, self.hint, self.path = title, hint, path

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(plain(self.heading), classes="dialog-title")
            yield Static(plain(self.hint, "$quiet"))
            yield Input(str(self.path), compact=True, id="path")
            with Horizontal(classes="dialog-buttons"):
                yield Button("Cancel Esc", id="cancel", compact=True)
                yield Button("Save Enter", id="ok", variant="primary", compact=True)

    def on_input_submitted(self) -> None:
        self._answer()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "ok":
            self._answer()
        else:
            self.dismiss(None)

    def _answer(self) -> None:
        value = self.query_one(Input).value.strip()
        self.dismiss(Path(value).expanduser() if value else None)

    def action_leave(self) -> None:
        self.dismiss(None)


class TextScreen(ModalScreen[None]):
    """Something to read: help, the facts of a host, an error."""

    AUTO_FOCUS = "Lines"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,f1,f6", "leave", "Close", show=False)]

    def __init__(self, title: str, lines: Sequence[Line], *, small: bool = False) -> None:
        super().__init__()
        self.heading, self.lines, self.small = title, tuple(lines), small

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog" if self.small else "dialog -large"):
            yield Static(plain(self.heading), classes="dialog-title")
            yield Lines(classes="dialog-body")
            with Horizontal(classes="dialog-buttons"):
                yield Button("Close Esc", id="close", compact=True)

    def on_mount(self) -> None:
        pane = self.query_one(Lines)
        pane.show(self.lines)
        if self.small:
            pane.styles.height = min(len(self.lines) + 4, 14)

    def on_button_pressed(self) -> None:
        self.dismiss(None)

    def action_leave(self) -> None:
        self.dismiss(None)


def error_screen(error: GpuwizardError) -> TextScreen:
    """What happened, where, and what to do."""
    lines = [text(plain(error.what))]
    if error.where:
        lines.append(text(plain(f"where: {error.where}", "$quiet")))
    if error.remedy:
        lines += [text(), text(plain(f"try: {error.remedy}"))]
    return TextScreen("This did not work", lines, small=True)
