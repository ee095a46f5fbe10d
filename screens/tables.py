"""`gpuwizard check` for people: one row a host, trouble on top, then the findings with what to do."""

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gpuwizard.errors import LoginError
from gpuwizard.session import HostRecord, Session
from gpuwizard.show import MARKS, count, gpu_summary, runtime_summary

__all__ = ["print_check"]

STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan", "ok": "green"}


def print_check(session: Session) -> None:
    """Print hosts and findings to stdout; colours follow the terminal and NO_COLOR."""
    console = Console(highlight=False)
    records = sorted(session.hosts.values(), key=_trouble)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("host", "system", "GPUs", "runtime", "verdict"):
        table.add_column(title, overflow="fold")
    for record in records:
        table.add_row(*_row(record))
    console.print(table)
    for record in records:
        _print_findings(console, record)


def _trouble(record: HostRecord) -> tuple[int, int, str]:
    unreachable = 0 if record.error is not None else 1
    return unreachable, -record.severity_count("error"), record.name


def _row(record: HostRecord) -> tuple[Text, ...]:
    if record.probe is None:
        reason = Text("✗ no login" if isinstance(record.error, LoginError) else "✗ unreachable", STYLES["error"])
        return Text(record.name), Text("–"), Text("–"), Text("–"), reason
    facts = record.probe.facts
    system = facts.os.pretty_name or facts.os.id or "unknown"
    errors, warnings = record.severity_count("error"), record.severity_count("warning")
    if errors:
        verdict = Text(f"✗ {count(errors, 'error')}", STYLES["error"])
    elif warnings:
        verdict = Text(f"! {count(warnings, 'warning')}", STYLES["warning"])
    else:
        verdict = Text("✓ ok", STYLES["ok"])
    return Text(record.name), Text(system), Text(gpu_summary(facts)), Text(runtime_summary(facts)), verdict


def _print_findings(console: Console, record: HostRecord) -> None:
    shown = [f for f in record.findings if f.severity != "ok"]
    if record.error is None and not shown:
        return
    console.print()
    console.print(Text(record.name, "bold"))
    if record.error is not None:
        _print(console, 2, f"✗ {record.error}", STYLES["error"])
        if record.error.remedy:
            _print(console, 6, f"try: {record.error.remedy}")
    for finding in shown:
        _print(console, 2, f"{MARKS[finding.severity]} {finding.id} {finding.title}", STYLES[finding.severity])
        for line in finding.evidence:
            _print(console, 6, line, "dim")
        if finding.severity in ("error", "warning") and finding.remedy:
            _print(console, 6, f"try: {finding.remedy}")


def _print(console: Console, indent: int, text: str, style: str = "") -> None:
    """One paragraph that keeps its indentation where it is wrapped."""
    console.print(Padding(Text(text, style), (0, 0, 0, indent), expand=False))
