"""Page 1: which machines, how to log in, and, live, what each of them answered."""

from collections.abc import Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Label, Select, Static, TextArea

from gpuwizard.errors import UsageError
from gpuwizard.events import Event
from gpuwizard.pages import Problem
from gpuwizard.session import HostRecord
from screens.page import PageScreen
from screens.widgets.rows import Column, Row, Rows
from screens.words import counted, duration, mark, plain

__all__ = ["MENDED", "HostsScreen", "host_row", "trouble_first", "verdict"]

_COLUMNS = (
    Column("", 1),
    Column("Host", 12, 2),
    Column("System", 20, 2, shown_from=100),
    Column("GPUs", 16, 2),
    Column("Kubernetes, runtime", 26, 1),
    Column("Verdict", 10),
    Column("Time", 5, right=True, shown_from=90),
)
_FIELDS = (
    ("user", "Login name", "as in ~/.ssh/config"),
    ("identity", "Private key", "agent and ~/.ssh/config"),
    ("jump", "Jump host", "none, or [user@]host"),
)
_KEYS = (("ask", "ask"), ("refuse", "strict"), ("accept", "accept-new"))
_RUNNING = ("connecting", "probing")
_RANKS = {"failed": 0, "connecting": 5, "probing": 5, "waiting": 6}
MENDED = "plan mends"


def trouble_first(record: HostRecord) -> tuple[int, str]:
    """Sorts hosts: failed, errors, what the plan mends, warnings, good ones, unfinished ones."""
    if record.state != "ready":
        return _RANKS[record.state], record.name
    kind, words = verdict(record)
    return {"error": 1, "warning": 2 if words == MENDED else 3, "ok": 4}[kind], record.name


def verdict(record: HostRecord) -> tuple[str, str]:
    """The kind and the words that sum up a host's findings."""
    errors = [f for f in record.findings if f.severity == "error"]
    warnings = record.severity_count("warning")
    if any(not f.fixable for f in errors):
        return "error", counted(len(errors), "error")
    if errors:
        return "warning", MENDED
    if warnings:
        return "warning", counted(warnings, "warning")
    return "ok", "ok"


def host_row(record: HostRecord, now: float) -> Row:
    """One host as a row of the live table."""
    from gpuwizard.show import gpu_summary, runtime_summary

    name = plain(record.name, "bold")
    if record.error is not None:
        return record.name, (mark("error"), name, plain(record.error, "$text-error"))
    if record.state in _RUNNING:
        words = {"connecting": "logging in", "probing": "looking"}[record.state]
        return record.name, (mark("running"), name, Content(f"{words} · {duration(now - record.since)}"))
    if record.probe is None:
        return record.name, (mark("waiting"), name, Content.styled("not looked at yet", "$quiet"))
    facts = record.probe.facts
    kind, words = verdict(record)
    return record.name, (
        mark(kind),
        name,
        plain(facts.os.pretty_name or facts.os.id or "unknown"),
        plain(gpu_summary(facts)),
        plain(runtime_summary(facts)),
        Content.styled(words, {"error": "$text-error", "warning": "$text-warning"}.get(kind, "$text-success")),
        Content(duration(record.seconds)),
    )


class _HostList(TextArea):
    """Text with one host a line. F6 and F7 are keys of the wizard and not of the text."""

    def __init__(self, text: str, **options: Any) -> None:
        super().__init__(text, **options)
        for key in ("f6", "f7"):
            self._bindings.key_to_bindings.pop(key, None)


