"""What the runtimes are judged by, and what every kind of them is asked in the same way."""

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from gpuwizard.facts.files import FileTimes
from gpuwizard.facts.model import HostFile, KubernetesFacts, RuntimeFacts, ServiceState
from gpuwizard.facts.text import value
from gpuwizard.facts.units import Process, Unit

__all__ = [
    "ContainerdLook",
    "Live",
    "Predict",
    "RuntimeInputs",
    "live_in",
    "missing_programs",
    "other_command",
    "other_handlers",
    "package_of",
    "same_socket",
    "socket_path",
    "started_at",
    "upstream_version",
    "used_by_kubelet",
    "with_service",
    "written_since",
]

_MARGIN = 2.0
"""Seconds: uptime, the clock and file times are whole seconds or a little better."""
_LIVE = ("default", "handler")
_TICKS = 100
"""Clock ticks a second in which /proc tells times; the same on every Linux."""


Predict: TypeAlias = Callable[[Mapping[str, bytes], str, str], Mapping[str, Any] | str]
"""What ``config dump`` would print: of files by path, the root file's path and containerd's version. The document, or
as text why the loader refuses the files. Running it costs a host more than the rest of the probe."""


@dataclass(frozen=True, slots=True)
class ContainerdLook:
    """What the probe brought of one containerd. `pid` is None when none runs; `dump` is the host's own
    ``config dump``, `dump_error` its refusal, `plugins` what ``ctr plugins ls`` printed. `exe` is the program's path,
    `running_text` what the process's own program says of its version where the file was replaced since, `package` the
    package that put the file there, when the version is that of the package."""

    pid: int | None
    config: str
    socket: str | None = None
    binary: str | None = None
    version_text: str | None = None
    dump: str | None = None
    dump_error: str | None = None
    plugins: str | None = None
    exe: str | None = None
    running_text: str | None = None
    package: str | None = None


@dataclass(frozen=True, slots=True)
class Live:
    """What a running Docker or CRI-O says of itself: its default handler and the names of all."""

    default: str
    handlers: frozenset[str]


def live_in(text: str | None) -> Live | None:
    """Read the lines that live.pl printed; None unless they name a default handler and at least one."""
    words = [line.partition(" ") for line in (text or "").splitlines()]
    names = {kind: [shown for k, _, name in words if k == kind and (shown := value(name))] for kind in _LIVE}
    if not names["default"] or not names["handler"]:
        return None
    return Live(names["default"][0], frozenset(names["handler"]))


def other_handlers(live: Live, files: Set[str], default: str | None, built_in: Set[str]) -> tuple[str, ...]:
    """Where what runs differs from what the next start makes of the files: handlers that `files` define, the `default`
    of the files (None: not known), and those that may run without standing in a file."""
    found = [f"handler {name} stands in the files and does not run" for name in sorted(files - live.handlers)]
    found += [f"handler {name} runs and stands in no file" for name in sorted(live.handlers - files - built_in)]
    if default is not None and _plain(default) != _plain(live.default):
        found.append(f"the default handler is {live.default}, and {default} in the files")
    return tuple(found)


def _plain(handler: str) -> str:
    """Docker 20.10 to 23 call runc by the name of its shim, too."""
    return "runc" if handler == "io.containerd.runc.v2" else handler


@dataclass(frozen=True, slots=True)
class RuntimeInputs:
    """All that the runtimes are judged by. `endpoint` is the kubelet's CRI socket: None when unknown, empty when
    the host has no kubelet.

    `packages` maps an installed package to its version; `programs` a program that a configuration names to its path on
    the host, empty where there is none; `path_programs` what PATH gives; `times` are those of files, `uptime` the
    host's when it was asked for them. `docker_package` and `crio_package` are the packages that the programs come from.
    `crio_unread` are the files of a folder that CRI-O does not read. `docker_live` and `crio_live` are what the daemon
    at the usual socket runs with. `cgroup2` is None where it is not known. `predict`
    stands in for a dump that the probe did not ask for.
    """

    containerds: Sequence[ContainerdLook]
    processes: Sequence[Process]
    units: Mapping[str, Unit]
    files: Mapping[str, HostFile]
    kubernetes: KubernetesFacts
    endpoint: str | None
    docker_version: str | None = None
    crio_version: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)
    path_programs: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, FileTimes] = field(default_factory=dict)
    uptime: float | None = None
    docker_package: str | None = None
    crio_package: str | None = None
    crio_unread: Sequence[str] = ()
    cgroup2: bool | None = None
    docker_live: Live | None = None
    crio_live: Live | None = None
    root: bool = True
    predict: Predict | None = None


