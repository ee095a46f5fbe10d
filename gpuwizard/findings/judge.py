"""Every rule put to one probe, and the rule of an id."""

from gpuwizard.facts.model import Probe
from gpuwizard.findings.catalogue import RULES
from gpuwizard.findings.model import Finding, Severity
from gpuwizard.findings.ready import HEALTHY
from gpuwizard.findings.rule import Rule, evaluate, finding_of

__all__ = ["explain", "find"]

_CHECKS = tuple((rule.check, rule) for rule in RULES if rule is not HEALTHY)
_ORDER: tuple[Severity, ...] = ("error", "warning", "info", "ok")


def find(probe: Probe) -> tuple[Finding, ...]:
    """The findings on one host, errors first, then by id. ``GW-OK-001`` comes only without an error."""
    found = [finding_of(rule, verdict) for check, rule in _CHECKS if (verdict := check(probe)) is not None]
    if not any(finding.severity == "error" for finding in found) and (healthy := evaluate(HEALTHY, probe)):
        found.append(healthy)
    return tuple(sorted(found, key=lambda finding: (_ORDER.index(finding.severity), finding.id)))


def explain(rule_id: str) -> Rule | None:
    """The rule of that id, in any spelling of upper and lower case."""
    return next((rule for rule in RULES if rule.id == rule_id.strip().upper()), None)
