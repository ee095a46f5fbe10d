"""Page 1: which machines, how to log in, and, live, what each of them answered."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Button, Input, Select, Static, TextArea

from gpuwizard.errors import UsageError
from gpuwizard.pages import Problem
from gpuwizard.show.overview import SHOWN, Wanted
from screens.host import HostScreen
from screens.host_entry import HostEntry
from screens.host_table import HostTable
from screens.listing import ListScreen
from screens.summary import progress_line, tally_line
from screens.widgets.finder import Finder
from screens.widgets.rows import LazyRows
from screens.words import counted

__all__ = ["HostsScreen"]


class HostsScreen(ListScreen):
    """The list of hosts is text, so that one can paste it; it is folded away once there is something to see below."""

    PAGE = "hosts"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f4", "edit", "Edit", key_display="F4"),
        Binding("f5", "look", "Again", key_display="F5"),
    ]

    def body(self) -> ComposeResult:
        text = self.wizard.places.get("hosts", "\n".join(self.session.answers.hosts))
        connection = self.session.answers.connection
        yield HostEntry(text, connection, simulated=self.session.simulated, id="hosts-entry")
        yield Static(id="progress")
        hint = "filter: host, finding, GPU, system, severity"
        yield Finder(hint, text=self.wanted.text, id="filter")
        empty = "Name a host above; F3 connects to it and looks, changing nothing."
        yield HostTable(self.session, self.wizard.overview, empty=empty, id="table")

    def on_mount(self) -> None:
        self._fold(folded=self._looked_at())

    def _looked_at(self) -> bool:
        """True when there is something to see of any host."""
        return any(record.state != "waiting" for record in self.session.hosts.values())

    def _fold(self, *, folded: bool) -> None:
        """Fold the entry away and go to the table, or open it."""
        entry = self.query_one(HostEntry)
        entry.fold(folded)
        if folded:
            self.query_one(HostTable).focus()
            self.redraw()
        else:
            entry.begin()

    # Drawing

    def draw_page(self) -> None:
        overview = self.wizard.overview
        overview.refresh()
        looked_at = self._looked_at()
        self.query_one("#progress").display = looked_at
        self.query_one(Finder).display = looked_at
        self.query_one(HostTable).fit()
        self.draw_list()
        busy = self.wizard.busy == "probe"
        top = self.query_one("#progress", Static)
        width = top.size.width or 80
        line = progress_line(self.session, overview) if busy else tally_line(self.session, overview, width)
        top.update(line, layout=False)
        connection = self.session.answers.connection
        problem = self._list_problem()
        self.query_one(HostEntry).summarise(len(overview.order), connection, problem.text if problem else "")
        todo = self._unseen()
        self.query_one("#next", Button).label = Content("Connect F3" if todo or not overview.order else "Next F3")
        self._say_where_we_are(len(todo))

    def _say_where_we_are(self, todo: int) -> None:
        tally = self.wizard.overview.tally()
        if self.wizard.busy == "probe" or not tally:
            self.say_standing("")
        elif tally.get("failed") and not todo:
            hosts = counted(len(self.wizard.overview.order), "host")
            self.say_standing(f"{tally['failed']} of {hosts} did not answer; F5 tries again", "warning")
        elif not todo:
            self.say_standing("Enter opens a host · / filters · s shows trouble alone")
        else:
            self.say_standing("")

    # The list

    def shown_names(self) -> Sequence[str]:
        return tuple(SHOWN)

    def keys(self, wanted: Wanted) -> list[str]:
        return [line.name for line in self.wizard.overview.select(wanted)]

    def text_of(self, key: str) -> str:
        return self.wizard.overview.lines[key].text

    def _names(self) -> list[str]:
        return [name for name, _ in self.query_one(HostTable).rows]

    def on_rows_highlighted(self, event: LazyRows.Highlighted) -> None:
        self.wizard.places["host"] = event.key

    def on_rows_chosen(self, event: LazyRows.Chosen) -> None:
        self.app.push_screen(HostScreen(event.key, self._names), self._came_back)

    def _came_back(self, name: str | None) -> None:
        if name is not None and self.is_attached:
            self.query_one(HostTable).go_to(name)

    # The entry

    def action_edit(self) -> None:
        """Open the list of hosts, or fold it away."""
        self._fold(folded=not self.query_one(HostEntry).folded)

    def on_host_entry_pressed(self) -> None:
        self._fold(folded=False)

    def _unseen(self) -> list[str]:
        return [r.name for r in self.session.hosts.values() if r.state == "waiting"]

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Keep what is typed at once; say what is wrong only when one goes on."""
        self.wizard.places["hosts"] = event.text_area.text
        if self._take_hosts() is None:
            self.say_again()

    def _take_hosts(self) -> Problem | None:
        specs = self.query_one(HostEntry).specs
        try:
            if specs != self.session.answers.hosts:
                self.session.set_hosts(specs)
        except UsageError as error:
            return Problem("hosts", f"{error}: {error.remedy}" if error.remedy else str(error))
        return None

    def _list_problem(self) -> Problem | None:
        """What is wrong with the list while it is folded away."""
        return self._take_hosts() if self.query_one(HostEntry).folded else None

    def on_input_changed(self, event: Input.Changed) -> None:
        self._set_connection(event.input.id or "", event.value.strip() or None)

    def on_select_changed(self, event: Select.Changed) -> None:
        self._set_connection("host_keys", str(event.value))

    def _set_connection(self, field: str, value: str | None) -> None:
        connection = self.session.answers.connection
        if getattr(connection, field) != value:
            self.session.update(connection=connection.model_copy(update={field: value}))

    def on_input_submitted(self) -> None:
        self.action_forward()

    # On

    def problems(self) -> Sequence[Problem]:
        problem = self._take_hosts()
        return (problem,) if problem else super().problems()

    def focus_field(self, field: str) -> None:
        self._fold(folded=False)

    def action_forward(self) -> None:
        if self.wizard.busy:
            self.say("still looking at hosts: wait, or mend the list with F4", "warning")
            return
        problems = self.problems()
        unseen = self._unseen()
        if problems or not unseen:
            super().action_forward()
            return
        self._look_at(unseen)

    def action_look(self) -> None:
        """Connect to what failed, or look at all hosts again."""
        problem = self._take_hosts()
        if problem:
            self.show_problem(problem)
            return
        failed = [r.name for r in self.session.hosts.values() if r.state == "failed"]
        self._look_at(failed or None)

    def _look_at(self, names: Sequence[str] | None) -> None:
        self.wizard.begin_probe(names)
        self._fold(folded=True)
