"""k0s: a drop-in in the dialect that its release takes; k0s watches the folder and restarts containerd itself
(`runtimes.md §6`)."""

import tomllib
from dataclasses import dataclass, replace
from typing import Any

from gpuwizard.actions import Activation, Check, FileChange, HostChange, HostPlanned, Refusal
from gpuwizard.answers.model import Answers
from gpuwizard.clean import clean_line
from gpuwizard.containerd import Effective, compare
from gpuwizard.containerd.edit import add_table
from gpuwizard.containerd.model import CRI_V2, RUNTIME_V3
from gpuwizard.errors import RefusedError, UsageError
from gpuwizard.facts.model import Handler, Probe, RuntimeFacts
from gpuwizard.flavours import containerd
from gpuwizard.flavours.chosen import runtime_of
from gpuwizard.flavours.handler import NAME, expected_options, is_right, wanted_handler
from gpuwizard.flavours.k0s_files import (
    CRI_FILE,
    FOLDER,
    MAIN,
    K0sRelease,
    is_managed,
    later_handler,
    model,
    rejected,
    wrong_now,
)
from gpuwizard.flavours.option import StrategyOption
from gpuwizard.flavours.reasons import broken_now, former_unknown
from gpuwizard.flavours.refusals import announced_changes, operator_manages, outcome_refusals, refused
from gpuwizard.secret import SecretBytes

__all__ = ["DROP_IN", "offer", "plan", "waits_for_us"]

DROP_IN = f"{FOLDER}/99-gpuwizard-nvidia.toml"
_SAME_MERGE = 5.0  # seconds that k0s waits for further changes, and a little
_BEFORE_136 = (
    "before an upgrade to k0s 1.36 or later stop k0s, upgrade, and run gpuwizard again: "
    "1.36 does not start with a file of version 2"
)


@dataclass(frozen=True, slots=True)
class _Situation:
    """What the plan of one k0s starts from: all files, and what containerd sees with them and without ours."""

    files: dict[str, bytes]
    release: K0sRelease
    runtime: RuntimeFacts
    before: Effective
    others: Effective
    wanted: Handler

    @property
    def version(self) -> int:
        """Version and dialect of a drop-in for this release."""
        return 2 if self.release.merges_itself else 3

    @property
    def table(self) -> tuple[str, ...]:
        return ("plugins", CRI_V2 if self.release.merges_itself else RUNTIME_V3, "containerd")

    def with_ours(self, text: str) -> dict[str, bytes]:
        """All files with our drop-in as `text`; without it where that is empty."""
        others = {p: raw for p, raw in self.files.items() if p != DROP_IN}
        return {**others, DROP_IN: text.encode()} if text else others


def offer(probe: Probe) -> tuple[StrategyOption, ...]:
    """A drop-in; where k0s does not write containerd.toml itself, what containerd alone would get."""
    files = _files(probe)
    if not is_managed(files):
        return containerd.offer(probe)
    return (
        StrategyOption("drop-in", True, "k0s takes the files of containerd.d and restarts its containerd itself", True),
        StrategyOption("in-place", False, f"k0s writes {MAIN} anew at every start"),
    )


def waits_for_us(probe: Probe) -> bool:
    """Whether k0s is down because of our own drop-in of version 2, which 1.36 does not take: then the plan is the cure
    and not a mistake to look for first."""
    release, files = _release(probe), _files(probe)
    return release is not None and is_managed(files) and set(rejected(files, release)) == {DROP_IN}


def plan(name: str, probe: Probe, answers: Answers, chosen: StrategyOption) -> HostPlanned:
    """Give k0s' containerd handler nvidia, and default and CDI as the answers want them."""
    runtime, release, files = runtime_of(probe.facts) or _absent(probe), _release(probe), _files(probe)
    if release is None:
        return refused(chosen.value, Refusal("unknown-version", "the version of k0s is not known", "probe as root"))
    if not is_managed(files):
        return _unmanaged(name, probe, answers, chosen, files)
    blocked = _blocked(probe, runtime, release, files)
    if blocked is not None:
        return refused(chosen.value, blocked)
    try:
        start = _situation(probe, runtime, release, files)
        if not start.others.usable:
            return refused(chosen.value, broken_now(FOLDER, f"containerd would not work: {start.others.error}"))
        if answers.default_runtime_for(name) == "former" and start.others.default_runtime_name == NAME:
            return refused(chosen.value, former_unknown("another drop-in"))
        text = _text(start, answers.default_runtime_for(name), cdi=answers.runtime.cdi == "enable")
    except RefusedError as error:
        return refused(chosen.value, Refusal("not-editable", error.what, error.remedy))
    if text.encode() == files.get(DROP_IN, b""):
        return HostPlanned(chosen.value, "handler nvidia is there and right")
    managed = operator_manages(probe)
    if managed is not None:
        return refused(chosen.value, managed)
    return replace(_planned(start, text, chosen), latent=_changed_since(probe))


