"""Every rule put to one probe, and the rule of an id."""

from gpuwizard.facts.model import Probe
from gpuwizard.findings.catalogue import RULES
from gpuwizard.findings.model import Finding
from gpuwizard.findings.one_cause import ORDER, one_per_cause
from gpuwizard.findings.ready import HEALTHY
from gpuwizard.findings.rule import Rule, evaluate

__all__ = ["explain", "find"]

_CHECKS = tuple((rule.check, rule) for rule in RULES if rule is not HEALTHY)


def find(probe: Probe) -> tuple[Finding, ...]:
    """The findings on one host, one for each cause, errors first, then by id. ``GW-OK-001`` comes only without an
    error."""
    found = one_per_cause([(rule, verdict) for check, rule in _CHECKS if (verdict := check(probe)) is not None])
    if not any(finding.severity == "error" for finding in found) and (healthy := evaluate(HEALTHY, probe)):
        found.append(healthy)
    return tuple(sorted(found, key=lambda finding: (ORDER.index(finding.severity), finding.id)))


def explain(rule_id: str) -> Rule | None:
    """The rule of that id, in any spelling of upper and lower case."""
    return next((rule for rule in RULES if rule.id == rule_id.strip().upper()), None)
