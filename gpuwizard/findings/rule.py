"""What a rule is: a question put to a probe, and what its answer means."""

from collections.abc import Callable
from dataclasses import dataclass

from gpuwizard.facts.model import Gpu, Probe, RuntimeFacts
from gpuwizard.findings.model import Finding, Severity

__all__ = [
    "KUBELET",
    "NVIDIA_HANDLER",
    "NVIDIA_HANDLERS",
    "Rule",
    "Verdict",
    "evaluate",
    "finding_of",
    "installed_gpus",
    "looked_at",
    "missing_programs",
    "shown_gpu",
    "shown_runtime",
]

NVIDIA_HANDLERS = ("nvidia", "nvidia-container-runtime")
"""Names under which a runtime may know the NVIDIA handler; the second one is MicroK8s' own (`runtimes.md §5`)."""
KUBELET = "the kubelet"
"""What a verdict is about that says why the kubelet or the service around it does not run."""
NVIDIA_HANDLER = "the nvidia handler"
"""What a verdict is about that says why the runtime has no handler for NVIDIA."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The rule applies to this host. What is None is taken from the rule.

    `about` are the things of the host that the verdict is about (files, GPUs, kernels, units, `NVIDIA_HANDLER`), by
    which `findings.one_cause` tells whether two verdicts have one cause.
    """

    evidence: tuple[str, ...]
    severity: Severity | None = None
    title: str | None = None
    cause: str | None = None
    remedy: str | None = None
    fixable: bool = False
    about: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `id` is stable for ever; `cause` and `remedy` hold for every host that it applies to.

    `check` gives None where the rule does not apply or where too little is known to say that it does. `effect` is
    what happens when nothing is done, `detected` how gpuwizard comes to know it, `messages` the texts under which
    people meet it in logs and events, `sources` where upstream says so. `covers` are the rows of the facts that the
    rule answers for (``hosts.md §3.2 row 4``). `instead_of` are the ids of more general rules that the same cause
    also makes true: where they speak of nothing else, this rule's finding takes theirs in (`findings.one_cause`).
    """

    id: str
    severity: Severity
    title: str
    cause: str
    remedy: str
    check: Callable[[Probe], Verdict | None]
    covers: tuple[str, ...] = ()
    effect: str = ""
    detected: str = ""
    messages: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    instead_of: tuple[str, ...] = ()


def evaluate(rule: Rule, probe: Probe) -> Finding | None:
    """The rule's finding on this host, if it applies."""
    verdict = rule.check(probe)
    return None if verdict is None else finding_of(rule, verdict)


def finding_of(rule: Rule, verdict: Verdict) -> Finding:
    """What the rule and its verdict on one host say together."""
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
    kubernetes = probe.facts.kubernetes
    return kubernetes.flavour != "unknown" or bool(kubernetes.others)  # two of them run: it did come that far


def installed_gpus(probe: Probe) -> tuple[Gpu, ...]:
    """The GPUs that are in the machine, whoever sees them."""
    return probe.facts.gpus


def missing_programs(probe: Probe) -> frozenset[str]:
    """The handlers of NVIDIA whose program is not on the host, for `Verdict.about`."""
    return frozenset(
        f"program of handler {name}"
        for runtime in probe.facts.runtimes
        for name, program in runtime.missing_binaries.items()
        if "nvidia-container-runtime" in program
    )


def shown_gpu(gpu: Gpu) -> str:
    """One GPU as a line of evidence."""
    parts = [gpu.pci or "no PCI address", gpu.name or gpu.pci_id or "unknown GPU"]
    if gpu.bound_driver is not None:
        parts.append(f"bound to {gpu.bound_driver}")
    elif "pci" in gpu.seen_by:
        parts.append("bound to no driver")
    return ", ".join(parts)


def shown_runtime(runtime: RuntimeFacts) -> str:
    """One runtime as a line of evidence."""
    version = f" {runtime.version}" if runtime.version else ""
    return f"{runtime.kind}{version}, {runtime.config_path or 'no configuration file'}"
