"""The application: owns the session, the engine's workers and the questions; screens come and go on top of it."""

import asyncio
import importlib
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from assets import asset
from gpuwizard.answers.model import Answers
from gpuwizard.errors import GpuwizardError, InterruptedRunError, UnreachableError
from gpuwizard.events import Choice, Event, SecretPrompt
from gpuwizard.pages import PAGES
from gpuwizard.plan.model import Plan
from gpuwizard.secret import Secret
from gpuwizard.session import Session
from gpuwizard.show.overview import Overview
from screens import engine
from screens.page import PageScreen
from screens.palette import DEFAULTS, THEME
from screens.progress import Progress
from screens.questions import ChoiceScreen, PathScreen, SecretScreen, TextScreen, error_screen
from screens.samples import Samples
from screens.terminal import no_color
from screens.widgets.steps import Step, StepState

__all__ = ["GpuwizardApp"]

Busy = Literal["", "probe", "plan", "apply", "validate"]
_IDS = [p.id for p in PAGES]
_SCREENS = {
    "hosts": ("screens.hosts", "HostsScreen"),
    "findings": ("screens.findings", "FindingsScreen"),
    "choices": ("screens.choices", "ChoicesScreen"),
    "review": ("screens.review", "ReviewScreen"),
    "apply": ("screens.run", "RunScreen"),
    "monitor": ("screens.monitor", "MonitorScreen"),
}


def _page_screen(page_id: str) -> PageScreen:
    """A fresh screen; its module is loaded on the first visit."""
    module, name = _SCREENS[page_id]
    made = getattr(importlib.import_module(module), name)()
    assert isinstance(made, PageScreen)
    return made