class HostsScreen(PageScreen):
    """The list of hosts is text, so that one can paste it; what is known of them stands below."""

    PAGE = "hosts"
    AUTO_FOCUS = "#hosts"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("f5", "look", "Again", key_display="F5")]

    def body(self) -> ComposeResult:
        simulated = self.session.simulated
        with Horizontal(id="entry"):
            with Vertical(id="hosts-box"):
                yield Label("Hosts, one a line", classes="heading")
                yield _HostList(
                    self.wizard.places.get("hosts", "\n".join(self.session.answers.hosts)),
                    id="hosts",
                    compact=True,
                    tab_behavior="focus",
                    highlight_cursor_line=False,
                    placeholder="admin@gpu1\ngpu2:2222\n@hosts.txt\nlocal",
                )
            with Vertical(id="login-box"):
                yield Label("How to log in", classes="heading")
                if simulated:
                    yield Static(
                        "These hosts are simulated: real SSH servers on this machine, made for this run, "
                        "with keys of their own. Nothing of your SSH setup is read, nothing real is touched.",
                        classes="note",
                    )
                else:
                    yield from self._login_fields()
        yield Rows(_COLUMNS, id="table", empty="Name a host above; F3 connects to it and looks, changing nothing.")

    def _login_fields(self) -> ComposeResult:
        chosen = self.session.answers.connection
        for name, label, hint in _FIELDS:
            with Horizontal(classes="field"):
                yield Label(label)
                yield Input(getattr(chosen, name) or "", placeholder=hint, compact=True, id=name)
        with Horizontal(classes="field"):
            yield Label("Unknown keys")
            yield Select(_KEYS, value=chosen.host_keys or "ask", allow_blank=False, compact=True, id="host_keys")

    def draw(self) -> None:
        now = self.session.clock.monotonic()
        records = sorted(self.session.hosts.values(), key=trouble_first)
        self.query_one(Rows).show([host_row(record, now) for record in records])
        button = self.query_one("#next")
        todo = self._unseen()
        button.label = Content("Connect F3" if todo or not records else "Next F3")  # type: ignore[attr-defined]
        self._say_where_we_are(len(todo))

    def _say_where_we_are(self, todo: int) -> None:
        records = self.session.hosts.values()
        done = sum(1 for r in records if r.state in ("ready", "failed"))
        failed = sum(1 for r in records if r.state == "failed")
        if self.wizard.busy == "probe":
            self.say(f"{done} of {counted(len(records), 'host')} answered", "running")
        elif failed and not todo:
            self.say(f"{failed} of {counted(len(records), 'host')} did not answer; F5 tries again", "warning")
        elif records and not todo:
            self.say(f"{counted(len(records), 'host')} looked at", "ok")
        else:
            self.say("")

    def tick(self) -> None:
        if self.wizard.busy == "probe":
            self.draw()

    def progressed(self, events: Sequence[Event]) -> None:
        if any(event.stage == "probe" for event in events):
            self.draw()

    def _unseen(self) -> list[str]:
        return [r.name for r in self.session.hosts.values() if r.state == "waiting"]

    def _specs(self) -> tuple[str, ...]:
        lines = self.query_one("#hosts", TextArea).text.splitlines()
        return tuple(word for line in lines for word in line.partition("#")[0].split())

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Keep what is typed at once; say what is wrong only when one goes on."""
        self.wizard.places["hosts"] = event.text_area.text
        if self._take_hosts() is None:
            self.draw()

    def _take_hosts(self) -> Problem | None:
        try:
            if self._specs() != self.session.answers.hosts:
                self.session.set_hosts(self._specs())
        except UsageError as error:
            return Problem("hosts", f"{error}: {error.remedy}" if error.remedy else str(error))
        return None

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

    def problems(self) -> Sequence[Problem]:
        problem = self._take_hosts()
        return (problem,) if problem else super().problems()

    def focus_field(self, field: str) -> None:
        self.query_one("#hosts", TextArea).focus()

    def action_forward(self) -> None:
        if self.wizard.busy:
            self.say("still looking at hosts: wait, or mend the list", "warning")
            return
        problems = self.problems()
        unseen = self._unseen()
        if problems or not unseen:
            super().action_forward()
            return
        self.wizard.begin_probe(unseen)
        self.draw()

    def action_look(self) -> None:
        """Connect to what failed, or look at all hosts again."""
        problem = self._take_hosts()
        if problem:
            self.show_problem(problem)
            return
        failed = [r.name for r in self.session.hosts.values() if r.state == "failed"]
        self.wizard.begin_probe(failed or None)
        self.draw()
