"""One file per runtime flavour: facts, answers and file bytes become file changes, activation and checks."""

from gpuwizard.actions import HostPlanned, Refusal
from gpuwizard.answers.model import Answers
from gpuwizard.clean import clean_line
from gpuwizard.containerd.k3s_release import release_of
from gpuwizard.containerd.release import Release
from gpuwizard.errors import UsageError
from gpuwizard.facts.model import Probe, RuntimeFacts
from gpuwizard.flavours import containerd, crio, docker, k0s, k3s, k8s_snap, latent, microk8s
from gpuwizard.flavours.chosen import runtime_of
from gpuwizard.flavours.k3s_state import embedded
from gpuwizard.flavours.option import STRATEGIES, Flavour, StrategyOption, host_refusals, refused

__all__ = ["STRATEGIES", "StrategyOption", "flavour_of", "plan_host", "strategies"]

_NAMES = {
    "rke2": "RKE2",
    "k8s-snap": "Canonical Kubernetes",
    "openshift": "OpenShift",
    "microshift": "MicroShift",
    "kind": "kind",
    "minikube": "minikube",
}


def plan_host(name: str, probe: Probe, answers: Answers) -> HostPlanned:
    """What is to be done to the runtime of host `name`: nothing (strategy ``none`` and the reason, or a strategy
    with an empty change when all is right already), a change, or refusals."""
    override = answers.host.get(name)
    if override is not None and override.skip:
        return HostPlanned("none", "skipped by the answers")
    if not probe.facts.gpus:
        return HostPlanned("none", "no GPU")
    asked = answers.strategy_for(name)
    if asked == "none":
        return HostPlanned("none", "the answers leave its runtime alone")
    found = (*_unsupported(probe), *host_refusals(probe))
    if found:
        return refused(asked, *found)
    offered = strategies(probe)
    chosen = next((o for o in offered if (o.recommended if asked == "auto" else o.value == asked)), None)
    if chosen is None or not chosen.enabled:
        reason = chosen.reason if chosen else "no strategy fits this host"
        return refused(asked, Refusal("strategy", f"{asked} is not possible here: {reason}", "use strategy auto"))
    return latent.judged(name, probe, answers, flavour_of(probe).plan(name, probe, answers, chosen))


def strategies(probe: Probe) -> tuple[StrategyOption, ...]:
    """Every strategy with whether it fits this host and why, and which of them ``auto`` takes."""
    if not probe.facts.gpus:
        return (*_none_of_them("no GPU on this host"), StrategyOption("none", True, "no GPU on this host", True))
    blocked = next(iter((*_unsupported(probe), *host_refusals(probe))), None)
    offered = _none_of_them(blocked.why) if blocked is not None else _completed(probe, flavour_of(probe).offer(probe))
    return (*offered, StrategyOption("none", True, "its runtime stays as it is"))


def flavour_of(probe: Probe) -> Flavour:
    """The module that knows this host's runtime: by its Kubernetes, else by the kind of the runtime itself."""
    runtime = runtime_of(probe.facts)
    module = _BY_KIND.get(runtime.kind) if runtime is not None else None
    module = module or _BY_KUBERNETES.get(probe.facts.kubernetes.flavour)
    if module is k3s and not embedded(probe):
        module = None
    return module if module is not None else containerd


_BY_KUBERNETES: dict[str, Flavour] = {
    "k0s": k0s,
    "k3s": k3s,
    "k8s-snap": k8s_snap,
    "microk8s": microk8s,
    "rke2": k3s,  # the same program with other paths
}
_BY_KIND: dict[str, Flavour] = {
    "crio": crio,
    "docker": docker,
}


def _none_of_them(why: str) -> tuple[StrategyOption, ...]:
    return tuple(StrategyOption(value, False, why) for value in STRATEGIES)


def _completed(probe: Probe, offered: tuple[StrategyOption, ...]) -> tuple[StrategyOption, ...]:
    """All strategies in their order; those that the flavour has no word on do not fit."""
    known = {option.value: option for option in offered}
    here = _NAMES.get(probe.facts.kubernetes.flavour, "this host's runtime")
    return tuple(known.get(v) or StrategyOption(v, False, f"it {_ELSEWHERE[v]}, not to {here}") for v in STRATEGIES)


_ELSEWHERE = {
    "k3s-native": "belongs to K3s and RKE2",
    "k3s-template": "belongs to K3s and RKE2",
    "drop-in": "belongs to runtimes that merge files",
    "in-place": "belongs to runtimes whose own file may be edited",
}


def _unsupported(probe: Probe) -> tuple[Refusal, ...]:
    """Flavours and runtimes that gpuwizard does not change."""
    facts = probe.facts
    flavour = facts.kubernetes.flavour
    if flavour == "unknown":
        return (
            Refusal(
                "unknown-flavour",
                "it is not known which Kubernetes runs here",
                "probe as root; `gpuwizard check` shows what was found",
            ),
        )
    if flavour in _NAMES and flavour not in _BY_KUBERNETES:
        return (
            Refusal(
                "flavour",
                f"{_NAMES[flavour]} keeps its own runtime configuration, which this version does not change",
                "its hosts can be looked at and validated; set strategy none for them",
            ),
        )
    if flavour == "k0s" and k0s.waits_for_us(probe):
        return ()
    runtime = runtime_of(facts)
    if runtime is None:
        return (containerd.no_runtime(facts),)
    if runtime.kind != "containerd" and runtime.kind not in _BY_KIND:
        return (Refusal("runtime-kind", f"the kubelet uses {runtime.kind}, which this version does not change"),)
    if runtime.running is False:
        unit = runtime.unit or "its service"
        return (
            Refusal(
                "not-running",
                f"{unit} is not running",
                f"start {unit} and see that the node is Ready: nothing could tell a mistake of ours from this one",
            ),
        )
    return _unknown_versions(probe, runtime)


def _unknown_versions(probe: Probe, runtime: RuntimeFacts) -> tuple[Refusal, ...]:
    """What a runtime does with a file depends on its release, and what K3s renders on its own."""
    if runtime.version is None:
        return (Refusal("unknown-version", f"the version of {runtime.kind} is not known", "probe as root"),)
    try:
        Release.parse(runtime.version)
        if flavour_of(probe) is k3s and probe.facts.kubernetes.version is not None:
            release_of(probe.facts.kubernetes.version)
    except UsageError as error:
        words = f"a version of this host cannot be understood: {clean_line(error.what)}"
        return (Refusal("unknown-version", words, "see what `containerd --version` prints on the host"),)
    return ()
