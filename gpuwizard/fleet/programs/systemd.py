"""systemctl, systemd-run and journalctl of a simulated host."""

import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpuwizard.fleet.init import Init, Unit
from gpuwizard.fleet.questions import Answer, Question

if TYPE_CHECKING:
    from gpuwizard.fleet.host import SimulatedHost

__all__ = ["journalctl", "systemctl", "systemd_run"]

_UNITS_OF_TIME = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "hr": 3600, "d": 86400, "": 1}
_SHOWN = (
    "Id", "Description", "LoadState", "ActiveState", "SubState", "FragmentPath", "UnitFileState", "MainPID",
    "NRestarts", "Result", "ExecMainStatus", "ExecMainStartTimestamp", "ActiveEnterTimestamp", "ExecStart",
    "NextElapseUSecMonotonic",
)  # fmt: skip
_VALUED = ("-p", "-P", "--property", "-n", "--lines", "-t", "--type", "--state", "-o", "--output", "-s", "--signal")
_DENIED = "Interactive authentication required."


async def systemctl(host: "SimulatedHost", question: Question) -> Answer:
    """The verbs that gpuwizard and people use; the rest is said to be not simulated."""
    words, flags, values = _split(question.arguments)
    if "--version" in flags:
        return Answer("systemd 255 (255.4-1simulated)\n+PAM +AUDIT +SELINUX default-hierarchy=unified\n")
    verb, names = (words[0], [_full(n) for n in words[1:]]) if words else ("list-units", [])
    init = host.init
    match verb:
        case "show":
            keys = [key for value in values for key in value.split(",")]
            blocks = [_shown(init, name, keys, "--value" in flags) for name in names]
            return Answer("\n".join(blocks))
        case "is-active" | "is-failed" | "is-enabled":
            return _is(init, verb, names, quiet="--quiet" in flags or "-q" in flags)
        case "status":
            return _status(host, names)
        case "list-units" | "list-timers":
            return Answer("".join(f"{u.name} loaded {u.active} {u.sub} {u.description}\n" for u in init.units.values()))
        case "cat":
            return Answer("".join(init.tree.text(init.fragment(n) or "/nonexistent") for n in names))
    if not question.root:
        return Answer(err=f"Failed to {verb} {' '.join(words[1:])}: {_DENIED}\n", status=1)
    return await _change(host, verb, names, flags)


async def _change(host: "SimulatedHost", verb: str, names: Sequence[str], flags: Sequence[str]) -> Answer:
    init = host.init
    if host.frozen is not None and verb in ("start", "stop", "restart", "try-restart", "enable", "disable"):
        return Answer(err=f"systemctl: nothing is changed on this simulated host: {host.frozen}\n", status=1)
    if verb == "daemon-reload":
        init.reloads += 1
        return Answer()
    if verb == "reset-failed" and not names:
        names = list(init.units)
    for name in names:
        unit = init.unit(name)
        if unit is None:
            if verb == "disable":
                init.disable(name)
                continue
            what = "does not exist" if verb in ("enable", "disable") else "not found"
            return Answer(err=f"Failed to {verb} {name}: Unit {name} {what}.\n", status=1 if verb == "enable" else 5)
        answer = await _change_unit(init, verb, unit, flags)
        if answer.status or answer.err or answer.out:
            return answer
    return Answer()


async def _change_unit(init: Init, verb: str, unit: Unit, flags: Sequence[str]) -> Answer:
    wait = "--no-block" not in flags
    match verb:
        case "start":
            ok = await init.start(unit, wait=wait)
        case "restart":
            ok = await init.restart(unit, wait=wait)
        case "try-restart":
            ok = await init.restart(unit, wait=wait) if unit.active == "active" else True
        case "stop":
            init.stop(unit)
            return Answer()
        case "reset-failed":
            init.reset_failed(unit)
            return Answer()
        case "enable":
            return _enabled(init, unit.name, flags)
        case "disable":
            init.disable(unit.name)
            return Answer()
        case _:
            return Answer(err=f"systemctl: {verb} is not simulated\n", status=1)
    if ok:
        return Answer()
    hint = f'See "systemctl status {unit.name}" and "journalctl -xeu {unit.name}" for details.'
    return Answer(
        err=f"Job for {unit.name} failed because the control process exited with error code.\n{hint}\n", status=1
    )


