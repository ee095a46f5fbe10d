"""Docker: handler, default and CDI are members of daemon.json, merged into what is there (`runtimes.md §8`)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gpuwizard.actions import Activation, Check, FileChange, HostChange, HostPlanned, Refusal
from gpuwizard.answers.model import Answers
from gpuwizard.clean import clean_line
from gpuwizard.containerd import Effective, compare
from gpuwizard.containerd.effective import flatten
from gpuwizard.errors import RefusedError
from gpuwizard.facts.model import Handler, Probe, RuntimeFacts
from gpuwizard.flavours.chosen import runtime_of
from gpuwizard.flavours.docker_json import parsed, raw_value, remove_member, set_member
from gpuwizard.flavours.handler import NAME, is_right
from gpuwizard.flavours.option import StrategyOption
from gpuwizard.flavours.reasons import broken_now, default_undefined, former_unknown
from gpuwizard.flavours.refusals import announced_changes, operator_manages, outcome_refusals, refused
from gpuwizard.secret import SecretBytes

__all__ = ["FORMER", "offer", "plan"]

FORMER = "/var/lib/gpuwizard/docker-default-runtime"
"""What default-runtime was before it became nvidia: daemon.json takes neither comments nor foreign members."""
_FILE = "/etc/docker/daemon.json"
_DEFAULT = ("default-runtime",)
_CDI = ("features", "cdi")
_UNSET = "unset"
_FATAL = ("syntax", "flag-and-file", "unknown-key")


@dataclass(frozen=True, slots=True)
class _Situation:
    """What the plan of one Docker starts from. `memory` is the file that remembers the former default, `former` what it
    says. `flag_default` is the default that the command line gives, `flag_cdi` whether it switches CDI; either beside
    the same member of the file keeps dockerd from starting."""

    runtime: RuntimeFacts
    path: str
    text: str | None
    document: Mapping[str, Any]
    memory: SecretBytes | None
    former: str | None
    runtime_path: str
    flag_default: str | None
    flag_cdi: bool = False

    @property
    def release(self) -> tuple[int, int]:
        found = re.match(r"(\d{1,4})\.(\d{1,4})", self.runtime.version or "")
        return (int(found[1]), int(found[2])) if found else (0, 0)


def offer(probe: Probe) -> tuple[StrategyOption, ...]:
    """Docker reads one file and no others."""
    return (
        StrategyOption("drop-in", False, "Docker reads no file besides its daemon.json"),
        StrategyOption("in-place", True, "Docker keeps its runtimes in daemon.json; all else in it stays", True),
    )


def plan(name: str, probe: Probe, answers: Answers, chosen: StrategyOption) -> HostPlanned:
    """Give Docker runtime nvidia, the default and CDI as the answers want them."""
    runtime = runtime_of(probe.facts)
    assert runtime is not None
    blocked = _blocked(runtime)
    if blocked is not None:
        return refused(chosen.value, blocked)
    try:
        start = _situation(probe, runtime)
    except RefusedError as error:
        return refused(chosen.value, broken_now(runtime.config_path or _FILE, error.what))
    wanted = answers.default_runtime_for(name)
    if wanted == "former" and start.document.get("default-runtime") == NAME and start.former is None:
        return refused(chosen.value, former_unknown(start.path))
    try:
        text, former = _edited(start, wanted, cdi=answers.runtime.cdi == "enable")
    except RefusedError as error:
        return refused(chosen.value, Refusal("not-editable", f"{start.path}: {error.what}", error.remedy))
    if text == (start.text or ""):
        return _unchanged(start, probe, chosen)
    blocked = operator_manages(probe) or _flags(start, text)
    return refused(chosen.value, blocked) if blocked is not None else _planned(start, text, former, probe, chosen)


def _blocked(runtime: RuntimeFacts) -> Refusal | None:
    """Why the file is not touched, whatever is in it."""
    if runtime.owner == "snap":
        return Refusal(
            "docker-snap",
            "this Docker is a snap, which cannot run nvidia-container-runtime of the host",
            "use Docker's own package or the distribution's",
        )
    wrong = next((w for w in runtime.warnings if w.kind in _FATAL), None)
    return broken_now(wrong.path, f"dockerd would not start with it: {wrong.text}") if wrong is not None else None


def _situation(probe: Probe, runtime: RuntimeFacts) -> _Situation:
    path = runtime.config_path or _FILE
    file, remembered = probe.files.get(path), probe.files.get(FORMER)
    memory = remembered.content if remembered is not None else None
    text = file.content.raw.decode("utf-8", "surrogateescape") if file is not None and file.content else None
    document = parsed(text or "")
    for key in ("runtimes", "features"):
        if not isinstance(document.get(key), dict | None):
            raise RefusedError(f"{key} is no JSON object")
    in_file = document.get("default-runtime")
    cdi = _table(document, "features").get("cdi")
    start = _Situation(
        runtime, path, text, document, memory,
        _remembered(memory.text()) if memory is not None else None,
        probe.facts.toolkit.runtime_path or "nvidia-container-runtime",
        runtime.default_handler if in_file is None else None,
    )  # fmt: skip
    # What the facts say of CDI and the file does not explain comes from the command line.
    told = runtime.cdi if cdi is None and start.release >= (25, 0) else None
    return replace(start, flag_cdi=told is not None and told != _cdi(document, start.release))


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object `key` of daemon.json; null is as good as none."""
    return document.get(key) or {}


