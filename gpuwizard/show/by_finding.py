"""The findings of all hosts, turned round: each finding once, with the hosts that have it and what shows it there."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from gpuwizard.findings.model import Finding, Severity
from gpuwizard.session import HostRecord
from gpuwizard.show.words import natural

__all__ = ["SEVERITIES", "Case", "FoundOn", "by_finding", "cases"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info", "ok")
_SILENT = "no answer: "


@dataclass(frozen=True, slots=True)
class FoundOn:
    """One finding and the hosts that have it, of which the plan mends `mended`. `severity` is the worst of them.

    Hosts that gave no answer stand together by the reason, with an empty `id`.
    """

    key: str
    id: str
    severity: Severity
    title: str
    hosts: tuple[str, ...]
    mended: int = 0

    @property
    def text(self) -> str:
        """What a filter looks at, in lower case."""
        mends = " plan mends" if self.mended else ""
        return "\n".join((self.id, self.title, self.severity + mends, *self.hosts)).lower()


@dataclass(frozen=True, slots=True)
class Case:
    """Hosts on which a finding shows in the very same lines. `finding` is None where there was no answer."""

    hosts: tuple[str, ...]
    evidence: tuple[str, ...]
    finding: Finding | None
    remedy: str = ""


def by_finding(records: Iterable[HostRecord]) -> list[FoundOn]:
    """Every finding of these hosts, most severe first, then those of the most hosts."""
    found: dict[str, list[tuple[str, Finding | None]]] = {}
    for record in records:
        if record.error is not None:
            found.setdefault(_SILENT + record.error.what, []).append((record.name, None))
        for finding in record.findings:
            found.setdefault(finding.id, []).append((record.name, finding))
    grouped = [_found_on(key, entries) for key, entries in found.items()]
    return sorted(grouped, key=lambda g: (SEVERITIES.index(g.severity), bool(g.id), -len(g.hosts), g.id, g.title))


def _found_on(key: str, entries: list[tuple[str, Finding | None]]) -> FoundOn:
    hosts = tuple(sorted((name for name, _ in entries), key=natural))
    findings = [finding for _, finding in entries if finding is not None]
    if not findings:
        return FoundOn(key, "", "error", key, hosts)
    titles = {finding.title for finding in findings}
    from gpuwizard.findings import explain

    rule = explain(key)
    title = rule.title if rule is not None and len(titles) > 1 else findings[0].title
    severity = min((f.severity for f in findings), key=SEVERITIES.index)
    return FoundOn(key, key, severity, title, hosts, sum(1 for f in findings if f.fixable))


def cases(key: str, records: Iterable[HostRecord], only: Collection[str] | None = None) -> list[Case]:
    """What shows the finding `key` (`FoundOn.key`), on which hosts, all or `only` those: most hosts first."""
    alike: dict[object, list[tuple[str, Case]]] = {}
    for record in records:
        if only is not None and record.name not in only:
            continue
        for case in _case(key, record):
            same = (case.evidence, case.remedy, None if case.finding is None else case.finding.severity)
            alike.setdefault(same, []).append((record.name, case))
    merged = []
    for members in alike.values():
        first = members[0][1]
        names = tuple(sorted((name for name, _ in members), key=natural))
        merged.append(Case(names, first.evidence, first.finding, first.remedy))
    return sorted(merged, key=lambda case: (-len(case.hosts), [natural(name) for name in case.hosts[:1]]))


def _case(key: str, record: HostRecord) -> list[Case]:
    if record.error is not None:
        if key != _SILENT + record.error.what:
            return []
        where = (record.error.where,) if record.error.where else ()
        return [Case((record.name,), where, None, record.error.remedy)]
    return [Case((record.name,), f.evidence, f, f.remedy) for f in record.findings if f.id == key]
