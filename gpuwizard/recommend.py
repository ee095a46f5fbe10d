"""For each choice: the options, which of them is recommended, and why, computed from the facts.

An option that cannot work is offered disabled with its reason, never hidden (`product.md`, stage 4).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gpuwizard.answers.model import Answers
from gpuwizard.facts.model import Probe
from gpuwizard.flavours import STRATEGIES, strategies
from gpuwizard.flavours.latent import waiting

__all__ = ["ChoiceField", "Option", "choices", "host_strategy"]

_STRATEGY_LABELS = {
    "auto": "what fits each host",
    "k3s-native": "K3s finds the toolkit by itself: restart only",
    "drop-in": "a small file that containerd 2 merges",
    "in-place": "edit the runtime's own file",
    "k3s-template": "a K3s template on top of its base",
    "gpu-operator": "NVIDIA GPU Operator",
    "none": "leave the runtime alone",
}
_LATER = "this version of gpuwizard does not do it yet"


@dataclass(frozen=True, slots=True)
class Option:
    """One way to answer. `reason` says why it is (not) to be had, or what it entails."""

    value: str
    label: str
    enabled: bool = True
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ChoiceField:
    """One choice. `path` is the key in the answers file, ``runtime.strategy``; values are written as text
    (``true``/``false`` for switches)."""

    path: str
    title: str
    help: str
    options: tuple[Option, ...]
    recommended: str
    reason: str
    current: str


def choices(probes: Mapping[str, Probe], answers: Answers) -> tuple[ChoiceField, ...]:
    """The choices that hold for all hosts, in the order in which they are asked."""
    gpus = sum(len(p.facts.gpus) for p in probes.values())
    return (
        _strategy(probes, answers),
        _default_runtime(probes, answers),
        _cdi(probes, answers),
        _convert(probes, answers),
        _latent(probes, answers),
        _sharing(gpus, answers),
        _switch(
            "kubernetes.manage",
            "Kubernetes objects",
            "apply the runtime class, the device plugin and the node labels through the Kubernetes API",
            answers.kubernetes.manage,
            "pods cannot ask for a GPU without them",
        ),
        _switch(
            "install.runtime_class",
            "Runtime class",
            "RuntimeClass nvidia, so that a pod can name the handler; one that K3s ships is left alone",
            answers.install.runtime_class,
            "the device plugin and the validation pod use it",
        ),
        _switch(
            "install.device_plugin",
            "Device plugin",
            "the DaemonSet that announces nvidia.com/gpu on every GPU node",
            answers.install.device_plugin,
            "without it no node has nvidia.com/gpu to give",
        ),
        _switch(
            "rollout.canary",
            "Canary first",
            "change one host, prove it, and only then go on with the others",
            answers.rollout.canary,
            "a mistake then costs one node at the most, and that node reverts by itself",
        ),
        *_drain(answers),
        _switch(
            "validation.enabled",
            "Validation pods",
            "run nvidia-smi in a pod on every GPU host after the change, and clean up",
            answers.validation.enabled,
            "only a pod proves that a GPU reaches pods",
        ),
    )


def host_strategy(name: str, probe: Probe, answers: Answers) -> ChoiceField:
    """The strategy of one host, with the reason why each fits or not."""
    offered = strategies(probe)
    best = next((o for o in offered if o.recommended), None)
    options = [Option("auto", _STRATEGY_LABELS["auto"], True, f"takes {best.value}" if best else "takes what fits")]
    options += [Option(o.value, _STRATEGY_LABELS.get(o.value, o.value), o.enabled, o.reason) for o in offered]
    options += [o for o in _later() if o.value not in {x.value for x in options}]
    return ChoiceField(
        f"host.{name}.strategy",
        f"Strategy on {name}",
        "how the runtime of this host learns the nvidia handler",
        tuple(options),
        "auto",
        best.reason if best else "nothing fits this host",
        answers.strategy_for(name),
    )


def _later() -> tuple[Option, ...]:
    return tuple(Option(v, _STRATEGY_LABELS[v], False, _LATER) for v in ("gpu-operator",))


def _strategy(probes: Mapping[str, Probe], answers: Answers) -> ChoiceField:
    """A strategy is to be had when it fits at least one host; the reasons name the hosts."""
    fits: dict[str, list[str]] = {}
    refused: dict[str, str] = {}
    best: dict[str, list[str]] = {}
    for name, probe in sorted(probes.items()):
        for offer in strategies(probe):
            if offer.enabled:
                fits.setdefault(offer.value, []).append(name)
            else:
                refused.setdefault(offer.value, offer.reason)
            if offer.recommended:
                best.setdefault(offer.value, []).append(name)
    options = [Option("auto", _STRATEGY_LABELS["auto"])]
    for value in (*STRATEGIES, "none"):
        hosts = fits.get(value, [])
        reason = f"fits {', '.join(hosts)}" if hosts else refused.get(value, "fits none of the hosts")
        options.append(Option(value, _STRATEGY_LABELS[value], bool(hosts) or value == "none", reason))
    taken = "; ".join(f"{value} on {', '.join(hosts)}" for value, hosts in best.items())
    return ChoiceField(
        "runtime.strategy",
        "Runtime strategy",
        "how the container runtime of each host learns the nvidia handler",
        (*options, *_later()),
        "auto",
        f"takes {taken}" if taken else "no host can be changed as it is",
        answers.runtime.strategy,
    )


def _default_runtime(probes: Mapping[str, Probe], answers: Answers) -> ChoiceField:
    already = sorted(
        name
        for name, p in probes.items()
        if (runtime := p.facts.kubelet_runtime) is not None and runtime.default_handler == "nvidia"
    )
    return ChoiceField(
        "runtime.default_runtime",
        "Default runtime",
        "which handler a pod gets that names none",
        (
            Option("leave", "leave it as it is", True, "pods that want a GPU say runtimeClassName: nvidia"),
            Option(
                "nvidia",
                "nvidia for every pod",
                True,
                "every new pod of the node starts through nvidia-container-runtime: if it vanishes, no pod starts",
            ),
            Option(
                "former", "what it was before gpuwizard", True, "where gpuwizard made nvidia the default, undo that"
            ),
        ),
        "leave",
        f"nvidia is the default already on {', '.join(already)}" if already else "pods without a GPU stay unaffected",
        answers.runtime.default_runtime,
    )


def _cdi(probes: Mapping[str, Probe], answers: Answers) -> ChoiceField:
    off = sorted(n for n, p in probes.items() if (r := p.facts.kubelet_runtime) is not None and r.cdi is False)
    return ChoiceField(
        "runtime.cdi",
        "Container Device Interface",
        "whether the runtime may be given devices by name (CDI), as the GPU Operator and newer plugins do",
        (
            Option("enable", "switch it on where it is off", True, "a release without CDI is left as it is"),
            Option("leave", "leave it as it is"),
        ),
        "enable",
        f"it is off on {_names(off)}" if off else "it is on wherever the runtime has it",
        answers.runtime.cdi,
    )


_CONVERTIBLE = frozenset(("stub", "stub-versioned", "unversioned"))


def _convert(probes: Mapping[str, Probe], answers: Answers) -> ChoiceField:
    hosts = sorted(name for name, probe in probes.items() if _wants_conversion(probe))
    return ChoiceField(
        "runtime.convert",
        "Unusable configurations",
        "Docker's stub without CRI, a file of version 1, a stale K3s template: such a file cannot be added to",
        (
            Option("false", "leave them: those hosts are refused"),
            Option(
                "true", "replace them by what means the same", True, "shown as a diff, backed up, put back by rollback"
            ),
        ),
        "false",
        f"{_names(hosts)} would be refused: read the diff before you consent" if hosts else "no host has one",
        "true" if answers.runtime.convert else "false",
    )


def _latent(probes: Mapping[str, Probe], answers: Answers) -> ChoiceField:
    found = {n: waiting(r) for n, p in sorted(probes.items()) if (r := p.facts.kubelet_runtime) is not None}
    hosts = [name for name, words in found.items() if words]
    return ChoiceField(
        "runtime.take_latent",
        "Changes that wait for a restart",
        "what was changed on a host since its runtime started: our restart would activate that as well",
        (
            Option("false", "leave them: those hosts are refused"),
            Option("true", "take them into the plan", True, "a revert brings back only what is on the disk now"),
        ),
        "false",
        f"{_names(hosts)}: {found[hosts[0]][0]}" if hosts else "nothing is known to wait on any host",
        "true" if answers.runtime.take_latent else "false",
    )


def _wants_conversion(probe: Probe) -> bool:
    runtime = probe.facts.kubelet_runtime
    kinds = {warning.kind for warning in runtime.warnings} if runtime is not None else set()
    return bool(kinds & _CONVERTIBLE) or any(t.state == "stale" for t in probe.facts.kubernetes.template_states)


def _names(hosts: list[str], most: int = 6) -> str:
    """Host names for a sentence; not all of a long list."""
    more = f" and {len(hosts) - most} more" if len(hosts) > most else ""
    return ", ".join(hosts[:most]) + more


def _sharing(gpus: int, answers: Answers) -> ChoiceField:
    replicas = answers.sharing.replicas
    return ChoiceField(
        "sharing.mode",
        "GPU sharing",
        "how many pods may use one GPU at the same time",
        (
            Option("none", "one pod per GPU", True, f"{gpus} GPUs: nvidia.com/gpu is {gpus} over all nodes"),
            Option(
                "time-slicing",
                "several pods take turns",
                True,
                f"with {replicas} replicas nvidia.com/gpu is {gpus * replicas}; memory is not divided: "
                "one pod can use it all and make the others fail",
            ),
            Option("mps", "NVIDIA MPS", False, _LATER),
        ),
        "none",
        "no pod can disturb another",
        answers.sharing.mode,
    )


def _drain(answers: Answers) -> tuple[ChoiceField, ...]:
    """What is done with a node before its restart; nothing that only the Kubernetes API can do without it."""
    managed, away = answers.kubernetes.manage, "kubernetes.manage is off: nodes are left as they are"
    rollout = answers.rollout
    mode = ChoiceField(
        "rollout.drain",
        "Cordon or drain",
        "what is done with a node before its runtime restarts; a cordon is lifted when its host is done",
        (
            Option("no", "leave the node as it is"),
            Option("cordon", "keep new pods away", managed, "pods that run stay" if managed else away),
            Option(
                "drain",
                "evict its pods",
                managed,
                "disruption budgets are honoured; a host that cannot be drained in time is not changed"
                if managed
                else away,
            ),
        ),
        "no",
        "a restart leaves pods that run alone; where it does not, the plan says so",
        rollout.drain,
    )
    return (
        mode,
        _consent(
            "rollout.drain_delete_emptydir",
            "Pods with an emptyDir",
            rollout.drain_delete_emptydir,
            "evict them as well: what they keep there is lost",
        ),
        _consent(
            "rollout.drain_force",
            "Pods without a controller",
            rollout.drain_force,
            "evict them as well: nothing brings them back",
        ),
    )


def _consent(path: str, title: str, current: bool, label: str) -> ChoiceField:
    """A consent that a drain may need, for pods that it costs something."""
    return ChoiceField(
        path,
        title,
        "whether a drain may evict such pods",
        (Option("false", "refuse to drain a node that has one"), Option("true", label)),
        "false",
        "the refusal names the pods, before any is evicted",
        "true" if current else "false",
    )


def _switch(path: str, title: str, help_text: str, current: bool, reason: str) -> ChoiceField:
    return ChoiceField(
        path,
        title,
        help_text,
        (Option("true", "yes"), Option("false", "no")),
        "true",
        reason,
        "true" if current else "false",
    )
