"""What the Kubernetes of a host is judged by, and small questions to it that all flavours ask."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from gpuwizard.facts.kubernetes.release import KubeRelease
from gpuwizard.facts.model import HostFile, KubernetesFacts, KubernetesService
from gpuwizard.facts.text import version_of
from gpuwizard.facts.units import Process, Unit

__all__ = [
    "Found",
    "KubernetesInputs",
    "argument_words",
    "default_name",
    "host_processes",
    "is_up",
    "own_units",
    "rootless",
    "states",
    "version",
]

_QUOTED = re.compile(r"(--[\w-]+=)[\"']([^\"'\s]*)[\"']")
Found = tuple[KubernetesFacts, str | None]
"""The facts, and the kubelet's CRI socket (None: unknown, empty: there is no kubelet)."""


@dataclass(frozen=True, slots=True)
class KubernetesInputs:
    """What the flavour is judged by. `versions` holds what tells the version, by program; `flags` the kubelet's
    environment and argument files; `configs` the telling lines of its configuration. `root` says whether an absent
    file is really absent.

    `programs` are the programs that were found; `environments` path and lines of each environment file of K3s and
    RKE2; `path` the PATH of their running process; `unread` the files that are there and could not be read; `nested`
    the node containers of this host (``kind docker/kind/kind-worker``); `system` the lines of os-release that tell;
    `base_dir` what k8s-snap recorded; `changed` when a runtime of NVIDIA was put in place, by path.
    """

    units: Mapping[str, Unit]
    processes: Sequence[Process]
    marks: Collection[str]
    versions: Mapping[str, str]
    files: Mapping[str, HostFile]
    hostname: str | None
    node_id: str | None = None
    data_dirs: Sequence[str] = ()
    flags: Mapping[str, str] = field(default_factory=dict)
    configs: Mapping[str, str] = field(default_factory=dict)
    init_scripts: Collection[str] = ()
    root: bool = True
    programs: Collection[str] = ()
    environments: Sequence[tuple[str, str]] = ()
    path: str | None = None
    unread: Collection[str] = ()
    nested: Sequence[str] = ()
    system: Mapping[str, str] = field(default_factory=dict)
    base_dir: str | None = None
    changed: Mapping[str, int] = field(default_factory=dict)


def version(inputs: KubernetesInputs, program: str) -> tuple[str | None, KubeRelease | None]:
    """The version of a program as text and as numbers."""
    text = version_of(inputs.versions.get(program))
    return text, KubeRelease.parse(text)


def is_up(unit: Unit | None) -> bool:
    """Up, or on its way up; not between two attempts."""
    return unit is not None and unit.running and unit.sub != "auto-restart"


def own_units(inputs: KubernetesInputs, *names: str) -> tuple[Unit, ...]:
    """The loaded units of those names; a name with a dot at its end stands for all that begin with it."""
    return tuple(
        unit
        for name, unit in sorted(inputs.units.items())
        if unit.loaded and any(name.startswith(one) if one.endswith(".") else name == f"{one}.service" for one in names)
    )


def states(units: Sequence[Unit]) -> tuple[dict[str, str], tuple[KubernetesService, ...]]:
    """The units as facts: the short form and the long one."""
    short = {unit.name: unit.active for unit in units if unit.active is not None}
    long = tuple(
        KubernetesService(unit.name, unit.active, unit.sub, unit.enabled, unit.result, unit.restarts) for unit in units
    )
    return short, long


def host_processes(inputs: KubernetesInputs) -> list[Process]:
    """The processes of root that run in no container. A kubelet counts all the same: where it is started by Docker it
    shares the processes of the host, and those of node containers are not among these."""
    return [p for p in inputs.processes if p.uid in (0, None) and (not p.in_container or p.program == "kubelet")]


def rootless(inputs: KubernetesInputs) -> bool:
    """A K3s of a user runs here."""
    return any(p.comm in ("k3s-server", "k3s-agent") and p.uid not in (0, None) for p in inputs.processes)


def default_name(hostname: str | None) -> str | None:
    """What a kubelet registers as by itself: the host name in lower case."""
    return hostname.strip().lower() or None if hostname else None


def argument_words(text: str) -> list[str]:
    """The flags in an environment file (``KUBELET_EXTRA_ARGS="--a=b --c d"``) or argument file (one a line)."""
    lines = [_QUOTED.sub(r"\1\2", line) for line in text.splitlines() if not line.lstrip().startswith("#")]
    return [word for line in lines for word in re.split(r"[\s\"'=]+(?=--)|[\"'\s]+", line) if word]
