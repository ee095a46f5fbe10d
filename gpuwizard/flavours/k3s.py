"""K3s and RKE2, which are one code base: they find the toolkit at every start, so the right edit is mostly none.

Where it is not: a template that would be fatal or is stale, a runtime that lies where nobody looks, a K3s that is too
old (`runtimes.md §2.7`, `§3`, `§10`). What they will render is predicted (`containerd/k3s_render.py`).
"""

import posixpath
import re
from dataclasses import replace

from gpuwizard.actions import Activation, Check, EffectiveChange, FileChange, HostChange, HostPlanned, Refusal
from gpuwizard.answers.model import Answers
from gpuwizard.clean import clean_line
from gpuwizard.containerd import Effective, compare
from gpuwizard.containerd.k3s_base import DETECTABLE, WINDOWS, foreign_handlers
from gpuwizard.containerd.k3s_release import V2_TEMPLATE, V3_TEMPLATE, systemd_cgroup_of_detected
from gpuwizard.containerd.k3s_render import PredictionError, predict
from gpuwizard.errors import RefusedError, UsageError
from gpuwizard.facts.model import Probe
from gpuwizard.flavours.containerd import chosen_runtime
from gpuwizard.flavours.handler import NAME, expected_options, is_right, wanted_handler
from gpuwizard.flavours.k3s_edits import Edit, Files, NoEditError, drop_in_edit, not_found, option_edit, template_edit
from gpuwizard.flavours.k3s_state import REVERTED, Situation, judged, situation
from gpuwizard.flavours.latent import taken_in
from gpuwizard.flavours.option import StrategyOption, announced_changes, outcome_refusals, refused
from gpuwizard.secret import SecretBytes

__all__ = ["offer", "plan"]

_SAME_START = 5  # seconds between the files of one start
_OWN_VALUES = ("default handler", "snapshotter", "CRI plugin", "disabled plugins")
"""What the conversion of a stale template must not change by the way."""


def offer(probe: Probe) -> tuple[StrategyOption, ...]:
    """The strategies and why each of them fits or not (`§2.7`)."""
    start = _understood(probe)
    if isinstance(start, Refusal):
        others = tuple(StrategyOption(v, False, start.why) for v in ("k3s-template", "drop-in", "in-place"))
        return (StrategyOption("k3s-native", True, start.why, True), *others)
    in_place = StrategyOption("in-place", False, _no_in_place(start))
    try:
        state = start.template()
    except RefusedError as error:
        native = StrategyOption("k3s-native", True, f"its template has to be repaired first: {error.what}", True)
        broken = "its template cannot be evaluated"
        others = (StrategyOption("k3s-template", False, broken), StrategyOption("drop-in", False, broken))
        return (native, *others, in_place)
    return (*_offered(start, state), in_place)


def _offered(start: Situation, state: str) -> tuple[StrategyOption, ...]:
    no_imports = (
        f"this {start.name} imports no drop-in folders (v1.33.10, v1.34.6, v1.35.3 and v1.36.0 brought them)"
        if not start.release.has_imports
        else ""
    )
    path = start.applying.path
    found = {
        "nvidia": f"{path} defines what {start.name} adds by itself: the tables are taken out of it",
        "stale": f"{path} is a stale copy: the built-in template and what is your own take its place",
        "reverted": f"{path} took back an earlier restart: it is removed",
    }
    if not start.release.detects_nvidia:
        found[state] = f"this {start.name} finds no runtimes: a whole template of version 1 names it"
    if state in found:
        no = f"not before the template is right: {found[state]}"
        return (
            StrategyOption("k3s-native", False, no),
            StrategyOption("k3s-template", True, found[state], True),
            StrategyOption("drop-in", False, no_imports or no),
        )
    if state == "full" or start.finds_nvidia:
        native = f"{start.name} finds nvidia-container-runtime by itself when it starts"
        spare = f"there is nothing to write: {native}"
        return (
            StrategyOption("k3s-native", True, native, True),
            StrategyOption("k3s-template", False, spare),
            StrategyOption("drop-in", False, no_imports or spare),
        )
    folder = posixpath.dirname(start.runtime_path)
    lost = f"{start.name} does not look in {folder}, where nvidia-container-runtime lies"
    has_base = start.release.has_base
    return (
        StrategyOption("k3s-native", not has_base, lost, not has_base),
        StrategyOption("k3s-template", has_base, f"{lost}: a template names it" if has_base else lost, no_imports != ""
                       and has_base),
        StrategyOption("drop-in", not no_imports, no_imports or f"{lost}: a small file names it", not no_imports),
    )  # fmt: skip


