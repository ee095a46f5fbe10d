"""The frame of every page: title, steps, body, what is wrong, buttons, keys. A page is built anew on each visit."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Button, Footer, Static

from gpuwizard.events import Event
from gpuwizard.pages import PAGES, Problem, page
from gpuwizard.session import Session
from screens.widgets.steps import StepList
from screens.words import MARKS, STYLES, plain

if TYPE_CHECKING:
    from screens.app import GpuwizardApp

__all__ = ["PageScreen"]


class PageScreen(Screen[None]):
    """One page. Subclasses give `body()` and what their keys do; the rest is the same everywhere."""

    AUTO_FOCUS = "#body *"
    PAGE: ClassVar[str] = "hosts"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "app.help", "Help", key_display="F1"),
        Binding("f2", "back", "Back", key_display="F2"),
        Binding("f3", "forward", "Next", key_display="F3"),
        Binding("question_mark", "app.help", show=False),
        Binding("alt+left", "back", show=False),
        Binding("alt+right", "forward", show=False),
        *(Binding(str(n), f"step({n})", show=False) for n in range(1, len(PAGES) + 1)),
    ]

    built = False

    @property
    def wizard(self) -> "GpuwizardApp":
        """The application, typed."""
        return cast("GpuwizardApp", self.app)

    @property
    def session(self) -> Session:
        """What is drawn."""
        return self.wizard.session

    def body(self) -> ComposeResult:
        """The widgets of this page; a page without any shows its frame alone."""
        yield from ()

    def extra_buttons(self) -> Sequence[Button]:
        """Buttons of this page, left of Back and Next."""
        return ()

    def compose(self) -> ComposeResult:
        number = [p.id for p in PAGES].index(self.PAGE) + 1
        here = page(self.PAGE)
        with Horizontal(id="top"):
            place = " " if self.wizard.alone else f" {number}/{len(PAGES)} "
            title = Content.assemble((place, "$quiet"), (here.title, "bold"))
            yield Static(title, id="title")
            yield Static(Content(here.hint), id="hint")
            yield Static(self._place(), id="place")
        with Container(id="frame"):
            if not self.wizard.alone:
                yield StepList(self.wizard.steps(self.PAGE), id="steps")
            with Container(id="body"):
                yield from self.body()
        with Horizontal(id="bar"):
            yield Static(id="message")
            yield from self.extra_buttons()
            if number > 1 and not self.wizard.alone:
                yield Button("Back F2", id="back", compact=True)
            if number < len(PAGES):
                yield Button("Next F3", id="next", variant="primary", compact=True)
        yield Footer(show_command_palette=False, compact=True)

    def _place(self) -> Content:
        fleet = self.session.fleet
        if fleet is None:
            return Content("gpuwizard ")
        return plain(f"simulated: {fleet.name} ", "$text-warning", 40)

    def on_mount(self) -> None:
        self.built = True
        self.draw()

    def on_screen_resume(self) -> None:
        self.call_after_refresh(self.redraw)

    def redraw(self) -> None:
        """Draw, unless the page is still being built or already being taken down."""
        if self.built and self.is_running and self.is_attached:
            self.draw()

    def draw(self) -> None:
        """Draw everything from the session; called on mount, on return, and after events."""

    def progressed(self, events: Sequence[Event]) -> None:
        """New events of the engine, at most ten times a second. Runs on the UI thread: draw and return."""
        self.draw()

    def tick(self) -> None:
        """Once a second while the engine works: for elapsed times."""

    def redraw_steps(self) -> None:
        """The steps that are open have changed."""
        for steps in self.query(StepList):
            self.call_later(steps.show, self.wizard.steps(self.PAGE))

    def say(self, text: str, kind: str = "info") -> None:
        """One line above the keys: what is going on, or what is wrong. An empty text clears it."""
        content = Content("")
        if text:
            content = Content.assemble((f"{MARKS[kind]} ", STYLES[kind]), plain(text, STYLES[kind]))
        message = self.query_one("#message", Static)
        message.update(content)
        message.tooltip = text if len(text) > 40 else None

    def problems(self) -> Sequence[Problem]:
        """What keeps the operator from leaving this page forward."""
        return page(self.PAGE).check(self.session)

    def show_problem(self, problem: Problem) -> None:
        """Say what is wrong and put the focus where it is mended."""
        self.say(problem.text, "error")
        self.focus_field(problem.field)

    def focus_field(self, field: str) -> None:
        """Put the focus on the widget that holds this field of the answers."""

    def on_button_pressed(self, event: Button.Pressed) -> None:
        match event.button.id:
            case "back":
                self.action_back()
            case "next":
                self.action_forward()

    def action_back(self) -> None:
        """To the page before; never asks, never loses anything."""
        self.wizard.go_back(self.PAGE)

    def action_forward(self) -> None:
        """To the next page when nothing is wrong here."""
        problems = self.problems()
        if problems:
            self.show_problem(problems[0])
            return
        self.wizard.go_forward(self.PAGE)

    def action_step(self, number: int) -> None:
        """To a page by its number, when it is open."""
        self.wizard.go_to(PAGES[number - 1].id)

    def on_step_list_chosen(self, event: StepList.Chosen) -> None:
        self.wizard.go_to(event.page)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "back":
            return not self._is_page(0) and not self.wizard.alone
        if action == "forward":
            return not self._is_page(-1)
        return True

    def _is_page(self, index: int) -> bool:
        return page(self.PAGE) is PAGES[index]
