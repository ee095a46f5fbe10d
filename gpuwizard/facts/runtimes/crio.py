"""CRI-O: crio.conf, every file of crio.conf.d, and its flags (`runtimes.md §9`)."""

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gpuwizard.facts.model import ConfigWarning, Handler, RuntimeFacts
from gpuwizard.facts.runtimes.config_files import table
from gpuwizard.facts.runtimes.crio_files import CrioFiles, in_order, merged
from gpuwizard.facts.runtimes.inputs import (
    RuntimeInputs,
    missing_programs,
    other_command,
    other_handlers,
    package_of,
    socket_path,
    started_at,
    upstream_version,
    used_by_kubelet,
    with_service,
    written_since,
)
from gpuwizard.facts.text import value, version_of
from gpuwizard.facts.units import Process, by_pid, flag

__all__ = ["crio_facts"]

_MAIN = "/etc/crio/crio.conf"
_FOLDER = "/etc/crio/crio.conf.d"
_SOCKET = "/run/crio/crio.sock"
_PACKAGES = ("cri-o", "microshift")
_BUILT_IN = frozenset(("crun", "runc"))
_BACKUP = re.compile(
    r"(?i)(?:\.(?:bak|backup|old|orig|save|swp|rpmsave|rpmnew|dpkg-old|dpkg-dist|dpkg-new)(?:\.|$)|~$|^#)"
)


def crio_facts(inputs: RuntimeInputs) -> list[RuntimeFacts]:
    """Every CRI-O of the host: those that run, else the one that is installed."""
    running = [p for p in inputs.processes if p.program == "crio" and not p.in_container and p.uid in (0, None)]
    if running:
        return [_facts(process, inputs) for process in running]
    unit = inputs.units.get("crio.service")
    installed = inputs.crio_version is not None or inputs.crio_package is not None or "crio" in inputs.path_programs
    return [_facts(None, inputs)] if installed or (unit is not None and unit.loaded) else []


def _facts(process: Process | None, inputs: RuntimeInputs) -> RuntimeFacts:
    name = by_pid(inputs.units, process.pid if process is not None else None)
    name = name or (process.unit if process is not None else None) or "crio.service"
    unit = inputs.units.get(name)
    arguments = process.arguments if process is not None else unit.arguments if unit is not None else ()
    main = flag(arguments, "--config", "-c") or _MAIN
    folder = flag(arguments, "--config-dir", "-d") or _FOLDER
    texts = {
        path: file.content.raw
        for path, file in inputs.files.items()
        if file.content is not None and (path == main or path.startswith(f"{folder}/"))
    }
    paths = in_order(main, texts)
    files = merged({path: texts[path] for path in paths})
    version = _version(inputs)
    runtime, image = table(files.crio, "runtime"), table(files.crio, "image")
    default = flag(arguments, "--default-runtime") or _text(runtime.get("default_runtime")) or _default(version)
    handlers = _handlers(runtime, version) if files.error is None else {}
    socket = socket_path(flag(arguments, "--listen") or _text(table(files.crio, "api").get("listen")) or _SOCKET)
    known = files.error is None and (inputs.root or bool(paths))
    missing = _missing(handlers, default, runtime, inputs)
    newer, changed = written_since([*paths, folder], started_at(process, inputs), inputs)
    facts = RuntimeFacts(
        kind="crio",
        version=version,
        socket=socket,
        config_path=main,
        imports=tuple(paths),
        handlers=handlers,
        default_handler=default if known else None,
        used_by_kubelet=used_by_kubelet(socket, inputs),
        owner=_owner(process, unit.fragment if unit is not None else None, inputs),
        unit=unit.name if unit is not None and unit.loaded else name if process is not None else None,
        binary=(process.exe if process is not None else None) or inputs.path_programs.get("crio"),
        pid=process.pid if process is not None else None,
        running=process is not None,
        effective_error=files.error,
        systemd_cgroup=_systemd_cgroup(runtime, arguments) if known else None,
        cdi=_cdi(version),
        cdi_spec_dirs=_dirs(runtime, version),
        sandbox_image=_text(image.get("pause_image")),
        warnings=_warnings(paths, files, inputs),
        missing_binaries=missing,
        config_newer_than_process=newer if paths else None,
        changed_files=changed,
        binary_replaced=process.replaced if process is not None else None,
        waiting_command=other_command(process, unit),
        package=package_of(_PACKAGES, inputs.packages),
        config_files=tuple(paths),
        not_live=_not_live(socket, handlers, default, missing, arguments, inputs) if process and known else (),
    )
    return with_service(facts, unit)