class GpuwizardApp(App[int]):
    """The wizard, or with ``start="monitor"`` the monitor alone. `run_async` returns the exit code; None when the
    operator left while changes were being made."""

    TITLE = "gpuwizard"
    CSS_PATH = str(asset("app.tcss"))
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - Textual declares it so
        (0, "-narrow"),
        (110, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012 - Textual declares it so
        (0, "-short"),
        (32, "-tall"),
    ]
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "setup": Screen,  # only a ground to stand on: the lowest screen of a mode cannot be switched
        "monitor": lambda: _page_screen("monitor"),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f7", "monitor", "Monitor", key_display="F7", priority=True),
        Binding("f9", "save", "Save", key_display="F9"),
        Binding("f10", "leave", "Quit", key_display="F10", priority=True),
        Binding("ctrl+q", "leave", "Quit", show=False, priority=True),
    ]

    def __init__(self, session: Session, *, start: str = "hosts") -> None:
        super().__init__(ansi_color=True if no_color() else None)
        self.register_theme(THEME)
        self.theme = THEME.name
        self.session = session
        self.alone = start == "monitor"
        self.busy: Busy = ""
        self.failure: GpuwizardError | None = None
        self.applied: Plan | None = None
        self.stopped = False
        self.saved: Answers | None = None
        self.progress = Progress()
        self.overview = Overview(session)
        self.samples = Samples(session.clock)
        self.places: dict[str, str] = {}
        self._visited = 0
        self._pending: list[Event] = []
        self._dialog = asyncio.Lock()
        self._page = "hosts"

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return DEFAULTS

    def on_mount(self) -> None:
        self.set_interval(0.1, self.flush)
        self.set_interval(1.0, self._tick)
        self.switch_mode("monitor" if self.alone else "setup")
        if self.alone:
            self.begin_probe()
        else:
            self.push_screen(_page_screen("hosts"))

    # Pages

    def steps(self, page_id: str) -> tuple[Step, ...]:
        """The steps as one sees them from this page."""
        if self.alone:
            return ()
        return tuple(
            Step(p.id, p.title, self._state(index, page_id), self.is_open(p.id)) for index, p in enumerate(PAGES)
        )

    def _state(self, index: int, page_id: str) -> StepState:
        if PAGES[index].id == page_id:
            return "current"
        if index > self._visited:
            return "ahead"
        return "trouble" if PAGES[index].check(self.session) else "done"

    def is_open(self, page_id: str) -> bool:
        """True when the operator may go to that page now."""
        return _IDS.index(page_id) <= self._visited or (page_id == "monitor" and bool(self.session.transports))

    def go_to(self, page_id: str) -> None:
        """Show a page, if it is open."""
        if self.alone or not self.is_open(page_id):
            self.bell()
            return
        if page_id == "monitor":
            self._begin_watch()
            self.switch_mode("monitor")
            return
        self.switch_mode("setup")
        if self._page != page_id:
            self._page = page_id
            self.switch_screen(_page_screen(page_id))
            self.in_background("draft", engine.draft(self))

    def go_forward(self, page_id: str) -> None:
        """To the page after this one."""
        following = _IDS[min(_IDS.index(page_id) + 1, len(_IDS) - 1)]
        self._visited = max(self._visited, _IDS.index(following))
        self.go_to(following)

    def go_back(self, page_id: str) -> None:
        """To the page before this one; from the monitor to where one came from."""
        if page_id == "monitor":
            self.go_to(self._page)
        elif page_id != _IDS[0]:
            self.go_to(_IDS[_IDS.index(page_id) - 1])

    def page_screens(self) -> list[PageScreen]:
        """The pages that are on screen, also under a question."""
        return [s for s in self.screen_stack if isinstance(s, PageScreen) and s.built and s.is_running]

    # Work

    def in_background(self, group: str, work: Coroutine[Any, Any, None]) -> None:
        """Start a worker that belongs to the application; one of a group at a time."""
        self.run_worker(work, name=group, group=group, description=group, exclusive=True)

    def begin_probe(self, only: Sequence[str] | None = None) -> None:
        """Look at the hosts, unless something runs already."""
        if not self.busy:
            self.busy = "probe"
            self.in_background("probe", self._probed(only))

    async def _probed(self, only: Sequence[str] | None) -> None:
        await engine.probe(self, only)
        if self.alone:
            self._begin_watch()

    def begin_plan(self, *, look_again: bool = False) -> None:
        """Build the plan, unless something runs already."""
        if not self.busy:
            self.busy = "plan"
            self.in_background("plan", engine.plan(self, look_again=look_again))

    def begin_apply(self) -> None:
        """Run the reviewed plan and show it."""
        if self.busy or self.session.plan is None:
            return
        self.busy, self.stopped = "apply", False
        self.progress.begin(self.session.plan)
        self._visited = _IDS.index("monitor")
        self.go_to("apply")
        self.in_background("apply", engine.apply(self))

    def _begin_watch(self) -> None:
        if not any(w.group == "monitor" and w.is_running for w in self.workers):
            self.in_background("monitor", engine.watch(self))

    @contextmanager
    def working(self, stage: Busy) -> Iterator[None]:
        """What an engine worker does inside is one stage; a failure is shown and kept as `failure`."""
        self.busy, self.failure = stage, None
        try:
            yield
        except GpuwizardError as error:
            self._failed(error)
        except ExceptionGroup as group:
            ours, foreign = group.split(GpuwizardError)
            if foreign is not None or ours is None:
                raise
            self._failed(engine.leaf(ours))
        finally:
            self.busy = ""
            self.call_next(self._settled)

    def _failed(self, error: GpuwizardError) -> None:
        self.failure = error
        self.push_screen(error_screen(error))

    def _settled(self) -> None:
        self.flush()
        for screen in self.page_screens():
            screen.draw()
            screen.redraw_steps()

    # Emit and Asker: all that the engine knows of us

    def emit(self, event: Event) -> None:
        """Take an event; it is drawn with others at the next flush."""
        self.session.events.append(event)
        self._pending.append(event)

    def flush(self) -> None:
        """Fold what came in and let the page on screen draw it once."""
        if not self._pending:
            return
        batch, self._pending = self._pending, []
        self.progress.fold(batch, self.session.clock.monotonic())
        for screen in self.page_screens():
            screen.progressed(batch)

    def _tick(self) -> None:
        for screen in self.page_screens():
            screen.tick()

    async def choose(self, question: Choice) -> str:
        """Ask a question with fixed answers; one at a time."""
        async with self._dialog:
            return await self.push_screen_wait(ChoiceScreen(question))

    async def secret(self, question: SecretPrompt) -> Secret | None:
        """Ask for a secret; one at a time."""
        async with self._dialog:
            return await self.push_screen_wait(SecretScreen(question))

    # Keys that work on every page

    def action_help(self) -> None:
        """Keys, and what the page is for."""
        from screens.help import help_lines

        shown = self.page_screens()
        self.push_screen(TextScreen("Help", help_lines(shown[-1].PAGE if shown else "hosts")))

    def action_monitor(self) -> None:
        """To the monitor and back."""
        if self.current_mode == "monitor":
            self.go_back("monitor")
        elif self.is_open("monitor"):
            self.go_to("monitor")
        else:
            self._say("there is nothing to watch yet: connect to hosts first")

    def _say(self, words: str) -> None:
        for screen in self.page_screens():
            screen.say(words, "warning")

    def action_save(self) -> None:
        """Write the answers file that reproduces this run."""
        path = self.session.answers_path or Path("site.toml")
        hint = "`gpuwizard --answers FILE` then does the same without questions; no secret is in it"
        self.push_screen(PathScreen("Save the answers", hint, path), self._save)

    def _save(self, path: Path | None) -> None:
        if path is not None:
            self.in_background("save", self._write(path))

    async def _write(self, path: Path, *, leave: bool = False) -> None:
        from gpuwizard import flow

        try:
            await asyncio.to_thread(flow.save_answers, self.session, path)
        except GpuwizardError as error:
            self.push_screen(error_screen(error))
            return
        self.saved = self.session.answers
        if leave:
            self.exit(self.exit_code())
            return
        for screen in self.page_screens():
            screen.say(f"saved: gpuwizard --answers {path}", "ok")

    def action_leave(self) -> None:
        """Quit; asks only while changes are being made."""
        if self.busy not in ("apply", "validate"):
            self._leave_idle()
            return
        question = Choice(
            "leave",
            "A run is going on",
            "Every host that is being changed has an armed revert: unless gpuwizard confirms it, the host puts itself "
            "back. `gpuwizard rollback` lists the runs.",
            (
                ("stay", "Stay"),
                ("stop", "Stop: put back what is in flight, begin nothing new"),
                ("leave", "Leave at once: hosts in flight revert by themselves"),
            ),
            "stay",
        )
        self.push_screen(ChoiceScreen(question), self._leave)

    def _leave_idle(self) -> None:
        """After a run whose answers are in no file, offer to write them: they do the same again without questions."""
        if self.applied is None or self.stopped or self.saved == self.session.answers:
            self.exit(self.exit_code())
            return
        path = self.session.answers_path or Path("site.toml")
        hint = "`gpuwizard --answers FILE` does the same again without questions; Esc leaves without the file"
        self.push_screen(PathScreen("Save the answers before you leave?", hint, path), self._save_and_leave)

    def _save_and_leave(self, path: Path | None) -> None:
        if path is None:
            self.exit(self.exit_code())
        else:
            self.in_background("save", self._write(path, leave=True))

    def _leave(self, answer: str | None) -> None:
        if answer == "stop":
            self.stopped = True
            self.workers.cancel_group(self, "apply")
            self._say("stopping: what is in flight is put back")
        elif answer == "leave":
            self.exit(None)

    def exit_code(self) -> int:
        """The exit code of `cli.md`: that of the run, or 0 when nothing was run."""
        hosts = self.session.hosts.values()
        if self.alone:
            return UnreachableError.exit_code if hosts and all(r.error is not None for r in hosts) else 0
        if self.stopped:
            return InterruptedRunError.exit_code
        if self.applied is None:
            return 0
        from gpuwizard.unattended import exit_code

        return exit_code(self.session)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return not (self.alone and action in ("monitor", "save"))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: the keys by name, the pages, and the theme."""
        yield SystemCommand("Help", "keys, and what this page is for", self.action_help)
        yield SystemCommand("Save answers", "the file that reproduces this run", self.action_save)
        yield SystemCommand("Theme", "other colours; ansi follows the terminal's own", self.action_change_theme)
        yield SystemCommand("Quit", "asks only while changes are being made", self.action_leave)
        for page in PAGES:
            if not self.alone and self.is_open(page.id):
                yield SystemCommand(f"Go to {page.title}", page.hint, lambda p=page.id: self.go_to(p))
