"""systemd units and processes as the probe lists them."""

import functools
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpuwizard.facts.text import number, value

__all__ = ["Process", "Unit", "flag", "parse_process", "parse_units"]

_BETWEEN = re.compile(r"\n[ \t\r]*\n")
_WORDS_LIMIT = 64 * 1024
"""A longer command line is none that systemd was given."""
_CONTAINED = re.compile(r"docker-[0-9a-f]+\.scope|/docker/[0-9a-f]|kubepods|libpod|(?:cri-containerd|crio)-[0-9a-f]")
"""Control groups that container runtimes make; their own units are called otherwise."""
_DELETED = " (deleted)"
_UNIT = re.compile(r"([A-Za-z0-9@_.:\\-]+\.service)(?=/|$)")


@dataclass(frozen=True, slots=True)
class Unit:
    """What ``systemctl show`` says of one unit. `arguments` is the command line of its first ExecStart; `active`,
    `sub`, `enabled` and `result` are ActiveState, SubState, UnitFileState and Result; `restarts` counts those that
    systemd made by itself; `environment` is what the unit itself sets, without its `environment_files`. `needs_reload`
    is true when its file changed since systemd read it."""

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
    environment_files: tuple[str, ...] = ()
    needs_reload: bool | None = None

    @property
    def running(self) -> bool:
        """Up, or on its way up."""
        return self.active in ("active", "activating", "reloading")


@dataclass(frozen=True, slots=True)
class Process:
    """One process. `unit` comes from its cgroup; `exe` is None where it could not be read, and `replaced` is true when
    its file is not on the disk any more. `ticks` is when it began, in hundredths of a second since the boot."""

    pid: int
    comm: str
    uid: int | None
    exe: str | None
    unit: str | None
    in_container: bool
    arguments: tuple[str, ...]
    ticks: int | None = None
    replaced: bool = False

    @property
    def program(self) -> str:
        """The last part of the command's name."""
        return (self.arguments[0] if self.arguments else self.comm).rpartition("/")[2]


def parse_units(text: str | None) -> dict[str, Unit]:
    """Blocks of ``Key=value``, separated by empty lines, by unit name."""
    found: dict[str, Unit] = {}
    for block in _BETWEEN.split(text or ""):
        unit = _unit(block)
        if unit is not None:
            found[unit.name] = unit
    return found


@functools.lru_cache(maxsize=256)
def _unit(block: str) -> Unit | None:
    """One block; kept, because most hosts say the same of most units."""
    fields: dict[str, str] = {}
    files: list[str] = []
    for line in block.splitlines():
        key, equals, rest = line.partition("=")
        if equals:
            fields.setdefault(key.strip(), rest.strip())
            if key.startswith("EnvironmentFile") and (path := value(rest.partition(" (ignore_errors")[0])):
                files.append(path)
    name = value(fields.get("Id"))
    if name is None:
        return None
    return Unit(
        name=name,
        loaded=fields.get("LoadState") == "loaded",
        active=value(fields.get("ActiveState")),
        pid=number(fields.get("MainPID")) or None,
        fragment=value(fields.get("FragmentPath")),
        arguments=_exec_start(fields.get("ExecStart", "")),
        sub=value(fields.get("SubState")),
        enabled=value(fields.get("UnitFileState")),
        result=value(fields.get("Result")),
        restarts=number(fields.get("NRestarts")),
        environment=_environment(fields.get("Environment", "")),
        environment_files=tuple(files),
        needs_reload={"yes": True, "no": False}.get(fields.get("NeedDaemonReload", "")),
    )


def _environment(text: str) -> dict[str, str]:
    """``A=1 "B=two words"`` as systemd prints it."""
    return {name: rest for name, equals, rest in (word.partition("=") for word in _words(text)) if equals}


def _exec_start(text: str) -> tuple[str, ...]:
    """The words of ``{ path=… ; argv[]=… ; ignore_errors=… }``."""
    match = re.search(r"argv\[\]=(.*?)(?: ; [a-z_]+=| ?\}|$)", text)
    return _words(match[1]) if match is not None else ()


@functools.lru_cache(maxsize=256)
def _words(text: str) -> tuple[str, ...]:
    """Words as a shell splits them; where a quote is not closed, at the blanks."""
    if not text or len(text) > _WORDS_LIMIT:
        return ()
    try:
        return tuple(shlex.split(text))
    except ValueError:
        return tuple(text.split())


def parse_process(pid: str, text: str) -> Process | None:
    """A ``process`` section: ``comm=``, ``uid=``, ``ticks=``, ``exe=``, and one ``cgroup=`` or ``arg=`` a line."""
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
        exe=value(single.get("exe", "").removesuffix(_DELETED)),
        unit=value(units[-1]) if units else None,
        in_container=_CONTAINED.search(joined) is not None,
        arguments=tuple(arguments),
        ticks=number(single.get("ticks")),
        replaced=single.get("exe", "").endswith(_DELETED),
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
