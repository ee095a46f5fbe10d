"""MicroK8s: its template is edited, because it writes containerd.toml anew at every start (`runtimes.md §5`)."""

import re
import tomllib
from dataclasses import dataclass, replace
from typing import Any

from gpuwizard.actions import Activation, Check, FileChange, HostChange, HostPlanned, Refusal
from gpuwizard.answers.model import Answers
from gpuwizard.clean import clean_line
from gpuwizard.containerd import Effective, Release, compare, effective
from gpuwizard.containerd.edit import add_table, set_value
from gpuwizard.containerd.model import CRI_V2
from gpuwizard.errors import RefusedError
from gpuwizard.facts.model import Handler, Probe, RuntimeFacts
from gpuwizard.flavours.chosen import runtime_of
from gpuwizard.flavours.former import former_default, restore_default, set_default
from gpuwizard.flavours.handler import NAME, expected_options, is_right
from gpuwizard.flavours.latent import taken_in
from gpuwizard.flavours.microk8s_template import RENDERED, TEMPLATE, Masked, placeholder_values, rendered
from gpuwizard.flavours.option import StrategyOption
from gpuwizard.flavours.reasons import broken_now, former_unknown
from gpuwizard.flavours.refusals import announced_changes, operator_manages, outcome_refusals, refused
from gpuwizard.secret import SecretBytes

__all__ = ["offer", "plan"]

_UNIT = "snap.microk8s.daemon-containerd.service"
_SNAP = "microk8s.daemon-containerd"
_TABLE = ("plugins", CRI_V2, "containerd")
_RUNTIMES = (*_TABLE, "runtimes")
_OLD_SHIMS = ("io.containerd.runc.v1", "io.containerd.runtime.v1.linux")
_REVISION = re.compile(r"/snap/microk8s/(?:x?\d+)/")
_BUILT_IN = "nvidia-container-runtime"


@dataclass(frozen=True, slots=True)
class _Situation:
    """What the plan of one MicroK8s starts from: the template, what it is rendered to, and what that comes to."""

    files: dict[str, bytes]
    template: str
    values: dict[str, str]
    runtime: RuntimeFacts
    release: Release
    before: Effective
    runtime_path: str

    def seen(self, template: str) -> Effective:
        """What containerd will see after a start with that template."""
        raw = rendered(template, self.values).encode("utf-8", "surrogateescape")
        return effective({**self.files, RENDERED: raw}, RENDERED, str(self.release))


def offer(probe: Probe) -> tuple[StrategyOption, ...]:
    """The template is the one place that lasts."""
    return (
        StrategyOption("drop-in", False, "MicroK8s' template imports no folder of drop-ins"),
        StrategyOption(
            "in-place",
            True,
            "MicroK8s makes containerd.toml of its template at every start, so the template is edited; a handler "
            f"{_BUILT_IN} is built in and works with a RuntimeClass of that handler, but none is called nvidia",
            True,
        ),
    )


def plan(name: str, probe: Probe, answers: Answers, chosen: StrategyOption) -> HostPlanned:
    """Give the template handler nvidia, and default and CDI as the answers want them."""
    runtime = runtime_of(probe.facts)
    assert runtime is not None
    file = probe.files.get(TEMPLATE)
    if file is None or file.content is None:
        why = f"{TEMPLATE} is not there: MicroK8s could not start without it"
        return refused(chosen.value, Refusal("no-template", why, "reinstall it, or see that the snap is MicroK8s"))
    try:
        start = _situation(probe, runtime, file.content.raw.decode("utf-8", "surrogateescape"))
        blocked = _blocked(start)
        if blocked is not None:
            return refused(chosen.value, blocked)
        masked = Masked.of(start.template)
        wanted = answers.default_runtime_for(name)
        is_default = start.before.default_runtime_name == NAME
        if wanted == "former" and is_default and former_default(masked.text, _TABLE) is None:
            return refused(chosen.value, former_unknown(TEMPLATE))
        text = masked.unmasked(_edited(start, masked.text, wanted, cdi=answers.runtime.cdi == "enable"))
    except RefusedError as error:
        return refused(chosen.value, Refusal("not-editable", f"{TEMPLATE}: {error.what}", error.remedy))
    if text == start.template:
        return HostPlanned(chosen.value, "handler nvidia is there and right")
    found = _changed_since(start, probe)
    blocked = operator_manages(probe) or (_drifted(start) if not found else None)
    if blocked is not None:
        return refused(chosen.value, blocked)
    if found and not answers.takes_latent(name):
        return taken_in(name, answers, HostPlanned(chosen.value, ""), _UNIT, found)
    planned = _planned(start, file.content, text, chosen)
    return _with_all(start, planned, text, found) if found else planned


