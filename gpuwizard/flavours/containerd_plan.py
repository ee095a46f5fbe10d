"""The plan of a host whose containerd reads files of an administrator: what is needed, the edit, and its judgement."""

from dataclasses import dataclass, field, replace

from gpuwizard.actions import Activation, Check, EffectiveChange, FileChange, HostChange, HostPlanned, Refusal
from gpuwizard.answers.model import Answers
from gpuwizard.clean import clean_line
from gpuwizard.containerd import Effective, Release, compare, effective
from gpuwizard.errors import RefusedError
from gpuwizard.facts.model import Probe, RuntimeFacts
from gpuwizard.flavours.containerd_convert import begun, conversion, dialect, is_old, obstacle
from gpuwizard.flavours.containerd_files import (
    Edits,
    Situation,
    complete_drop_in,
    drop_in,
    drop_in_path,
    in_place,
)
from gpuwizard.flavours.handler import NAME, expected_options, wanted_handler
from gpuwizard.flavours.option import StrategyOption
from gpuwizard.flavours.owned import owned_file
from gpuwizard.flavours.refusals import (
    announced_changes,
    drop_in_refusal,
    operator_manages,
    outcome_refusals,
    refused,
)
from gpuwizard.secret import SecretBytes

__all__ = ["Place", "plan_at"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one containerd keeps its root file, how it is restarted, and the mode of a new file beside a root file
    whose mode is not known."""

    runtime: RuntimeFacts
    main: str
    activation: Activation
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class _Draft:
    """The files as they are to be edited: `base` are those that were converted or begun for it, `words` say so."""

    start: Situation
    original: Effective
    base: dict[str, bytes] = field(default_factory=dict)
    words: str = ""


def plan_at(name: str, probe: Probe, answers: Answers, chosen: StrategyOption, place: Place) -> HostPlanned:
    """Make handler nvidia known to this host's containerd, and the rest of the answers true."""
    files = {p: f.content.raw for p, f in probe.files.items() if f.content is not None}
    release = Release.parse(place.runtime.version or "")
    # Without a file the daemon runs on its defaults, which is what an empty file amounts to.
    existing = files if place.main in files else {**files, place.main: b""}
    before = effective(existing, place.main, str(release))
    start = _situation(files, before, probe, answers, name, place)
    blocked = obstacle(files, place.main, before, release)
    if blocked is None and start.needs_nothing:
        return HostPlanned(chosen.value, _with_notes("handler nvidia is there and right", start, ""))
    if blocked is not None and not (blocked[1] and answers.converts(name)):
        return refused(chosen.value, blocked[0])
    unready = operator_manages(probe) or _deprecated(start)
    if unready is not None:
        return refused(chosen.value, unready)
    try:
        draft = _draft(start, probe, answers, name, place, blocked=blocked is not None)
        again = obstacle(draft.start.files, place.main, draft.start.before, release)
        if again is not None:
            return refused(chosen.value, again[0])
        new: Edits = {**draft.base, **_edits(draft.start, chosen)}
    except RefusedError as error:
        kind = "former-unknown" if start.needs_former and not start.needs_handler else "not-editable"
        return refused(chosen.value, Refusal(kind, f"{place.main}: {error.what}", error.remedy or ""))
    return _outcome(probe, draft, new, place, chosen)


def _situation(
    files: dict[str, bytes], before: Effective, probe: Probe, answers: Answers, name: str, place: Place
) -> Situation:
    release = Release.parse(place.runtime.version or "")
    default = answers.default_runtime_for(name)
    plugin, version, own_version = dialect(files, place.main, before, release)
    return Situation(
        files=files,
        main=place.main,
        release=release,
        before=before,
        wanted=wanted_handler(before, probe.facts.toolkit.runtime_path or "nvidia-container-runtime"),
        default=NAME if default == "nvidia" else None,
        plugin=plugin,
        version=version,
        own_version=own_version,
        former=default == "former",
        cdi=answers.runtime.cdi == "enable" and release.line >= (1, 7),
        missing=NAME in place.runtime.missing_binaries,
    )


def _deprecated(start: Situation) -> Refusal | None:
    """1.x: the old table default_runtime wins over default_runtime_name (`runtimes.md §1.1`)."""
    old = f"{start.plugin}.containerd.default_runtime.runtime_type"
    if not start.needs_default or start.release.major >= 2 or not start.before.settings.get(old):
        return None
    return Refusal(
        "deprecated-default",
        f"the table default_runtime in {start.main} decides the default handler on containerd {start.release}, "
        "whatever default_runtime_name says",
        "move what it says to a handler of its own and name that in default_runtime_name, then plan again",
    )


def _draft(start: Situation, probe: Probe, answers: Answers, name: str, place: Place, *, blocked: bool) -> _Draft:
    """Convert what has to be converted and the operator consented to; begin a file where there is none."""
    original, facts = start.before, probe.facts.kubernetes
    base: dict[str, bytes] = {}
    words = ""
    if start.main not in start.files:
        first = begun(start.release, facts)
        if first is not None:
            base, words = {start.main: first}, f"{start.main} is begun, with the kubelet's cgroup driver systemd"
    elif blocked or (answers.converts(name) and is_old(start.files, start.main, original)):
        base, words = conversion(start.files, start.main, original, start.release, facts)
    if not base:
        return _Draft(start, original)
    files = {**start.files, **base}
    state = effective(files, start.main, str(start.release))
    return _Draft(_situation(files, state, probe, answers, name, place), original, base, words)


def _or_in_place(refusal: Refusal, chosen: StrategyOption) -> Refusal:
    """An import that matches everything beside the root file also matches the directory of a first drop-in."""
    if refusal.id != "would-not-start" or chosen.value != "drop-in":
        return refusal
    return replace(refusal, remedy=f"{refusal.remedy}; or choose runtime.strategy in-place, which adds no file")


def _edits(start: Situation, chosen: StrategyOption) -> Edits:
    if start.needs_nothing:
        return {}
    if chosen.value != "drop-in":
        return in_place(start)
    return complete_drop_in(start) if start.release.replaces_plugin_tables else drop_in(start)


def _outcome(probe: Probe, draft: _Draft, new: Edits, place: Place, chosen: StrategyOption) -> HostPlanned:
    start = draft.start
    remaining = {p: raw for p, raw in {**start.files, **new}.items() if raw is not None}
    after = effective(remaining, start.main, str(start.release))
    existing = {p: f.content for p, f in probe.files.items() if f.content is not None}
    owned = (owned_file(p, existing[p].raw.decode("utf-8", "replace"), probe.facts) for p in new if p in existing)
    found = tuple(o for o in owned if o is not None)
    changes = compare(draft.original, after)
    own = drop_in_path(start.main)
    unread = drop_in_refusal(own, start.main, after) if new.get(own) is not None else None
    if unread is not None:
        found += (unread,)
    else:
        path = str(start.wanted.options["BinaryName"])
        found += outcome_refusals(draft.original, after, path, start.default, _announced(draft, changes))
        found += _cdi_stays_off(start, after)
    if found:
        found = tuple(_or_in_place(refusal, chosen) for refusal in found)
        return HostPlanned(chosen.value, found[0].why, refusals=found)
    files = tuple(_file(probe, place, p, raw) for p, raw in new.items())
    check = Check(
        unit=place.activation.unit,
        handlers=tuple(after.runtimes),
        default_handler=after.default_runtime_name,
        cri_socket=place.runtime.socket,
        binary=place.runtime.binary,
        config_path=start.main,
        options=expected_options(after),
    )
    reason = _with_notes(chosen.reason, start, draft.words)
    return HostPlanned(chosen.value, reason, HostChange(files, place.activation, check, changes))


def _cdi_stays_off(start: Situation, after: Effective) -> tuple[Refusal, ...]:
    if not start.needs_cdi or after.enable_cdi or not after.usable:
        return ()
    why = "CDI would stay off: a table of another version in these files decides it"
    return (
        Refusal("no-effect", why, "remove enable_cdi = false from it, or set runtime.cdi = leave; then plan again"),
    )


def _announced(draft: _Draft, changes: tuple[EffectiveChange, ...]) -> tuple[EffectiveChange, ...]:
    """What the plan is there for, and with a conversion what comes alive by it; a handler never goes that way."""
    start = draft.start
    default = start.default or (NAME if start.needs_former else None)
    announced = announced_changes(changes, default, cdi=start.needs_cdi)
    alive = compare(draft.original, start.before) if draft.base else ()
    return announced + tuple(c for c in alive if c.after is not None or not c.key.startswith("handler "))


def _file(probe: Probe, place: Place, path: str, after: bytes | None) -> FileChange:
    """A new file gets the mode of the root file beside it."""
    present, root = probe.files.get(path), probe.files.get(place.main)
    before = present.content if present is not None else None
    mode = root.mode if root is not None and root.content is not None and root.mode is not None else place.mode
    return FileChange(path, before, None if after is None else SecretBytes(after), mode & 0o777)


def _with_notes(reason: str, start: Situation, converted: str) -> str:
    notes = [clean_line(converted)] if converted else []
    if start.own_version != start.version:
        notes.append(f"a file of version {start.own_version} makes the CRI settings of {start.main} do nothing")
    if start.needs_cdi:
        notes.append("CDI is switched on")
    if start.release.line < (1, 7):
        notes.append(f"containerd {start.release} has no CDI")
    if start.former and not start.needs_former:
        notes.append(f"the default handler is {clean_line(start.before.default_runtime_name or 'unset')}, not {NAME}")
    return "; ".join([reason, *notes])
