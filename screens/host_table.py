"""The live table of hosts: one line each at 80 columns, more columns where there is room."""

from collections.abc import Hashable

from textual.content import Content

from gpuwizard.session import Session
from gpuwizard.show.overview import HostLine, Overview, waiting_for
from screens.widgets.rows import Column, LazyRows
from screens.words import STYLES, duration, mark, plain

__all__ = ["HostTable"]

_VERDICT = 7
_ROOM_FOR_WORDS = 24
"""Cells that the verdict needs before other columns are shown in full."""


def _columns(host: int, gpus: int, width: int) -> tuple[Column, ...]:
    """The columns at a table of that width; `host` and `gpus` are the longest texts of these columns."""
    wide = width >= 100
    host = max(8, min(host, 32 if wide else 20))
    gpus = max(6, min(gpus, 24 if wide else 14))
    flavour = 9 if wide or width - host - gpus - 26 >= _ROOM_FOR_WORDS else 0
    return (
        Column("", 1),
        Column("Host", host),
        Column("System", 14, 1, shown_from=104),
        Column("GPUs", gpus),
        Column("Driver", 10, shown_from=96),
        Column("Flavour", flavour, shown_from=0 if flavour else 1000),
        Column("Runtime", 16, 1, shown_from=130),
        Column("Verdict", 10, 10),
        Column("Time", 5, right=True),
    )


class HostTable(LazyRows):
    """Draws the lines of an `Overview`; hosts that are being looked at say what they wait for, and for how long."""

    def __init__(self, session: Session, overview: Overview, *, empty: str, id: str | None = None) -> None:
        super().__init__(_columns(12, 12, 76), self._cells, self._state, empty=empty, id=id)
        self._session = session
        self._overview = overview

    def fit(self) -> None:
        """Make the columns fit what is in them and the width there is."""
        lines = self._overview.lines.values()
        host = max((len(line.name) for line in lines), default=0)
        gpus = max((len(_model(line)) for line in lines), default=0)
        columns = _columns(host, gpus, self.scrollable_content_region.width)
        if columns != self.columns:
            self.columns = columns
            self.forget()

    def on_resize(self) -> None:
        super().on_resize()
        self.fit()

    def _state(self, name: str) -> Hashable:
        """What the row depends on: the line itself, and for a host that is not finished its step and the seconds."""
        line, record = self._overview.lines.get(name), self._session.hosts.get(name)
        if line is None or record is None or line.group not in ("running", "waiting"):
            return line
        return line, record.step, duration(record.elapsed(self._session.clock.monotonic()))

    def _cells(self, name: str) -> tuple[Content, ...]:
        line, record = self._overview.lines.get(name), self._session.hosts.get(name)
        if line is None or record is None:
            return (mark("waiting"), plain(name))
        seconds = duration(record.elapsed(self._session.clock.monotonic()))
        shown = plain(name, "bold")
        if line.group == "failed":
            return mark(line.kind), shown, plain(line.words, "$text-error")
        if line.group in ("running", "waiting"):
            words = Content.assemble(waiting_for(record), (f" · {seconds}" if seconds else "", "$text-accent"))
            return mark(line.kind), shown, words if line.group == "running" else words.stylize("$quiet")
        return (
            mark(line.kind),
            shown,
            plain(line.distribution, "$quiet"),
            plain(_model(line)),
            plain(line.driver),
            plain(line.kubernetes),
            plain(line.runtime),
            _verdict(line, self.widths()[_VERDICT]),
            Content.styled(seconds, "$quiet"),
        )


def _model(line: HostLine) -> str:
    """The GPUs without the name of the maker, which is the same for all."""
    return line.gpus.replace("NVIDIA ", "")


def _verdict(line: HostLine, width: int) -> Content:
    """The worst finding, cut so that the number of the others is seen."""
    more = f" +{line.more}" if line.more else ""
    words = plain(line.words, STYLES[line.kind])
    return Content.assemble(words.truncate(max(width - len(more), 1), ellipsis=True), (more, "$quiet"))
