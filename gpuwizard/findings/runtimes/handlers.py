"""Rules about containerd's handlers and CRI settings: cgroup driver, shims, CDI, keys at the wrong place
(`runtimes.md §1.1`, `§1.4`)."""

from gpuwizard.facts.model import Handler, Probe, RuntimeFacts
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus, shown_runtime
from gpuwizard.findings.runtimes.words import (
    OPERATOR_FOLDER,
    concerns,
    config_of,
    containerds,
    is_nvidia,
    plan_can_edit,
    release_of,
    shown_handler,
    shown_warnings,
    warned,
)

__all__ = ["RULES"]

_CRI_CONFIG = "containerd/containerd internal/cri/config/config.go"
_BY_DUMP = "The handlers of `containerd config dump`."
_GONE = ("io.containerd.runtime.v1.linux", "io.containerd.runc.v1")


def _runc_types(runtime: RuntimeFacts) -> dict[str, Handler]:
    return {n: h for n, h in runtime.handlers.items() if (h.runtime_type or "").startswith("io.containerd.runc.")}


def _unlike(probe: Probe) -> Verdict | None:
    for runtime in probe.facts.runtimes:
        handlers = _runc_types(runtime)
        if runtime.kind != "containerd" or runtime.owner in ("k3s", "rke2", "k0s") or "runc" not in handlers:
            continue
        wanted = _systemd(handlers["runc"])
        matter = [n for n, h in handlers.items() if is_nvidia(n, h) or n == runtime.default_handler]
        wrong = [name for name in matter if _systemd(handlers[name]) is not wanted]
        if not wrong:
            continue
        evidence = [shown_runtime(runtime)]
        evidence += [
            f"handler {name}: SystemdCgroup = {str(_systemd(handlers[name])).lower()}" for name in ("runc", *wrong)
        ]
        return Verdict(
            tuple(evidence),
            severity=None if runtime.used_by_kubelet is not False else "warning",
            fixable=wrong == ["nvidia"] and _plan_edits(probe, runtime),
            about=config_of(runtime) | {f"cgroup driver of handler {name}" for name in wrong},
        )
    return None


def _systemd(handler: Handler) -> bool:
    return handler.options.get("SystemdCgroup") is True


def _plan_edits(probe: Probe, runtime: RuntimeFacts) -> bool:
    """The plan writes handler nvidia new, except where its program is the GPU Operator's."""
    program = str(runtime.handlers["nvidia"].options.get("BinaryName", ""))
    return plan_can_edit(probe, runtime) and not program.startswith(OPERATOR_FOLDER)


def _removed_shim(probe: Probe) -> Verdict | None:
    for runtime in probe.facts.runtimes:
        release = release_of(runtime)
        if runtime.kind != "containerd" or release is None or release.major < 2:
            continue
        names = [name for name, handler in runtime.handlers.items() if handler.runtime_type in _GONE]
        if not names or runtime.used_by_kubelet is False:
            continue
        evidence = (shown_runtime(runtime), *(shown_handler(name, runtime.handlers[name]) for name in names))
        matters = runtime.default_handler in names or any(is_nvidia(n, runtime.handlers[n]) for n in names)
        about = frozenset(f"shim of handler {name}" for name in names)
        return Verdict(evidence, severity="error" if matters else None, about=about)
    return None


def _no_type(probe: Probe) -> Verdict | None:
    for runtime in containerds(probe):
        names = [name for name, handler in runtime.handlers.items() if not handler.runtime_type]
        if names and runtime.used_by_kubelet is not False:
            return Verdict((shown_runtime(runtime), *(f"handler {name}: no runtime_type" for name in names)))
    return None


def _cdi_off(probe: Probe) -> Verdict | None:
    runtime, toolkit = probe.facts.kubelet_runtime, probe.facts.toolkit
    release = release_of(runtime) if runtime is not None and runtime.kind == "containerd" else None
    if runtime is None or release is None or release.line < (1, 7) or runtime.cdi is not False:
        return None
    if not installed_gpus(probe) or not toolkit.cdi_specs:
        return None
    evidence = [shown_runtime(runtime), "enable_cdi = false", *toolkit.cdi_specs]
    if toolkit.mode == "cdi":
        evidence.append("nvidia-container-runtime: mode = cdi")
    return Verdict(tuple(evidence), severity=None if toolkit.mode == "cdi" or probe.facts.operator.toolkit else "info")