def _changed_since(probe: Probe) -> tuple[str, ...]:
    """Drop-ins that changed after k0s last merged them (up to 1.35): it has not taken them up yet (`safety.md`, 2)."""
    merged = probe.files.get(CRI_FILE)
    if merged is None or merged.mtime is None:
        return ()
    since = merged.mtime + _SAME_MERGE
    newer = [p for p, f in sorted(probe.files.items()) if p.startswith(f"{FOLDER}/") and (f.mtime or 0) > since]
    return tuple(f"{clean_line(path)} was changed after k0s last merged its drop-ins" for path in newer)


def _absent(probe: Probe) -> RuntimeFacts:
    """The containerd of a k0s that does not start: nothing of it can be seen."""
    service = probe.facts.kubernetes.service
    return RuntimeFacts("containerd", config_path=MAIN, unit=_unit(service), running=False, owner="k0s")


def _unit(service: str | None) -> str:
    name = service or "k0sworker"
    return name if "." in name else f"{name}.service"


def _files(probe: Probe) -> dict[str, bytes]:
    return {p: f.content.raw for p, f in probe.files.items() if f.content is not None}


def _release(probe: Probe) -> K0sRelease | None:
    try:
        return K0sRelease.parse(probe.facts.kubernetes.version or "")
    except UsageError:
        return None


def _unmanaged(
    name: str, probe: Probe, answers: Answers, chosen: StrategyOption, files: dict[str, bytes]
) -> HostPlanned:
    """An administrator's own containerd.toml is edited as any containerd's, unless it is k0s' that lost its mark."""
    if f'"{CRI_FILE}"'.encode() in files[MAIN] or f"'{CRI_FILE}'".encode() in files[MAIN]:
        return refused(
            chosen.value,
            Refusal(
                "k0s-unmanaged",
                f"{MAIN} is k0s' own file without its first line (nvidia-ctk takes it away): k0s neither reads "
                f"{FOLDER} nor writes {CRI_FILE} any more, which is gone after a reboot",
                "make `# k0s_managed=true` its first line again or remove the file, restart k0s, and plan again",
            ),
        )
    planned = containerd.plan(name, probe, answers, chosen)
    return replace(planned, reason=f"{planned.reason}; {MAIN} is not k0s' own, so k0s does not read {FOLDER}")


def _blocked(probe: Probe, runtime: RuntimeFacts, release: K0sRelease, files: dict[str, bytes]) -> Refusal | None:
    """Why no file of ours would help."""
    if (runtime.config_path or MAIN) != MAIN:
        return Refusal(
            "wrong-runtime",
            f"the kubelet's containerd reads {runtime.config_path}, which is not k0s'",
            "see which runtime k0s was given with --cri-socket",
        )
    if not release.reads_drop_ins:
        return Refusal("k0s-too-old", "k0s reads drop-ins from 1.27.1 on", "upgrade k0s")
    for path, why in {**rejected(files, release), **wrong_now(files, release)}.items():
        if path != DROP_IN:
            return Refusal(
                "k0s-drop-in",
                f"{path} holds {why}",
                "bring it into the form that this k0s takes, or remove it, and plan again",
            )
    if not release.merges_itself and (runtime.version or "").startswith("1.") and runtime.running:
        return Refusal(
            "upgrade-pending",
            "k0s 1.36 or later is installed and an older one still runs: a file for the new one would stop it",
            f"stop {probe.facts.kubernetes.service or 'k0s'}, plan again, and apply: gpuwizard writes the file for the "
            "new release and starts it",
        )
    return None


def _situation(probe: Probe, runtime: RuntimeFacts, release: K0sRelease, files: dict[str, bytes]) -> _Situation:
    # A k0s that was not started since its upgrade has the containerd of the one before it on the disk.
    known = runtime.version or ""
    version = known if release.merges_itself or (known and not known.startswith("1.")) else "2.3.0"
    without = {p: raw for p, raw in files.items() if p != DROP_IN}
    others = model(without, release, version)
    path = probe.facts.toolkit.runtime_path or "nvidia-container-runtime"
    before = others if DROP_IN in rejected(files, release) else model(files, release, version)
    wanted = wanted_handler(others, path)
    return _Situation(files, release, runtime, before if before.usable else others, others, wanted)


