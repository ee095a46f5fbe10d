"""CRI-O: a small file in crio.conf.d, where the last file in order wins (`runtimes.md §9`)."""

import posixpath
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpuwizard.actions import Activation, Check, FileChange, HostChange, HostPlanned, Refusal
from gpuwizard.answers.model import Answers
from gpuwizard.clean import clean_line
from gpuwizard.containerd import Effective, compare
from gpuwizard.containerd.edit import add_table
from gpuwizard.containerd.effective import flatten
from gpuwizard.errors import RefusedError
from gpuwizard.facts.model import Handler, Probe, RuntimeFacts
from gpuwizard.facts.runtimes.crio_files import in_order, merged
from gpuwizard.flavours.chosen import runtime_of
from gpuwizard.flavours.crio_toolkit import low_level_change
from gpuwizard.flavours.handler import NAME, is_right
from gpuwizard.flavours.option import StrategyOption
from gpuwizard.flavours.reasons import broken_now, default_undefined, former_unknown
from gpuwizard.flavours.refusals import announced_changes, operator_manages, outcome_refusals, refused
from gpuwizard.secret import SecretBytes

__all__ = ["DROP_IN", "offer", "plan"]

DROP_IN = "99-gpuwizard-nvidia.toml"
_FOLDER = "/etc/crio/crio.conf.d"
_RUNTIME = ("crio", "runtime")
_NOT_COPIED = (
    "runtime_path",
    "runtime_type",
    "inherit_default_runtime",
    "runtime_config_path",
    "platform_runtime_paths",
)


class _BrokenError(RefusedError):
    """One of CRI-O's files, at `where`, with which it would not start."""


@dataclass(frozen=True, slots=True)
class _Situation:
    """What the plan of one CRI-O starts from: its files in the order in which they are read."""

    runtime: RuntimeFacts
    files: dict[str, bytes]
    own: str
    built_in: str
    runtime_path: str

    def read(self, extra: Mapping[str, bytes | None] | None = None) -> dict[str, bytes]:
        """All files in CRI-O's order: crio.conf, then its walk of the folder; a None of `extra` is no longer there."""
        main = self.runtime.config_path or "/etc/crio/crio.conf"
        every = {p: raw for p, raw in {**self.files, **(extra or {})}.items() if raw is not None}
        return {path: every[path] for path in in_order(main, every)}


def offer(probe: Probe) -> tuple[StrategyOption, ...]:
    """CRI-O merges the files of its folder; its own file has the lowest rank."""
    return (
        StrategyOption("drop-in", True, "CRI-O lays the files of crio.conf.d over its own, the last one wins", True),
        StrategyOption("in-place", False, "every file of crio.conf.d comes after crio.conf, and packages ship some"),
    )


def plan(name: str, probe: Probe, answers: Answers, chosen: StrategyOption) -> HostPlanned:
    """Give CRI-O handler nvidia, and the default where the answers want it; CDI is always on since v1.24."""
    runtime = runtime_of(probe.facts)
    assert runtime is not None
    start = _situation(probe, runtime)
    try:
        before = _state(start, start.read())
        if before.error:
            return refused(chosen.value, broken_now(before.files[-1], before.error))
        if answers.default_runtime_for(name) == "former" and _others(start).default_runtime_name == NAME:
            return refused(chosen.value, former_unknown("another file"))
        text = _text(start, before, answers.default_runtime_for(name))
        toolkit = low_level_change(probe)
    except _BrokenError as error:
        return refused(chosen.value, broken_now(error.where, error.what))
    except RefusedError as error:
        return refused(chosen.value, Refusal("not-editable", error.what, error.remedy))
    own = start.files.get(start.own)
    new = text.encode() if text else None
    if new == own and toolkit is None:
        return HostPlanned(chosen.value, "handler nvidia is there and right")
    blocked = operator_manages(probe) or _backup(start)
    if blocked is not None:
        return refused(chosen.value, blocked)
    return _planned(start, before, new, toolkit, chosen)


