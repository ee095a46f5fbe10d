"""The captured probe of a ready kubeadm host with one H200, and ways to change it."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpuwizard.facts.model import Handler, Probe
from gpuwizard.facts.parse import parse_probe
from gpuwizard.findings import find
from gpuwizard.findings.model import Finding

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


def only(probe: Probe | bytes, rule: str) -> Finding:
    found = find(parse_probe(probe) if isinstance(probe, bytes) else probe)
    matching = [finding for finding in found if finding.id == rule]
    assert len(matching) == 1, [f.id for f in found]
    finding = matching[0]
    assert finding.evidence
    assert finding.cause
    assert finding.remedy
    return finding


def ids(probe: Probe | bytes) -> list[str]:
    return [finding.id for finding in find(parse_probe(probe) if isinstance(probe, bytes) else probe)]
