"""K3s: it finds the toolkit by itself at every start, so the right edit is mostly none (`runtimes.md §2`)."""

import posixpath
from dataclasses import dataclass

import yaml

from gpuwizard.actions import Activation, Check, FileChange, HostChange, HostPlanned, Refusal
from gpuwizard.answers.model import Answers
from gpuwizard.containerd import Effective, compare, effective
from gpuwizard.containerd.k3s_template import K3sRelease, Template, applying_template, predicted_render, search_path
from gpuwizard.errors import RefusedError
from gpuwizard.facts.model import Probe, RuntimeFacts
from gpuwizard.flavours.containerd import chosen_runtime
from gpuwizard.flavours.handler import NAME, wanted_handler
from gpuwizard.flavours.option import StrategyOption, announced_changes, outcome_refusals, refused
from gpuwizard.secret import SecretBytes

__all__ = ["CONFIG_DROP_IN", "offer", "plan"]

CONFIG_DROP_IN = "/etc/rancher/k3s/config.yaml.d/50-gpuwizard.yaml"
_SAME_START = 5  # seconds between the files of one start
_DATA = "/var/lib/rancher/k3s"
_NO_UNDO = (
    "this is a prediction: K3s renders its own file at the start; "
    "a revert only restarts it, because no edit makes K3s forget a toolkit that is installed"
)
_WITH_DEFAULT = (
    "this is a prediction: K3s renders its own file at the start; a revert removes the option and restarts it"
)


@dataclass(frozen=True, slots=True)
class _Situation:
    """What the plan of one K3s host starts from: existing files, its rendered file, what it says."""

    files: dict[str, bytes]
    folder: str
    release: K3sRelease
    runtime: RuntimeFacts
    before: Effective
    template: Template | None
    runtime_path: str

    @property
    def rendered(self) -> str:
        return posixpath.join(self.folder, "config.toml")


def offer(probe: Probe) -> tuple[StrategyOption, ...]:
    """The strategies of K3s: it renders its own configuration, so that an edit of that file would not last."""
    rendered = "K3s renders its own configuration at every start; an edit of it would not last"
    return (
        StrategyOption("k3s-native", True, "K3s finds nvidia-container-runtime by itself when it starts", True),
        StrategyOption("drop-in", False, rendered),
        StrategyOption("in-place", False, rendered),
    )


def plan(name: str, probe: Probe, answers: Answers, chosen: StrategyOption) -> HostPlanned:
    """Restart K3s where its rendered file lacks the handler; set the default runtime where the answers want it."""
    facts = probe.facts
    runtime = chosen_runtime(facts)
    if runtime is None or facts.kubernetes.version is None:
        return refused(chosen.value, Refusal("unknown-version", "the version of K3s is not known", "probe as root"))
    files = {p: f.content.raw for p, f in probe.files.items() if f.content is not None}
    folder = posixpath.join(facts.kubernetes.data_dir or _DATA, "agent/etc/containerd")
    release = K3sRelease.parse(facts.kubernetes.version)
    before = effective(files, posixpath.join(folder, "config.toml"), runtime.version or "")
    start = _Situation(
        files, folder, release, runtime, before, applying_template(files, folder, release),
        facts.toolkit.runtime_path or "",
    )  # fmt: skip
    default = NAME if answers.default_runtime_for(name) == "nvidia" else None
    has_handler = NAME in before.runtimes
    has_default = default is None or before.default_runtime_name == default
    if before.usable and has_handler and has_default:
        return HostPlanned(chosen.value, "K3s has detected the NVIDIA runtime already")
    blocked = _blocked(start) or _latent(start, probe) or (None if has_default else _default_blocked(start))
    if blocked is not None:
        return refused(chosen.value, blocked)
    unit = facts.kubernetes.service or runtime.unit or "k3s.service"
    return _outcome(start, unit if "." in unit else f"{unit}.service", None if has_default else default, chosen)