def _situation(probe: Probe, runtime: RuntimeFacts) -> _Situation:
    main = runtime.config_path or "/etc/crio/crio.conf"
    drop_ins = [p for p in runtime.config_files if p != main]
    folder = next((p[: p.index("/crio.conf.d/") + 12] for p in drop_ins if "/crio.conf.d/" in p), _FOLDER)
    files = {
        p: f.content.raw
        for p, f in probe.files.items()
        if f.content is not None and (p == main or p.startswith(f"{folder}/"))
    }
    found = re.match(r"(\d{1,4})\.(\d{1,4})", runtime.version or "")
    newer = found is not None and (int(found[1]), int(found[2])) >= (1, 31)
    path = probe.facts.toolkit.runtime_path or "nvidia-container-runtime"
    return _Situation(runtime, files, f"{folder}/{DROP_IN}", "crun" if newer else "runc", path)


def _merged(files: Mapping[str, bytes]) -> Mapping[str, Any]:
    """The table `crio` of all files. Raises _BrokenError for one with which CRI-O would not start."""
    found = merged(files)
    if found.error is not None:
        raise _BrokenError(f"{found.error}: CRI-O would not start", where=found.broken)
    return found.crio


def _table(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _state(start: _Situation, files: Mapping[str, bytes]) -> Effective:
    """What CRI-O makes of the files, in the words of the other runtimes."""
    crio = _merged(files)
    runtime = _table(crio, "runtime")
    tables = {start.built_in: {}, **_table(runtime, "runtimes")}
    handlers = {
        clean_line(name): Handler(
            str(entry.get("runtime_type") or "oci"),
            {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items() if k != "runtime_type"},
        )
        for name, entry in tables.items()
        if isinstance(entry, dict)
    }
    rest = {k: v for k, v in runtime.items() if k not in ("runtimes", "default_runtime")}
    default = str(runtime.get("default_runtime") or start.built_in)
    return Effective(
        release=start.runtime.version or "",
        starts=True,
        cri="ok",
        error=None if default in handlers else f"default_runtime {default} is not defined: CRI-O does not start",
        default_runtime_name=default,
        runtimes=handlers,
        enable_cdi=start.runtime.cdi,
        files=tuple(files) or (start.own,),
        settings=flatten({**crio, "runtime": rest}),
    )


def _text(start: _Situation, before: Effective, wanted: str) -> str:
    """Our file as it has to be; empty where it is not needed."""
    own = start.files.get(start.own, b"").decode("utf-8", "replace")
    ours = _table(_table(tomllib.loads(own), "crio"), "runtime")
    others = _others(start)
    default = ours.get("default_runtime") == NAME
    if wanted == "nvidia":
        default = default or others.default_runtime_name != NAME
    elif wanted == "former":
        default = False
    table = _wanted(start, others)
    needed = NAME in _table(ours, "runtimes") or not _right(start, others.runtimes.get(NAME), table)
    if not needed and not default:
        return ""
    text = "# Written by gpuwizard: tells CRI-O about the NVIDIA container runtime.\n"
    if default:
        text = add_table(text, _RUNTIME, {"default_runtime": NAME})
    if needed:
        text = add_table(text, (*_RUNTIME, "runtimes", NAME), table)
    return text


def _others(start: _Situation) -> Effective:
    """What CRI-O would make of the files without ours."""
    return _state(start, start.read({start.own: None}))


def _wanted(start: _Situation, others: Effective) -> dict[str, Any]:
    """Handler nvidia: the default handler's monitor, annotations and other options, with the toolkit's program."""
    names = (others.default_runtime_name or "", start.built_in, "crun", "runc")
    model = next((others.runtimes[n] for n in names if n in others.runtimes and n != NAME), Handler("oci"))
    options = {k: v for k, v in model.options.items() if k not in _NOT_COPIED} if model.runtime_type == "oci" else {}
    return {"runtime_path": start.runtime_path, "runtime_type": "oci", **options}


def _right(start: _Situation, present: Handler | None, table: Mapping[str, Any]) -> bool:
    """Whether another file's handler needs none of ours: its program is on the host, its monitor the same."""
    if present is None:
        return False
    path, monitor = present.options.get("runtime_path") or "", present.options.get("monitor_path") or ""
    return (
        present.runtime_type == "oci"
        and path != start.runtime.missing_binaries.get(NAME, "")
        and is_right(Handler("oci", {"BinaryName": path}), Handler("oci", {"BinaryName": start.runtime_path}))
        and monitor == (table.get("monitor_path") or "")
    )


def _backup(start: _Situation) -> Refusal | None:
    """CRI-O loads every file of its folder, whatever its ending (`runtimes.md §11` trap 15)."""
    found = next((w for w in start.runtime.warnings if w.kind == "backup"), None)
    if found is None:
        return None
    return Refusal(
        "crio-backup",
        f"{found.path} is a copy by its name, and CRI-O reads every file of this folder: what it says would hold",
        "move it out of the folder, restart CRI-O, and plan again",
    )


def _planned(
    start: _Situation, before: Effective, new: bytes | None, toolkit: FileChange | None, chosen: StrategyOption
) -> HostPlanned:
    after = _state(start, start.read({start.own: new}))
    changes = compare(before, after)
    default = after.default_runtime_name if after.default_runtime_name != before.default_runtime_name else None
    right = _right(start, after.runtimes.get(NAME), _wanted(start, after))
    expected = announced_changes(changes, default)
    asked = _asked(new) or default
    later = _later(start, after, default=asked is not None and after.default_runtime_name != asked)
    if later is not None and (not right or after.default_runtime_name != (asked or after.default_runtime_name)):
        return refused(chosen.value, later)
    name = after.default_runtime_name or ""
    if name not in after.runtimes:
        return refused(chosen.value, default_undefined(name, "CRI-O"))
    found = outcome_refusals(before, after, start.runtime_path, asked, expected, right=right)
    if found:
        return HostPlanned(chosen.value, found[0].why, refusals=found)
    own = start.files.get(start.own)
    files = [toolkit] if toolkit is not None else []
    if new != own:
        files.append(FileChange(start.own, _bytes(own), _bytes(new)))
    unit = start.runtime.unit or "crio.service"
    check = Check(
        unit=unit,
        handlers=tuple(after.runtimes),
        default_handler=after.default_runtime_name,
        cri_socket=start.runtime.socket,
        binary=start.runtime.binary or "crio",
        config_path=start.runtime.config_path or "/etc/crio/crio.conf",
        kind="crio",
        options=tuple(
            f"{NAME}.runtime_path={h.options['runtime_path']}"
            for n, h in after.runtimes.items()
            if n == NAME and h.options.get("runtime_path")
        ),
    )
    reason = "; ".join((chosen.reason, *_said(start, toolkit)))
    return HostPlanned(chosen.value, reason, HostChange(tuple(files), Activation(unit), check, changes))


def _asked(new: bytes | None) -> str | None:
    """The default that our file asks for, which a later file may deny."""
    text = (new or b"").decode()
    asked = _table(_table(tomllib.loads(text), "crio"), "runtime").get("default_runtime")
    return str(asked) if asked else None


def _later(start: _Situation, after: Effective, *, default: bool) -> Refusal | None:
    """The file behind ours that has the last word on handler nvidia, or on the `default` handler."""
    order = list(after.files)
    behind = order[order.index(start.own) + 1 :] if start.own in order else []
    for path in reversed(behind):
        runtime = _table(_merged({path: start.files[path]}), "runtime")
        what = "handler nvidia" if NAME in _table(runtime, "runtimes") else ""
        what = what or ("default_runtime" if default and "default_runtime" in runtime else "")
        if what:
            return Refusal(
                "drop-in-unread",
                f"{path} is read after {posixpath.basename(start.own)} and sets {what} otherwise: "
                "ours would not be read",
                f"remove {what} from {path}, or repair it there, and plan again",
            )
    return None


def _said(start: _Situation, toolkit: FileChange | None) -> list[str]:
    words = ["containers go on running while CRI-O restarts"]
    if toolkit is not None:
        words.append(f"{toolkit.path} learns where CRI-O keeps its own runc and crun, which are not in PATH")
    unread = next((w.path for w in start.runtime.warnings if w.kind == "unread"), None)
    if unread is not None:
        words.append(f"{unread} lies in a folder that CRI-O does not read")
    return words


def _bytes(raw: bytes | None) -> SecretBytes | None:
    return None if raw is None else SecretBytes(raw)
