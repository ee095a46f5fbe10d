"""A finding over all hosts in words: its story once, then the hosts that have it with the lines that show it."""

from collections.abc import Iterable, Iterator, Mapping

from textual.content import Content

from gpuwizard.findings import explain
from gpuwizard.findings.rule import Rule
from gpuwizard.session import HostRecord
from gpuwizard.show.by_finding import Case, FoundOn, cases
from gpuwizard.show.story import story
from gpuwizard.show.words import folded
from screens.describe_host import evidence_lines, labelled
from screens.widgets.lines import Line, heading, text
from screens.words import MARKS, STYLES, counted, plain

__all__ = ["found_lines"]

_MEANING = {"What it means": "why", "If nothing is done": "risk", "What to do": "do"}
_MORE = {"How gpuwizard knows": "seen", "Messages that people meet": "logs", "Where it is written": "docs"}


def found_lines(found: FoundOn, records: Iterable[HostRecord]) -> Iterator[Line]:
    """One finding, or one reason for no answer: what it means, all hosts that have it, and where to read more."""
    rule = explain(found.id) if found.id else None
    style = STYLES[found.severity]
    title = Content.assemble((f"{MARKS[found.severity]} ", style), plain(found.title), " ")
    yield Line(title.stylize("bold") + plain(found.id, "$quiet"), 2)
    if found.mended:
        on = "" if found.mended == len(found.hosts) else f" on {found.mended} of {counted(len(found.hosts), 'host')}"
        yield Line(Content.assemble(("  ✓ ", "$text-success"), f"the plan mends this{on}"), 4)
    yield from _chapters(rule, _MEANING)
    yield text()
    yield heading(f"On {counted(len(found.hosts), 'host')}")
    proofs = cases(found.key, records)
    for case in proofs:
        names = plain(folded(case.hosts, ", "), "$text-accent", 20_000)
        many = f"  {counted(len(case.hosts), 'host')}" if len(proofs) > 1 and len(case.hosts) > 3 else ""
        yield Line(Content.assemble("  ", names, (many, "$quiet")), 2)
        yield from _case(case, rule.remedy if rule is not None else "", rule.cause if rule is not None else "")
    more = list(_chapters(rule, _MORE))
    if more:
        yield text()
        yield heading("More about it")
        yield from more


def _chapters(rule: Rule | None, labels: Mapping[str, str]) -> Iterator[Line]:
    """The chapters of the rule's story that have a label here."""
    for chapter, texts in story(rule) if rule is not None else ():
        for number, words in enumerate(texts if chapter in labels else ()):
            yield labelled(labels[chapter] if number == 0 else "", words)


def _case(case: Case, remedy: str, cause: str) -> Iterator[Line]:
    """The lines that show it; why and what to do there, where that is not what the rule says."""
    yield from evidence_lines(case.evidence)
    if case.finding is not None and case.finding.cause not in ("", cause):
        yield labelled("why", case.finding.cause)
    if case.remedy not in ("", remedy):
        yield labelled("do", case.remedy)
