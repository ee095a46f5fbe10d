"""Marks, colours and short words that all screens share; text from hosts becomes inert `Content` here."""

from textual.content import Content

from gpuwizard.clean import clean, clean_line
from gpuwizard.show.words import MARKS, amount, duration, listed
from gpuwizard.show.words import count as counted

__all__ = ["MARKS", "STYLES", "amount", "block", "counted", "duration", "listed", "literal", "mark", "plain"]

STYLES = {
    "error": "$text-error",
    "warning": "$text-warning",
    "info": "$quiet",
    "ok": "$text-success",
    "running": "$text-accent",
    "waiting": "$quiet",
}


def plain(text: object, style: str = "", limit: int = 500) -> Content:
    """Text that is not ours, on one line: never parsed as markup, unable to drive the terminal."""
    return Content.styled(clean_line(str(text), limit), style)


def block(text: object, style: str = "") -> tuple[Content, ...]:
    """Text that is not ours, line by line."""
    return tuple(Content.styled(line, style) for line in clean(str(text)).split("\n"))


def literal(text: str, style: str = "") -> Content:
    """Our own words."""
    return Content.styled(text, style)


def mark(kind: str) -> Content:
    """The mark of a severity or state; its colour only repeats what the character says."""
    return Content.styled(MARKS[kind], STYLES[kind])
