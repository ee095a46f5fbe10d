"""Rules about Docker: daemon.json, its runtimes, and what was installed after it (`runtimes.md §8`)."""

from collections.abc import Iterator

from gpuwizard.facts.model import ConfigWarning, Probe, RuntimeFacts
from gpuwizard.facts.model.runtime import ConfigWarningKind
from gpuwizard.findings.rule import KUBELET, NVIDIA_HANDLER, Rule, Verdict, installed_gpus, shown_runtime
from gpuwizard.findings.runtimes.words import config_of, is_nvidia, shown_warning

__all__ = ["RULES"]

_CONFIG = "moby/moby daemon/config/config.go"
_BUILT_IN = ("runc", "io.containerd.runc.v2")
_BY_FILE = "daemon.json is read as dockerd reads it, and held against the daemon's command line."
_BROKEN = (
    "GW-DOCKER-006",
    "GW-RUNTIME-001",
    "GW-RUNTIME-004",
    "GW-RUNTIME-006",
    "GW-RUNTIME-010",
    "GW-KUBE-005",
)
"""What else is true of a Docker that does not start with its files."""
_CHECK = "`dockerd --validate` says whether it would start."


def _dockers(probe: Probe) -> Iterator[RuntimeFacts]:
    return (runtime for runtime in probe.facts.runtimes if runtime.kind == "docker")


def _warned(probe: Probe, kind: ConfigWarningKind) -> tuple[RuntimeFacts, list[ConfigWarning]] | None:
    for runtime in _dockers(probe):
        found = [warning for warning in runtime.warnings if warning.kind == kind]
        if found:
            return runtime, found
    return None


def _as_verdict(found: tuple[RuntimeFacts, list[ConfigWarning]] | None) -> Verdict | None:
    if found is None:
        return None
    runtime, warnings = found
    evidence = (shown_runtime(runtime), *(shown_warning(warning) for warning in warnings))
    if runtime.running:
        evidence = (*evidence, "dockerd runs: it was started before, or with other flags")
    return Verdict(evidence, about=_subject(runtime))


def _subject(runtime: RuntimeFacts) -> frozenset[str]:
    """This Docker, and the kubelet with the handler that it misses where it is the kubelet's."""
    return config_of(runtime) | ({KUBELET, NVIDIA_HANDLER} if runtime.used_by_kubelet else frozenset())


def _no_json(probe: Probe) -> Verdict | None:
    return _as_verdict(_warned(probe, "syntax"))


def _both(probe: Probe) -> Verdict | None:
    return _as_verdict(_warned(probe, "flag-and-file"))


def _unknown(probe: Probe) -> Verdict | None:
    return _as_verdict(_warned(probe, "unknown-key"))


def _undefined(probe: Probe) -> Verdict | None:
    for runtime in _dockers(probe):
        default = runtime.default_handler
        if default is None or default in _BUILT_IN or default in runtime.handlers or runtime.effective_error:
            continue
        if default.startswith("io.containerd.") or "/" in default:  # a shim by its name or path needs no entry
            continue
        names = ", ".join(sorted(runtime.handlers)) or "none"
        evidence = (shown_runtime(runtime), f'"default-runtime": "{default}"', f"runtimes: {names}")
        return Verdict(evidence, about=_subject(runtime))
    return None


def _default_program(probe: Probe) -> Verdict | None:
    for runtime in _dockers(probe):
        default = runtime.default_handler or ""
        if default in runtime.missing_binaries:
            missing = runtime.missing_binaries[default]
            return Verdict((shown_runtime(runtime), f'"default-runtime": "{default}"', f"{missing}: not there"))
    return None


def _program(probe: Probe) -> Verdict | None:
    for runtime in _dockers(probe):
        names = [name for name in runtime.missing_binaries if name != runtime.default_handler]
        if names:
            return Verdict(
                (
                    shown_runtime(runtime),
                    *(f'"runtimes": "{name}": {runtime.missing_binaries[name]}: not there' for name in names),
                )
            )
    return None


