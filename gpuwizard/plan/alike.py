"""Hosts that are alike to their flavour are planned once: what else tells them apart is taken away before.

A flavour is a pure function and is given nothing but the `anonymous` probe, so that two hosts whose anonymous probes,
file bytes and answers are equal cannot get different plans.
"""

from collections.abc import Callable, Hashable
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

from gpuwizard.actions import HostPlanned
from gpuwizard.answers.model import Answers
from gpuwizard.facts.model import (
    DriverFacts,
    Gpu,
    HostFacts,
    HostFile,
    HostState,
    KubernetesFacts,
    Probe,
    RuntimeFacts,
    ToolkitFacts,
)
from gpuwizard.flavours import plan_host

__all__ = ["FORGOTTEN", "AlikeHosts", "anonymous"]

_FAR = 60
"""Seconds. Times that are further apart are as good as years apart to every rule that compares them."""
_MOST_KINDS = 64
"""Kinds of hosts with equal files that are told apart before one stops looking for a twin."""


def _all_but(kind: type[Any], *kept: str) -> frozenset[str]:
    return frozenset(f.name for f in fields(kind)) - set(kept)


FORGOTTEN: dict[type[Any], frozenset[str]] = {
    HostFacts: frozenset(("hostname", "boot_id", "memory_bytes", "unseen", "nvswitches", "other_devices")),
    Gpu: _all_but(Gpu, "pci_id", "name", "unified_memory", "generation", "virtualization", "mig"),
    DriverFacts: _all_but(
        DriverFacts, "loaded", "on_disk", "userspace", "flavour", "problem", "problem_kind", "installer"
    ),
    HostState: _all_but(HostState, "cgroup_version", "cgroup_layout", "selinux", "systemd"),
    RuntimeFacts: frozenset(("pid", "restarts")),
    KubernetesFacts: frozenset(("node_name", "units", "node_containers")),
    ToolkitFacts: frozenset(("specs", "refresh_path", "refresh_service")),
}
"""The facts that no flavour gets to see: who the host is, and how it fares at the moment."""
_BLANK = {
    kind: {name: getattr(kind(**({"kind": "containerd"} if kind is RuntimeFacts else {})), name) for name in names}
    for kind, names in FORGOTTEN.items()
}


def anonymous(probe: Probe) -> Probe:
    """`probe` without names, boot, process ids and the addresses of its GPUs.

    Its times become small numbers that keep their order, and their distances up to a minute: nothing else may be
    asked of them.
    """
    facts, at = probe.facts, _times(probe)
    kubernetes = replace(
        facts.kubernetes,
        **_BLANK[KubernetesFacts],
        toolkit_changed=at.get(facts.kubernetes.toolkit_changed),
        rendered_at=at.get(facts.kubernetes.rendered_at),
    )
    blank = replace(
        facts,
        **_BLANK[HostFacts],
        gpus=tuple(_blank(gpu) for gpu in facts.gpus),
        driver=_blank(facts.driver),
        state=_blank(facts.state),
        runtimes=tuple(_blank(runtime) for runtime in facts.runtimes),
        toolkit=_blank(facts.toolkit),
        kubernetes=kubernetes,
    )
    files = {path: _at_times(file, at) for path, file in probe.files.items()}
    return Probe(blank, files, probe.readable)


class AlikeHosts:
    """What flavours planned for the hosts of one `build_plan`; it lives no longer than that."""

    def __init__(self, answers: Answers, plan: Callable[[str, Probe, Answers], HostPlanned] = plan_host) -> None:
        self._answers = answers
        self._plan = plan
        self._known: dict[Hashable, list[tuple[HostFacts, HostPlanned]]] = {}

    def planned(self, name: str, probe: Probe) -> HostPlanned:
        """The flavour's answer for host `name`, worked out anew only when no host before it was its twin."""
        blank = anonymous(probe)
        override = self._answers.host.get(name)
        files = tuple(blank.files[path] for path in sorted(blank.files))
        key = (override.model_dump_json() if override else "", blank.readable, blank.facts.kubernetes.flavour, files)
        kinds = self._known.setdefault(key, [])
        for facts, planned in kinds:
            if facts == blank.facts:
                return planned
        planned = self._plan(name, blank, self._answers)
        if len(kinds) < _MOST_KINDS:
            kinds.append((blank.facts, planned))
        return planned


def _blank(part: Any) -> Any:
    return replace(part, **_BLANK[type(part)])


def _times(probe: Probe) -> dict[int | None, int]:
    """Every time of the probe as the number that stands for it; 0 stays 0."""
    kubernetes = probe.facts.kubernetes
    known = {file.mtime for file in probe.files.values()} | {kubernetes.toolkit_changed, kubernetes.rendered_at, 0}
    ordered = sorted(time for time in known if time is not None)
    at: dict[int | None, int] = {ordered[0]: min(ordered[0], 0)}
    for before, time in pairwise(ordered):
        at[time] = at[before] + min(time - before, _FAR)
    return at


def _at_times(file: HostFile, at: dict[int | None, int]) -> HostFile:
    return HostFile(file.path, file.content, file.mode, file.uid, file.gid, at.get(file.mtime), file.target)
