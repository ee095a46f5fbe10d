"""Which waits a reader of lines is told, and how they fit: one is emitted every second, and said when it says more."""

import textwrap

from gpuwizard.describe import describe
from gpuwizard.events import Waiting

__all__ = ["TellWaits", "folded"]

_LONG = 10.0
"""Seconds after which a wait is told to those who did not ask for everything."""
_AGAIN = {True: 10.0, False: 30.0}
"""Seconds after which it is told again in the same words, to a verbose reader and to another one."""


class TellWaits:
    """Remembers what was told of each host. A verbose reader hears of every wait and of every change of its words."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._told: dict[str | None, Waiting] = {}

    def line(self, event: Waiting) -> str:
        """The wait as one line; empty when there is nothing new to tell."""
        told = self._told.get(event.host)
        if told is not None and (told.condition != event.condition or event.elapsed < told.elapsed):
            told = None  # another wait
        if told is None:
            if not self._verbose and event.elapsed < _LONG:
                return ""
        elif event.elapsed - told.elapsed < _AGAIN[self._verbose] and (
            not self._verbose or (told.last_seen, told.likely) == (event.last_seen, event.likely)
        ):
            return ""
        self._told[event.host] = event
        return describe(event)


def folded(line: str, columns: int) -> str:
    """The line in as many rows of `columns` as it takes, the later ones two in."""
    return "\n".join(textwrap.wrap(line, columns, subsequent_indent="  ", break_on_hyphens=False)) or line
