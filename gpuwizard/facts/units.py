"""systemd units and processes as the probe lists them."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpuwizard.facts.text import number, value

__all__ = ["Process", "Unit", "flag", "parse_process", "parse_units"]

_UNIT = re.compile(r"([A-Za-z0-9@_.:\\-]+\.service)(?=/|$)")


@dataclass(frozen=True, slots=True)
class Unit:
    """What ``systemctl show`` says of one unit. `arguments` is the command line of its first ExecStart; `active`,
    `sub`, `enabled` and `result` are ActiveState, SubState, UnitFileState and Result; `restarts` counts those that
    systemd made by itself; `environment` is what the unit itself sets, without its environment files."""

    name: str
    loaded: bool
    active: str | None
    pid: int | None
    fragment: str | None
    arguments: tuple[str, ...]
    sub: str | None = None
    enabled: str | None = None
    result: str | None = None
    restarts: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Up, or on its way up."""
        return self.active in ("active", "activating", "reloading")


@dataclass(frozen=True, slots=True)
class Process:
    """One process. `unit` comes from its cgroup; `exe` is None where it could not be read."""

    pid: int
    comm: str
    uid: int | None
    exe: str | None
    unit: str | None
    in_container: bool
    arguments: tuple[str, ...]

    @property
    def program(self) -> str:
        """The last part of the command's name."""
        return (self.arguments[0] if self.arguments else self.comm).rpartition("/")[2]


def parse_units(text: str | None) -> dict[str, Unit]:
    """Blocks of ``Key=value``, separated by empty lines, by unit name."""
    found: dict[str, Unit] = {}
    for block in re.split(r"\n\s*\n", text or ""):
        fields: dict[str, str] = {}
        for line in block.splitlines():
            key, equals, rest = line.partition("=")
            if equals:
                fields.setdefault(key.strip(), rest.strip())
        name = fields.get("Id")
        if name:
            pid = number(fields.get("MainPID"))
            found[name] = Unit(
                name=value(name) or name,
                loaded=fields.get("LoadState") == "loaded",
                active=value(fields.get("ActiveState")),
                pid=pid or None,
                fragment=value(fields.get("FragmentPath")),
                arguments=_exec_start(fields.get("ExecStart", "")),
                sub=value(fields.get("SubState")),
                enabled=value(fields.get("UnitFileState")),
                result=value(fields.get("Result")),
                restarts=number(fields.get("NRestarts")),
                environment=_environment(fields.get("Environment", "")),
            )
    return found


def _environment(text: str) -> dict[str, str]:
    """``A=1 "B=two words"`` as systemd prints it."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    return {name: rest for name, equals, rest in (word.partition("=") for word in words) if equals}


def _exec_start(text: str) -> tuple[str, ...]:
    """The words of ``{ path=… ; argv[]=… ; ignore_errors=… }``."""
    match = re.search(r"argv\[\]=(.*?)(?: ; [a-z_]+=|\s*\}|$)", text)
    if match is None:
        return ()
    try:
        return tuple(shlex.split(match[1]))
    except ValueError:
        return tuple(match[1].split())


def parse_process(pid: str, text: str) -> Process | None:
    """A ``process`` section: ``comm=``, ``uid=``, ``exe=``, and one ``cgroup=`` or ``arg=`` a line."""
    single: dict[str, str] = {}
    cgroups: list[str] = []
    arguments: list[str] = []
    for line in text.splitlines():
        key, equals, rest = line.partition("=")
        match key if equals else "":
            case "cgroup":
                cgroups.append(rest)
            case "arg":
                arguments.append(rest)
            case "":
                pass
            case _:
                single.setdefault(key, rest)
    identity = number(pid)
    if identity is None or identity <= 0:
        return None
    joined = "\n".join(cgroups)
    units = [match[-1] for group in cgroups if (match := _UNIT.findall(group))]
    return Process(
        pid=identity,
        comm=value(single.get("comm")) or "",
        uid=number(single.get("uid")),
        exe=value(single.get("exe", "").removesuffix(" (deleted)")),
        unit=value(units[-1]) if units else None,
        in_container=re.search(r"docker-|/docker/|kubepods|libpod|crio-|cri-containerd-", joined) is not None,
        arguments=tuple(arguments),
    )


def flag(arguments: Sequence[str], *names: str) -> str | None:
    """The value of the last of the flags `names` (``--x v``, ``--x=v``) on a command line."""
    found: str | None = None
    previous = ""
    for argument in arguments:
        name, equals, rest = argument.partition("=")
        if equals and name in names:
            found = rest
        elif previous in names:
            found = argument
        previous = argument
    return value(found)


def by_pid(units: Mapping[str, Unit], pid: int | None) -> str | None:
    """The unit whose main process that is."""
    return next((unit.name for unit in units.values() if pid is not None and unit.pid == pid), None)