def _remembered(text: str) -> str | None:
    """The former default as it was written; None for a file that holds something else."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return lines[0] if len(lines) == 1 and (lines[0] in (_UNSET, "null") or lines[0].startswith('"')) else None


def _cdi(document: Mapping[str, Any], release: tuple[int, int]) -> bool:
    """Whether this Docker knows CDI devices: to be asked for in 25.0 to 28.1, on from 28.2."""
    asked = _table(document, "features").get("cdi")
    if release < (25, 0):
        return False
    return asked is True if isinstance(asked, bool) else release >= (28, 2)


def _edited(start: _Situation, wanted: str, *, cdi: bool) -> tuple[str, str | None]:
    """The new text of daemon.json and of the file that remembers the former default."""
    text, former = start.text or "", start.former
    if not _right(start):
        text = _with_handler(start, text)
    if cdi and start.release >= (25, 0) and not _cdi(start.document, start.release) and not start.flag_cdi:
        text = set_member(text, _CDI, True)
    now = start.document.get("default-runtime")
    if wanted == "nvidia" and now != NAME and start.flag_default != NAME:
        former = raw_value(text, _DEFAULT) or _UNSET
        text = set_member(text, _DEFAULT, NAME)
    elif wanted == "former" and now == NAME and former is not None:
        if former == _UNSET:
            text = remove_member(text, _DEFAULT)
        else:
            text = set_member(text, _DEFAULT, parsed(f'{{"x": {former}}}')["x"], raw=former)
        former = None
    return text, former


def _right(start: _Situation) -> bool:
    """Whether the runtime that is there needs no edit: it runs the toolkit's program, and that is on the host."""
    entry = _table(start.document, "runtimes").get(NAME)
    if entry is None and NAME in start.runtime.handlers:  # --add-runtime
        entry = {"path": start.runtime.handlers[NAME].options.get("path")}
    if not isinstance(entry, dict) or "runtimeType" in entry:
        return False
    path = entry.get("path")
    return path != start.runtime.missing_binaries.get(NAME, "") and _runs(path, start.runtime_path)


def _runs(path: object, runtime_path: str) -> bool:
    return is_right(Handler("", {"BinaryName": path or ""}), Handler("", {"BinaryName": runtime_path}))


def _with_handler(start: _Situation, text: str) -> str:
    entry = _table(start.document, "runtimes").get(NAME)
    if entry is None and NAME in start.runtime.handlers:
        raise RefusedError(
            "dockerd gets --add-runtime=nvidia=… on its command line, with another program",
            remedy="take the flag out of the unit's ExecStart, restart Docker, and plan again",
        )
    if entry is None:
        return set_member(text, ("runtimes", NAME), {"path": start.runtime_path, "args": []})
    if not isinstance(entry, dict) or "runtimeType" in entry:
        raise RefusedError(
            "runtime nvidia is there and is no program with a path", remedy="remove it or give it another name"
        )
    return set_member(text, ("runtimes", NAME, "path"), start.runtime_path)


def _flags(start: _Situation, text: str) -> Refusal | None:
    """A directive both as a flag and in the file stops dockerd, runtimes excepted."""
    if start.flag_default is not None and "default-runtime" in parsed(text):
        return Refusal(
            "docker-flag",
            f"dockerd gets --default-runtime={start.flag_default} on its command line: with the same in "
            f"{start.path} it would not start",
            "take the flag out of the unit's ExecStart, restart Docker, and plan again",
        )
    if start.flag_cdi and "features" in parsed(text):
        return Refusal(
            "docker-flag",
            f"dockerd gets --feature on its command line: with features in {start.path} it would not start",
            "take the flag out of the unit's ExecStart, restart Docker, and plan again",
        )
    return None


def _state(start: _Situation, document: Mapping[str, Any]) -> Effective:
    """What Docker makes of `document`, in the words of the other runtimes."""
    runtimes = {
        clean_line(name): Handler(
            str(entry.get("runtimeType") or "runc"),
            {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items() if k != "runtimeType"},
        )
        for name, entry in _table(document, "runtimes").items()
        if isinstance(entry, dict)
    }
    built_in = {"runc": Handler("runc"), **{n: h for n, h in start.runtime.handlers.items() if n not in runtimes}}
    default = str(document.get("default-runtime") or start.flag_default or "runc")
    for shim in (default, str(start.document.get("default-runtime") or "")):
        if shim.startswith("io.containerd."):  # a shim by its own name needs no entry
            built_in[shim] = Handler(shim)
    features = {k: v for k, v in _table(document, "features").items() if k != "cdi"}
    rest = {k: v for k, v in document.items() if k not in ("runtimes", "default-runtime", "features")}
    return Effective(
        release=start.runtime.version or "",
        starts=True,
        cri="ok",
        default_runtime_name=default,
        runtimes={**built_in, **runtimes},
        enable_cdi=_cdi(document, start.release) or (start.flag_cdi and bool(start.runtime.cdi)),
        files=(start.path,),
        settings=flatten({**rest, "features": features}),
    )


