"""What a rule is: a question put to a probe, and what its answer means."""

from collections.abc import Callable
from dataclasses import dataclass

from gpuwizard.facts.model import Gpu, Probe
from gpuwizard.findings.model import Finding, Severity

__all__ = ["Rule", "Verdict", "evaluate", "installed_gpus", "looked_at", "shown_gpu"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The rule applies to this host. What is None is taken from the rule."""

    evidence: tuple[str, ...]
    severity: Severity | None = None
    title: str | None = None
    cause: str | None = None
    remedy: str | None = None
    fixable: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `id` is stable for ever; `cause` and `remedy` hold for every host that it applies to.

    `check` gives None where the rule does not apply or where too little is known to say that it does.
    """

    id: str
    severity: Severity
    title: str
    cause: str
    remedy: str
    check: Callable[[Probe], Verdict | None]
    source: str = ""


def evaluate(rule: Rule, probe: Probe) -> Finding | None:
    """The rule's finding on this host, if it applies."""
    verdict = rule.check(probe)
    if verdict is None:
        return None
    return Finding(
        id=rule.id,
        severity=verdict.severity or rule.severity,
        title=verdict.title or rule.title,
        evidence=verdict.evidence,
        cause=verdict.cause if verdict.cause is not None else rule.cause,
        remedy=verdict.remedy if verdict.remedy is not None else rule.remedy,
        fixable=verdict.fixable,
    )


def looked_at(probe: Probe) -> bool:
    """True when the probe came far enough that what it does not name is not there."""
    return probe.facts.kubernetes.flavour != "unknown"


def installed_gpus(probe: Probe) -> tuple[Gpu, ...]:
    """The GPUs that are in the machine, whoever sees them."""
    return probe.facts.gpus


def shown_gpu(gpu: Gpu) -> str:
    """One GPU as a line of evidence."""
    parts = [gpu.pci or "no PCI address", gpu.name or gpu.pci_id or "unknown GPU"]
    if gpu.bound_driver is not None:
        parts.append(f"bound to {gpu.bound_driver}")
    elif "pci" in gpu.seen_by:
        parts.append("bound to no driver")
    return ", ".join(parts)
