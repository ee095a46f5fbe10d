"""The kernel log: telling lines, with how often and when they came (`hosts.md §3.4`)."""

import re
from dataclasses import dataclass

from gpuwizard.facts.frames import Section
from gpuwizard.facts.text import number, value

__all__ = ["KernelLog", "read_log"]

_LINE = re.compile(r"(\d{1,9}) (-|\d{1,12}(?:\.\d{1,9})?) (.*)")


@dataclass(frozen=True, slots=True)
class KernelLog:
    """`uptime` is how many seconds the host was up; `lines` are ``[ 12.3] text``, with ``(4 times)`` behind what was
    repeated; the time is that of the last one. `lines` is None when the log could not be read."""

    uptime: float | None = None
    lines: tuple[str, ...] | None = None


def read_log(section: Section | None) -> KernelLog:
    """The probe's section ``kernel-log``: the uptime, then ``count seconds text`` a line."""
    return KernelLog() if section is None or section.cut else _parse(section.text)


def _parse(text: str) -> KernelLog:
    first, _, rest = text.partition("\n")
    uptime = re.fullmatch(r"\d{1,12}(\.\d{1,9})?", first.strip())
    found = []
    for line in rest.splitlines()[:200]:
        match = _LINE.fullmatch(line[:1000].strip())
        said = value(match[3]) if match else None
        if match is None or said is None:
            continue
        count = number(match[1]) or 1
        at = "" if match[2] == "-" else f"[{match[2]}] "
        found.append(f"{at}{said}{f' ({count} times)' if count > 1 else ''}")
    return KernelLog(float(uptime[0]) if uptime else None, tuple(found))
