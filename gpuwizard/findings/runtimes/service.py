"""Rules about the runtime as a service: restarts, changes that are not in force, several runtimes on one host."""

import datetime

from gpuwizard.facts.model import Probe, RuntimeFacts
from gpuwizard.findings.model import Severity
from gpuwizard.findings.rule import KUBELET, Rule, Verdict, installed_gpus, shown_runtime
from gpuwizard.findings.runtimes.words import SIGHUP, config_of, is_nvidia

__all__ = ["RULES", "is_looping"]

_MANY = 5
_BY_UNIT = "`systemctl show` of the runtime's unit."
_SHIMS = "Running containers live on: only the daemon is restarted (KillMode=process)."


def is_looping(runtime: RuntimeFacts) -> bool:
    """systemd waits before it starts the runtime once more, or has given up on it."""
    service = runtime.service
    if service is None or service.loaded is not True:
        return False
    waits = service.active == "activating" and service.sub == "auto-restart"
    return waits or (service.active == "failed" and bool(runtime.restarts))


def _loop(probe: Probe) -> Verdict | None:
    for runtime in probe.facts.runtimes:
        service = runtime.service
        if service is None or not is_looping(runtime):
            continue
        evidence = [shown_runtime(runtime), f"{service.name}: {service.active} ({service.sub or 'unknown'})"]
        if service.result:
            evidence.append(f"Result={service.result}")
        if runtime.restarts is not None:
            evidence.append(f"NRestarts={runtime.restarts}")
        if runtime.effective_error:
            evidence.append(runtime.effective_error)
        kubelet = frozenset((KUBELET,) if runtime.used_by_kubelet else ())
        severity: Severity | None = "warning" if runtime.used_by_kubelet is False else None
        return Verdict(tuple(evidence), severity=severity, about=config_of(runtime) | kubelet)
    return None


def _restarts(probe: Probe) -> Verdict | None:
    runtime = probe.facts.kubelet_runtime
    if runtime is None or runtime.restarts is None or runtime.restarts < _MANY or is_looping(runtime):
        return None
    evidence = [shown_runtime(runtime), f"{runtime.unit}: NRestarts={runtime.restarts}"]
    if probe.facts.operator.toolkit:
        evidence.append("the GPU Operator's toolkit is on this host")
    return Verdict(tuple(evidence))


def _not_in_force(probe: Probe) -> Verdict | None:
    for runtime in probe.facts.runtimes:
        waits = runtime.config_newer_than_process or runtime.not_live
        if runtime.kind == "docker" or runtime.used_by_kubelet is False or not waits:
            continue
        evidence = [shown_runtime(runtime)]
        evidence += [f"{path}: {written}" for path in runtime.changed_files if (written := _written(probe, path))]
        return Verdict((*evidence, *runtime.not_live), about=config_of(runtime))
    return None


