"""`gpuwizard check` for people: one row a host, trouble on top, then the findings with what to do, then the count."""

import os
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gpuwizard.clean import clean_line
from gpuwizard.findings.model import Finding
from gpuwizard.session import HostRecord, Session
from gpuwizard.show.facts import fact_lines
from gpuwizard.show.overview import HostLine
from gpuwizard.show.words import MARKS, duration

__all__ = ["print_check"]

STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan", "ok": "green", "running": "", "waiting": ""}
_NARROW, _MIDDLE, _WIDE, _WIDER = 70, 92, 116, 150


def print_check(session: Session, lines: Sequence[HostLine], *, facts: bool = False) -> None:
    """Print these hosts and their findings to stdout, with `facts` every fact; colours follow the terminal, and with
    NO_COLOR the text is plain."""
    console = Console(highlight=False, color_system=None if os.environ.get("NO_COLOR") else "auto")
    console.print(_table(session, lines, console.width))
    for line in lines:
        _print_host(console, session.hosts[line.name], line, facts=facts)
    console.print()


def _table(session: Session, lines: Sequence[HostLine], width: int) -> Table:
    """One line a host, whatever the width: what does not fit is cut, least of all the verdict."""
    wide = width >= _WIDE
    shown: dict[str, tuple[list[str], int]] = {
        "host": ([line.name for line in lines], 32 if wide else 20),
        "system": ([line.distribution for line in lines], 18 if wide else 0),
        "GPUs": ([line.gpus.replace("NVIDIA ", "") for line in lines], 24 if wide else 14),
        "driver": ([line.driver for line in lines], 18 if width >= _MIDDLE else 0),
        "flavour": ([line.kubernetes for line in lines], 10 if width >= _NARROW else 0),
        "runtime": ([line.runtime for line in lines], 24 if width >= _WIDER else 0),
        "verdict": ([_verdict(line) for line in lines], width),
        "time": ([duration(session.hosts[line.name].elapsed(0.0)) for line in lines], 7 if width >= _NARROW else 0),
    }
    columns = {title: texts for title, (texts, most) in shown.items() if most}
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    table.add_column("", width=1)
    for title, texts in columns.items():
        cells = max(len(text) for text in (title, *texts))
        table.add_column(
            title,
            no_wrap=True,
            overflow="ellipsis",
            width=None if title == "verdict" else min(cells, shown[title][1]),
            ratio=1 if title == "verdict" else None,
            justify="right" if title == "time" else "left",
        )
    for number, line in enumerate(lines):
        styles = {"host": "bold", "verdict": STYLES[line.kind], "time": "dim", "system": "dim"}
        row = [Text(clean_line(texts[number]), styles.get(title, "")) for title, texts in columns.items()]
        table.add_row(Text(MARKS[line.kind], STYLES[line.kind]), *row)
    return table


def _verdict(line: HostLine) -> str:
    """The worst finding, after the number of the others, which is not cut there."""
    more = f"+{line.more} " if line.more else ""
    return more + line.words


def _print_host(console: Console, record: HostRecord, line: HostLine, *, facts: bool) -> None:
    shown = [f for f in record.findings if f.severity != "ok"]
    if record.error is None and not shown and not facts:
        return
    console.print()
    console.print(Text(record.name, "bold"))
    if record.error is None:
        _print(console, 2, _summary(line), "dim")
    if record.error is not None:
        _print(console, 2, f"✗ {record.error}", STYLES["error"])
        if record.error.remedy:
            _print(console, 6, f"try: {record.error.remedy}")
    for finding in shown:
        _print_finding(console, finding)
    for text in fact_lines(record) if facts else ():
        _print(console, len(text) - len(text.lstrip()), text.lstrip(), "" if text.startswith("    ") else "bold")


def _summary(line: HostLine) -> str:
    return " · ".join(part for part in (line.system, line.gpus, line.driver, line.kubernetes, line.runtime) if part)


def _print_finding(console: Console, finding: Finding) -> None:
    _print(console, 2, f"{MARKS[finding.severity]} {finding.id} {finding.title}", STYLES[finding.severity])
    for line in finding.evidence:
        _print(console, 6, line, "dim")
    if finding.severity in ("error", "warning"):
        if finding.remedy:
            _print(console, 6, f"try: {finding.remedy}")
        if finding.fixable:
            _print(console, 6, "✓ the plan mends this", STYLES["ok"])


def _print(console: Console, indent: int, text: str, style: str = "") -> None:
    """One paragraph that keeps its indentation where it is wrapped."""
    console.print(Padding(Text(clean_line(text, 4000), style), (0, 0, 0, indent), expand=False))
