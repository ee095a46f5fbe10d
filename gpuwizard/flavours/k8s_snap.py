"""Canonical Kubernetes (k8s-snap): its own containerd below a base folder, whose root file is always version 2
(`runtimes.md §4`)."""

import posixpath

from gpuwizard.actions import Activation, HostPlanned, Refusal
from gpuwizard.answers.model import Answers
from gpuwizard.containerd import Release, effective
from gpuwizard.facts.model import Probe, RuntimeFacts
from gpuwizard.flavours.containerd_plan import Place, plan_at
from gpuwizard.flavours.option import StrategyOption
from gpuwizard.flavours.refusals import refused

__all__ = ["offer", "plan"]

_CONFIG = "etc/containerd/config.toml"
_FOREIGN = "/etc/containerd/conf.d"
_ACTIVATION = Activation("snap.k8s.containerd.service", "snap-restart", "k8s.containerd")
_SECRET = 0o600  # as the snap makes its root file: registry credentials may stand in it


def offer(probe: Probe) -> tuple[StrategyOption, ...]:
    """The strategies drop-in and in-place, by the containerd of the track."""
    runtime = probe.facts.kubelet_runtime
    if runtime is None or runtime.version is None or runtime.kind != "containerd":
        reason = "no containerd of a known version that the kubelet of the snap uses"
        return StrategyOption("drop-in", False, reason), StrategyOption("in-place", False, reason)
    release = Release.parse(runtime.version)
    if release.replaces_plugin_tables:
        return (
            StrategyOption(
                "drop-in",
                True,
                f"containerd {release} takes the CRI table of the last file for the whole of it: the drop-in repeats "
                "all of it, and later changes of config.toml do nothing",
            ),
            StrategyOption(
                "in-place",
                True,
                f"containerd {release} has to find it in its own file, which the snap writes once",
                True,
            ),
        )
    return (
        StrategyOption("drop-in", True, f"containerd {release} merges a small file of version 2 into its own", True),
        StrategyOption("in-place", True, "its own file is edited, which the snap writes once and then leaves alone"),
    )


def plan(name: str, probe: Probe, answers: Answers, chosen: StrategyOption) -> HostPlanned:
    """Make handler nvidia known to the snap's containerd; never through /etc/containerd where that is not its own."""
    runtime = probe.facts.kubelet_runtime
    main = _main(probe, runtime)
    if runtime is None or main is None:
        why = "it is not known where the snap keeps containerd's configuration"
        return refused(chosen.value, Refusal("unknown-base", why, "probe as root, with the snap's services running"))
    foreign = _foreign_import(probe, main, runtime)
    if foreign is not None:
        return refused(chosen.value, foreign)
    return plan_at(name, probe, answers, chosen, Place(runtime, main, _ACTIVATION, _SECRET))


def _main(probe: Probe, runtime: RuntimeFacts | None) -> str | None:
    """The root file: by the arguments of the running containerd, else below the base folder."""
    if runtime is not None and runtime.config_path is not None:
        return runtime.config_path
    base = probe.facts.kubernetes.containerd_base_dir
    return None if base is None else posixpath.join(base, _CONFIG)


def _foreign_import(probe: Probe, main: str, runtime: RuntimeFacts) -> Refusal | None:
    """The GPU Operator's toolkit appends its default folder to the snap's imports; with another base folder that one
    belongs to Docker's containerd, and a partial file from there takes the node down (canonical/k8s-snap#1991)."""
    own = posixpath.join(posixpath.dirname(main), "conf.d")
    if own == _FOREIGN:
        return None
    files = {p: f.content.raw for p, f in probe.files.items() if f.content is not None}
    state = effective(files, main, runtime.version or "")
    read = [p for p in state.files if posixpath.dirname(p) == _FOREIGN]
    if not read:
        return None
    return Refusal(
        "foreign-import",
        f"{main} imports {_FOREIGN}, which is not this containerd's folder: {', '.join(read)} counts here as well; the "
        "GPU Operator's toolkit appends that line when it is not told the base folder",
        f'remove "{_FOREIGN}/*.toml" from imports in {main}; where the operator stays, set RUNTIME_DROP_IN_CONFIG='
        f"{own}/99-nvidia.toml, CONTAINERD_CONFIG={main} and RUNTIME_CONFIG_SOURCE=file={main} in toolkit.env",
    )