def _kubelets(probe: Probe) -> Verdict | None:
    """Pods that cri-dockerd starts run in Docker's default runtime."""
    runtime = probe.facts.kubelet_runtime
    if runtime is None or runtime.kind != "docker" or not installed_gpus(probe) or runtime.effective_error:
        return None
    if probe.facts.toolkit.runtime_path is None:
        return None
    default = runtime.default_handler or "runc"
    handler = runtime.handlers.get(default)
    if handler is not None and is_nvidia(default, handler):
        return None
    return Verdict(
        (
            shown_runtime(runtime),
            f"the kubelet uses it through {runtime.bridge or 'dockershim'}",
            f"default runtime: {default}",
        ),
        about=_subject(runtime),
    )


def _older(probe: Probe) -> Verdict | None:
    for runtime in _dockers(probe):
        if runtime.toolkit_newer_than_process and installed_gpus(probe):
            return Verdict((shown_runtime(runtime), "dockerd began before the toolkit's hook came to this host"))
    return None


def _changed(probe: Probe) -> Verdict | None:
    for runtime in _dockers(probe):
        if runtime.effective_error:
            continue
        found = [f"{runtime.config_path}: written after dockerd began"] if runtime.config_newer_than_process else []
        found += runtime.not_live
        if found:
            return Verdict((shown_runtime(runtime), *found))
    return None


def _cdi_off(probe: Probe) -> Verdict | None:
    specs = probe.facts.toolkit.cdi_specs
    for runtime in _dockers(probe):
        if runtime.cdi is False and specs and installed_gpus(probe):
            return Verdict((shown_runtime(runtime), "CDI: off", *specs))
    return None