def _text(start: _Situation, asked: str, *, cdi: bool) -> str:
    """Our file as it has to be; empty where others say all of it."""
    ours = _ours(start)
    default = ours.get("default_runtime_name") == NAME
    if asked == "nvidia":
        default = default or start.others.default_runtime_name != NAME
    elif asked == "former":
        default = False
    handler = NAME in ours.get("runtimes", {}) or not _right(start, start.others.runtimes.get(NAME))
    switch = cdi and start.version == 2 and start.others.enable_cdi is False
    if not (handler or default or switch):
        return ""
    text = (
        "# Written by gpuwizard: tells the containerd of k0s about the NVIDIA container runtime.\n"
        f"version = {start.version}\n"
    )
    if switch:
        text = add_table(text, start.table[:-1], {"enable_cdi": True})
    if default:
        text = add_table(text, start.table, {"default_runtime_name": NAME})
    if handler:
        options = {**start.wanted.options, "SystemdCgroup": start.wanted.options.get("SystemdCgroup", False)}
        table = {"runtime_type": start.wanted.runtime_type, "options": options}
        text = add_table(text, (*start.table, "runtimes", NAME), table)
    return text


def _ours(start: _Situation) -> dict[str, Any]:
    """What our file holds now, whichever release it was written for."""
    try:
        document = tomllib.loads(start.files.get(DROP_IN, b"").decode("utf-8", "replace"))
    except tomllib.TOMLDecodeError:
        return {}
    for plugin in (CRI_V2, RUNTIME_V3):
        table = document.get("plugins", {}).get(plugin, {}).get("containerd")
        if isinstance(table, dict):
            return table
    return {}


def _right(start: _Situation, present: Handler | None) -> bool:
    if present is None or present.options.get("BinaryName") == start.runtime.missing_binaries.get(NAME, ""):
        return False
    return is_right(present, start.wanted)


def _planned(start: _Situation, text: str, chosen: StrategyOption) -> HostPlanned:
    files = start.with_ours(text)
    after = model(files, start.release, start.before.release)
    changes = compare(start.before, after)
    default = after.default_runtime_name if after.default_runtime_name != start.before.default_runtime_name else None
    cdi = after.enable_cdi is True and start.before.enable_cdi is False
    right, later = _right(start, after.runtimes.get(NAME)), later_handler(files, DROP_IN, NAME)
    if not right and later is not None:
        why = f"{later} is taken after ours and defines handler nvidia otherwise: ours would not be read"
        remedy = f"remove handler nvidia from {later}, or repair it there, and plan again"
        return refused(chosen.value, Refusal("drop-in-unread", why, remedy))
    expected = announced_changes(changes, default, cdi=cdi)
    asked = _asked(text) or default
    path = str(start.wanted.options["BinaryName"])
    found = outcome_refusals(start.before, after, path, asked, expected, right=right)
    if found:
        return HostPlanned(chosen.value, found[0].why, refusals=found)
    old = start.files.get(DROP_IN)
    file = FileChange(DROP_IN, None if old is None else SecretBytes(old), SecretBytes.of_text(text) if text else None)
    reasons = [chosen.reason, *([_BEFORE_136] if start.release.merges_itself else [])]
    return HostPlanned(chosen.value, "; ".join(reasons), _change(start, file, after, changes))


def _asked(text: str) -> str | None:
    return NAME if f'default_runtime_name = "{NAME}"' in text else None


def _change(start: _Situation, file: FileChange, after: Effective, changes: tuple[Any, ...]) -> HostChange:
    """The file and how it comes to life: k0s sees it by itself; one that is down is started."""
    unit = _unit(start.runtime.unit)
    merged, down = start.release.merges_itself, start.runtime.running is False
    check = Check(
        unit=unit,
        handlers=tuple(after.runtimes),
        default_handler=after.default_runtime_name,
        cri_socket=start.runtime.socket or "/run/k0s/containerd.sock",
        binary=None if merged or down else start.runtime.binary,
        config_path=MAIN,
        rendered=CRI_FILE if merged else None,
        options=expected_options(after),
    )
    prediction = None
    if merged:
        prediction = f"this is a prediction: k0s merges the file into {CRI_FILE} itself"
    elif down:
        prediction = "this is a prediction: the containerd of the new release comes with its first start"
    return HostChange(
        (file,), Activation(unit, "restart" if down else "watched"), check, changes, prediction=prediction
    )
