"""Rules about the runtime that the kubelet uses, whichever it is: its handlers, its state, its cgroup driver."""

from dataclasses import replace

from gpuwizard.facts.model import Probe, RuntimeFacts
from gpuwizard.findings.kubernetes.words import plan_may_act
from gpuwizard.findings.rule import (
    KUBELET,
    NVIDIA_HANDLER,
    NVIDIA_HANDLERS,
    Rule,
    Verdict,
    installed_gpus,
    shown_runtime,
)
from gpuwizard.findings.runtimes.service import is_looping
from gpuwizard.findings.runtimes.words import (
    OPERATOR_FOLDER,
    config_of,
    is_nvidia,
    plan_can_edit,
    release_of,
    shown_handler,
    shown_warning,
    works_now,
)

__all__ = ["RULES"]

_BY_DUMP = (
    "The handlers are those of `containerd config dump` (CRI-O, Docker, K3s: of their files), and the kubelet's "
    "runtime is the one behind its containerRuntimeEndpoint."
)
_BY_FILE_TEST = "Each handler's BinaryName, runtime_path or path is looked for on the host."


def _no_handler(probe: Probe) -> Verdict | None:
    verdict = _unknown_handler(probe)
    return None if verdict is None else replace(verdict, about=frozenset((NVIDIA_HANDLER,)))


def _unknown_handler(probe: Probe) -> Verdict | None:
    runtime = probe.facts.kubelet_runtime
    if runtime is None or not installed_gpus(probe) or not runtime.handlers:
        return None
    if any(name in runtime.handlers for name in NVIDIA_HANDLERS):
        return None
    flavour, toolkit = probe.facts.kubernetes.flavour, probe.facts.toolkit.runtime_path is not None
    evidence = [shown_runtime(runtime), f"handlers: {', '.join(sorted(runtime.handlers))}"]
    evidence += [
        shown_warning(w)
        for w in runtime.warnings
        if w.kind in ("not-imported", "late-key", "older-drop-in", "misplaced")
    ]
    if flavour in ("k3s", "rke2"):
        cause = f"{flavour} looks for the toolkit only when it starts, and did not find it then."
        if probe.facts.kubernetes.templates:
            cause = f"A template ({probe.facts.kubernetes.templates[0]}) replaces what {flavour} would write by itself."
        remedy = "Restart the service: gpuwizard's plan does that." if toolkit else "Install the toolkit first."
        ours = toolkit and flavour == "k3s" and not probe.facts.kubernetes.templates and plan_may_act(probe)
        return Verdict(tuple(evidence), cause=cause, remedy=remedy, fixable=ours)
    if not toolkit:
        return Verdict(tuple(evidence), remedy="Install the toolkit first; gpuwizard's plan then adds the handler.")
    if plan_can_edit(probe, runtime):
        return Verdict(tuple(evidence), fixable=True)
    return Verdict(tuple(evidence), remedy=_add_by_hand(runtime))


def _add_by_hand(runtime: RuntimeFacts) -> str:
    command = f"nvidia-ctk runtime configure --runtime={runtime.kind}"
    if runtime.kind == "containerd":
        command += " --config-source=command"
    where = f" and restart {runtime.unit}" if runtime.unit else " and restart the runtime"
    return f"gpuwizard's plan does not edit this one: run `{command}`{where}; see first what else is wrong with it."


def _default_undefined(probe: Probe) -> Verdict | None:
    for runtime in probe.facts.runtimes:
        default = runtime.default_handler
        if runtime.kind != "containerd" or default is None or default in runtime.handlers or runtime.cri == "disabled":
            continue
        if default == "runc" and not probe.readable:  # the built-in runc is not in the file
            continue
        if not runtime.handlers and (runtime.effective_error is not None or runtime.refused is None):
            continue
        names = ", ".join(sorted(runtime.handlers)) or "none"
        evidence = [shown_runtime(runtime), f"default_runtime_name = {default!r}", f"handlers: {names}"]
        evidence += [shown_warning(w) for w in runtime.warnings if w.kind == "replaced"]
        if not works_now(runtime):
            return Verdict(tuple(evidence), about=config_of(runtime))
        return Verdict(
            about=config_of(runtime),
            evidence=(*evidence, "it runs and serves: it was started before these files were written"),
            title="the default handler is not defined, and the next restart shows it",
        )
    return None