def _situation(probe: Probe, runtime: RuntimeFacts, template: str) -> _Situation:
    files = {p: f.content.raw for p, f in probe.files.items() if f.content is not None}
    release = Release.parse(runtime.version or "")
    written = files[RENDERED].decode("utf-8", "surrogateescape") if RENDERED in files else None
    values = placeholder_values(template, written)
    raw = rendered(template, values).encode("utf-8", "surrogateescape")
    before = effective({**files, RENDERED: raw}, RENDERED, str(release))
    path = probe.facts.toolkit.runtime_path or "nvidia-container-runtime"
    return _Situation(files, template, values, runtime, release, before, path)


def _blocked(start: _Situation) -> Refusal | None:
    """Why a handler could not work here, whatever the edit."""
    before = start.before
    if not (start.runtime.config_path or RENDERED).startswith("/var/snap/microk8s/"):
        return Refusal(
            "wrong-runtime",
            f"the kubelet's containerd reads {start.runtime.config_path}, which is not MicroK8s'",
            "see which runtime the kubelet's --container-runtime-endpoint names",
        )
    if not before.usable:
        return broken_now(TEMPLATE, f"containerd would not work with it: {before.error or before.cri}")
    for path in (p for p in before.files if p != RENDERED and p in start.files):
        text = start.files[path].decode("utf-8", "replace")
        if _REVISION.search(text):
            return Refusal(
                "stale-revision",
                f"{path}, which the template imports, names folders of one revision of the snap: they are gone "
                "after its next refresh",
                "take the line imports out of the template and remove that file, restart MicroK8s, and plan again",
            )
        if start.release.replaces_plugin_tables and f'"{CRI_V2}"' in text:
            return Refusal(
                "operator-imports",
                f"the template imports {path}, whose CRI table takes the place of the template's on containerd "
                f"{start.release}: an edit of the template would do nothing",
                "take the line imports out of the template and remove that file, restart MicroK8s, and plan again",
            )
    model = _model(before)
    if start.release.major >= 2 and model.runtime_type in _OLD_SHIMS:
        return Refusal(
            "removed-shim",
            f"handler runc uses {model.runtime_type}, which containerd {start.release} does not have any more: "
            "MicroK8s takes it on hosts with control groups v1",
            "boot the host with control groups v2 (systemd.unified_cgroup_hierarchy=1), and plan again",
        )
    return None


def _differences(start: _Situation) -> str:
    """What the template gives and containerd.toml does not; empty where they agree, or MicroK8s never started."""
    if RENDERED not in start.files:
        return ""
    running = effective(start.files, RENDERED, str(start.release))
    return ", ".join(c.key for c in compare(running, start.before)[:4])


def _changed_since(start: _Situation, probe: Probe) -> tuple[str, ...]:
    """The template was changed after containerd.toml was made of it (`safety.md`, step 2)."""
    keys = _differences(start)
    if not keys:
        return ()
    template, written = probe.files[TEMPLATE].mtime, probe.files[RENDERED].mtime
    if template is None or written is None or template <= written:
        return ()
    return (f"{TEMPLATE} was changed after MicroK8s last started ({keys})",)


def _with_all(start: _Situation, planned: HostPlanned, text: str, found: tuple[str, ...]) -> HostPlanned:
    """The plan with the whole difference from what runs, as the operator takes all of it; a handler never goes so."""
    if planned.refusals:
        return planned
    running, after = effective(start.files, RENDERED, str(start.release)), start.seen(text)
    gone = ", ".join(sorted(set(running.runtimes) - set(after.runtimes)))
    if gone:
        why = f"handler {clean_line(gone)} runs and would vanish, and pods that run under it could not start again"
        return refused(planned.strategy, Refusal("handler-vanishes", why, f"keep the handler in {TEMPLATE}"))
    change = replace(planned.change, effective=compare(running, after))
    return replace(planned, change=change, latent=found)