def _written(probe: Probe, path: str) -> str | None:
    file = probe.files.get(path)
    if file is None or file.mtime is None:
        return None
    try:
        moment = datetime.datetime.fromtimestamp(file.mtime, tz=datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return f"written {moment:%Y-%m-%dT%H:%M:%SZ}"


def _reload(probe: Probe) -> Verdict | None:
    found = [r for r in probe.facts.runtimes if r.needs_daemon_reload and r.unit]
    if not found:
        return None
    return Verdict(tuple(f"{runtime.unit}: NeedDaemonReload=yes" for runtime in found))


def _several(probe: Probe) -> Verdict | None:
    running = [r for r in probe.facts.runtimes if r.running and r.kind != "podman"]
    kubelets = probe.facts.kubelet_runtime
    served = [r for r in running if r.kind == "containerd"]
    if kubelets is None or len(served) < 2 or _crio_too(probe) is not None:
        return None
    evidence = [f"{shown_runtime(kubelets)}, socket {kubelets.socket or 'unknown'}: the kubelet's"]
    evidence += [
        f"{shown_runtime(r)}, socket {r.socket or 'unknown'}, {r.unit or 'no unit'}"
        for r in served
        if r is not kubelets
    ]
    return Verdict(tuple(evidence))


def _crio_too(probe: Probe) -> Verdict | None:
    running = [r for r in probe.facts.runtimes if r.running and r.kind in ("containerd", "crio")]
    kinds = {r.kind for r in running if r.owner != "docker"}
    if kinds != {"containerd", "crio"} or probe.facts.kubelet_runtime is None:
        return None
    return Verdict(tuple(f"{shown_runtime(r)}{', used by the kubelet' if r.used_by_kubelet else ''}" for r in running))


def _wrong_path(probe: Probe) -> Verdict | None:
    runtime = probe.facts.kubelet_runtime
    if runtime is None or runtime.kind != "containerd" or runtime.in_path is not False:
        return None
    others = [r for r in probe.facts.runtimes if r.kind == "containerd" and r is not runtime and r.in_path]
    if not others or not installed_gpus(probe):
        return None
    return Verdict(
        (
            f"the kubelet's: {shown_runtime(runtime)}, {runtime.binary or 'unknown program'}",
            *(f"in PATH: {shown_runtime(other)}, {other.binary or 'unknown program'}" for other in others),
        )
    )


def _nvidia_default(probe: Probe) -> Verdict | None:
    runtime = probe.facts.kubelet_runtime
    if runtime is None or runtime.kind == "docker":
        return None
    default = runtime.default_handler or ""
    handler = runtime.handlers.get(default)
    if handler is None or not is_nvidia(default, handler) or default in runtime.missing_binaries:
        return None
    return Verdict((shown_runtime(runtime), f"default handler: {default}"))


def _disabled(probe: Probe) -> Verdict | None:
    runtime = probe.facts.kubelet_runtime
    if runtime is None or runtime.service is None or not runtime.running:
        return None
    if runtime.owner in ("k3s", "rke2", "k0s") or runtime.service.enabled != "disabled":
        return None
    return Verdict((shown_runtime(runtime), f"{runtime.service.name}: UnitFileState=disabled"))


def _upgraded(probe: Probe) -> Verdict | None:
    for runtime in probe.facts.runtimes:
        running, version = runtime.running_version, runtime.version
        if running is None or version is None or running == version:
            continue
        evidence = (shown_runtime(runtime), f"running: {running}", f"on disk: {version}")
        if runtime.kind == "containerd" and running.partition(".")[0] != version.partition(".")[0]:
            return Verdict(evidence, title="another major release of containerd waits for the next restart")
        return Verdict(evidence)
    return None


RULES = (
    Rule(
        "GW-RUNTIME-010",
        "error",
        "the runtime does not come up",
        "systemd starts the runtime again and again, or has given up: it ends right after its start, most often over "
        "its configuration.",
        "Read why: `journalctl -u containerd -n 50` (or the unit named here); correct the file, then "
        "`systemctl reset-failed` and `systemctl start` the unit.",
        _loop,
        ("runtimes.md §12", "kubernetes.md §1.14 #7"),
        effect="The node is NotReady and no pod starts; running containers go on until the host restarts.",
        detected=f"{_BY_UNIT} ActiveState=activating with SubState=auto-restart, or failed after restarts.",
        messages=("Start request repeated too quickly.", "Scheduled restart job, restart counter is at"),
        sources=("systemd.service(5)", "NVIDIA/nvidia-container-toolkit#982"),
        instead_of=("GW-RUNTIME-003", "GW-KUBE-005"),
    ),
    Rule(
        "GW-RUNTIME-011",
        "warning",
        "the runtime was restarted many times",
        f"systemd has started it again {_MANY} times or more since it was last started by hand. {SIGHUP} The GPU "
        "Operator's toolkit does so at each of its own starts, and with K3s and RKE2 the whole service restarts.",
        "Read `journalctl -u` of the unit for what ended it. Where it is the GPU Operator, nothing is broken: plan its "
        "updates like restarts of the runtime, or use its NRI plugin, which edits no files.",
        _restarts,
        ("kubernetes.md §1.14 #10", "runtimes.md §7.2"),
        effect="Each restart interrupts pod starts for seconds; with K3s and RKE2 also the API of a server.",
        detected=_BY_UNIT + " NRestarts counts what systemd did by itself.",
        messages=("containerd exited", "Scheduled restart job"),
        sources=("NVIDIA/nvidia-container-toolkit cmd/nvidia-ctk-installer", "rancher/rke2-docs docs/add-ons"),
    ),
    Rule(
        "GW-RUNTIME-012",
        "warning",
        "the configuration is newer than the runtime",
        "A file that the runtime reads was written after the process began. The runtime reads its files only when it "
        "starts, so what is written there is not what runs.",
        "Restart the runtime when the node can do without new pods for some seconds. " + _SHIMS,
        _not_in_force,
        ("runtimes.md §10", "kubernetes.md §1.14 #14"),
        effect="The change comes into force at a moment that nobody chose: the next restart, update or reboot.",
        detected="The process's start (/proc/PID/stat and the uptime) is held against the time of its files.",
        sources=("proc_pid_stat(5)", "containerd/containerd cmd/containerd/command/main_unix.go"),
    ),
    Rule(
        "GW-RUNTIME-013",
        "warning",
        "systemd has not read the changed unit",
        "The unit's file or one of its drop-ins changed after systemd read it.",
        "Run `systemctl daemon-reload`, then restart the unit when it suits.",
        _reload,
        ("runtimes.md §12",),
        effect="The next restart still uses the former command line and environment.",
        detected=_BY_UNIT + " NeedDaemonReload=yes.",
        messages=("The unit file, source configuration file or drop-ins of containerd.service changed on disk.",),
        sources=("systemctl(1)",),
    ),
    Rule(
        "GW-RUNTIME-014",
        "info",
        "several containerds run on this host",
        "Docker, a snap or K3s brings a containerd of its own beside the one of the kubelet.",
        "Nothing, as long as changes go to the right one: gpuwizard changes that of the kubelet only.",
        _several,
        ("runtimes.md §10", "runtimes.md §11 #16"),
        effect="Commands and guides that name /etc/containerd/config.toml or plain `ctr` may mean the other one.",
        detected="All processes are looked at; the kubelet's socket says which of them serves it.",
        sources=("NVIDIA/gpu-operator#1323", "NVIDIA/nvidia-container-toolkit#982"),
    ),
    Rule(
        "GW-RUNTIME-019",
        "warning",
        "containerd and CRI-O run side by side",
        "Two runtimes serve Kubernetes on this host, and the kubelet uses one of them.",
        "Stop and disable the one that the kubelet does not use (`systemctl disable --now`). The GPU Operator "
        "configures one kind of runtime for the whole cluster.",
        _crio_too,
        ("runtimes.md §10",),
        effect="Guides and tools configure the wrong one; in a cluster of mixed runtimes the operator's toolkit edits "
        "files that nobody reads.",
        detected="Processes of both were found; the kubelet's socket says which of them serves it.",
        sources=("NVIDIA/gpu-operator#1528",),
    ),
    Rule(
        "GW-RUNTIME-015",
        "warning",
        "PATH gives another containerd than the kubelet's",
        "The program `containerd` in PATH is not the one that serves the kubelet. nvidia-ctk with "
        "--config-source=command, and the GPU Operator (RUNTIME_CONFIG_SOURCE), ask the one in PATH for its "
        "configuration.",
        "Give the GPU Operator's toolkit RUNTIME_CONFIG_SOURCE=file=PATH and the kubelet's socket, or run nvidia-ctk "
        "with --executable-path; gpuwizard asks the process itself.",
        _wrong_path,
        ("runtimes.md §11 #16", "runtimes.md §7.1", "kubernetes.md §1.14 #7", "kubernetes.md §1.14 #4"),
        effect="A drop-in made from the wrong configuration lacks runc, the cgroup driver or the CNI folders: the node "
        "goes NotReady, or Docker does not start again.",
        detected="The kubelet's containerd by /proc/PID/exe, and what PATH gives.",
        messages=("no corresponding runtime configured in `containerd.runtimes`",),
        sources=("NVIDIA/nvidia-container-toolkit#982", "canonical/k8s-snap#1991", "NVIDIA/gpu-operator#1323"),
    ),
    Rule(
        "GW-RUNTIME-016",
        "info",
        "the nvidia handler is the default",
        "Every pod on this node starts through the nvidia runtime, also those that use no GPU.",
        "Nothing, where it is wanted. Else make runc the default and give GPU pods the runtime class nvidia; "
        "`default_runtime` in gpuwizard's answers says what its plan does.",
        _nvidia_default,
        ("runtimes.md §10", "runtimes.md §11 #10"),
        effect="Should the toolkit go away, no container starts on this node any more.",
        detected="The default handler is one of NVIDIA's.",
        sources=("NVIDIA/k8s-device-plugin README.md",),
    ),
    Rule(
        "GW-RUNTIME-017",
        "warning",
        "the runtime does not start at boot",
        "The unit of the kubelet's runtime runs and is not enabled.",
        "Run `systemctl enable` for the unit that is named here.",
        _disabled,
        ("hosts.md §7.2",),
        effect="After a reboot the node stays NotReady unless another unit pulls the runtime up.",
        detected=_BY_UNIT + " UnitFileState=disabled.",
        sources=("systemctl(1)",),
    ),
    Rule(
        "GW-RUNTIME-018",
        "warning",
        "the runtime was upgraded and not restarted",
        "The program on disk is of another release than the process. Releases read configuration in unlike ways, "
        "containerd 1.x and 2.x above all.",
        "Read what the new release makes of the files (`containerd config dump`), then restart the runtime when it "
        "suits. " + _SHIMS,
        _upgraded,
        ("runtimes.md §1.3",),
        effect="The next restart, whoever does it, runs the other release on the same files.",
        detected="The process's program is marked as deleted; both programs were asked for their version.",
        sources=("containerd/containerd RELEASES.md", "proc_pid_exe(5)"),
    ),
)