def _no_in_place(start: Situation) -> str:
    folder = "config-v3.toml.d" if start.applying.dialect == 3 else "config.toml.d"
    name = V3_TEMPLATE if start.applying.dialect == 3 else V2_TEMPLATE
    place = (
        f"{folder}/ beside it" if start.release.has_imports else f'{name} beside it, with {{{{ template "base" . }}}}'
    )
    return f"{start.name} renders its own {start.rendered} anew at every start: what is your own belongs into {place}"


def plan(name: str, probe: Probe, answers: Answers, chosen: StrategyOption) -> HostPlanned:
    """Make handler nvidia, and the default runtime that is asked for, come out of the next start."""
    start = _understood(probe)
    if isinstance(start, Refusal):
        return refused(chosen.value, start)
    default, consent = answers.default_runtime_for(name), answers.converts(name)
    try:
        state = start.template()
        edit = _edit(start, state, chosen.value, default, consent=consent)
        if edit is None:
            return HostPlanned(chosen.value, _nothing_to_do(start, state))
        found = _changed_since(start, probe)
        if found and not answers.takes_latent(name):
            return taken_in(name, answers, HostPlanned(chosen.value, ""), start.unit, found)
        alive = _alive(start) if found else ()
        return replace(_outcome(start, edit, default, chosen, alive), latent=found)
    except NoEditError as error:
        return refused(chosen.value, Refusal(error.id, error.what, error.remedy))
    except PredictionError as error:
        kind = "k3s-would-not-start" if error.kind == "crash-loop" else "not-predictable"
        return refused(chosen.value, Refusal(kind, error.what, error.remedy))
    except RefusedError as error:
        return refused(chosen.value, Refusal("not-editable", error.what, error.remedy))


def _understood(probe: Probe) -> Situation | Refusal:
    facts = probe.facts
    runtime = chosen_runtime(facts)
    if runtime is None or facts.kubernetes.version is None:
        return Refusal("unknown-version", "the version of K3s or RKE2 is not known", "probe as root")
    try:
        start = situation(probe, runtime)
    except UsageError as error:
        return Refusal("unknown-version", error.what, error.remedy)
    if not start.before.starts:
        return Refusal(
            "broken-now",
            f"containerd would not start on {start.rendered} as it is: {start.before.error}",
            f"see that {start.name} runs and the node is Ready first",
        )
    return start


def _edit(start: Situation, state: str, strategy: str, default: str, *, consent: bool) -> Edit | None:
    """What has to be changed; an empty edit where a restart is all; None where all is right already."""
    right = start.before.usable and _handler_right(start)
    right = right and (default != NAME or start.before.default_runtime_name == NAME)
    urgent = state in ("nvidia", "reverted") or (state == "stale" and consent)
    edit = Edit()
    if right and not urgent:
        if default != "former":
            return None
        if strategy == "drop-in":
            edit = drop_in_edit(start, default)
        elif strategy == "k3s-template":
            edit = template_edit(start, state, default, consent=consent)
    elif strategy == "drop-in" and not urgent:
        edit = drop_in_edit(start, default)
    elif urgent or state == "stale" or strategy == "k3s-template":
        edit = template_edit(start, state, default, consent=consent)
    elif not start.finds_nvidia and state != "full":
        raise not_found(start)
    options: Files = {}
    if default == "former" or start.finds_nvidia:
        asked = _kept_default(start, default) if edit.renews else default
        options = option_edit(start, asked, again=edit.renews and start.option != NAME)
    files = {**edit.files, **options}
    return None if right and not files else replace(edit, files=files)


