"""Latent changes: what any restart of a host's runtime would activate besides ours (`safety.md`, step 2).

A host whose disk does not reproduce what is running is refused with that difference, until the operator takes it into
the plan (``runtime.take_latent``). What a flavour alone can see of it (a template, a rendered file) it says itself in
`HostPlanned.latent`; the rest is the same for all of them and is asked here.
"""

import re
from dataclasses import replace

from gpuwizard.actions import HostPlanned, Refusal
from gpuwizard.answers.model import Answers
from gpuwizard.clean import clean_line
from gpuwizard.facts.cluster import NodeView
from gpuwizard.facts.model import Probe, RuntimeFacts
from gpuwizard.flavours.chosen import runtime_of

__all__ = ["judged", "not_live", "taken_in", "waiting"]

_WITH_KUBELET = ("k3s", "rke2")
_KINDS = {"containerd": "containerd", "docker": "docker", "cri-o": "crio"}


def judged(name: str, probe: Probe, answers: Answers, planned: HostPlanned) -> HostPlanned:
    """The plan of a flavour, refused for what else its restart would activate, or with that in its reason."""
    runtime = runtime_of(probe.facts)
    if planned.refusals or planned.change.activation is None or runtime is None or not runtime.running:
        return planned
    unit = runtime.unit or "the runtime"
    return taken_in(name, answers, planned, unit, (*planned.latent, *waiting(runtime)))


def taken_in(name: str, answers: Answers, planned: HostPlanned, unit: str, found: tuple[str, ...]) -> HostPlanned:
    """The plan when these changes wait for a restart of `unit`."""
    if not found:
        return planned
    words = "; ".join(dict.fromkeys(found))
    if not answers.takes_latent(name):
        refusal = Refusal(
            "latent-change",
            f"{words}: our restart would activate that as well",
            f"restart {unit} yourself, see that the node is Ready, and plan again; or take it into the plan with "
            "runtime.take_latent = true",
        )
        return replace(planned, reason=refusal.why, change=type(planned.change)(), refusals=(refusal,), latent=found)
    reason = f"{planned.reason}; the restart activates what was changed before us as well, and a revert brings it back "
    return replace(planned, reason=f"{reason}only to what is on the disk now: {words}", latent=found)


def waiting(runtime: RuntimeFacts) -> tuple[str, ...]:
    """What a restart of this runtime would activate, by the facts of its host."""
    unit = runtime.unit or "the runtime"
    found = []
    if runtime.config_newer_than_process:
        files = ", ".join(clean_line(f) for f in runtime.changed_files) or "its configuration"
        found.append(f"{files} was changed after {unit} started")
    elif runtime.not_live:
        found += [f"{unit} runs with other handlers than its files give it: {clean_line(w)}" for w in runtime.not_live]
    if runtime.running_version is not None and runtime.version not in (None, runtime.running_version):
        found.append(f"{runtime.kind} {runtime.running_version} runs, {runtime.version} is on the disk")
    elif runtime.binary_replaced:
        found.append(f"the program of {unit} was replaced after it started")
    if runtime.waiting_command is not None:
        found.append(f"{unit} would start with another command line: {clean_line(runtime.waiting_command, 200)}")
    return tuple(found)


def not_live(node: NodeView, probe: Probe) -> tuple[str, ...]:
    """Where the running runtime, as its node reports it, is another one than the disk would give."""
    runtime = runtime_of(probe.facts)
    if runtime is None:
        return ()
    found = []
    kind, _, running = (node.runtime_version or "").partition("://")
    if _KINDS.get(kind) == runtime.kind and _differ(running, runtime.version):
        found.append(f"{runtime.kind} {clean_line(running)} runs, {runtime.version} is on the disk")
    kubernetes = probe.facts.kubernetes
    if kubernetes.flavour in _WITH_KUBELET and _differ(node.kubelet_version, kubernetes.version):
        running, disk = clean_line(node.kubelet_version or ""), kubernetes.version
        found.append(f"{kubernetes.flavour} {running} runs, {disk} is on the disk")
    if any(node.runtime_handlers):
        idle = sorted(set(runtime.handlers) - set(node.runtime_handlers))
        if idle:
            names = ", ".join(clean_line(name) for name in idle)
            found.append(f"handler {names} stands in the files, and the running {runtime.kind} does not offer it")
    return tuple(found)


def _differ(running: str | None, disk: str | None) -> bool:
    """Whether two versions are known to be unlike, however each is written: ``1.7.24~ds1``, ``v1.33.5+k3s1``."""
    one, other = _numbers(running), _numbers(disk)
    return one is not None and other is not None and one != other


def _numbers(version: str | None) -> tuple[str, ...] | None:
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)(?:-(?:rc|beta|alpha)[.-]?\d+)?(?:[+-]((?:k3s|rke2r)\d+))?", version or "")
    return tuple(part or "" for part in match.groups()) if match is not None else None
