"""Whether there is a terminal that a full-screen application can draw on, and whether it may use colours."""

import os
import sys

__all__ = ["can_run", "no_color"]


def can_run() -> str | None:
    """Return why the wizard cannot draw here, or None when it can.

    Textual draws on stderr and reads stdin; without a terminal it would draw anyway and hang (`textual.md §5.4`).
    """
    if not sys.stdin.isatty() or not sys.stderr.isatty():
        return "the wizard needs a terminal, and there is none"
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown", ""):
        return f"the wizard cannot draw on a terminal of type {os.environ.get('TERM', '') or 'unknown'}"
    return None


def no_color() -> bool:
    """True when NO_COLOR is set; an empty value counts as unset, which Textual would take for set."""
    if os.environ.get("NO_COLOR") == "":
        del os.environ["NO_COLOR"]
    return "NO_COLOR" in os.environ