def _cri_down(probe: Probe) -> Verdict | None:
    runtime = probe.facts.kubelet_runtime
    if runtime is None or runtime.cri not in ("error", "disabled"):
        return None
    evidence = [shown_runtime(runtime), f"CRI plugin: {runtime.cri}"]
    if runtime.effective_error:
        evidence.append(runtime.effective_error)
    evidence += [shown_warning(w) for w in runtime.warnings if w.kind in ("stub", "mirrors", "cgroup-key")]
    return Verdict(tuple(evidence), about=config_of(runtime))


def _unreadable(probe: Probe) -> Verdict | None:
    for runtime in probe.facts.runtimes:
        if runtime.effective_error is None or not runtime.used_by_kubelet or runtime.cri == "error":
            continue
        if runtime.kind != "containerd" or not (runtime.refused or _has_syntax_error(runtime)):
            return Verdict((shown_runtime(runtime), runtime.effective_error), about=config_of(runtime))
    return None


def _has_syntax_error(runtime: RuntimeFacts) -> bool:
    return any(warning.kind in ("syntax", "twice") for warning in runtime.warnings)


def _unknown_runtime(probe: Probe) -> Verdict | None:
    facts = probe.facts
    if facts.kubernetes.flavour in ("none", "unknown") or facts.kubelet_runtime is not None:
        return None
    if facts.kubernetes.joined is False:
        return None  # a kubelet that was never set up uses none yet
    if not installed_gpus(probe):
        return None
    found = tuple(
        f"{shown_runtime(runtime)}, socket {runtime.socket or 'unknown'}"
        for runtime in facts.runtimes
        if runtime.kind != "podman"
    )
    return Verdict(found or ("no container runtime was found",))


def _not_running(probe: Probe) -> Verdict | None:
    runtime = probe.facts.kubelet_runtime
    if runtime is None or runtime.running is not False or is_looping(runtime):
        return None
    evidence = (shown_runtime(runtime), f"unit: {runtime.unit or 'unknown'}", "no process of it was found")
    return Verdict(evidence, about=config_of(runtime) | {KUBELET})


def _default_program(probe: Probe) -> Verdict | None:
    for runtime in probe.facts.runtimes:
        default = runtime.default_handler or ""
        if runtime.kind == "docker" or runtime.used_by_kubelet is False or default not in runtime.missing_binaries:
            continue
        return Verdict(
            (shown_runtime(runtime), f"default handler: {default}", f"{runtime.missing_binaries[default]}: not there"),
            fixable=_plan_repairs(probe, runtime, default),
            about=frozenset(f"program of handler {name}" for name in runtime.missing_binaries),
        )
    return None


def _other_program(probe: Probe) -> Verdict | None:
    for runtime in probe.facts.runtimes:
        if runtime.kind == "docker" or runtime.used_by_kubelet is False:
            continue
        names = [name for name in runtime.missing_binaries if name != runtime.default_handler]
        if not names:
            continue
        ours = [name for name in names if is_nvidia(name, runtime.handlers[name])]
        rest = [n for n, h in runtime.handlers.items() if is_nvidia(n, h) and n not in runtime.missing_binaries]
        evidence = [shown_runtime(runtime)]
        evidence += [f"handler {name}: {runtime.missing_binaries[name]}: not there" for name in names]
        return Verdict(
            tuple(evidence),
            severity="error" if ours and not rest and installed_gpus(probe) else None,
            fixable=len(names) == 1 and _plan_repairs(probe, runtime, names[0]),
            about=frozenset(f"program of handler {name}" for name in names),
        )
    return None


def _plan_repairs(probe: Probe, runtime: RuntimeFacts, name: str) -> bool:
    """The plan corrects handler nvidia, but leaves one of the GPU Operator's toolkit to the operator."""
    missing = runtime.missing_binaries.get(name, "")
    return name == "nvidia" and not missing.startswith(OPERATOR_FOLDER) and plan_can_edit(probe, runtime)


def _drivers_differ(probe: Probe) -> Verdict | None:
    runtime, kubelet = probe.facts.kubelet_runtime, probe.facts.kubernetes.cgroup_driver
    if runtime is None or kubelet is None or runtime.systemd_cgroup is None or _kubelet_asks(probe, runtime):
        return None
    driver = "systemd" if runtime.systemd_cgroup else "cgroupfs"
    if driver == kubelet:
        return None
    evidence = [shown_runtime(runtime), f"kubelet: cgroupDriver: {kubelet}"]
    handler = runtime.handlers.get(runtime.default_handler or "")
    if runtime.kind == "containerd" and handler is not None:
        evidence.append(f"{shown_handler(runtime.default_handler or '', handler, 'SystemdCgroup')}: {driver}")
    else:
        evidence.append(f"{runtime.kind}: {driver}")
    about = config_of(runtime)
    if any(handler.options.get("SystemdCgroup") is True for handler in runtime.handlers.values()):
        about |= {f"cgroup driver of handler {runtime.default_handler}"}  # that of this one handler alone
    return Verdict(tuple(evidence), about=about)


