"""One cause, one finding: the most exact rule's finding takes in those of the rules that it stands for.

A rule names them (`Rule.instead_of`), and both verdicts say what they are about: a finding goes into another one when
it is about nothing that the other is not about. So a broken drop-in takes in the missing handler that it hides, but not
another runtime's, and a lost GPU takes in its own errors, but not those of its neighbour.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gpuwizard.findings.model import Finding, Severity
from gpuwizard.findings.rule import Rule, Verdict, finding_of

__all__ = ["ORDER", "one_per_cause"]

ORDER: tuple[Severity, ...] = ("error", "warning", "info", "ok")
"""The worst first."""
_MOST_EVIDENCE = 24
"""Lines of one finding that others went into."""


def one_per_cause(found: Sequence[tuple[Rule, Verdict]]) -> list[Finding]:
    """The findings, without those that are told by another one. That one is as grave as the gravest of them, shows
    their evidence below its own, and is mended by gpuwizard where one of them is."""
    verdicts = {rule.id: (rule, verdict) for rule, verdict in found}
    teller = {rule.id: _told_by(rule, verdict, verdicts) for rule, verdict in found}
    findings = {rule.id: finding_of(rule, verdict) for rule, verdict in found}
    kept = {name: finding for name, finding in findings.items() if teller[name] is None}
    for name, finding in findings.items():
        root = name
        while (by := teller[root]) is not None:
            root = by
        if root != name:
            kept[root] = _taken_in(kept[root], finding)
    return list(kept.values())


def _told_by(rule: Rule, verdict: Verdict, verdicts: Mapping[str, tuple[Rule, Verdict]]) -> str | None:
    """The first rule that stands for this one on this host."""
    for name, (other, its) in verdicts.items():
        if rule.id in other.instead_of and verdict.about <= its.about:
            return name
    return None


def _taken_in(into: Finding, told: Finding) -> Finding:
    evidence = (*into.evidence, *(line for line in told.evidence if not any(line in known for known in into.evidence)))
    mended = told.fixable and not into.fixable
    return replace(
        into,
        severity=min(into.severity, told.severity, key=ORDER.index),
        evidence=evidence[: max(_MOST_EVIDENCE, len(into.evidence))],
        remedy=f"{into.remedy} {told.remedy}" if mended else into.remedy,
        fixable=into.fixable or told.fixable,
    )