def socket_path(endpoint: str | None) -> str | None:
    """``unix:///var/run/x.sock`` as a plain path below /run."""
    if endpoint is None:
        return None
    path = endpoint.strip().strip("\"'").removeprefix("unix://")
    return path.replace("/var/run/", "/run/", 1) if path.startswith("/var/run/") else path


def same_socket(one: str | None, other: str | None) -> bool:
    """Whether two spellings name one socket."""
    return bool(one) and socket_path(one) == socket_path(other)


def used_by_kubelet(socket: str | None, inputs: RuntimeInputs) -> bool | None:
    """Whether the kubelet talks to that socket; None where either is not known."""
    if inputs.endpoint is None:
        return None
    if not inputs.endpoint:
        return False
    return None if socket is None else same_socket(socket, inputs.endpoint)


def with_service(facts: RuntimeFacts, unit: Unit | None) -> RuntimeFacts:
    """The same facts with what systemd says of the unit."""
    if unit is None:
        return facts
    state = ServiceState(unit.name, unit.loaded, unit.active, unit.enabled, unit.sub, unit.result)
    return replace(facts, service=state, restarts=unit.restarts, needs_daemon_reload=unit.needs_reload)


def package_of(names: Sequence[str], packages: Mapping[str, str]) -> str | None:
    """The first installed one of those packages, with its version."""
    return next((f"{name} {packages[name]}" for name in names if name in packages), None)


def upstream_version(package_version: str) -> str:
    """``5:28.2.2-1~ubuntu.24.04~noble`` without epoch and the distribution's revision: ``28.2.2``."""
    rest = re.sub(r"^[0-9]+:", "", package_version)
    return rest.rpartition("-")[0] or rest


def missing_programs(named: Mapping[str, object], inputs: RuntimeInputs, *, own_path: bool = False) -> dict[str, str]:
    """Of handlers and the programs that they name those whose program is not on the host.

    A program that was not looked for is not said to be missing, nor a bare name where the service has its `own_path`.
    """
    found: dict[str, str] = {}
    for handler, program in named.items():
        if not isinstance(program, str) or not program or inputs.programs.get(program) != "":
            continue
        if program.startswith("/") or not own_path:
            found[handler] = value(program) or program
    return found


def started_at(process: Process | None, inputs: RuntimeInputs) -> float | None:
    """When a process began, by the host's clock; None where that cannot be told."""
    now = inputs.times.get("/proc/self")
    if process is None or process.ticks is None or inputs.uptime is None or now is None:
        return None
    age = inputs.uptime - process.ticks / _TICKS
    return now.modified - age if age >= 0 else None  # else the uptime is that of a container


def other_command(process: Process | None, unit: Unit | None) -> str | None:
    """The command line with which systemd would start the unit now, where its own process has another one. None also
    where that cannot be compared: words that systemd puts in itself, a process that is not the unit's first."""
    if process is None or unit is None or unit.pid != process.pid or not unit.loaded or not process.arguments:
        return None
    wanted, has = (" ".join(words) for words in (unit.arguments, process.arguments))
    if not wanted or "$" in wanted or "%" in wanted or wanted.split() == has.split():
        return None
    return wanted


def written_since(
    paths: Sequence[str], began: float | None, inputs: RuntimeInputs
) -> tuple[bool | None, tuple[str, ...]]:
    """Whether one of the files or folders was written after `began`, and which files were.

    None where that is not known: also where only their names, owners or rights changed, or the times were set.
    """
    if began is None or not paths:
        return None, ()
    latest = began + _MARGIN
    known, newer = True, []
    for path in paths:
        file, times = inputs.files.get(path), inputs.times.get(path)
        if times is None:
            known = False
        elif times.modified > latest and file is not None and file.content is not None:
            newer.append(path)
        elif times.modified > latest or times.changed is None or times.changed > latest:
            known = False
    return (True if newer else False if known else None), tuple(newer)
