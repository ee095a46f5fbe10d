"""Page 2: what is right and wrong, finding by finding over all hosts or host by host, with the proof and what to do."""

from collections.abc import Hashable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content

from gpuwizard.session import HostRecord
from gpuwizard.show.by_finding import FoundOn, by_finding
from gpuwizard.show.hosts import gpu_summary, runtime_summary, system_summary
from gpuwizard.show.overview import SHOWN, HostLine, Wanted
from screens.describe_finding import found_lines
from screens.describe_host import finding_lines
from screens.host import HostScreen
from screens.listing import ListScreen
from screens.widgets.finder import Finder
from screens.widgets.lines import Line, Lines, heading, text
from screens.widgets.rows import Column, LazyRows
from screens.words import STYLES, counted, mark, plain

__all__ = ["FindingsScreen"]

_HOSTS = (Column("", 1), Column("Host", 10, 1), Column("Verdict", 10, right=True))
_FINDINGS = (
    Column("", 1),
    Column("Finding", 24, 8),
    Column("Id", 14, 1, shown_from=64),
    Column("Plan", 10, shown_from=64),
    Column("Hosts", 5, right=True),
)
_SEVERITIES = {"all": "", "errors": "error", "warnings": "warning", "notes": "info", "good": "ok"}


class FindingsScreen(ListScreen):
    """A list, trouble on top, and beside or below it what is known of the row under the cursor."""

    PAGE = "findings"
    AUTO_FOCUS = "#list"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f4", "view", "View", key_display="F4"),
        Binding("f5", "look", "Again", key_display="F5"),
        Binding("f6", "facts", "Facts", key_display="F6"),
        Binding("h", "hosts", "Its hosts", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[str, FoundOn] = {}
        self._order: object = None
        self._drawn: object = None

    @property
    def by_host(self) -> bool:
        """True when the list is one of hosts, and not of findings."""
        return self.wizard.places.get("findings:view") == "host"

    def place(self, what: str) -> str:
        return f"findings:{'host' if self.by_host else 'finding'}:{what}"

    def body(self) -> ComposeResult:
        yield Finder("filter", text=self.wanted.text, id="filter")
        with Container(classes="split"):
            yield LazyRows(_FINDINGS, self._cells, self._state, id="list", classes="list", empty="nothing is shown")
            yield Lines(id="pane", classes="pane")

    def on_mount(self) -> None:
        self._arrange()

    def _arrange(self) -> None:
        """Lay the page out for what the list holds."""
        self.query_one(".split").set_class(not self.by_host, "-stack", "-findings")
        self.query_one(LazyRows).columns = _HOSTS if self.by_host else _FINDINGS
        self.query_one(LazyRows).forget()
        self.query_one(Finder).hint("filter: host, finding, GPU, severity" if self.by_host else "filter: finding, host")
        self.refresh_bindings()

    # Drawing

    def draw_page(self) -> None:
        overview = self.wizard.overview
        overview.refresh()
        if self._order is not overview.order:
            self._order = overview.order
            self._found = {found.key: found for found in by_finding(self.session.hosts.values())}
        place = self.wizard.places.get(self.place("at")) if self._drawn is None else None
        self.draw_list(key=place)
        self.changed()
        self._say_where_we_are()

    def _say_where_we_are(self) -> None:
        tally = self.wizard.overview.tally()
        bad = tally.get("failed", 0) + tally.get("error", 0)
        mended = tally.get("mended", 0)
        if self.wizard.busy == "probe":
            self.say_standing("looking at the hosts again", "running")
        elif bad:
            words = f"{counted(bad, 'host')} need{'s' if bad == 1 else ''} you first; the plan mends {mended}"
            self.say_standing(words, "warning")
        elif mended:
            self.say_standing(f"the plan mends {counted(mended, 'host')}", "ok")
        else:
            self.say_standing("no error on any host", "ok")

    def changed(self) -> None:
        key = self.query_one(LazyRows).key
        now = (self.by_host, key, self._order)
        if now == self._drawn:
            return
        keep = isinstance(self._drawn, tuple) and self._drawn[:2] == now[:2]
        self._drawn = now
        self.query_one(Lines).show(self._about(key), keep=keep)

    def _about(self, key: str | None) -> list[Line]:
        """What is known of a row."""
        if key is None:
            return []
        if not self.by_host:
            return list(found_lines(self._found[key], self.session.hosts.values())) if key in self._found else []
        record = self.session.hosts.get(key)
        return _host_lines(record) if record is not None else []

    def side(self) -> Content:
        other = "by finding" if self.by_host else "by host"
        return Content.assemble(("F4", "$text-accent"), (f" {other}  ", "$quiet"))

    # The list

    def shown_names(self) -> Sequence[str]:
        return tuple(SHOWN) if self.by_host else tuple(_SEVERITIES)

    def keys(self, wanted: Wanted) -> list[str]:
        if self.by_host:
            return [line.name for line in self.wizard.overview.select(wanted)]
        severity = _SEVERITIES[wanted.shown]
        found = (f for f in self._found.values() if severity in ("", f.severity))
        return [f.key for f in found if not wanted.text or wanted.matches(f.text)]

    def text_of(self, key: str) -> str:
        return self.wizard.overview.lines[key].text if self.by_host else self._found[key].text

    def _state(self, key: str) -> Hashable:
        return self.wizard.overview.lines.get(key) if self.by_host else self._found.get(key)

    def _cells(self, key: str) -> tuple[Content, ...]:
        if self.by_host:
            line = self.wizard.overview.lines.get(key)
            return _host_cells(line) if line is not None else ()
        found = self._found.get(key)
        return _finding_cells(found) if found is not None else ()

    def on_rows_highlighted(self, event: LazyRows.Highlighted) -> None:
        self.wizard.places[self.place("at")] = event.key
        self.changed()

    def on_rows_chosen(self, event: LazyRows.Chosen) -> None:
        """A host over the whole screen; of a finding the text below."""
        if self.by_host:
            self._open(event.key)
        else:
            self.query_one(Lines).focus()

    def _open(self, name: str, *, facts: bool = False) -> None:
        table = self.query_one(LazyRows)
        screen = HostScreen(name, lambda: [key for key, _ in table.rows], facts=facts)
        self.app.push_screen(screen, self._came_back)

    def _came_back(self, name: str | None) -> None:
        if name is not None and self.is_attached and self.by_host:
            self.query_one(LazyRows).go_to(name)

    def on_descendant_focus(self) -> None:
        """In a narrow terminal the list makes room for the text that is being read."""
        self.query_one(".split").set_class(self.query_one(Lines).has_focus, "-reading")

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "facts":
            return self.by_host
        if action == "hosts":
            return not self.by_host
        return super().check_action(action, parameters)

    def action_view(self) -> None:
        """By finding, or by host."""
        self.wizard.places["findings:view"] = "finding" if self.by_host else "host"
        self._drawn = None
        self._arrange()
        self.query_one(Finder).set(self.wanted.text)
        self.query_one(LazyRows).focus()
        self.draw()

    def action_hosts(self) -> None:
        """The hosts that have the finding under the cursor, one by one."""
        found = self._found.get(self.query_one(LazyRows).key or "")
        if found is not None:
            self.wizard.places["findings:host:filter"] = (found.id or found.title).lower()
            self.action_view()

    def action_facts(self) -> None:
        """Every fact of the chosen host."""
        key = self.query_one(LazyRows).key
        if key is not None:
            self._open(key, facts=True)

    def action_look(self) -> None:
        """Look at all hosts again, over the open connections."""
        self.wizard.begin_probe()
        self.draw()

    def action_clear(self) -> None:
        """From the text back to the list; there, show everything again."""
        if self.query_one(Lines).has_focus:
            self.query_one(LazyRows).focus()
        else:
            super().action_clear()


def _host_cells(line: HostLine) -> tuple[Content, ...]:
    return mark(line.kind), plain(line.name), plain(line.short, STYLES[line.kind])


def _finding_cells(found: FoundOn) -> tuple[Content, ...]:
    mends = ""
    if found.mended:
        mends = "mends all" if found.mended == len(found.hosts) else f"mends {found.mended}"
    return (
        mark(found.severity),
        plain(found.title, STYLES[found.severity] if found.severity in ("error", "warning") else ""),
        plain(found.id, "$quiet"),
        plain(mends, "$text-success"),
        Content(str(len(found.hosts))),
    )


def _host_lines(record: HostRecord) -> list[Line]:
    lines = [heading(plain(record.name, "$text-accent"))]
    if record.probe is not None:
        facts = record.probe.facts
        summary = f"{system_summary(facts)} · {gpu_summary(facts)} · {runtime_summary(facts)}"
        lines.append(text(plain(summary, "$quiet")))
    return [*lines, text(), *finding_lines(record)]
