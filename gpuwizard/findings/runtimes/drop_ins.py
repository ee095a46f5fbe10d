"""Rules about drop-ins: what imports them, what they replace, and who else writes them (`runtimes.md §1.3`, `§7`)."""

import posixpath

from gpuwizard.facts.model import Probe, RuntimeFacts
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus, shown_runtime
from gpuwizard.findings.runtimes.dialects import NO_START, OTHER_SETTINGS
from gpuwizard.findings.runtimes.words import (
    concerns,
    containerds,
    defines_nvidia,
    release_of,
    shown_warning,
    shown_warnings,
    warned,
    works_now,
)

__all__ = ["RULES"]

_MERGE = "containerd/containerd services/server/config/config.go mergeConfig"
_LOADER = "containerd/containerd cmd/containerd/server/config/config.go"
_CTK = "NVIDIA/nvidia-container-toolkit pkg/config/engine/containerd"
_OURS = "99-gpuwizard-nvidia.toml"
_CTKS = "99-nvidia.toml"
_BY_IMPORTS = "The root file's imports are followed as containerd does it, and every file of conf.d is looked at."


def _replaced(probe: Probe) -> Verdict | None:
    found = warned(probe, "replaced")
    if not found:
        return None
    evidence = shown_warnings(found)
    if any(works_now(runtime) and runtime.config_newer_than_process for runtime, _ in found):
        evidence = (*evidence, "it still runs on its former files")
    return Verdict(evidence, about=concerns(probe, found))


def _newer(probe: Probe) -> Verdict | None:
    found = warned(probe, "newer-drop-in")
    return Verdict(shown_warnings(found), about=concerns(probe, found)) if found else None


def _older(probe: Probe) -> Verdict | None:
    found = warned(probe, "older-drop-in")
    return Verdict(shown_warnings(found), about=concerns(probe, found)) if found else None


def _missing(probe: Probe) -> Verdict | None:
    found = warned(probe, "missing-import")
    return Verdict(shown_warnings(found), about=concerns(probe, found)) if found else None


def _not_imported(probe: Probe) -> Verdict | None:
    found = warned(probe, "not-imported")
    if not found:
        return None
    roots = {r.config_path: r for r, _ in found}
    evidence = [
        f"{path}: imports {', '.join(runtime.imports) if runtime.imports else 'nothing'}"
        for path, runtime in roots.items()
    ]
    return Verdict((*evidence, *(shown_warning(w) for _, w in found)), about=concerns(probe, found))


def _backups(probe: Probe) -> Verdict | None:
    found = warned(probe, "backup")
    return Verdict(shown_warnings(found), about=concerns(probe, found)) if found else None


def _both(probe: Probe) -> Verdict | None:
    """gpuwizard's drop-in and the toolkit's in one folder, both read and both with handler nvidia."""
    for runtime in containerds(probe):
        names = {posixpath.basename(path): path for path in runtime.config_files}
        pair = [names[name] for name in (_CTKS, _OURS) if name in names]
        if len(pair) == 2 and all(defines_nvidia(probe, path) for path in pair):
            return Verdict((shown_runtime(runtime), *(f"{path}: defines handler nvidia" for path in pair)))
    return None


def _overridden(probe: Probe) -> Verdict | None:
    found = warned(probe, "overridden")
    return Verdict(shown_warnings(found), about=concerns(probe, found)) if found else None


def _stub(probe: Probe) -> Verdict | None:
    """Only where no kubelet uses it yet: else GW-RUNTIME-003 says that the node does not work."""
    if probe.facts.kubelet_runtime is not None or not installed_gpus(probe):
        return None
    found = [(r, w) for r, w in warned(probe, "stub") if _dockers(r)]
    return Verdict(shown_warnings(found), about=concerns(probe, found)) if found else None


def _dockers(runtime: RuntimeFacts) -> bool:
    return runtime.used_by_kubelet is not True and release_of(runtime) is not None