def _no_cdi(probe: Probe) -> Verdict | None:
    runtime = probe.facts.kubelet_runtime
    release = release_of(runtime) if runtime is not None and runtime.kind == "containerd" else None
    if runtime is None or release is None or release.line >= (1, 7) or not installed_gpus(probe):
        return None
    evidence = (shown_runtime(runtime), *probe.facts.toolkit.cdi_specs)
    if probe.facts.operator.toolkit:
        return Verdict((*evidence, "the GPU Operator's toolkit is on this host"), severity="warning")
    return Verdict(evidence) if probe.facts.toolkit.cdi_specs else None


def _misplaced(probe: Probe) -> Verdict | None:
    found = warned(probe, "misplaced")
    return Verdict(shown_warnings(found), about=concerns(probe, found)) if found else None


def _removed_keys(probe: Probe) -> Verdict | None:
    found = [
        (runtime, warning)
        for runtime, warning in warned(probe, "removed", "cgroup-key")
        if (release := release_of(runtime)) is not None and release.major >= 2
    ]
    return Verdict(shown_warnings(found), about=concerns(probe, found)) if found else None


def _cgroup_key(probe: Probe) -> Verdict | None:
    found = [
        (runtime, warning)
        for runtime, warning in warned(probe, "cgroup-key")
        if (release := release_of(runtime)) is not None and release.major < 2
    ]
    return Verdict(shown_warnings(found), about=concerns(probe, found)) if found else None


def _mirrors(probe: Probe) -> Verdict | None:
    found = warned(probe, "mirrors")
    return Verdict(shown_warnings(found), about=concerns(probe, found)) if found else None


