"""Rules about the container toolkit and the runtime that the kubelet uses."""

from gpuwizard.facts.model import Probe, RuntimeFacts
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus, looked_at, shown_gpu

__all__ = ["HEALTHY", "RULES"]

_NAMES = ("nvidia", "nvidia-container-runtime")


def _shown(runtime: RuntimeFacts) -> str:
    version = f" {runtime.version}" if runtime.version else ""
    return f"{runtime.kind}{version}, {runtime.config_path or 'no configuration file'}"


def _toolkit_missing(probe: Probe) -> Verdict | None:
    if not looked_at(probe) or not installed_gpus(probe) or probe.facts.toolkit.runtime_path is not None:
        return None
    version = probe.facts.toolkit.version
    seen = f"nvidia-ctk {version} is there" if version else "nvidia-ctk is not there either"
    return Verdict(
        (
            "no nvidia-container-runtime in /usr/local/nvidia/toolkit, /usr/bin, /usr/local/bin, /usr/sbin or /opt/bin",
            seen,
        )
    )


def _specs_twice(probe: Probe) -> Verdict | None:
    specs = probe.facts.toolkit.cdi_specs
    manual = [s for s in specs if s.startswith("/etc/cdi/") and "nvidia" in s]
    generated = [s for s in specs if "/run/cdi/" in s and "nvidia" in s]
    return Verdict((*manual, *generated)) if manual and generated else None


def _no_handler(probe: Probe) -> Verdict | None:
    runtime = probe.facts.kubelet_runtime
    if runtime is None or not installed_gpus(probe) or not runtime.handlers:
        return None
    if any(name in runtime.handlers for name in _NAMES):
        return None
    flavour, toolkit = probe.facts.kubernetes.flavour, probe.facts.toolkit.runtime_path is not None
    names = ", ".join(sorted(runtime.handlers))
    evidence = (_shown(runtime), f"handlers: {names}")
    if flavour in ("k3s", "rke2"):
        cause = f"{flavour} looks for the toolkit only when it starts, and did not find it then."
        if probe.facts.kubernetes.templates:
            cause = f"A template ({probe.facts.kubernetes.templates[0]}) replaces what {flavour} would write by itself."
        remedy = "Restart the service: gpuwizard's plan does that." if toolkit else "Install the toolkit first."
        ours = toolkit and flavour == "k3s" and not probe.facts.kubernetes.templates
        return Verdict(evidence, cause=cause, remedy=remedy, fixable=ours)
    if not toolkit:
        return Verdict(evidence, remedy="Install the toolkit first; gpuwizard's plan then adds the handler.")
    return Verdict(evidence, fixable=flavour == "kubeadm" and runtime.kind == "containerd")


def _default_undefined(probe: Probe) -> Verdict | None:
    for runtime in probe.facts.runtimes:
        default = runtime.default_handler
        if runtime.kind != "containerd" or default is None or default in runtime.handlers:
            continue
        if default == "runc" and not probe.readable:  # the built-in runc is not in the file
            continue
        if runtime.effective_error is not None and not runtime.handlers:
            continue
        names = ", ".join(sorted(runtime.handlers)) or "none"
        return Verdict((_shown(runtime), f"default_runtime_name = {default!r}", f"handlers: {names}"))
    return None


def _cri_down(probe: Probe) -> Verdict | None:
    runtime = probe.facts.kubelet_runtime
    if runtime is None or runtime.cri not in ("error", "disabled"):
        return None
    evidence = [_shown(runtime), f"CRI plugin: {runtime.cri}"]
    if runtime.effective_error:
        evidence.append(runtime.effective_error)
    return Verdict(tuple(evidence))


def _unreadable(probe: Probe) -> Verdict | None:
    for runtime in probe.facts.runtimes:
        if runtime.effective_error is not None and runtime.used_by_kubelet and runtime.cri != "error":
            return Verdict((_shown(runtime), runtime.effective_error))
    return None


