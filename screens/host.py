"""One host over the whole screen: findings, then every fact; from host to host, and words found in the text."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from gpuwizard.session import HostRecord
from gpuwizard.show.overview import host_line, waiting_for
from screens.describe_host import FACTS, host_lines
from screens.widgets.finder import Finder
from screens.widgets.lines import Lines
from screens.words import duration, mark, plain

if TYPE_CHECKING:
    from screens.app import GpuwizardApp

__all__ = ["HostScreen"]


class HostScreen(ModalScreen[str]):
    """Ends with the name of the host that was looked at last, so that its list can go there.

    `names` are the hosts of that list in their order, asked anew each time: they may change meanwhile.
    """

    AUTO_FOCUS = "Lines"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "clear_or_leave", "Close", show=False),
        Binding("q,f1", "leave", "Close", show=False),
        Binding("left,left_square_bracket", "turn(-1)", "Previous host", show=False),
        Binding("right,right_square_bracket", "turn(1)", "Next host", show=False),
        Binding("f,f6", "facts", "Facts", show=False),
        Binding("slash", "find", "Find", show=False),
        Binding("n", "find_next(1)", "Next place", show=False),
        Binding("N,upper_n", "find_next(-1)", "Place before", show=False),
    ]

    def __init__(self, name: str, names: Callable[[], Sequence[str]], *, facts: bool = False) -> None:
        super().__init__()
        self.host = name
        self._names = names
        self._at_facts = facts
        self._drawn: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -host"):
            with Horizontal(classes="dialog-head"):
                yield Static(id="host-title")
                yield Static(id="host-place")
            yield Lines(classes="dialog-body")
            yield Finder("find in this host; n goes to the next place, N to the one before", classes="-hidden")
            with Horizontal(classes="dialog-buttons"):
                yield Button("←", id="before", compact=True, classes="-small", tooltip="the host before")
                yield Button("→", id="after", compact=True, classes="-small", tooltip="the next host")
                yield Button("Facts f", id="facts", compact=True)
                yield Button("Find /", id="find", compact=True)
                yield Button("Close Esc", id="close", compact=True)

    @property
    def _record(self) -> HostRecord | None:
        return cast("GpuwizardApp", self.app).session.hosts.get(self.host)

    def on_mount(self) -> None:
        self.draw(keep=False)
        if self._at_facts:
            self.call_after_refresh(self.query_one(Lines).go_to, FACTS)
        self.set_interval(0.5, self.draw)

    def draw(self, *, keep: bool = True) -> None:
        """Draw what is known now; nothing when that is what is drawn already."""
        record = self._record
        if record is None:
            self.action_leave()
            return
        self._draw_head(record)
        now = (self.host, record.state, record.probe, record.findings, record.error, record.step)
        if now == self._drawn:
            return
        self._drawn = now
        self.query_one(Lines).show(host_lines(record), keep=keep)
        self._say_found()

    def _draw_head(self, record: HostRecord) -> None:
        line, names = host_line(record), self._names()
        session = cast("GpuwizardApp", self.app).session
        words = f"{line.words}{f', {line.more} more' if line.more else ''}"
        if line.group in ("running", "waiting"):
            seconds = duration(record.elapsed(session.clock.monotonic()))
            words = f"{waiting_for(record)}{' · ' + seconds if seconds else ''}"
        title = Content.assemble(
            mark(line.kind), " ", plain(self.host, "bold $text-accent"), "  ", plain(words, "$quiet")
        )
        place = f"{names.index(self.host) + 1} of {len(names)}" if self.host in names else ""
        self.query_one("#host-title", Static).update(title)
        self.query_one("#host-place", Static).update(place)
        for button, step in (("#before", -1), ("#after", 1)):
            self.query_one(button, Button).disabled = self._beside(step) is None

    def _beside(self, step: int) -> str | None:
        """The host before or after this one."""
        names = self._names()
        at = names.index(self.host) + step if self.host in names else 0
        return names[at] if 0 <= at < len(names) and names[at] != self.host else None

    def action_turn(self, step: int) -> None:
        """To the next host or the one before, at the same chapter."""
        name = self._beside(step)
        if name is None:
            self.app.bell()
            return
        pane = self.query_one(Lines)
        chapter = pane.anchor_here()
        self.host = name
        self.draw(keep=False)
        if chapter:
            self.call_after_refresh(pane.go_to, chapter)

    def action_facts(self) -> None:
        """To the facts, or back to the findings."""
        pane = self.query_one(Lines)
        at = pane.anchor_here()
        record = self._record
        findings = {f.id for f in record.findings} | {"", "findings"} if record is not None else set()
        if at in findings:
            pane.go_to(FACTS)
        else:
            pane.scroll_home(animate=False)

    def action_find(self) -> None:
        """Ask for words to find."""
        finder = self.query_one(Finder)
        finder.remove_class("-hidden")
        finder.begin()

    def action_find_next(self, step: int) -> None:
        """To the next place of the words, or to the one before."""
        self.query_one(Lines).find_next(step)
        self._say_found()

    def on_finder_changed(self, event: Finder.Changed) -> None:
        self.query_one(Lines).find(event.text)
        self._say_found()

    def on_finder_left(self) -> None:
        self.query_one(Finder).set_class(not self.query_one(Finder).text, "-hidden")
        self.query_one(Lines).focus()

    def _say_found(self) -> None:
        finder = self.query_one(Finder)
        at, of = self.query_one(Lines).found
        finder.say(plain(f"{at} of {of}" if of else "not found" if finder.text else "", "$quiet"))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        match event.button.id:
            case "before":
                self.action_turn(-1)
            case "after":
                self.action_turn(1)
            case "facts":
                self.action_facts()
            case "find":
                self.action_find()
            case _:
                self.action_leave()
        if event.button.id not in ("find", "close"):
            self.query_one(Lines).focus()

    def action_clear_or_leave(self) -> None:
        """First forget what was looked for, then close."""
        finder = self.query_one(Finder)
        if finder.text:
            finder.clear()
            finder.add_class("-hidden")
        else:
            self.action_leave()

    def action_leave(self) -> None:
        self.dismiss(self.host)
