"""Marks, counts, sizes and times as all front ends write them; plain text, nothing of a terminal."""

import re
from collections.abc import Iterable, Sequence

__all__ = ["MARKS", "amount", "clock", "count", "duration", "folded", "listed", "natural"]

MARKS = {"error": "✗", "warning": "!", "info": "·", "ok": "✓", "running": "▶", "waiting": "·"}
"""One character a severity or state: no meaning is carried by a colour alone."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_NUMBERED = re.compile(r"(.*?)([0-9]{1,9})([^0-9]*)", re.DOTALL)


def count(number: int, what: str, many: str = "") -> str:
    """``1 host``, ``3 hosts``."""
    return f"{number} {what}" if number == 1 else f"{number} {many or what + 's'}"


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


def clock(seconds: float) -> str:
    """How far a clock is off: ``3.2 s ahead``, ``1:05 behind``; ``right`` below a tenth of a second."""
    if abs(seconds) < 0.1:
        return "right"
    size = f"{abs(seconds):.1f} s" if abs(seconds) < 60 else duration(abs(seconds))
    return f"{size} {'ahead' if seconds > 0 else 'behind'}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """``a, b, c and 4 more``."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key under which ``gpu2`` comes before ``gpu10``."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+|[0-9]+", name)
    return tuple((0, int(part), part) if part.isascii() and part.isdecimal() else (1, 0, part) for part in parts)


def folded(names: Iterable[str], between: str = ",") -> str:
    """Many host names as short as they can be written, none left out: ``gpu[001-120,130], head``. `between` stands
    between the numbers; a space in it lets a long list be broken into lines."""
    alike: dict[object, list[str]] = {}
    for name in sorted(set(names), key=natural):
        found = _NUMBERED.fullmatch(name)
        alike.setdefault(name if found is None else (found[1], found[3]), []).append(name)
    return ", ".join(_together(members, between) for members in alike.values())


def _together(names: Sequence[str], between: str) -> str:
    """Names that differ in their last number only."""
    if len(names) < 3:
        return ", ".join(names)
    matches = [found for name in names if (found := _NUMBERED.fullmatch(name))]
    runs: list[tuple[str, str]] = []
    padded = any(found[2].startswith("0") for found in matches)
    if padded:
        matches.sort(key=lambda found: (len(found[2]), int(found[2])))
    for digits in (found[2] for found in matches):
        same = runs and (not padded or len(digits) == len(runs[-1][1]))
        if same and int(digits) == int(runs[-1][1]) + 1:
            runs[-1] = (runs[-1][0], digits)
        else:
            runs.append((digits, digits))
    numbers = between.join(first if first == last else f"{first}-{last}" for first, last in runs)
    return f"{matches[0][1]}[{numbers}]{matches[0][3]}"