def _unknown_runtime(probe: Probe) -> Verdict | None:
    facts = probe.facts
    if facts.kubernetes.flavour in ("none", "unknown") or facts.kubelet_runtime is not None:
        return None
    if not installed_gpus(probe):
        return None
    found = tuple(f"{_shown(runtime)}, socket {runtime.socket or 'unknown'}" for runtime in facts.runtimes)
    return Verdict(found or ("no container runtime was found",))


def _not_running(probe: Probe) -> Verdict | None:
    runtime = probe.facts.kubelet_runtime
    if runtime is None or runtime.running is not False:
        return None
    return Verdict((_shown(runtime), f"unit: {runtime.unit or 'unknown'}", "no process of it was found"))


def _healthy(probe: Probe) -> Verdict | None:
    """Used by `find` alone, when nothing else is wrong."""
    runtime = probe.facts.kubelet_runtime
    if runtime is None or not installed_gpus(probe):
        return None
    handler = next((name for name in _NAMES if name in runtime.handlers), None)
    if handler is None:
        return None
    driver = probe.facts.driver
    return Verdict(
        (
            *(shown_gpu(gpu) for gpu in installed_gpus(probe)),
            f"driver {driver.loaded or driver.userspace or 'unknown'}",
            f"toolkit {probe.facts.toolkit.version or probe.facts.toolkit.runtime_path or 'unknown'}",
            f"{_shown(runtime)}: handler {handler}",
        )
    )


HEALTHY = Rule(
    "GW-OK-001",
    "ok",
    "the host is ready for GPU pods",
    "Driver, toolkit and runtime fit together.",
    "Nothing to do.",
    _healthy,
)

RULES = (
    Rule(
        "GW-TOOLKIT-001",
        "error",
        "the NVIDIA container toolkit is missing",
        "Without nvidia-container-runtime no container gets at the GPU.",
        "Install the package nvidia-container-toolkit from NVIDIA's repository; gpuwizard does not install it.",
        _toolkit_missing,
        "hosts.md §6",
    ),
    Rule(
        "GW-TOOLKIT-002",
        "warning",
        "two CDI specifications describe the GPUs",
        "One was written by hand below /etc/cdi and goes stale; the other is kept up to date by nvidia-cdi-refresh.",
        "Remove the one below /etc/cdi.",
        _specs_twice,
        "hosts.md §6.4",
    ),
    Rule(
        "GW-RUNTIME-001",
        "error",
        "the runtime has no nvidia handler",
        "The runtime that the kubelet uses does not know the handler, so pods with runtime class nvidia cannot start.",
        "gpuwizard's plan adds the handler.",
        _no_handler,
        "runtimes.md §10",
    ),
    Rule(
        "GW-RUNTIME-002",
        "error",
        "the default handler is not defined",
        "containerd's CRI plugin does not load when its default handler is not among its handlers; the node goes "
        "NotReady at the next restart, if it is not already.",
        "Define the handler or put the former default back.",
        _default_undefined,
        "runtimes.md §1.2",
    ),
    Rule(
        "GW-RUNTIME-003",
        "error",
        "the runtime does not serve Kubernetes",
        "The CRI plugin of the runtime that the kubelet uses is switched off or in error.",
        "Read the runtime's log; Docker's containerd package switches CRI off in its config.toml.",
        _cri_down,
        "runtimes.md §1.2",
    ),
    Rule(
        "GW-RUNTIME-004",
        "warning",
        "the runtime's configuration could not be evaluated",
        "What the runtime makes of its files is not known, so nothing on this host can be planned safely.",
        "Correct the file that the message names.",
        _unreadable,
        "runtimes.md §1.3",
    ),
    Rule(
        "GW-RUNTIME-005",
        "warning",
        "the kubelet's runtime is not known",
        "No runtime on this host matches the kubelet's socket, or the socket could not be read.",
        "Let gpuwizard log in with sudo rights; check `containerRuntimeEndpoint` in the kubelet's configuration.",
        _unknown_runtime,
        "hosts.md §7.1",
    ),
    Rule(
        "GW-RUNTIME-006",
        "error",
        "the kubelet's runtime is not running",
        "The runtime is configured but no process of it was found.",
        "Start its unit and read its log.",
        _not_running,
        "hosts.md §7.2",
    ),
)
