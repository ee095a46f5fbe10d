"""A host in words: its findings with proof and remedy, and every fact that was seen or could not be seen."""

from collections.abc import Iterator

from textual.content import Content

from gpuwizard.findings import explain
from gpuwizard.findings.model import Finding
from gpuwizard.session import HostRecord
from gpuwizard.show.facts import Fact, fact_groups
from gpuwizard.show.overview import waiting_for
from screens.widgets.lines import Line, heading, text
from screens.words import MARKS, STYLES, plain

__all__ = ["FACTS", "evidence_lines", "fact_lines", "finding_lines", "host_lines", "labelled"]

FACTS = "system"
"""The anchor of the first group of facts."""

MENDS = "the plan mends this"
_NAME = 20


def host_lines(record: HostRecord) -> Iterator[Line]:
    """All that is known of one host: what is right and wrong, then every fact."""
    yield from finding_lines(record, unseen=False)
    if record.probe is not None:
        yield from fact_lines(record)


def finding_lines(record: HostRecord, *, unseen: bool = True) -> Iterator[Line]:
    """What is right and wrong with one host, trouble first; with `unseen` also what could not be seen."""
    if record.error is not None:
        yield heading(Content.assemble(("✗ ", "$text-error"), "could not be looked at"), "findings")
        yield text(plain(record.error.what), 2)
        if record.error.where:
            yield text(plain(record.error.where, "$quiet"), 2)
        if record.error.remedy:
            yield labelled("do", record.error.remedy)
        return
    if record.probe is None:
        yield text(Content.styled(waiting_for(record), "$quiet"))
        return
    if not record.findings:
        yield text("nothing to remark")
    for finding in record.findings:
        yield from _finding(finding)
    if unseen and record.probe.facts.unseen:
        yield heading("Could not be seen")
        for what in record.probe.facts.unseen:
            yield _unseen(what.what, what.why)


def _finding(finding: Finding) -> Iterator[Line]:
    style = STYLES[finding.severity]
    title = Content.assemble((f"{MARKS[finding.severity]} ", style), plain(finding.title), " ")
    yield Line(title.stylize("bold") + plain(finding.id, "$quiet"), 2, anchor=finding.id)
    yield from evidence_lines(finding.evidence)
    if finding.severity != "ok":
        if finding.cause:
            yield labelled("why", finding.cause)
        rule = explain(finding.id)
        if rule is not None and rule.effect:
            yield labelled("risk", rule.effect)
        if finding.remedy:
            yield labelled("do", finding.remedy)
        if finding.fixable:
            yield Line(Content.assemble(("  ✓ ", "$text-success"), MENDS), 4)
    yield text()


def evidence_lines(evidence: tuple[str, ...]) -> Iterator[Line]:
    """The very lines that prove a finding."""
    for line in evidence:
        yield Line(Content.assemble(("  │ ", "$quiet"), plain(line, "$quiet")), 4)


def labelled(label: str, words: str) -> Line:
    """A paragraph behind a short label."""
    return Line(Content.assemble((f"  {label:<5}", "$text-accent"), plain(words, limit=2000)), 7)


def fact_lines(record: HostRecord) -> Iterator[Line]:
    """Every fact of `cli.md`, in groups; what is not known says so and is never "no"."""
    if record.probe is None:
        yield from finding_lines(record)
        return
    for group in fact_groups(record.probe.facts):
        yield heading(plain(group.title), group.id)
        for fact in group.facts:
            yield _unseen(fact.name, fact.value or "") if group.id == "unseen" else _fact(fact)
        yield text()


def _unseen(what: str, why: str) -> Line:
    return text(Content.assemble("· ", plain(what), ": ", plain(why, "$quiet")), 2, 4)


def _fact(fact: Fact) -> Line:
    if fact.value is None:
        shown = Content.styled("not known", "$quiet")
        if fact.why:
            shown += plain(f": {fact.why}", "$quiet")
    else:
        quiet = "$quiet" if fact.name == "not known" else ""
        shown = plain(fact.value, quiet, 2000)
        if fact.why:
            shown += plain(f" ({fact.why})", "$quiet")
    return Line(Content.assemble(_name(fact.name), shown), _NAME + 3)


def _name(name: str) -> Content:
    """The name of a fact, as wide as its column."""
    shown = plain(name, "$quiet")
    return Content("  ") + shown.pad_right(max(_NAME - shown.cell_length, 0) + 1)