RULES: tuple[Rule, ...] = (
    Rule(
        "GW-DOCKER-001",
        "error",
        "daemon.json is no JSON",
        "Docker's configuration has a mistake in its syntax: a missing or superfluous comma, a comment, a quote.",
        f"Correct the line that is named. {_CHECK}",
        _no_json,
        ("runtimes.md §8",),
        effect="dockerd does not start the next time, and with it every container that has no live-restore.",
        detected=_BY_FILE,
        messages=("unable to configure the Docker daemon with file /etc/docker/daemon.json: invalid character",),
        sources=(_CONFIG,),
        instead_of=_BROKEN,
    ),
    Rule(
        "GW-DOCKER-002",
        "error",
        "Docker's flags and daemon.json say the same directive",
        "A directive stands both on dockerd's command line (its unit) and in the file; only `runtimes` may.",
        "Remove it from one of the two. For `hosts` give the unit a drop-in with `ExecStart=` and "
        f"`ExecStart=/usr/bin/dockerd`. {_CHECK}",
        _both,
        ("runtimes.md §8",),
        effect="dockerd does not start the next time.",
        detected=_BY_FILE,
        messages=("the following directives are specified both as a flag and in the configuration file",),
        sources=(f"{_CONFIG} findConfigurationConflicts",),
        instead_of=_BROKEN,
    ),
    Rule(
        "GW-DOCKER-003",
        "error",
        "Docker's default runtime is not defined",
        "daemon.json names a default runtime that is not among its runtimes.",
        "Run `nvidia-ctk runtime configure --runtime=docker`, or remove `default-runtime`.",
        _undefined,
        ("runtimes.md §8", "runtimes.md §11 #10"),
        effect="dockerd does not start the next time.",
        detected=_BY_FILE,
        messages=("specified default runtime 'nvidia' does not exist",),
        sources=("moby/moby daemon/runtime_unix.go",),
        instead_of=_BROKEN,
    ),
    Rule(
        "GW-DOCKER-004",
        "error",
        "the program of Docker's default runtime is not on the host",
        "daemon.json makes a runtime the default whose program does not exist.",
        "Install the package nvidia-container-toolkit, or remove `default-runtime` and reload Docker "
        "(`systemctl reload docker`).",
        _default_program,
        ("runtimes.md §8", "runtimes.md §11 #18"),
        effect="No container starts any more, with a GPU or without.",
        detected="The path of each runtime is looked for on the host; a bare name in the folders that systemd gives "
        "services.",
        messages=('exec: "nvidia-container-runtime": executable file not found in $PATH',),
        sources=("moby/moby daemon/runtime_unix.go",),
    ),
    Rule(
        "GW-DOCKER-005",
        "warning",
        "the program of a Docker runtime is not on the host",
        "daemon.json defines a runtime whose program does not exist.",
        "Install the package nvidia-container-toolkit, or remove the entry and reload Docker.",
        _program,
        ("runtimes.md §8", "runtimes.md §11 #18"),
        effect="`docker run --runtime` with that name fails.",
        detected="The path of each runtime is looked for on the host; a bare name in the folders that systemd gives "
        "services.",
        messages=('exec: "nvidia-container-runtime": executable file not found in $PATH',),
        sources=("moby/moby daemon/runtime_unix.go",),
    ),
    Rule(
        "GW-DOCKER-006",
        "error",
        "pods by cri-dockerd do not run in the nvidia runtime",
        "cri-dockerd knows no runtime classes for GPUs: pods run in Docker's default runtime, and that is not nvidia.",
        "Run `nvidia-ctk runtime configure --runtime=docker --set-as-default`, then `systemctl reload docker`.",
        _kubelets,
        ("runtimes.md §8",),
        effect="GPU pods start without a GPU, and the device plugin finds none.",
        detected="The kubelet's endpoint is cri-dockerd, and daemon.json says which runtime is the default.",
        messages=("Incompatible strategy detected auto", "could not load NVML library: libnvidia-ml.so.1"),
        sources=("Mirantis/cri-dockerd", "NVIDIA/k8s-device-plugin README.md"),
        instead_of=("GW-RUNTIME-001",),
    ),
    Rule(
        "GW-DOCKER-007",
        "warning",
        "Docker was started before the toolkit was installed",
        "dockerd looks for the NVIDIA hook once, when it starts.",
        "Restart Docker when its containers may stop (`systemctl restart docker`; with live-restore they go on).",
        _older,
        ("runtimes.md §8", "kubernetes.md §1.14 #26"),
        effect="`docker run --gpus` fails until dockerd is restarted.",
        detected="The start of dockerd is held against the moment at which the hook's file came to this host.",
        messages=('could not select device driver "" with capabilities: [[gpu]]',),
        sources=("moby/moby daemon/nvidia_linux.go",),
    ),
    Rule(
        "GW-DOCKER-008",
        "info",
        "daemon.json is newer than dockerd",
        "The file was written after the daemon began. A reload takes over runtimes, default-runtime and features; "
        "whether there was one is not known.",
        "Run `systemctl reload docker`; CDI and other settings need a restart.",
        _changed,
        ("runtimes.md §8",),
        effect="What is written there may not be in force yet.",
        detected="The process's start is held against the time of the file.",
        sources=("moby/moby daemon/reload.go",),
    ),
    Rule(
        "GW-DOCKER-009",
        "info",
        "CDI is off in Docker",
        "Docker 25.0 to 28.1 know CDI only with `features.cdi`, from 28.2 on it is on unless the file says false.",
        'Set `"features": {"cdi": true}` in daemon.json beside the features that are there, and restart Docker.',
        _cdi_off,
        ("runtimes.md §8",),
        effect="`docker run --device nvidia.com/gpu=all` fails; `--gpus` works by the hook.",
        detected="Docker's version and the features in daemon.json.",
        messages=('could not select device driver "cdi" with capabilities: []',),
        sources=("moby/moby daemon/cdi.go",),
    ),
    Rule(
        "GW-DOCKER-010",
        "error",
        "daemon.json has a directive that Docker does not know",
        "A directive is misspelt: dockerd does not ignore what it does not know.",
        f"Write it as the evidence says. {_CHECK}",
        _unknown,
        ("runtimes.md §8",),
        effect="dockerd does not start the next time.",
        detected=_BY_FILE,
        messages=("the following directives don't match any configuration option",),
        sources=(f"{_CONFIG} findConfigurationConflicts",),
        instead_of=_BROKEN,
    ),
)
