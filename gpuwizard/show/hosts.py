"""One host in words: what it is, in short, and what is right and wrong with it."""

from collections.abc import Iterator

from gpuwizard.facts.model import HostFacts
from gpuwizard.findings.model import Finding
from gpuwizard.session import HostRecord
from gpuwizard.show.words import MARKS

__all__ = [
    "driver_summary",
    "finding_lines",
    "flavour_summary",
    "gpu_summary",
    "runtime_summary",
    "runtime_words",
    "system_summary",
    "system_words",
]


def system_summary(facts: HostFacts) -> str:
    """The distribution, as it calls itself."""
    return facts.os.pretty_name or facts.os.id or "unknown system"


def system_words(facts: HostFacts) -> str:
    """The distribution in a word and a number: ``ubuntu 24.04``, ``DGX OS 7.3.1``."""
    if facts.os.dgx is not None:
        return f"DGX OS {facts.os.dgx}"
    return " ".join(part for part in (facts.os.id, facts.os.version_id) if part) or system_summary(facts)


def gpu_summary(facts: HostFacts) -> str:
    """``2 × NVIDIA L40S``; models in order of first appearance."""
    if not facts.gpus:
        return "no GPU"
    names: dict[str, int] = {}
    for gpu in facts.gpus:
        name = gpu.name or gpu.pci_id or "GPU"
        names[name] = names.get(name, 0) + 1
    return ", ".join(f"{number} × {name}" for name, number in names.items())


def driver_summary(facts: HostFacts) -> str:
    """The version of the driver that is loaded, or that of the one that could be; empty when neither is known."""
    driver = facts.driver
    if driver.loaded is None and driver.on_disk is not None:
        return f"{driver.on_disk} not loaded"
    return driver.loaded or ""


def flavour_summary(facts: HostFacts) -> str:
    """The Kubernetes flavour: ``k3s``, ``kubeadm``; ``none``, ``unknown``."""
    return facts.kubernetes.flavour


def runtime_words(facts: HostFacts) -> str:
    """The runtime that the kubelet uses: ``containerd 2.1.4``; empty when it is not known."""
    runtime = facts.kubelet_runtime
    return "" if runtime is None else f"{runtime.kind} {runtime.version or '?'}"


def runtime_summary(facts: HostFacts) -> str:
    """Kubernetes flavour and the runtime that the kubelet uses."""
    flavour = facts.kubernetes.flavour
    words = [flavour if flavour not in ("none", "unknown") else f"Kubernetes: {flavour}", runtime_words(facts)]
    return ", ".join(word for word in words if word)


def finding_lines(record: HostRecord) -> Iterator[str]:
    """One host and its findings, trouble first."""
    if record.error is not None:
        yield f"✗ {record.name}: {record.error}"
        if record.error.remedy:
            yield f"    try: {record.error.remedy}"
        return
    if record.probe is None:
        yield f"· {record.name}: not looked at"
        return
    facts = record.probe.facts
    yield f"{record.name}: {system_summary(facts)} · {gpu_summary(facts)} · {runtime_summary(facts)}"
    for finding in record.findings:
        yield from _finding(finding)


def _finding(finding: Finding) -> Iterator[str]:
    yield f"  {MARKS[finding.severity]} {finding.id} {finding.title}"
    for evidence in finding.evidence:
        yield f"      {evidence}"
    if finding.severity in ("error", "warning"):
        if finding.remedy:
            yield f"      try: {finding.remedy}"
        if finding.fixable:
            yield "      the plan mends this"