RULES: tuple[Rule, ...] = (
    Rule(
        "GW-CONTAINERD-002",
        "error",
        "a drop-in replaces containerd's CRI settings",
        "containerd 1.3 to 1.7 take an imported file's CRI table for the whole of it: everything that the files before "
        "it say under that plugin is gone. Of two such drop-ins only the last one counts.",
        "Write the handler into config.toml itself and remove the drop-in (gpuwizard does so on 1.x), or put the "
        "complete CRI table into the drop-in, or upgrade to containerd 2.x, which merges. Then restart containerd.",
        _replaced,
        ("runtimes.md §11 #1", "runtimes.md §11 #3", "runtimes.md §0 fact 1", "kubernetes.md §1.14 #4"),
        effect="SystemdCgroup, pause image, CNI folders and registries of config.toml do not count; without runc in "
        "the same file the CRI plugin does not load and the node goes NotReady.",
        detected="The tables are merged as this release does it, and what is lost is looked for in `config dump`.",
        messages=(
            "no corresponding runtime configured in `containerd.runtimes`",
            "containerd://Unknown",
        ),
        sources=(_MERGE, "containerd/containerd#5837", "canonical/k8s-snap#1991", "k0sproject/k0s#6547"),
        instead_of=("GW-RUNTIME-001", "GW-RUNTIME-002", "GW-RUNTIME-003", *OTHER_SETTINGS[1:]),
    ),
    Rule(
        "GW-CONTAINERD-003",
        "error",
        "a drop-in of version 3 below a root file of version 2",
        "The number in a drop-in decides for all files: containerd 2.0 to 2.2 then drop the root file's CRI settings, "
        "2.3.0 to 2.3.4 and 1.x from 1.6.32 and 1.7.17 on refuse to start, older 1.x does nothing with it.",
        "Write the drop-in with the root file's version and plugin names, then restart containerd.",
        _newer,
        ("runtimes.md §11 #2", "runtimes.md §0 fact 2"),
        effect="The node loses its cgroup driver, pause image, registries and CNI folders, or containerd stays down.",
        detected="The version lines of root file and drop-ins, and what `config dump` shows.",
        messages=(
            "drop-in config version 3 higher than root config version 2",
            "unsupported config version `3`",
        ),
        sources=(_LOADER, "containerd/containerd commit 21248d007", "containerd/containerd commit a8ed54668"),
        instead_of=("GW-CONTAINERD-001", *NO_START, *OTHER_SETTINGS[1:]),
    ),
    Rule(
        "GW-CONTAINERD-004",
        "warning",
        "containerd ignores a drop-in of an older version",
        "Below a root file of version 3, containerd 2.0 to 2.2 read a drop-in with tables of version 1 or 2 and drop "
        "its CRI settings.",
        "Write the drop-in with the root file's version and plugin names, then restart containerd.",
        _older,
        ("runtimes.md §0 fact 2", "runtimes.md §1.3"),
        effect="The handler that is written there does not exist.",
        detected="The version lines of root file and drop-ins, and what `config dump` shows.",
        messages=("Ignoring unknown key in TOML for plugin", 'no runtime for "nvidia" is configured'),
        sources=(_LOADER,),
        instead_of=("GW-RUNTIME-001",),
    ),
    Rule(
        "GW-CONTAINERD-011",
        "error",
        "containerd imports a file that does not exist",
        "`imports` names a file without a pattern, and the file is gone. `config dump` of containerd 2.x hides that.",
        "Remove the entry from `imports`, or write it with a `*`, which may match nothing; then restart containerd.",
        _missing,
        ("runtimes.md §1.3",),
        effect="containerd does not start any more.",
        detected=_BY_IMPORTS,
        messages=("no such file or directory", "containerd: failed to load TOML"),
        sources=(_LOADER,),
        instead_of=("GW-CONTAINERD-001", *NO_START),
    ),
    Rule(
        "GW-CONTAINERD-019",
        "warning",
        "nothing imports a drop-in in conf.d",
        "No release of containerd reads /etc/containerd/conf.d by itself: config.toml has to import it. The line is "
        "missing, or whoever rewrote config.toml (kubespray, a package, the GPU Operator with Docker's stub) dropped "
        "it.",
        'Add `imports = ["/etc/containerd/conf.d/*.toml"]` above the first table of config.toml, or remove the '
        "drop-in. gpuwizard's own plan adds the line where it writes a drop-in. On containerd 1.x see "
        "GW-CONTAINERD-002 first.",
        _not_imported,
        ("runtimes.md §0 fact 8", "runtimes.md §11 #11", "kubernetes.md §1.14 #14"),
        effect="What the drop-in says does nothing, the nvidia handler above all.",
        detected=_BY_IMPORTS,
        messages=('no runtime for "nvidia" is configured',),
        sources=("containerd/containerd commit 9ca659a53", "NVIDIA/gpu-operator#598", "NVIDIA/gpu-operator#1651", _CTK),
        instead_of=("GW-RUNTIME-001",),
    ),
    Rule(
        "GW-CONTAINERD-018",
        "warning",
        "a backup copy is imported by containerd",
        "A file whose name says that it is a copy ends in .toml and lies where everything is imported.",
        "Move it out of the folder, or give it another ending, then restart containerd.",
        _backups,
        ("runtimes.md §11 #15",),
        effect="Its old settings count again, and on containerd 1.x may replace all others.",
        detected=_BY_IMPORTS,
        sources=(_LOADER,),
    ),
    Rule(
        "GW-CONTAINERD-020",
        "warning",
        "two programs write the nvidia handler",
        f"{_CTKS} (nvidia-ctk, the GPU Operator) and {_OURS} (gpuwizard) both define it; the last one in the alphabet "
        "counts, on containerd 1.x for the whole CRI table.",
        "Let one of them own it: remove gpuwizard's with `gpuwizard uninstall`, or the other one by its own means.",
        _both,
        ("runtimes.md §11 #19",),
        effect="When one of them changes or leaves, the handler changes its program or its cgroup driver.",
        detected="Both files are read by containerd and define runtimes.nvidia.",
        sources=(_CTK,),
    ),
    Rule(
        "GW-CONTAINERD-021",
        "info",
        "a drop-in overrides settings of config.toml",
        "nvidia-ctk from 1.18 on copies the whole CRI table into its drop-in. Later edits of config.toml are without "
        "effect as long as the copy says otherwise; a copy of the wrong containerd's settings loses its CNI folders.",
        "Make the same change in the drop-in, or run nvidia-ctk again, then restart containerd.",
        _overridden,
        ("runtimes.md §7.1", "kubernetes.md §1.14 #13"),
        effect="config.toml does not tell the truth any more: pause image, CNI folders or registries are the copy's.",
        detected="The settings of the files are compared one by one.",
        messages=("failed to find plugin", "network plugin is not ready: cni config uninitialized"),
        sources=(_CTK, "NVIDIA/nvidia-container-toolkit#1222"),
    ),
    Rule(
        "GW-CONTAINERD-012",
        "info",
        "containerd's CRI is switched off",
        "Docker's package of containerd ships a config.toml that disables the CRI plugin, which Docker does not need.",
        "Before this host joins a cluster with this containerd: replace the file by the output of `containerd config "
        "default`, set SystemdCgroup of runc to the kubelet's driver, and restart containerd. Do not just add "
        "`version = 2`: it would not start any more.",
        _stub,
        ("runtimes.md §1.3", "runtimes.md §11 #7"),
        effect="`kubeadm join` fails, and nvidia-ctk writes a drop-in that nothing reads.",
        detected="disabled_plugins of the file names cri.",
        messages=("validate service connection: CRI v1 runtime API is not implemented",),
        sources=("docker/containerd-packaging common/containerd.toml",),
    ),
)