def _blocked(start: _Situation) -> Refusal | None:
    """Why a restart would not bring the handler, or would break the node."""
    if not start.release.detects_nvidia:
        return Refusal(
            "k3s-too-old",
            "this K3s does not look for the NVIDIA runtime; v1.22.2 and newer do",
            "upgrade K3s",
        )
    template = start.template
    if template is not None and template.kind == "stale":
        return Refusal(
            "k3s-stale-template",
            f"{template.path} is a copy of a rendered file: K3s uses it as it is, so that detected runtimes, new "
            "pause images, CNI paths and the cgroup driver never get into the configuration",
            f"move it away (not to a name ending in .toml or .tmpl), restart K3s, compare {start.rendered}, plan again",
        )
    if template is not None and template.names_nvidia:
        return Refusal(
            "k3s-template-nvidia",
            f"{template.path} defines handler nvidia, and K3s adds the same table for the toolkit it detects: "
            "containerd refuses a table that is defined twice, so K3s would not start again",
            "remove the nvidia tables from the template, then plan again",
        )
    if not start.before.starts:
        return Refusal(
            "broken-now",
            f"containerd would not start on {start.rendered} as it is: {start.before.error}",
            "see that K3s runs and the node is Ready first",
        )
    folders = search_path(start.release)
    if posixpath.dirname(start.runtime_path) not in folders:
        return Refusal(
            "k3s-path",
            f"K3s does not look in {posixpath.dirname(start.runtime_path)}, where nvidia-container-runtime lies",
            f"put a symbolic link to it into /usr/bin; K3s looks in {', '.join(folders)}",
        )
    return None


def _latent(start: _Situation, probe: Probe) -> Refusal | None:
    """A file changed after K3s last rendered: any restart would activate that as well (`safety.md`, step 2)."""
    rendered = probe.files[start.rendered].mtime if start.rendered in probe.files else None
    for path, file in sorted(probe.files.items()):
        if path in (CONFIG_DROP_IN, start.rendered) or not path.startswith((start.folder, "/etc/rancher/k3s/")):
            continue
        if file.content is not None and (file.mtime or 0) > (rendered or 0) + _SAME_START and rendered is not None:
            return Refusal(
                "latent-change",
                f"{path} was changed after K3s last started: the restart would activate that change as well",
                "restart K3s yourself, see that the node is Ready, and plan again",
            )
    return None


def _default_blocked(start: _Situation) -> Refusal | None:
    """Why ``default-runtime`` cannot be set through our file."""
    if not start.release.has_default_runtime:
        return Refusal(
            "k3s-default-runtime",
            "this K3s has no option default-runtime (v1.26.12, v1.27.9, v1.28.5 and v1.29.0 brought it)",
            "leave the default runtime as it is, or upgrade K3s",
        )
    for path, raw in sorted(start.files.items()):
        if posixpath.dirname(path) != posixpath.dirname(CONFIG_DROP_IN) or path <= CONFIG_DROP_IN:
            continue
        if "default-runtime" in _options(raw):
            return Refusal("k3s-default-runtime", f"{path} sets default-runtime and is read after ours")
    return None


def _options(raw: bytes) -> dict[str, object]:
    """The options of a K3s configuration file; nothing for one that is no YAML mapping."""
    try:
        data = yaml.safe_load(raw.decode("utf-8", "replace"))
    except yaml.YAMLError:
        return {}
    return {str(k): v for k, v in data.items()} if isinstance(data, dict) else {}


def _outcome(start: _Situation, unit: str, default: str | None, chosen: StrategyOption) -> HostPlanned:
    wanted = wanted_handler(start.before, start.runtime_path)
    rendered = start.files[start.rendered].decode("utf-8", "surrogateescape")
    options = None if NAME in start.before.runtimes else wanted.options
    version = start.before.root_version or start.before.config_version
    try:
        predicted = predicted_render(rendered, version, options, default)
    except RefusedError as error:
        return refused(chosen.value, Refusal("not-predictable", f"{start.rendered}: {error.what}", error.remedy))
    raw = predicted.encode("utf-8", "surrogateescape")
    after = effective({**start.files, start.rendered: raw}, start.rendered, start.runtime.version or "")
    changes = compare(start.before, after)
    announced = announced_changes(changes, default)
    path = str(after.runtimes[NAME].options.get("BinaryName", "")) if NAME in after.runtimes else start.runtime_path
    found = outcome_refusals(start.before, after, path, default, announced)
    if found:
        return HostPlanned(chosen.value, found[0].why, refusals=found)
    files: tuple[FileChange, ...] = ()
    if default is not None:
        own = start.files.get(CONFIG_DROP_IN)
        text = f"# Written by gpuwizard: the runtime of pods that name no runtime class.\ndefault-runtime: {default}\n"
        files = (FileChange(CONFIG_DROP_IN, SecretBytes(own) if own is not None else None, SecretBytes.of_text(text)),)
    check = Check(
        unit=unit,
        handlers=tuple(after.runtimes),
        default_handler=after.default_runtime_name,
        cri_socket=start.runtime.socket,
        binary=None,
        config_path=start.rendered,
        rendered=start.rendered,
    )
    reason = chosen.reason if default is None else f"{chosen.reason}; its option default-runtime makes it the default"
    prediction = _NO_UNDO if default is None else _WITH_DEFAULT
    return HostPlanned(chosen.value, reason, HostChange(files, Activation(unit), check, changes, prediction=prediction))
