"""Plain containerd (kubeadm and others): 1.x is edited in place, 2.x gets a drop-in (`runtimes.md §1.5`, `§10`)."""

from gpuwizard.actions import Activation, HostPlanned, Refusal
from gpuwizard.answers.model import Answers
from gpuwizard.clean import clean_line
from gpuwizard.containerd import Release
from gpuwizard.facts.model import HostFacts, Probe, RuntimeFacts
from gpuwizard.flavours.containerd_files import DROP_IN
from gpuwizard.flavours.containerd_plan import Place, plan_at
from gpuwizard.flavours.option import StrategyOption

__all__ = ["DROP_IN", "chosen_runtime", "no_runtime", "offer", "plan"]

_DEFAULT_MAIN = "/etc/containerd/config.toml"


def chosen_runtime(facts: HostFacts) -> RuntimeFacts | None:
    """The runtime that the kubelet uses; on a host without a kubelet its only containerd. None where that is not
    clear: the wrong one of two would be edited (`runtimes.md §11` trap 16)."""
    used = [r for r in facts.runtimes if r.used_by_kubelet]
    if used:
        return used[0] if len(used) == 1 else None
    candidates = [r for r in facts.runtimes if r.kind == "containerd" and r.used_by_kubelet is not False]
    candidates = candidates or [r for r in facts.runtimes if r.kind == "containerd"]
    return candidates[0] if len(candidates) == 1 and facts.kubernetes.flavour in ("none", "kubeadm") else None


def no_runtime(facts: HostFacts) -> Refusal:
    """Why there is no chosen runtime."""
    several = [r for r in facts.runtimes if r.kind == "containerd"]
    if len(several) > 1:
        names = " and ".join(
            clean_line(f"{r.config_path or 'no file'} ({r.unit or r.socket or 'no unit'})") for r in several
        )
        return Refusal(
            "two-containerds",
            f"it is not clear which containerd the kubelet uses: {names}",
            "start the kubelet, or set containerRuntimeEndpoint in its configuration, and plan again",
        )
    return Refusal(
        "no-runtime",
        "no containerd was found that a kubelet could use",
        "install containerd, or start it when it is installed; then plan again",
    )


def offer(probe: Probe) -> tuple[StrategyOption, ...]:
    """The strategies drop-in and in-place."""
    runtime = chosen_runtime(probe.facts)
    if runtime is None or runtime.version is None or runtime.kind != "containerd":
        reason = "no containerd of a known version that a kubelet could use"
    else:
        release = Release.parse(runtime.version)
        if release.replaces_plugin_tables:
            return (
                StrategyOption(
                    "drop-in", False, f"containerd {release} replaces the whole CRI table by that of a drop-in"
                ),
                StrategyOption("in-place", True, f"containerd {release} has to find it in its own file", True),
            )
        return (
            StrategyOption("drop-in", True, f"containerd {release} merges a small file into its own", True),
            StrategyOption("in-place", True, "its own file is edited instead of adding one"),
        )
    return StrategyOption("drop-in", False, reason), StrategyOption("in-place", False, reason)


def plan(name: str, probe: Probe, answers: Answers, chosen: StrategyOption) -> HostPlanned:
    """Make handler nvidia known to this host's containerd, and the default where the answers want it."""
    runtime = chosen_runtime(probe.facts)
    assert runtime is not None
    main = runtime.config_path or _DEFAULT_MAIN
    return plan_at(name, probe, answers, chosen, Place(runtime, main, Activation(runtime.unit or "containerd.service")))
