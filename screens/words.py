"""Marks, colours and short words that all screens share; text from hosts becomes inert `Content` here."""

from collections.abc import Sequence

from textual.content import Content

from gpuwizard.clean import clean, clean_line

__all__ = ["MARKS", "STYLES", "amount", "block", "counted", "duration", "listed", "literal", "mark", "plain"]

MARKS = {"error": "✗", "warning": "!", "info": "·", "ok": "✓", "running": "▶", "waiting": "·"}
STYLES = {
    "error": "$text-error",
    "warning": "$text-warning",
    "info": "$quiet",
    "ok": "$text-success",
    "running": "$text-accent",
    "waiting": "$quiet",
}

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


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


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 host``, ``3 hosts``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float | None) -> str:
    """``4 s``, ``1:05``, ``1:02:03``; empty when it is not known."""
    if seconds is None:
        return ""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def amount(size: int | None) -> str:
    """Bytes as ``80.0 GiB``; ``N/A`` when they are not known, never 0."""
    if size is None:
        return "N/A"
    power = 0
    while size >= 1024 ** (power + 1) and power < len(_UNITS) - 1:
        power += 1
    value = size / 1024**power
    return f"{value:.{0 if power == 0 or value >= 100 else 1}f} {_UNITS[power]}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """``a, b, c and 4 more``."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"