def _kubelet_asks(probe: Probe, runtime: RuntimeFacts) -> bool:
    """Whether the kubelet may take the runtime's word in place of its own setting: from Kubernetes 1.28 on it can
    (first as an option), with containerd 2.0 and CRI-O 1.28, which answer the question; 1.x does not."""
    words = (probe.facts.kubernetes.version or "").lstrip("v").split(".")
    minor = int(words[1]) if len(words) > 1 and words[1].isdecimal() else None
    if minor is not None and minor < 28:
        return False
    release = release_of(runtime)
    return runtime.kind != "containerd" or release is None or release.major >= 2


RULES = (
    Rule(
        "GW-RUNTIME-001",
        "error",
        "the runtime has no nvidia handler",
        "The runtime that the kubelet uses does not know the handler, so pods with runtime class nvidia cannot start.",
        "gpuwizard's plan adds the handler.",
        _no_handler,
        ("runtimes.md §10", "kubernetes.md §1.14 #2"),
        effect="Pods with runtimeClassName nvidia stay in ContainerCreating; the GPU Operator's own pods do, too.",
        detected=_BY_DUMP,
        messages=('no runtime for "nvidia" is configured', "FailedCreatePodSandBox"),
        sources=("NVIDIA/gpu-operator#432", "NVIDIA/gpu-operator#730", "containerd/containerd internal/cri/server"),
    ),
    Rule(
        "GW-RUNTIME-002",
        "error",
        "the default handler is not defined",
        "containerd's CRI plugin does not load when its default handler is not among its handlers; the node goes "
        "NotReady at the next restart, if it is not already. On containerd 1.x a drop-in, or a table of handlers, that "
        "names nvidia alone takes the place of the one that holds runc.",
        "Define the handler or put the former default back: on containerd 1.x the tables of runc and of the default "
        "belong in the same file as that of nvidia; then `systemctl restart containerd`.",
        _default_undefined,
        ("runtimes.md §1.2", "runtimes.md §11 #10", "kubernetes.md §1.14 #4"),
        effect="The CRI plugin does not load at the next start: the kubelet finds no runtime and the node goes "
        "NotReady, while containerd itself keeps running.",
        detected="default_runtime_name of `containerd config dump` is not a key of its runtimes; containerd itself "
        "does not check that before it is started.",
        messages=(
            "no corresponding runtime configured in `containerd.runtimes`",
            "unknown service runtime.v1.RuntimeService",
            "containerd://Unknown",
        ),
        sources=(
            "containerd/containerd pkg/cri/config/config.go ValidatePluginConfig",
            "containerd/containerd#5837",
            "k0sproject/k0s#6547",
        ),
        instead_of=("GW-RUNTIME-003", "GW-RUNTIME-012"),
    ),
    Rule(
        "GW-RUNTIME-003",
        "error",
        "the runtime does not serve Kubernetes",
        "The CRI plugin of the runtime that the kubelet uses is switched off or in error.",
        "Read the runtime's log (`journalctl -u containerd`); Docker's containerd package switches CRI off in its "
        "config.toml: replace that file by the output of `containerd config default`, set SystemdCgroup of runc to the "
        "kubelet's driver, and restart containerd.",
        _cri_down,
        ("runtimes.md §1.2", "runtimes.md §1.3"),
        effect="The kubelet cannot start pods and the node is NotReady.",
        detected="`ctr plugins ls` shows the CRI plugin in error or not at all, or disabled_plugins names it.",
        messages=(
            "unknown service runtime.v1.RuntimeService",
            "validate service connection: CRI v1 runtime API is not implemented",
        ),
        sources=("docker/containerd-packaging common/containerd.toml", "containerd/containerd docs/cri/config.md"),
    ),
    Rule(
        "GW-RUNTIME-004",
        "warning",
        "the runtime's configuration could not be evaluated",
        "What the runtime makes of its files is not known, so nothing on this host can be planned safely.",
        "Correct the file that the message names.",
        _unreadable,
        ("runtimes.md §1.3",),
        effect="gpuwizard plans no change of this runtime.",
        detected="Neither the runtime's own dump nor its files could be read; `config dump` of containerd 2.0.0 to "
        "2.0.5 leaves out files of version 2.",
        sources=("containerd/containerd cmd/containerd/command/config.go",),
    ),
    Rule(
        "GW-RUNTIME-005",
        "warning",
        "the kubelet's runtime is not known",
        "No runtime on this host matches the kubelet's socket, or the socket could not be read.",
        "Let gpuwizard log in with sudo rights; check `containerRuntimeEndpoint` in the kubelet's configuration.",
        _unknown_runtime,
        ("hosts.md §7.1", "runtimes.md §10"),
        effect="It is not known which configuration counts, so gpuwizard changes none.",
        detected="The sockets of all runtimes are held against the kubelet's containerRuntimeEndpoint.",
        messages=("connect: no such file or directory", "failed to run Kubelet: validate service connection"),
        sources=("kubernetes/kubernetes pkg/kubelet/apis/config/types.go",),
    ),
    Rule(
        "GW-RUNTIME-006",
        "error",
        "the kubelet's runtime is not running",
        "The runtime is configured but no process of it was found.",
        "Start its unit and read its log.",
        _not_running,
        ("hosts.md §7.2",),
        effect="The node is NotReady; no pod can start.",
        detected="No process of the runtime was found below /proc.",
        messages=("container runtime is down", "connect: connection refused"),
        sources=("kubernetes/kubernetes pkg/kubelet/runtime.go",),
        instead_of=("GW-KUBE-005",),
    ),
    Rule(
        "GW-RUNTIME-007",
        "error",
        "the default handler's program is not on the host",
        "The default handler names a program that does not exist: its path vanished with the GPU Operator "
        "(/usr/local/nvidia/toolkit), with a snap's revision, or with a package.",
        "Put the program back, or make runc the default handler again, and restart the runtime. Where the handler is "
        "nvidia and the toolkit lies elsewhere, gpuwizard's plan corrects its path.",
        _default_program,
        ("runtimes.md §11 #18",),
        effect="Every container that starts on this node fails from now on, not only those with a GPU; CRI-O does not "
        "start any more.",
        detected=_BY_FILE_TEST,
        messages=(
            'exec: "nvidia-container-runtime": executable file not found in $PATH',
            "fork/exec /usr/local/nvidia/toolkit/nvidia-container-runtime: no such file or directory",
        ),
        sources=("containerd/containerd core/runtime/v2", "cri-o/cri-o pkg/config/config.go ValidateRuntimePath"),
        instead_of=("GW-TOOLKIT-001",),
    ),
    Rule(
        "GW-RUNTIME-008",
        "warning",
        "a handler's program is not on the host",
        "A handler names a program that does not exist: its path vanished with the GPU Operator "
        "(/usr/local/nvidia/toolkit), with a snap's revision, or with a package.",
        "Install the program or remove the handler. Where the handler is nvidia and the toolkit lies elsewhere, "
        "gpuwizard's plan corrects its path.",
        _other_program,
        ("runtimes.md §11 #18",),
        effect="Pods with a runtime class of this handler fail when their first container is created.",
        detected=_BY_FILE_TEST,
        messages=(
            'exec: "nvidia-container-runtime": executable file not found in $PATH',
            "failed to create containerd task: failed to create shim task: OCI runtime create failed",
        ),
        sources=("containerd/containerd core/runtime/v2", "cri-o/cri-o pkg/config/config.go ValidateRuntimes"),
    ),
    Rule(
        "GW-RUNTIME-009",
        "error",
        "kubelet and runtime use different cgroup drivers",
        "The kubelet makes the pods' control groups by one driver and the runtime's default handler by the other.",
        "Set the handler's SystemdCgroup (CRI-O: cgroup_manager, Docker: exec-opts native.cgroupdriver) to the "
        "kubelet's cgroupDriver, restart the runtime, then the kubelet. gpuwizard does not change cgroup drivers.",
        _drivers_differ,
        ("runtimes.md §1.4", "hosts.md §7.2"),
        effect="Containers do not start, or run outside the limits of their pods; the node is unstable under load.",
        detected="The default handler's driver is held against cgroupDriver of the kubelet's configuration, where the "
        "kubelet does not ask the runtime for it.",
        messages=(
            'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "/kubepods/',
            'kubelet cgroup driver: "cgroupfs" is different from docker cgroup driver: "systemd"',
        ),
        sources=("canonical/k8s-snap#2529", "containerd/containerd internal/cri/server/runtime_config_linux.go"),
    ),
)