def _not_live(
    socket: str | None,
    handlers: Mapping[str, Handler],
    default: str | None,
    missing: Mapping[str, str],
    arguments: Sequence[str],
    inputs: RuntimeInputs,
) -> tuple[str, ...]:
    """Where the running CRI-O has other handlers than its files give it, whatever the times of the files say.

    crun and runc may be built in, and one whose program is not there is left out at the start: neither counts.
    """
    live = inputs.crio_live
    if live is None or socket != _SOCKET or any(a.startswith("--runtimes") for a in arguments):
        return ()
    named = {n for n, h in handlers.items() if h.options.get("path") and h.runtime_type == "oci"}
    return other_handlers(live, named - _BUILT_IN - set(missing) | live.handlers & set(handlers), default, _BUILT_IN)


def _version(inputs: RuntimeInputs) -> str | None:
    package = inputs.crio_package
    if package is not None and package in inputs.packages:
        return version_of(upstream_version(inputs.packages[package]))
    return version_of(inputs.crio_version)


def _release(version: str | None) -> tuple[int, int] | None:
    found = re.match(r"(\d{1,4})\.(\d{1,4})", version or "")
    return None if found is None else (int(found[1]), int(found[2]))


def _default(version: str | None) -> str | None:
    """crun from 1.31 on, runc before (`runtimes.md §9`)."""
    release = _release(version)
    return None if release is None else "crun" if release >= (1, 31) else "runc"


def _handlers(runtime: Mapping[str, Any], version: str | None) -> dict[str, Handler]:
    """The handlers of the files and the one that is built in."""
    found = {
        value(name) or "?": Handler(
            _text(entry.get("runtime_type")) or "oci",
            {"path": path} if (path := _text(entry.get("runtime_path"))) else {},
        )
        for name, entry in table(runtime, "runtimes").items()
        if isinstance(entry, Mapping)
    }
    built_in = _default(version)
    if built_in is not None:
        found.setdefault(built_in, Handler("oci"))
    return found


def _missing(
    handlers: Mapping[str, Handler], default: str | None, runtime: Mapping[str, Any], inputs: RuntimeInputs
) -> dict[str, str]:
    """Handlers without their program. One that names none is looked for in PATH by its own name; one that inherits
    from the default handler has that one's."""
    tables = table(runtime, "runtimes")
    named = {
        name: handler.options.get("path") or (name if name in tables or name == default else None)
        for name, handler in handlers.items()
        if table(tables, name).get("inherit_default_runtime") is not True
    }
    return missing_programs(named, inputs)


def _systemd_cgroup(runtime: Mapping[str, Any], arguments: Sequence[str]) -> bool | None:
    given = flag(arguments, "--cgroup-manager") or _text(runtime.get("cgroup_manager")) or "systemd"
    return {"systemd": True, "cgroupfs": False}.get(given)


def _cdi(version: str | None) -> bool | None:
    release = _release(version)
    return None if release is None else release >= (1, 24)


def _dirs(runtime: Mapping[str, Any], version: str | None) -> tuple[str, ...]:
    if _cdi(version) is not True:
        return ()
    given = runtime.get("cdi_spec_dirs")
    if isinstance(given, list):
        return tuple(shown for entry in given if isinstance(entry, str) and (shown := value(entry)))
    return ("/etc/cdi", "/var/run/cdi")


def _text(entry: object) -> str | None:
    return value(entry) if isinstance(entry, str) else None


def _warnings(paths: Sequence[str], files: CrioFiles, inputs: RuntimeInputs) -> tuple[ConfigWarning, ...]:
    found = []
    if files.error is not None:
        place = re.search(r"at line (\d{1,9})", files.error)
        found.append(ConfigWarning(files.broken, files.error, int(place[1]) if place else None, "syntax"))
    for path in paths:
        if _BACKUP.search(posixpath.basename(path)):
            found.append(
                ConfigWarning(path, "a copy by its name, and read like every file of this folder", None, "backup")
            )
    for path in inputs.crio_unread:
        shown = value(path)
        if shown:
            found.append(ConfigWarning(shown, f"CRI-O reads {_FOLDER} and not this folder", None, "unread"))
    return tuple(found)


def _owner(process: Process | None, fragment: str | None, inputs: RuntimeInputs) -> str | None:
    program = (process.exe if process is not None else None) or ""
    if program.startswith(("/usr/local/", "/opt/")):
        return "local"
    if package_of(_PACKAGES, inputs.packages):
        return "package"
    if fragment is None:
        return None
    return "package" if fragment.startswith(("/lib/", "/usr/lib/")) else "local"
