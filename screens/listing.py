"""A page with a list that can be filtered, searched and shown in part: what Hosts and Findings have in common."""

import time
from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from gpuwizard.events import Event
from gpuwizard.show.overview import Wanted
from screens.page import PageScreen
from screens.widgets.finder import Finder
from screens.widgets.rows import LazyRows
from screens.words import plain

__all__ = ["ListScreen"]

_LIVE = 0.25
"""Seconds between two looks at what has changed."""
_SHARE = 5
"""After drawing, nothing is drawn for this many times as long as it took."""


class ListScreen(PageScreen):
    """Subclasses have one `LazyRows` and one `Finder`, and say what the list holds. What is filtered is kept in the
    wizard's places, so that one finds it again on return."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "find", "Filter", show=False),
        Binding("n", "find_next(1)", "Next match", show=False),
        Binding("N,upper_n", "find_next(-1)", "Match before", show=False),
        Binding("s", "shown(1)", "Show", show=False),
        Binding("S,upper_s", "shown(-1)", "Show", show=False),
        Binding("escape", "clear", "Show all", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._next_draw = 0.0
        self._stale = False
        self._standing: tuple[str, str] | None = None

    def on_mount(self) -> None:
        self.set_interval(_LIVE, self._live)

    # Drawing: at once where it is quick, else only so often that keys never wait for it

    def draw(self) -> None:
        began = time.perf_counter()
        self.draw_page()
        self._stale = False
        now = time.perf_counter()
        self._next_draw = now + (now - began) * _SHARE

    def progressed(self, events: Sequence[Event]) -> None:
        if any(event.stage == "probe" for event in events):
            self._stale = True
            self._live()

    def tick(self) -> None:
        self._stale = self._stale or self.wizard.busy == "probe"

    def _live(self) -> None:
        if self._stale and time.perf_counter() >= self._next_draw:
            self.draw()
        elif self.wizard.busy == "probe" and self.is_current:
            self.query_one(LazyRows).refresh()  # what running hosts wait for

    def say_standing(self, text: str, kind: str = "info") -> None:
        """Say how things stand, when they stand otherwise than before: what was said since is not drawn over."""
        if self._standing != (text, kind):
            self._standing = (text, kind)
            self.say(text, kind)

    def say_again(self) -> None:
        """What was said is settled: draw, and say how things stand."""
        self._standing = None
        self.draw()

    # What a subclass says

    def draw_page(self) -> None:
        """Draw everything from the session."""
        raise NotImplementedError

    def shown_names(self) -> Sequence[str]:
        """What can be shown alone; the first name stands for everything."""
        raise NotImplementedError

    def keys(self, wanted: Wanted) -> list[str]:
        """The keys of the rows that are wanted, in their order."""
        raise NotImplementedError

    def text_of(self, key: str) -> str:
        """What a search in the list looks at, in lower case."""
        raise NotImplementedError

    def side(self) -> Content:
        """What else is to be said at the right end of the filter."""
        return Content("")

    def changed(self) -> None:
        """Another row is under the cursor, or the rows are others."""

    # The filter

    @property
    def wanted(self) -> Wanted:
        """The filter as it is set."""
        return Wanted(self.wizard.places.get(self.place("filter"), ""), self._shown())

    def _shown(self) -> str:
        shown = self.wizard.places.get(self.place("shown"), "")
        return shown if shown in self.shown_names() else self.shown_names()[0]

    def place(self, what: str) -> str:
        """The name under which the wizard keeps something of this list."""
        return f"{self.PAGE}:{what}"

    def draw_list(self, *, key: str | None = None) -> None:
        """Draw the rows that are wanted; the cursor stays on its row, wherever that is now."""
        table = self.query_one(LazyRows)
        before = table.key
        keys = self.keys(self.wanted)
        table.show_keys(keys, key)
        self.say_found(len(keys))
        if table.key != before or key is not None:
            self.changed()

    def say_found(self, number: int) -> None:
        """At the right end of the filter: what is shown, how many of how many."""
        every = len(self.keys(Wanted(shown=self.shown_names()[0]))) if self._is_filtered() else number
        shown = f"{number} of {every}" if self._is_filtered() else f"{number}"
        style = "$text-warning" if self._is_filtered() else "$quiet"
        words = Content.assemble(
            self.side(),
            ("s", "$text-accent"),
            (" shows: ", "$quiet"),
            plain(self._shown(), style),
            "  ",
            plain(shown, style),
        )
        self.query_one(Finder).say(words)

    def _is_filtered(self) -> bool:
        return bool(self.wanted.text) or self._shown() != self.shown_names()[0]

    def _filter(self) -> None:
        """The filter is another one: keep the cursor's row if it is still there, else begin at the top."""
        keys = self.keys(self.wanted)
        at = self.query_one(LazyRows).key
        self.draw_list(key=None if at in keys or not keys else keys[0])

    def on_finder_changed(self, event: Finder.Changed) -> None:
        if event.text:
            self.wizard.places[self.place("sought")] = event.text
        if event.text != self.wanted.text:
            self.wizard.places[self.place("filter")] = event.text
            self._filter()

    def on_finder_left(self, event: Finder.Left) -> None:
        self.query_one(LazyRows).focus()
        if event.cleared:
            self._say_what_was_sought()

    def on_finder_pressed(self) -> None:
        self.action_shown(1)

    def action_find(self) -> None:
        """To the filter; what was typed there is selected, so that typing replaces it."""
        self.query_one(Finder).begin()

    def action_shown(self, step: int) -> None:
        """Show something else alone: errors, trouble, …"""
        names = list(self.shown_names())
        self.wizard.places[self.place("shown")] = names[(names.index(self._shown()) + step) % len(names)]
        self._filter()

    def action_clear(self) -> None:
        """Show everything again; what was looked for can still be found with n."""
        if not self._is_filtered():
            return
        self.wizard.places[self.place("shown")] = self.shown_names()[0]
        self.wizard.places[self.place("filter")] = ""
        self.query_one(Finder).clear()
        self._filter()
        self._say_what_was_sought()

    def _say_what_was_sought(self) -> None:
        if sought := self.wizard.places.get(self.place("sought")):
            self.say(f"all are shown again; n goes to the next match of {sought}")

    def action_find_next(self, step: int) -> None:
        """To the next row that matches what was looked for last, also when all rows are shown."""
        table, sought = self.query_one(LazyRows), self.wizard.places.get(self.place("sought"), "")
        if not sought:
            self.action_find()
            return
        match = _next_match([row[0] for row in table.rows], table.cursor, step, self._matching(sought))
        if match is None:
            self.say(f"nothing matches {sought}", "warning")
        else:
            table.go_to(match)

    def _matching(self, sought: str) -> set[str]:
        wanted = Wanted(sought)
        return {key for key, _ in self.query_one(LazyRows).rows if wanted.matches(self.text_of(key))}


def _next_match(keys: Sequence[str], cursor: int, step: int, matching: Iterable[str]) -> str | None:
    """The next key in that direction, round the end, that is among `matching`."""
    wanted = set(matching)
    for away in range(1, len(keys) + 1):
        key = keys[(cursor + step * away) % len(keys)]
        if key in wanted:
            return key
    return None
