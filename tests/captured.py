"""The captured probe of a ready kubeadm host with one H200, and ways to change it."""

import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from gpuwizard.facts.model import Handler, Probe
from gpuwizard.facts.parse import parse_probe
from gpuwizard.findings import find
from gpuwizard.findings.model import Finding

SEEN_TOGETHER: set[tuple[str, str]] = set()
"""Errors and warnings of one host, in pairs, of all probes that tests have asked about so far."""
CAPTURE = (Path(__file__).parent / "data" / "facts" / "kubeadm_h200.probe").read_bytes()


def edit(section: str, data: str, status: int = 0, probe: bytes = CAPTURE) -> bytes:
    """The captured probe with one section replaced, or added before the end."""
    new = f"@@ {section} {status} {len(data.encode())}\n{data}\n".encode()
    old = re.search(rb"@@ %s \d+ \d+\n" % re.escape(section.encode()), probe)
    if old is None:
        end = probe.index(b"@@ end ")
        return probe[:end] + new + probe[end:]
    length = int(old[0].split()[-1])
    return probe[: old.start()] + new + probe[old.end() + length + 1 :]


def without(*sections: str, probe: bytes = CAPTURE) -> bytes:
    for section in sections:
        old = re.search(rb"@@ %s \d+ \d+\n" % re.escape(section.encode()), probe)
        assert old is not None, section
        probe = probe[: old.start()] + probe[old.end() + int(old[0].split()[-1]) + 1 :]
    return probe


def ready() -> Probe:
    """The captured host after the handler was added."""
    probe = parse_probe(CAPTURE)
    (runtime,) = probe.facts.runtimes
    handlers = {**runtime.handlers, "nvidia": Handler("io.containerd.runc.v2", {"SystemdCgroup": True})}
    return changed(probe, runtimes=(replace(runtime, handlers=handlers),))


def changed(probe: Probe, **facts: Any) -> Probe:
    return replace(probe, facts=replace(probe.facts, **facts))


def found(probe: Probe | bytes) -> tuple[Finding, ...]:
    """The findings; which of them keep people busy together is noted in SEEN_TOGETHER."""
    findings = find(parse_probe(probe) if isinstance(probe, bytes) else probe)
    grave = sorted(finding.id for finding in findings if finding.severity in ("error", "warning"))
    SEEN_TOGETHER.update(combinations(grave, 2))
    return findings


def only(probe: Probe | bytes, rule: str) -> Finding:
    findings = found(probe)
    matching = [finding for finding in findings if finding.id == rule]
    assert len(matching) == 1, [f.id for f in findings]
    finding = matching[0]
    assert finding.evidence
    assert finding.cause
    assert finding.remedy
    return finding


def ids(probe: Probe | bytes) -> list[str]:
    return [finding.id for finding in found(probe)]