def _enabled(init: Init, name: str, flags: Sequence[str]) -> Answer:
    path = init.enable(name)
    if path is None:
        return Answer(err=f"The unit files have no installation config: {name}\n", status=1)
    if "--no-reload" not in flags:
        init.reloads += 1
    quiet = "--quiet" in flags or "-q" in flags
    link = f"/etc/systemd/system/multi-user.target.wants/{name}"
    return Answer(err="" if quiet else f"Created symlink {link} -> {path}.\n")


async def systemd_run(host: "SimulatedHost", question: Question) -> Answer:
    """A transient service, at once or by a timer."""
    if not question.root:
        return Answer(err=f"Failed to start transient service unit: {_DENIED}\n", status=1)
    if host.frozen is not None:
        return Answer(err=f"systemd-run: nothing runs on this simulated host: {host.frozen}\n", status=1)
    arguments = list(question.arguments)
    name, description, collect, delay, quiet = "", "", False, None, False
    while arguments and arguments[0].startswith("-"):
        option = arguments.pop(0)
        if option == "--":
            break
        key, equals, value = option.partition("=")
        if not equals and key in (
            "--unit",
            "-u",
            "--on-active",
            "--description",
            "-p",
            "--property",
            "--timer-property",
        ):
            value = arguments.pop(0) if arguments else ""
        match key:
            case "--unit" | "-u":
                name = value.removesuffix(".service")
            case "--on-active":
                delay = _seconds(value)
                if delay is None:
                    return Answer(err=f"Failed to parse timer value: {value}\n", status=1)
            case "--description":
                description = value
            case "--collect" | "-G":
                collect = True
            case "--quiet" | "-q":
                quiet = True
            case "-p" | "--property" | "--timer-property" | "--no-block" | "--slice":
                pass
            case _:
                return Answer(err=f"systemd-run: {option} is not simulated\n", status=1)
    if not arguments:
        return Answer(err="Command line to execute required.\n", status=1)
    name = name or f"run-u{time.monotonic_ns()}"
    description = description or " ".join(arguments)
    if not host.init.run_transient(name, arguments, description, collect=collect, delay=delay):
        kind = "timer" if delay is not None else "service"
        what = f"Unit {name}.{kind} was already loaded or has a fragment file."
        return Answer(err=f"Failed to start transient {kind} unit: {what}\n", status=1)
    kind = "timer" if delay is not None else "service"
    return Answer(err="" if quiet else f"Running {'timer ' if delay else ''}as unit: {name}.{kind}\n")


async def journalctl(host: "SimulatedHost", question: Question) -> Answer:
    """The last lines of a unit."""
    words, flags, _ = _split(question.arguments, keep=("-u", "--unit", "-n", "--lines"))
    del words
    wanted = [_full(value) for key, value in _options(question.arguments) if key in ("-u", "--unit")]
    count = next((int(v) for k, v in _options(question.arguments) if k in ("-n", "--lines") and v.isdigit()), 200)
    if not question.root and not wanted:
        return Answer("No journal files were opened due to insufficient permissions.\n", status=1)
    lines = [(unit, text) for unit, text in host.init.journal if not wanted or unit in wanted]
    plain = any(v == "cat" for k, v in _options(question.arguments) if k in ("-o", "--output"))
    shown = [text if plain else f"{host.spec.name} {unit}: {text}" for unit, text in lines[-count:]]
    del flags
    return Answer("".join(f"{line}\n" for line in shown) or "-- No entries --\n")