def _handler_right(start: Situation) -> bool:
    """Handler nvidia is there as this K3s can make it. A K3s that gives detected runtimes no SystemdCgroup cannot be
    brought to do so."""
    present = start.before.runtimes.get(NAME)
    if present is not None and start.finds_nvidia and not systemd_cgroup_of_detected(start.release):
        return str(present.options.get("BinaryName", "")) == start.detected[NAME].path
    paths = {start.runtime_path, *([start.detected[NAME].path] if start.finds_nvidia else [])}
    return any(is_right(present, wanted_handler(start.before, path)) for path in paths)


def _kept_default(start: Situation, default: str) -> str:
    """A stale copy that made nvidia the default is replaced by the option that does."""
    frozen = start.node()
    was = frozen.values.get("default_runtime") if frozen is not None else None
    return NAME if default == "leave" and was == NAME and start.option is None else default


def _nothing_to_do(start: Situation, state: str) -> str:
    found = f"{start.name} has detected the NVIDIA runtime already" if start.finds_nvidia else "handler nvidia is there"
    if state == "stale":
        return f"{found}; {start.applying.path} is a stale copy all the same (runtime.convert = true replaces it)"
    return found


def _changed_since(start: Situation, probe: Probe) -> tuple[str, ...]:
    """Files that changed after K3s last rendered: any restart would activate that as well (`safety.md`, step 2)."""
    found = []
    rendered = probe.files[start.rendered].mtime if start.rendered in probe.files else None
    ours = (start.config_drop_in, start.rendered)
    for path, file in sorted(probe.files.items()):
        if path in ours or not path.startswith((start.folder, f"/etc/rancher/{start.program}/")):
            continue
        if file.content is None or rendered is None or (file.mtime or 0) <= rendered + _SAME_START:
            continue
        found.append(f"{clean_line(path)} was changed after {start.name} last started")
    if found and (keys := ", ".join(change.key for change in _alive(start)[:4])):
        found.append(f"with it comes another {keys}")
    return tuple(found)


def _alive(start: Situation) -> tuple[EffectiveChange, ...]:
    """What a restart would change without any edit of ours; what K3s detects by itself is the plan's own affair."""
    try:
        text = predict(start.next_start()).text
    except PredictionError:
        return ()
    files = {**start.files, start.rendered: text.encode("utf-8", "surrogateescape")}
    changes = compare(start.before, judged(files, start.rendered, start.runtime.version or ""))
    own = [name for name in start.detected if name not in start.before.runtimes]
    return tuple(c for c in changes if not any(re.search(rf"\b{re.escape(name)}\b", c.key) for name in own))


def _outcome(
    start: Situation, edit: Edit, default: str, chosen: StrategyOption, alive: tuple[EffectiveChange, ...]
) -> HostPlanned:
    """The plan, judged by the rendered file that is predicted for it."""
    coming = start.next_start(edit.files, fresh=edit.renews)
    text = predict(coming).text
    files = {**coming.files, start.rendered: text.encode("utf-8", "surrogateescape")}
    after = judged(files, start.rendered, start.runtime.version or "")
    changes = compare(start.before, after)
    found = _refusals(start, edit, default, after, changes, alive)
    if found:
        return HostPlanned(chosen.value, found[0].why, refusals=found)
    written = tuple(_change(start, path, raw) for path, raw in edit.files.items())
    unit = start.unit
    check = Check(
        unit=unit,
        handlers=tuple(name for name in after.runtimes if _must_be_there(start, edit, name)),
        default_handler=after.default_runtime_name,
        cri_socket=start.runtime.socket,
        binary=None,
        config_path=start.rendered,
        rendered=start.rendered,
        options=expected_options(after),
    )
    undo = () if written else _undo(start)
    reason = edit.reason or chosen.reason
    if edit.files.get(start.config_drop_in) is not None:
        reason += "; its option default-runtime makes it the default"
    change = HostChange(written, Activation(unit), check, changes, _prediction(start, edit, undo), undo)
    return HostPlanned(chosen.value, reason, change)


def _must_be_there(start: Situation, edit: Edit, name: str) -> bool:
    """What was there and nvidia. Which releases write the handler for Windows is not known, so that after a stale copy
    nobody is to wait for it."""
    return name == NAME or (name in start.before.runtimes and not (edit.renews and name == WINDOWS))


