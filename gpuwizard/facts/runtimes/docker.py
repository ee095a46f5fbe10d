"""Docker: daemon.json, the daemon's flags, and what the two make together (`runtimes.md §8`)."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NoReturn

from gpuwizard.facts.files import FileTimes
from gpuwizard.facts.model import ConfigWarning, Handler, RuntimeFacts
from gpuwizard.facts.runtimes.inputs import (
    RuntimeInputs,
    missing_programs,
    other_command,
    other_handlers,
    package_of,
    socket_path,
    started_at,
    upstream_version,
    with_service,
    written_since,
)
from gpuwizard.facts.text import value, version_of
from gpuwizard.facts.units import Process, Unit, by_pid, flag

__all__ = ["docker_facts"]

_FILE = "/etc/docker/daemon.json"
_SOCKET = "/run/docker.sock"
_PACKAGES = ("docker-ce", "docker.io", "moby-engine", "docker")
_RUNC = "io.containerd.runc.v2"
_HOOKS = ("/usr/bin/nvidia-container-runtime-hook", "/usr/bin/nvidia-cdi-hook")
_NAMES = {  # flag: directive of the file, where that is another word
    "add-runtime": "runtimes",
    "cdi-spec-dir": "cdi-spec-dirs",
    "dns-opt": "dns-opts",
    "exec-opt": "exec-opts",
    "host": "hosts",
    "insecure-registry": "insecure-registries",
    "label": "labels",
    "log-opt": "log-opts",
    "registry-mirror": "registry-mirrors",
    "storage-opt": "storage-opts",
    "default-ulimit": "default-ulimits",
    "default-address-pool": "default-address-pools",
}
_SHORT = {"-H": "--host", "-D": "--debug", "-G": "--group", "-g": "--data-root", "-l": "--log-level"}
_MAY_DOUBLE = frozenset(("runtimes",))
_KNOWN = (
    "bip",
    "cdi-spec-dirs",
    "data-root",
    "default-runtime",
    "exec-opts",
    "features",
    "hosts",
    "insecure-registries",
    "live-restore",
    "log-driver",
    "log-opts",
    "registry-mirrors",
    "runtimes",
    "storage-driver",
    "storage-opts",
)
"""Directives that people misspell; dockerd knows many more."""
_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class _Daemon:
    """daemon.json: `error` says why it is none; `text` is its text."""

    document: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    error: str | None = None


def docker_facts(inputs: RuntimeInputs) -> list[RuntimeFacts]:
    """Every dockerd of the host: those that run as root, else the one that is installed."""
    running = [p for p in inputs.processes if p.program == "dockerd" and not p.in_container and p.uid == 0]
    unit = inputs.units.get("docker.service")
    installed = inputs.docker_version is not None or inputs.docker_package is not None
    if running:
        return [_facts(process, inputs) for process in running]
    if installed or "dockerd" in inputs.path_programs or (unit is not None and unit.loaded):
        return [_facts(None, inputs)]
    return []


def _facts(process: Process | None, inputs: RuntimeInputs) -> RuntimeFacts:
    unit = _unit(process, inputs)
    arguments = process.arguments if process is not None else unit.arguments if unit is not None else ()
    path = flag(arguments, "--config-file") or _FILE
    file = inputs.files.get(path)
    there = file is not None and file.content is not None
    daemon = _daemon(file.content.raw) if file is not None and file.content is not None else _Daemon()
    version = _version(inputs)
    handlers = _handlers(daemon, arguments)
    newer, changed = written_since([path], started_at(process, inputs), inputs)
    default = _text(daemon.document.get("default-runtime")) or flag(arguments, "--default-runtime")
    socket = _socket(daemon, arguments)
    bridged = inputs.endpoint is not None and ("cri-dockerd" in inputs.endpoint or "dockershim" in inputs.endpoint)
    facts = RuntimeFacts(
        kind="docker",
        version=version,
        socket=socket,
        config_path=path if there else None,
        handlers=handlers,
        default_handler=default,
        used_by_kubelet=None if inputs.endpoint is None else bridged,
        owner=_owner(process, unit, inputs),
        unit=unit.name if unit is not None else None,
        binary=_binary(process, inputs),
        pid=process.pid if process is not None else None,
        running=process is not None,
        effective_error=daemon.error,
        systemd_cgroup=_systemd_cgroup(daemon, arguments, inputs),
        cdi=_cdi(daemon, arguments, version),
        cdi_spec_dirs=_dirs(daemon, arguments, version),
        warnings=_warnings(path, daemon, arguments),
        missing_binaries=missing_programs(
            {name: handler.options.get("path") for name, handler in handlers.items()},
            inputs,
            own_path=_own_path(process, unit),
        ),
        config_newer_than_process=newer if there else None,
        changed_files=changed,
        binary_replaced=process.replaced if process is not None else None,
        waiting_command=other_command(process, unit),
        package=package_of(_PACKAGES, inputs.packages),
        config_files=(path,) if there else (),
        bridge="cri-dockerd" if _bridge(inputs) else None,
        toolkit_newer_than_process=_toolkit_newer(process, inputs),
        not_live=_not_live(socket, daemon, handlers, default, inputs) if process is not None else (),
    )
    return with_service(facts, unit)


def _not_live(
    socket: str | None,
    daemon: _Daemon,
    handlers: Mapping[str, Handler],
    default: str | None,
    inputs: RuntimeInputs,
) -> tuple[str, ...]:
    """Where the running daemon has other runtimes than its file and flags give it, whatever the times of the files
    say. What is built in (runc and the shims of containerd) stands in no file (`runtimes.md §8`)."""
    live = inputs.docker_live
    if live is None or daemon.error is not None or socket != _SOCKET:
        return ()
    return other_handlers(
        live, {n for n in handlers if not _built_in(n)}, default or "runc", {n for n in live.handlers if _built_in(n)}
    )


def _built_in(name: str) -> bool:
    return name == "runc" or name.startswith("io.containerd.")


def _version(inputs: RuntimeInputs) -> str | None:
    """By the package that put the program there, else by its own word."""
    package = inputs.docker_package
    if package is not None and package in inputs.packages:
        return version_of(upstream_version(inputs.packages[package]))
    return version_of(inputs.docker_version)


def _unit(process: Process | None, inputs: RuntimeInputs) -> Unit | None:
    name = by_pid(inputs.units, process.pid if process is not None else None)
    name = name or (process.unit if process is not None else None) or "docker.service"
    unit = inputs.units.get(name)
    return unit if unit is not None and (unit.loaded or process is not None) else None


@lru_cache(maxsize=256)
def _daemon(raw: bytes) -> _Daemon:
    """daemon.json as dockerd reads it: a byte order mark is skipped, an empty file is an empty configuration."""
    text = raw.decode("utf-8-sig", "replace")
    if not text.strip() or len(raw) > _LIMIT:
        return _Daemon(error=f"larger than {_LIMIT >> 20} MiB" if text.strip() else None)
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return _Daemon(text=text, error=value(str(error)) or "no JSON")
    if not isinstance(document, dict):
        return _Daemon(text=text, error="not a JSON object")
    return _Daemon(document, text)


def _no_constant(name: str) -> NoReturn:
    """NaN and Infinity, which Python takes and Go does not."""
    raise ValueError(f"{name} is no JSON")


def _handlers(daemon: _Daemon, arguments: Sequence[str]) -> dict[str, Handler]:
    """Runtimes of the file and of ``--add-runtime NAME=PATH``."""
    found: dict[str, Handler] = {}
    runtimes = daemon.document.get("runtimes")
    for name, entry in runtimes.items() if isinstance(runtimes, dict) else ():
        if isinstance(entry, dict):
            kind, path = _text(entry.get("runtimeType")), _text(entry.get("path"))
            found[value(name) or "?"] = Handler(kind or "runc", {"path": path} if path else {})
    for given in _every(arguments, "--add-runtime"):
        name, equals, path = given.partition("=")
        if equals and value(name):
            found.setdefault(value(name) or "?", Handler("runc", {"path": value(path)}))
    return found


def _text(entry: object) -> str | None:
    return value(entry) if isinstance(entry, str) else None


def _every(arguments: Sequence[str], *names: str) -> list[str]:
    """Every value of a flag that may come several times."""
    found, previous = [], ""
    for argument in arguments:
        name, equals, rest = argument.partition("=")
        if equals and name in names:
            found.append(rest)
        elif previous in names:
            found.append(argument)
        previous = argument
    return found


def _socket(daemon: _Daemon, arguments: Sequence[str]) -> str | None:
    """Its unix socket; the usual one where none is named."""
    hosts = daemon.document.get("hosts")
    given = [host for host in hosts if isinstance(host, str)] if isinstance(hosts, list) else []
    given += _every(arguments, "-H", "--host")
    for host in given:
        if host.startswith("unix://"):
            return socket_path(value(host))
    return _SOCKET


def _binary(process: Process | None, inputs: RuntimeInputs) -> str | None:
    if process is not None and process.exe is not None:
        return process.exe
    return inputs.path_programs.get("dockerd")


def _owner(process: Process | None, unit: Unit | None, inputs: RuntimeInputs) -> str | None:
    program = (process.exe if process is not None else None) or ""
    if program.startswith("/snap/") or (unit is not None and unit.name.startswith("snap.")):
        return "snap"
    if program.startswith(("/usr/local/", "/opt/")):
        return "local"
    if program.startswith(("/usr/bin/", "/usr/sbin/")) and package_of(_PACKAGES, inputs.packages):
        return "package"
    if unit is None or unit.fragment is None:
        return None
    return "package" if unit.fragment.startswith(("/lib/", "/usr/lib/")) else "local"


def _own_path(process: Process | None, unit: Unit | None) -> bool:
    if unit is not None and ("PATH" in unit.environment or unit.name.startswith("snap.")):
        return True
    return process is not None and (process.exe or "").startswith(("/snap/", "/nix/"))


def _systemd_cgroup(daemon: _Daemon, arguments: Sequence[str], inputs: RuntimeInputs) -> bool | None:
    """``native.cgroupdriver``; without it systemd where control groups are v2, cgroupfs where they are v1."""
    if daemon.error is not None:
        return None
    options = daemon.document.get("exec-opts")
    given = [o for o in options if isinstance(o, str)] if isinstance(options, list) else []
    for option in (*given, *_every(arguments, "--exec-opt")):
        name, equals, driver = option.partition("=")
        if equals and name.strip() == "native.cgroupdriver":
            return {"systemd": True, "cgroupfs": False}.get(driver.strip())
    return inputs.cgroup2


def _feature(daemon: _Daemon, arguments: Sequence[str]) -> bool | None:
    features = daemon.document.get("features")
    if isinstance(features, dict) and isinstance(features.get("cdi"), bool):
        return bool(features["cdi"])
    for given in _every(arguments, "--feature"):
        name, equals, rest = given.partition("=")
        if name == "cdi":
            return rest.lower() not in ("false", "0") if equals else True
    return None


def _release(version: str | None) -> tuple[int, int] | None:
    found = re.match(r"(\d{1,4})\.(\d{1,4})", version or "")
    return None if found is None else (int(found[1]), int(found[2]))


def _cdi(daemon: _Daemon, arguments: Sequence[str], version: str | None) -> bool | None:
    """An experiment to be asked for in 25.0 to 28.1, on from 28.2 (`runtimes.md §8`)."""
    release, asked = _release(version), _feature(daemon, arguments)
    if release is not None and release < (25, 0):
        return False
    if asked is not None:
        return asked
    if release is None or daemon.error is not None:
        return None
    return release >= (28, 2)


def _dirs(daemon: _Daemon, arguments: Sequence[str], version: str | None) -> tuple[str, ...]:
    if _cdi(daemon, arguments, version) is not True:
        return ()
    dirs = daemon.document.get("cdi-spec-dirs")
    given = [d for d in dirs if isinstance(d, str)] if isinstance(dirs, list) else []
    given += _every(arguments, "--cdi-spec-dir")
    return tuple(shown for d in given if (shown := value(d))) or ("/etc/cdi", "/var/run/cdi")


def _warnings(path: str, daemon: _Daemon, arguments: Sequence[str]) -> tuple[ConfigWarning, ...]:
    """What keeps dockerd from starting the next time (`runtimes.md §8`)."""
    if daemon.error is not None:
        place = re.search(r"line (\d{1,9})", daemon.error)
        return (ConfigWarning(path, daemon.error, int(place[1]) if place else None, "syntax"),)
    found = []
    for name, shown in _flags(arguments).items():
        if name in daemon.document and name not in _MAY_DOUBLE:
            line = _line(daemon.text, name)
            found.append(
                ConfigWarning(path, f'"{name}" stands in the file and is the flag {shown}, too', line, "flag-and-file")
            )
    for key in daemon.document:
        meant = next((known for known in _KNOWN if _alike(key, known)), None)
        if meant is not None and key not in _KNOWN:
            line = _line(daemon.text, key)
            found.append(ConfigWarning(path, f'"{value(key)}" is no directive; "{meant}" is', line, "unknown-key"))
    return tuple(found)


def _flags(arguments: Sequence[str]) -> dict[str, str]:
    """The directives that the command line sets, with the flag of each."""
    found: dict[str, str] = {}
    for argument in arguments[1:]:
        shown = argument.partition("=")[0]
        long = _SHORT.get(shown, shown)
        if long.startswith("--"):
            name = long.removeprefix("--")
            found.setdefault(_NAMES.get(name, name), value(shown) or "?")
    return found


def _alike(key: str, known: str) -> bool:
    """``default_runtime``, ``Default-Runtime`` and ``default-runtimes`` for ``default-runtime``."""
    return key.lower().replace("_", "-").rstrip("s") == known.rstrip("s")


def _line(text: str, key: str) -> int | None:
    place = text.find(json.dumps(key))
    return None if place < 0 else text.count("\n", 0, place) + 1


def _toolkit_newer(process: Process | None, inputs: RuntimeInputs) -> bool | None:
    """Whether the NVIDIA hook was put in place after dockerd began: it looks for it at its start only.

    A package's files have the times of their build; when they came to this host says the time of the last change.
    """
    began = started_at(process, inputs)
    times: list[FileTimes] = [inputs.times[path] for path in _HOOKS if path in inputs.times]
    if began is None or not times:
        return None
    changed = [t.changed for t in times if t.changed is not None]
    if len(changed) != len(times):
        return None
    return min(changed) > began + 2


def _bridge(inputs: RuntimeInputs) -> bool:
    if "cri-dockerd" in inputs.path_programs or "cri-dockerd" in (inputs.endpoint or ""):
        return True
    return any(process.program == "cri-dockerd" and not process.in_container for process in inputs.processes)
