"""Where hosts are named and how to log in: text, so that one can paste it; one line when it is not needed."""

from collections.abc import Sequence
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Label, Select, Static, TextArea

from gpuwizard.answers.model import Connection
from screens.words import counted, plain

__all__ = ["HostEntry"]

_FIELDS = (
    ("user", "Login name", "as in ~/.ssh/config"),
    ("identity", "Private key", "agent and ~/.ssh/config"),
    ("jump", "Jump host", "none, or [user@]host"),
)
_KEYS = (("ask", "ask"), ("refuse", "strict"), ("accept", "accept-new"))


class _HostList(TextArea):
    """Text with one host a line. F6 and F7 are keys of the wizard and not of the text."""

    def __init__(self, text: str, **options: Any) -> None:
        super().__init__(text, **options)
        for key in ("f6", "f7"):
            self._bindings.key_to_bindings.pop(key, None)


class _Folded(Static):
    """The line that stands for the whole entry; a click opens it."""

    ALLOW_SELECT = False

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.post_message(HostEntry.Pressed())


class HostEntry(Container):
    """The list of hosts and the fields of the login. What is typed is its screen's business."""

    class Pressed(Message):
        """A click on the folded entry."""

    def __init__(self, text: str, connection: Connection, *, simulated: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._text, self._connection, self._simulated = text, connection, simulated

    def compose(self) -> ComposeResult:
        yield _Folded(id="folded")
        with Horizontal(id="entry"):
            with Vertical(id="hosts-box"):
                yield Label("Hosts, one a line", classes="heading")
                yield _HostList(
                    self._text,
                    id="hosts",
                    compact=True,
                    tab_behavior="focus",
                    highlight_cursor_line=False,
                    placeholder="admin@gpu1\ngpu2:2222\n@hosts.txt\nlocal",
                )
            with Vertical(id="login-box"):
                yield Label("How to log in", classes="heading")
                yield from self._login()

    def _login(self) -> ComposeResult:
        if self._simulated:
            yield Static(
                "These hosts are simulated: real SSH servers on this machine, made for this run, "
                "with keys of their own. Nothing of your SSH setup is read, nothing real is touched.",
                classes="note",
            )
            return
        for name, label, hint in _FIELDS:
            with Horizontal(classes="field"):
                yield Label(label)
                yield Input(getattr(self._connection, name) or "", placeholder=hint, compact=True, id=name)
        with Horizontal(classes="field"):
            yield Label("Unknown keys")
            keys = self._connection.host_keys or "ask"
            yield Select(_KEYS, value=keys, allow_blank=False, compact=True, id="host_keys")

    @property
    def folded(self) -> bool:
        """True when it is one line."""
        return self.has_class("-folded")

    def fold(self, folded: bool) -> None:
        """Make it one line, or open it."""
        self.set_class(folded, "-folded")

    def summarise(self, hosts: int, connection: Connection, problem: str) -> None:
        """What the one line says."""
        parts = [counted(hosts, "host")]
        if self._simulated:
            parts.append("simulated")
        else:
            parts += [f"login {connection.user}"] if connection.user else []
            parts += [f"through {connection.jump}"] if connection.jump else []
        words = plain(problem, "$text-error") if problem else plain(" · ".join(parts), "$quiet")
        self.query_one("#folded", Static).update(Content.assemble(words, ("  F4 edits", "$text-accent")), layout=False)

    @property
    def specs(self) -> tuple[str, ...]:
        """The hosts as they are written: comments left out."""
        lines: Sequence[str] = self.query_one("#hosts", TextArea).text.splitlines()
        return tuple(word for line in lines for word in line.partition("#")[0].split())

    def begin(self) -> None:
        """Put the focus into the list of hosts."""
        self.query_one("#hosts", TextArea).focus()