def _refusals(
    start: Situation,
    edit: Edit,
    default: str,
    after: Effective,
    changes: tuple[EffectiveChange, ...],
    alive: tuple[EffectiveChange, ...],
) -> tuple[Refusal, ...]:
    """Why the outcome would not do; `alive` is what the operator has taken into the plan besides, but a handler never
    goes that way."""
    before, present = start.before, after.runtimes.get(NAME)
    runc = after.runtimes.get("runc")
    if (
        present is not None
        and runc is not None
        and after.usable
        and NAME not in before.runtimes
        and not systemd_cgroup_of_detected(start.release)
        and runc.options.get("SystemdCgroup", False) != present.options.get("SystemdCgroup", False)
    ):
        return (
            Refusal(
                "k3s-cgroup",
                f"this {start.name} gives detected runtimes no SystemdCgroup although runc has it, so that their pods "
                "would not start",
                f"upgrade {start.name}: v1.26.10, v1.27.7 and v1.28.3 set it",
            ),
        )
    vanishing = _vanishing(start, after) if not edit.renews else ()
    if vanishing:
        return vanishing
    announced = announced_changes(changes, NAME if default != "leave" else None)
    announced += tuple(c for c in changes if any(f".runtimes.{name}." in c.key for name in start.detected))
    announced += tuple(c for c in changes if c in alive and (c.after is not None or not c.key.startswith("handler ")))
    if edit.renews:
        announced += tuple(c for c in changes if _by_conversion(c))
        if runc is not None:
            before = replace(before, runtimes={**before.runtimes, "runc": runc})
    path = str(present.options.get("BinaryName", "")) if present is not None else start.runtime_path
    return outcome_refusals(before, after, path, NAME if default == NAME else None, announced)


def _vanishing(start: Situation, after: Effective) -> tuple[Refusal, ...]:
    """Handlers that stand in the rendered file alone: the next start writes that file without them, whoever makes
    it."""
    node = start.node()
    foreign = foreign_handlers(node) if node is not None else ()
    gone = [clean_line(name) for name in foreign if name in start.before.runtimes and name not in after.runtimes]
    if not gone:
        return ()
    what = f"handler {gone[0]} stands" if len(gone) == 1 else f"handlers {', '.join(gone)} stand"
    return (
        Refusal(
            "handler-vanishes",
            f"{what} in {start.rendered} and in no template: {start.name} writes that file anew at every start, and "
            "any restart takes it away",
            f"write it into a template or a drop-in of {start.name}, or take it out of the file, and plan again",
        ),
    )


def _by_conversion(change: EffectiveChange) -> bool:
    """What a stale copy had frozen. Handlers of people, the default and the snapshotter must survive."""
    if change.key.startswith("handler ") and "." not in change.key and change.after is None:
        return change.key.removeprefix("handler ") in DETECTABLE
    return change.key not in _OWN_VALUES


def _change(start: Situation, path: str, raw: bytes | None) -> FileChange:
    own = start.files.get(path)
    mode = 0o600 if path.endswith(".tmpl") else 0o644
    return FileChange(
        path, SecretBytes(own) if own is not None else None, SecretBytes(raw) if raw is not None else None, mode
    )


def _undo(start: Situation) -> tuple[FileChange, ...]:
    """The edit that gives back the former handlers after a restart that went wrong: the file that is rendered now as a
    template. A template of the user's is not overwritten."""
    node = start.node()
    if start.applying.path is not None or node is None:
        return ()
    text = start.files[start.rendered].decode("utf-8", "surrogateescape")
    if "{{" in text:
        return ()
    name = V3_TEMPLATE if node.dialect == 3 else V2_TEMPLATE
    raw = (REVERTED + text).encode("utf-8", "surrogateescape")
    return (FileChange(posixpath.join(start.folder, name), None, SecretBytes(raw), 0o600),)


def _prediction(start: Situation, edit: Edit, undo: tuple[FileChange, ...]) -> str:
    text = f"this is a prediction: {start.name} renders its own file at the start"
    if undo:
        return f"{text}; a revert writes what is rendered now to {undo[0].path}, which brings the former handlers back"
    if not edit.files:
        return f"{text}; a revert only restarts it, because {start.applying.path} is not ours to replace"
    return f"{text}; a revert puts {', '.join(posixpath.basename(path) for path in edit.files)} back and restarts it"