RULES: tuple[Rule, ...] = (
    Rule(
        "GW-CONTAINERD-014",
        "error",
        "the nvidia handler uses another cgroup driver than runc",
        "All runc-based handlers need the SystemdCgroup of runc: a handler that was added without its options falls "
        "back to false.",
        "Copy runc's complete options into the handler and restart containerd; gpuwizard's plan does so for handler "
        "nvidia on kubeadm nodes.",
        _unlike,
        ("runtimes.md §11 #9", "runtimes.md §1.4", "runtimes.md §0 fact 9"),
        effect="Pods of that handler do not start, or run outside the limits that the kubelet sets. As default handler "
        "it makes containerd 2.x tell the kubelet the wrong driver.",
        detected=_BY_DUMP,
        messages=('expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "/kubepods/',),
        sources=("containerd/containerd docs/cri/config.md", "canonical/k8s-snap#2529"),
        instead_of=("GW-RUNTIME-009",),
    ),
    Rule(
        "GW-CONTAINERD-015",
        "warning",
        "a handler uses a shim that containerd 2 does not have",
        "io.containerd.runtime.v1.linux and io.containerd.runc.v1 were removed in 2.0.",
        'Set `runtime_type = "io.containerd.runc.v2"` and restart containerd.',
        _removed_shim,
        ("runtimes.md §1.1",),
        effect="Pods of that handler fail when they are created.",
        detected=_BY_DUMP,
        messages=("failed to create containerd task", 'runtime "io.containerd.runc.v1" binary not installed'),
        sources=("containerd/containerd RELEASES.md",),
    ),
    Rule(
        "GW-CONTAINERD-023",
        "error",
        "a handler has no runtime_type",
        "The handler's table came from a source without it: nvidia-ctk before 1.20.0 copied what it found.",
        'Add `runtime_type = "io.containerd.runc.v2"` to the handler and restart containerd.',
        _no_type,
        ("kubernetes.md §1.14 #6",),
        effect="Pods of that handler fail when they are created.",
        detected=_BY_DUMP,
        messages=("container.Runtime.Name must be set",),
        sources=("NVIDIA/nvidia-container-toolkit#1956",),
    ),
    Rule(
        "GW-CONTAINERD-016",
        "warning",
        "CDI is off in containerd",
        "There are CDI specifications, and the CRI plugin does not look at them: in 1.7 `enable_cdi` is false unless "
        "the file says otherwise.",
        "Set `enable_cdi = true` in the CRI table that is there already, and restart containerd; the GPU Operator's "
        "toolkit does so itself. Only setups that hand out devices by CDI need it.",
        _cdi_off,
        ("runtimes.md §0 fact 10", "runtimes.md §1.2"),
        effect="Pods that get their GPU by CDI (device plugin with cdi-cri, GPU Operator) start without it, or do not "
        "start.",
        detected="enable_cdi of `containerd config dump`, the toolkit's mode, and the files in the CDI folders.",
        messages=("unresolvable CDI devices", "CDI is not enabled"),
        sources=("containerd/containerd pkg/cri/config/config_unix.go", "NVIDIA/k8s-device-plugin README.md"),
    ),
    Rule(
        "GW-CONTAINERD-017",
        "info",
        "this containerd has no CDI",
        "containerd 1.6 and older know no CDI in the CRI plugin.",
        "Install the GPU Operator with `--set cdi.enabled=false` (it is on by default from 25.10 on), or upgrade "
        "containerd; the runtime class nvidia works without CDI.",
        _no_cdi,
        ("runtimes.md §1.2", "runtimes.md §4"),
        effect="Pods of a GPU Operator that hands out devices by CDI do not get their GPU.",
        detected="containerd's release.",
        messages=("unresolvable CDI devices",),
        sources=("canonical/k8s-snap#2388", "containerd/containerd releases/v1.7.0.toml"),
    ),
    Rule(
        "GW-CONTAINERD-022",
        "warning",
        "settings of a handler stand at the wrong place",
        "containerd ignores a key in the wrong table or in another spelling: 1.x says nothing, 2.x logs a warning.",
        "Write BinaryName and SystemdCgroup in the handler's `options` table, handlers in "
        "`containerd.runtimes` of the CRI plugin, then restart containerd.",
        _misplaced,
        ("runtimes.md §1.3",),
        effect="The handler runs plain runc without GPUs, by the wrong cgroup driver, or does not exist.",
        detected="Every key of the handlers' tables in containerd's files is looked at.",
        messages=("Ignoring unknown key in TOML for plugin",),
        sources=(_CRI_CONFIG,),
        instead_of=("GW-RUNTIME-001",),
    ),
    Rule(
        "GW-CONTAINERD-024",
        "warning",
        "containerd's files use settings that were removed",
        "containerd 2.0 removed default_runtime, untrusted_workload_runtime, runtime_engine, runtime_root and "
        "systemd_cgroup.",
        "Use default_runtime_name, a handler's BinaryName and SystemdCgroup in its options; remove the old keys.",
        _removed_keys,
        ("runtimes.md §1.1", "runtimes.md §11 #13"),
        effect="They do nothing: another runtime than the one that was meant may run the pods.",
        detected="The keys of containerd's files, and its release.",
        messages=("Ignoring unknown key in TOML for plugin",),
        sources=("containerd/containerd RELEASES.md",),
    ),
    Rule(
        "GW-CONTAINERD-025",
        "error",
        "systemd_cgroup keeps the CRI plugin from loading",
        "`systemd_cgroup` of the CRI table belongs to a shim that nobody uses any more; with runc.v2 it is an error.",
        "Remove it and set SystemdCgroup in runc's options, then restart containerd.",
        _cgroup_key,
        ("runtimes.md §1.1",),
        effect="The CRI plugin does not load and the node is NotReady.",
        detected="The keys of containerd's files; nothing is said while the plugin is loaded.",
        messages=("`systemd_cgroup` only works for runtime io.containerd.runtime.v1.linux",),
        sources=("containerd/containerd pkg/cri/config/config.go ValidatePluginConfig",),
        instead_of=("GW-RUNTIME-003", "GW-RUNTIME-012"),
    ),
    Rule(
        "GW-CONTAINERD-026",
        "error",
        "registry mirrors beside config_path",
        "`registry.mirrors` and `registry.config_path` exclude one another.",
        "Move the mirrors to hosts.toml files below the config_path folder, remove the mirrors tables, and restart "
        "containerd.",
        _mirrors,
        ("runtimes.md §1.1",),
        effect="The CRI plugin does not load and the node is NotReady.",
        detected="The tables of containerd's files and its `config dump`; nothing is said while the plugin is loaded.",
        messages=("`mirrors` cannot be set when `config_path` is provided",),
        sources=("containerd/containerd docs/hosts.md", _CRI_CONFIG),
        instead_of=("GW-RUNTIME-003", "GW-RUNTIME-012"),
    ),
)