def _options(arguments: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for index, word in enumerate(arguments):
        key, equals, value = word.partition("=")
        if equals and key.startswith("--"):
            found.append((key, value))
        elif word in ("-u", "--unit", "-n", "--lines", "-o", "--output") and index + 1 < len(arguments):
            found.append((word, arguments[index + 1]))
    return found


def _split(arguments: Sequence[str], keep: Sequence[str] = ()) -> tuple[list[str], list[str], list[str]]:
    """Words, flags, and the values of -p."""
    words: list[str] = []
    flags: list[str] = []
    values: list[str] = []
    pending = ""
    for word in arguments:
        if pending:
            if pending in ("-p", "-P", "--property"):
                values.append(word)
            pending = ""
        elif word in _VALUED or word in keep:
            pending = word
        elif word.startswith(("--property=", "-p")):
            values.append(word.partition("=")[2] if word.startswith("--") else word[2:])
        elif word.startswith("-"):
            flags.append(word)
        else:
            words.append(word)
    return words, flags, values


def _full(name: str) -> str:
    return name if re.search(r"\.(service|timer|target|socket|path|mount)$", name) else f"{name}.service"


def _shown(init: Init, name: str, keys: Sequence[str], bare: bool) -> str:
    unit = init.unit(name)
    values = _properties(init, name, unit)
    wanted = [key for key in (keys or _SHOWN) if key in values]
    return "".join(f"{values[key]}\n" if bare else f"{key}={values[key]}\n" for key in wanted)


def _properties(init: Init, name: str, unit: Unit | None) -> dict[str, str]:
    if unit is None:
        return {
            "Id": name, "Description": name, "LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead",
            "FragmentPath": "", "UnitFileState": "", "MainPID": "0", "NRestarts": "0", "Result": "success",
            "ExecMainStatus": "0", "ExecMainStartTimestamp": "", "ActiveEnterTimestamp": "",
        }  # fmt: skip
    moment = time.strftime("%a %Y-%m-%d %H:%M:%S UTC", time.gmtime(unit.since)) if unit.since else ""
    program = unit.arguments[0] if unit.arguments else ""
    argv = " ".join(unit.arguments)
    values = {
        "Id": name, "Description": unit.description, "LoadState": "loaded", "ActiveState": unit.active,
        "SubState": unit.sub, "FragmentPath": init.fragment(name) or "", "UnitFileState": init.enabled(name),
        "Result": unit.result,
    }  # fmt: skip
    if name.endswith(".timer"):
        left = max((unit.due or 0.0) - init.clock.monotonic(), 0.0)
        return values | {"NextElapseUSecMonotonic": f"{left:.0f}s"}
    started = f"start_time=[{moment}] ; stop_time=[n/a] ; pid={unit.pid} ; code=(null) ; status=0/0"
    return values | {
        "MainPID": str(unit.pid), "NRestarts": str(unit.restarts), "ExecMainStatus": str(unit.code),
        "ExecMainStartTimestamp": moment, "ActiveEnterTimestamp": moment if unit.active == "active" else "",
        "ExecStart": f"{{ path={program} ; argv[]={argv} ; ignore_errors=no ; {started} }}",
    }  # fmt: skip


def _is(init: Init, verb: str, names: Sequence[str], *, quiet: bool) -> Answer:
    words = []
    good = False
    for name in names:
        unit = init.unit(name)
        match verb:
            case "is-enabled":
                word = init.enabled(name) or "not-found"
                good = good or word in ("enabled", "static", "transient")
            case "is-failed":
                word = unit.active if unit is not None else "inactive"
                good = good or word == "failed"
            case _:
                word = unit.active if unit is not None else "inactive"
                good = good or word == "active"
        words.append(word)
    bad = 4 if verb == "is-enabled" and words == ["not-found"] else 1 if verb != "is-active" else 3
    return Answer("" if quiet else "".join(f"{w}\n" for w in words), status=0 if good else bad)


def _status(host: "SimulatedHost", names: Sequence[str]) -> Answer:
    text, code = "", 0
    for name in names:
        unit = host.init.unit(name)
        if unit is None:
            return Answer(err=f"Unit {name} could not be found.\n", status=4)
        last = [line for owner, line in host.init.journal if owner == name][-10:]
        text += f"* {name} - {unit.description}\n     Active: {unit.active} ({unit.sub})\n   Main PID: {unit.pid}\n\n"
        text += "".join(f"{line}\n" for line in last)
        code = 0 if unit.active == "active" else 3
    return Answer(text, status=code)


def _seconds(text: str) -> float | None:
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text)
    if not parts or re.sub(r"[\d.a-z\s]", "", text) or any(unit not in _UNITS_OF_TIME for _, unit in parts):
        return None
    return sum(float(number) * _UNITS_OF_TIME[unit] for number, unit in parts)
