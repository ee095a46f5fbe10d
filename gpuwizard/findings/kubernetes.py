"""Rules about the Kubernetes flavour, K3s' templates above all."""

import re

from gpuwizard.facts.model import Probe
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus

__all__ = ["RULES"]

_BASE = re.compile(r"\{\{-?\s*template\s+[\"`]base[\"`]")
_NVIDIA = re.compile(r"^\s*\[\s*plugins\..*runtimes\.[\"']?nvidia[\"']?(?:\.|\s*\])", re.MULTILINE)
_OLD_TABLES = re.compile(r"^\s*\[\s*plugins\.(?:cri|linux|opt)[.\]]", re.MULTILINE)


def _templates(probe: Probe) -> list[tuple[str, str]]:
    found = []
    for path in probe.facts.kubernetes.templates:
        file = probe.files.get(path)
        if file is not None and file.content is not None:
            found.append((path, file.content.text()))
    return found


def _stale_template(probe: Probe) -> Verdict | None:
    flavour = probe.facts.kubernetes.flavour
    evidence: list[str] = []
    for path, text in _templates(probe):
        if _BASE.search(text) is None:
            evidence.append(f"{path}: does not include the built-in template")
            if (old := _OLD_TABLES.search(text)) is not None:
                evidence.append(f"{path}: {old[0].strip()}…: tables of configuration version 1")
            if "nvidia" not in text:
                evidence.append(f"{path}: does not name nvidia")
    if not evidence:
        return None
    rendered = probe.facts.kubelet_runtime
    hides = rendered is not None and bool(rendered.handlers) and "nvidia" not in rendered.handlers
    return Verdict(
        tuple(evidence),
        severity="error" if hides and installed_gpus(probe) and probe.facts.toolkit.runtime_path else None,
        title=f"a full copy replaces {flavour}'s own containerd template",
    )


def _nvidia_twice(probe: Probe) -> Verdict | None:
    evidence = tuple(
        f"{path}: {match[0].strip()}"
        for path, text in _templates(probe)
        if _BASE.search(text) is not None and (match := _NVIDIA.search(text)) is not None
    )
    return Verdict(evidence) if evidence else None


def _stopped(probe: Probe) -> Verdict | None:
    kubernetes = probe.facts.kubernetes
    if kubernetes.flavour in ("none", "unknown") or kubernetes.active is not False:
        return None
    return Verdict((f"{kubernetes.flavour}: {kubernetes.service or 'its service'} is not active",))


def _none(probe: Probe) -> Verdict | None:
    if probe.facts.kubernetes.flavour != "none" or not installed_gpus(probe):
        return None
    return Verdict(("no unit, process or file of a Kubernetes flavour was found",))


RULES = (
    Rule(
        "GW-K3S-001",
        "warning",
        "a full copy replaces K3s' own containerd template",
        "Older guides copied the rendered configuration into a template. It hides what newer releases write by "
        "themselves: the detected nvidia handler, CNI paths, the pause image, the cgroup driver.",
        'Move the template away and restart the service, or reduce it to {{ template "base" . }} plus what is '
        "really yours.",
        _stale_template,
        ("runtimes.md §2.6",),
    ),
    Rule(
        "GW-K3S-002",
        "error",
        "a template defines the nvidia handler a second time",
        "K3s adds the handler itself as soon as the toolkit is installed; the same table twice keeps containerd from "
        "starting.",
        "Remove the nvidia tables from the template.",
        _nvidia_twice,
        ("runtimes.md §2.3",),
    ),
    Rule(
        "GW-KUBE-001",
        "warning",
        "Kubernetes is installed but not running",
        "The service that runs the kubelet on this host is not active.",
        "Start it and read its log before changing anything.",
        _stopped,
        ("hosts.md §7.1",),
    ),
    Rule(
        "GW-KUBE-002",
        "info",
        "no Kubernetes on this host",
        "There is a GPU, but this host is no node of a cluster.",
        "Join it to a cluster first; gpuwizard does not install Kubernetes.",
        _none,
        ("hosts.md §7.1",),
    ),
)