def _drifted(start: _Situation) -> Refusal | None:
    """containerd.toml is not what the template gives: it was edited by hand."""
    keys = _differences(start)
    if not keys:
        return None
    return Refusal(
        "owned-file",
        f"{RENDERED} differs from what its template gives ({keys}): MicroK8s writes it anew at every start, and "
        "the restart would lose that",
        f"put what has to stay into {TEMPLATE}, restart MicroK8s, and plan again",
    )


def _model(state: Effective) -> Handler:
    return state.runtimes.get("runc") or Handler("io.containerd.runc.v2")


def _wanted(start: _Situation, state: Effective) -> Handler:
    """runc's type and options with the toolkit's program. MicroK8s sets no SystemdCgroup, so neither does nvidia."""
    model = _model(state)
    options = {k: v for k, v in model.options.items() if k != "BinaryName"}
    return Handler(model.runtime_type, {"BinaryName": start.runtime_path, **options})


def _edited(start: _Situation, text: str, wanted: str, *, cdi: bool) -> str:
    handler, present = _wanted(start, start.before), start.before.runtimes.get(NAME)
    if not _right(start, present, handler):
        text = _with_handler(text, handler)
    if cdi and start.release.line == (1, 7) and start.before.enable_cdi is False:
        text = set_value(text, ("plugins", CRI_V2, "enable_cdi"), True)
    if wanted == "nvidia" and start.before.default_runtime_name != NAME:
        text = set_default(text, _TABLE, NAME)
    elif wanted == "former" and former_default(text, _TABLE) is not None:
        text = restore_default(text, _TABLE)
    return text


def _right(start: _Situation, present: Handler | None, wanted: Handler) -> bool:
    if present is None or present.options.get("BinaryName") == start.runtime.missing_binaries.get(NAME, ""):
        return False
    return is_right(present, wanted)


def _with_handler(text: str, wanted: Handler) -> str:
    """The template with handler nvidia behind runc, its type written as runc's is."""
    runtimes: Any = tomllib.loads(text)
    for part in _RUNTIMES:
        runtimes = runtimes.get(part, {})
    kind = runtimes.get("runc", {}).get("runtime_type") or wanted.runtime_type
    present = runtimes.get(NAME)
    if present is None:
        table = {"runtime_type": kind, "options": dict(wanted.options)}
        return add_table(text, (*_RUNTIMES, NAME), table, after=(*_RUNTIMES, "runc"))
    if present.get("runtime_type") != kind:
        text = set_value(text, (*_RUNTIMES, NAME, "runtime_type"), kind)
    options = present.get("options", {})
    for key in ("BinaryName", "SystemdCgroup"):
        value = wanted.options.get(key, False)
        if options.get(key, False) != value:
            text = set_value(text, (*_RUNTIMES, NAME, "options", key), value)
    return text


def _planned(start: _Situation, content: SecretBytes, text: str, chosen: StrategyOption) -> HostPlanned:
    after = start.seen(text)
    changes = compare(start.before, after)
    default = after.default_runtime_name if after.default_runtime_name != start.before.default_runtime_name else None
    cdi = start.before.enable_cdi is False and after.enable_cdi is True
    expected = announced_changes(changes, default, cdi=cdi)
    right = _right(start, after.runtimes.get(NAME), _wanted(start, start.before))
    found = outcome_refusals(start.before, after, start.runtime_path, default, expected, right=right)
    if found:
        return HostPlanned(chosen.value, found[0].why, refusals=found)
    check = Check(
        unit=_UNIT,
        handlers=tuple(after.runtimes),
        default_handler=after.default_runtime_name,
        cri_socket=start.runtime.socket or "/var/snap/microk8s/common/run/containerd.sock",
        binary=None,
        config_path=RENDERED,
        rendered=RENDERED,
        options=expected_options(after),
    )
    file = FileChange(TEMPLATE, content, SecretBytes(text.encode("utf-8", "surrogateescape")))
    activation = Activation(_UNIT, "snap-restart", snap=_SNAP)
    prediction = "this is a prediction: MicroK8s makes containerd.toml of its template at the start"
    return HostPlanned(
        chosen.value, chosen.reason, HostChange((file,), activation, check, changes, prediction=prediction)
    )