def _planned(start: _Situation, text: str, former: str | None, probe: Probe, chosen: StrategyOption) -> HostPlanned:
    new = parsed(text)
    before, after = _state(start, start.document), _state(start, new)
    changes = compare(before, after)
    default = after.default_runtime_name if after.default_runtime_name != before.default_runtime_name else None
    cdi = _cdi(new, start.release) and not _cdi(start.document, start.release)
    entry = _table(new, "runtimes").get(NAME, {})
    right = _runs(entry.get("path"), start.runtime_path) if entry else _right(start)
    name = after.default_runtime_name or ""
    if name not in after.runtimes:
        return refused(chosen.value, default_undefined(name, "dockerd"))
    expected = announced_changes(changes, default, cdi=cdi)
    found = outcome_refusals(before, after, start.runtime_path, default, expected, right=right)
    if found:
        return HostPlanned(chosen.value, found[0].why, refusals=found)
    file = FileChange(start.path, _bytes(start.text), _bytes(text))
    remembered = FileChange(FORMER, start.memory, _memory(former), mode=0o600)
    if former == start.former:
        files: tuple[FileChange, ...] = (file,)
    else:  # what was there is remembered before it goes, and forgotten after it is back
        files = (remembered, file) if former is not None else (file, remembered)
    return HostPlanned(
        chosen.value,
        "; ".join((chosen.reason, *_hook(start), *_consequences(start, probe, after))),
        HostChange(files, _activation(start), _check(start, after), changes),
    )


def _unchanged(start: _Situation, probe: Probe, chosen: StrategyOption) -> HostPlanned:
    """Nothing to write. A Docker that began before the toolkit came does not know the hook of ``--gpus`` yet."""
    runtime = start.runtime
    if runtime.toolkit_newer_than_process and not runtime.used_by_kubelet:
        state = _state(start, start.document)
        reason = "the toolkit was installed after Docker started, and --gpus looks for its hook only at the start"
        change = HostChange((), _activation(start), _check(start, state))
        return HostPlanned(chosen.value, "; ".join((reason, *_consequences(start, probe, state))), change)
    return HostPlanned(chosen.value, "runtime nvidia is there and right")


def _hook(start: _Situation) -> tuple[str, ...]:
    """The toolkit itself is what the plan is for: that it comes alive is said, and refuses nothing."""
    if not start.runtime.toolkit_newer_than_process:
        return ()
    return ("the toolkit was installed after Docker started: with the restart --gpus finds its hook as well",)


def _consequences(start: _Situation, probe: Probe, after: Effective) -> list[str]:
    """What an operator has to know before Docker restarts."""
    words = []
    if _stops(start):
        words.append("its restart stops every container of this Docker, because live-restore is off")
    else:
        words.append("containers go on running while it restarts: live-restore is on")
    if start.runtime.used_by_kubelet and after.default_runtime_name != NAME:
        words.append(
            "a kubelet on Docker knows no runtime classes: pods get a GPU only when nvidia is the default "
            "(runtime.default_runtime = nvidia)"
        )
    if start.release >= (29, 2) and not probe.facts.toolkit.cdi_specs:
        words.append(
            "--gpus asks CDI first from 29.2 on, and no CDI specification is there: run nvidia-ctk cdi generate"
        )
    return words


def _stops(start: _Situation) -> bool:
    return start.document.get("live-restore") is not True


def _activation(start: _Situation) -> Activation:
    return Activation(start.runtime.unit or "docker.service", stops_containers=_stops(start))


def _check(start: _Situation, state: Effective) -> Check:
    return Check(
        unit=start.runtime.unit or "docker.service",
        handlers=tuple(n for n, h in state.runtimes.items() if not n.startswith("io.containerd.")),
        default_handler=state.default_runtime_name,
        cri_socket=start.runtime.socket,
        binary=start.runtime.binary or "dockerd",
        config_path=start.path,
        kind="docker",
    )


def _memory(former: str | None) -> SecretBytes | None:
    if former is None:
        return None
    head = f"# Written by gpuwizard: default-runtime of {_FILE} before it became nvidia; unset: there was none.\n"
    return SecretBytes.of_text(f"{head}{former}\n")


def _bytes(text: str | None) -> SecretBytes | None:
    return None if text is None else SecretBytes(text.encode("utf-8", "surrogateescape"))
