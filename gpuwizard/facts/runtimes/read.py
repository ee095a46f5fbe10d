"""Every container runtime of one probe."""

import re

from gpuwizard.facts.files import file_times
from gpuwizard.facts.frames import Frames, Section
from gpuwizard.facts.look import Look
from gpuwizard.facts.model import KubernetesFacts, RuntimeFacts
from gpuwizard.facts.runtimes.inputs import Predict, live_in
from gpuwizard.facts.runtimes.runtimes import ContainerdLook, RuntimeInputs, runtime_facts
from gpuwizard.facts.text import number, value

__all__ = ["read_runtimes"]

_NOT_RUN = (124, 126, 127, 137, 143)
"""Exit statuses of a program that could not be started, or that was ended before it answered."""


def read_runtimes(
    look: Look, kubernetes: KubernetesFacts, endpoint: str | None, predict: Predict | None = None
) -> tuple[RuntimeFacts, ...]:
    """The runtimes, that of the kubelet first. `endpoint` is the kubelet's CRI socket: None when unknown, empty when
    the host has no kubelet. `predict` tells what a containerd makes of its files where the host was not asked."""
    frames = look.frames
    return runtime_facts(
        RuntimeInputs(
            containerds=[c for s in frames.all("containerd") if (c := _containerd(look, s)) is not None],
            processes=look.processes,
            units=look.units,
            files=look.files,
            kubernetes=kubernetes,
            endpoint=endpoint,
            docker_version=frames.good("docker-version"),
            crio_version=frames.good("crio-version"),
            packages=look.packages,
            programs=_pairs(frames, "programs"),
            path_programs={name: path for name, path in _pairs(frames, "path-programs").items() if path},
            times=file_times(frames),
            uptime=_uptime(frames),
            docker_package=value(frames.good("docker-package")),
            crio_package=value(frames.good("crio-package")),
            crio_unread=frames.lines("crio-unread"),
            docker_live=live_in(frames.good("docker-live")),
            crio_live=live_in(frames.good("crio-live")),
            cgroup2={"unified": True, "hybrid": False, "legacy": False}.get(frames.text("cgroup") or ""),
            root=look.root,
            predict=predict,
        )
    )


def _containerd(look: Look, section: Section) -> ContainerdLook | None:
    frames, key = look.frames, section.key
    fields = dict(line.partition("=")[::2] for line in section.lines)
    config = value(fields.get("config"))
    if config is None:
        return None
    return ContainerdLook(
        pid=number(key) or None,
        config=config,
        socket=value(fields.get("socket")),
        binary=value(fields.get("binary")),
        version_text=frames.good("containerd-version", key),
        dump=frames.good("containerd-dump", key),
        dump_error=_refusal(frames, key),
        plugins=frames.good("containerd-plugins", key),
        exe=value(fields.get("exe")),
        running_text=frames.good("containerd-running", key),
        package=value(fields.get("package")),
    )


def _refusal(frames: Frames, key: str) -> str | None:
    """What containerd said when it refused its files; None where its program could not be run or did not answer,
    which says nothing of them."""
    section = frames.get("containerd-error", key)
    return None if section is None or section.status in _NOT_RUN else section.text


def _pairs(frames: Frames, name: str) -> dict[str, str]:
    """``NAME=PATH`` lines; the path is empty where there is none."""
    section = frames.get(name)
    if section is None or section.cut:
        return {}
    pairs = (line.partition("=") for line in section.lines)
    return {name: path for name, equals, path in pairs if equals and name}


def _uptime(frames: Frames) -> float | None:
    """The first number of /proc/uptime, in seconds."""
    found = re.match(r"\d{1,12}(?:\.\d{1,6})?(?=\s|$)", frames.text("uptime") or "")
    return float(found[0]) if found else None
