"""Rules about the runtime that the kubelet uses, whichever it is."""

from gpuwizard.facts.model import Probe
from gpuwizard.findings.rule import NVIDIA_HANDLERS, Rule, Verdict, installed_gpus, shown_runtime

__all__ = ["RULES"]


def _no_handler(probe: Probe) -> Verdict | None:
    runtime = probe.facts.kubelet_runtime
    if runtime is None or not installed_gpus(probe) or not runtime.handlers:
        return None
    if any(name in runtime.handlers for name in NVIDIA_HANDLERS):
        return None
    flavour, toolkit = probe.facts.kubernetes.flavour, probe.facts.toolkit.runtime_path is not None
    names = ", ".join(sorted(runtime.handlers))
    evidence = (shown_runtime(runtime), f"handlers: {names}")
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
        return Verdict((shown_runtime(runtime), f"default_runtime_name = {default!r}", f"handlers: {names}"))
    return None


def _cri_down(probe: Probe) -> Verdict | None:
    runtime = probe.facts.kubelet_runtime
    if runtime is None or runtime.cri not in ("error", "disabled"):
        return None
    evidence = [shown_runtime(runtime), f"CRI plugin: {runtime.cri}"]
    if runtime.effective_error:
        evidence.append(runtime.effective_error)
    return Verdict(tuple(evidence))


def _unreadable(probe: Probe) -> Verdict | None:
    for runtime in probe.facts.runtimes:
        if runtime.effective_error is not None and runtime.used_by_kubelet and runtime.cri != "error":
            return Verdict((shown_runtime(runtime), runtime.effective_error))
    return None


def _unknown_runtime(probe: Probe) -> Verdict | None:
    facts = probe.facts
    if facts.kubernetes.flavour in ("none", "unknown") or facts.kubelet_runtime is not None:
        return None
    if not installed_gpus(probe):
        return None
    found = tuple(f"{shown_runtime(runtime)}, socket {runtime.socket or 'unknown'}" for runtime in facts.runtimes)
    return Verdict(found or ("no container runtime was found",))


def _not_running(probe: Probe) -> Verdict | None:
    runtime = probe.facts.kubelet_runtime
    if runtime is None or runtime.running is not False:
        return None
    return Verdict((shown_runtime(runtime), f"unit: {runtime.unit or 'unknown'}", "no process of it was found"))


RULES = (
    Rule(
        "GW-RUNTIME-001",
        "error",
        "the runtime has no nvidia handler",
        "The runtime that the kubelet uses does not know the handler, so pods with runtime class nvidia cannot start.",
        "gpuwizard's plan adds the handler.",
        _no_handler,
        ("runtimes.md §10",),
    ),
    Rule(
        "GW-RUNTIME-002",
        "error",
        "the default handler is not defined",
        "containerd's CRI plugin does not load when its default handler is not among its handlers; the node goes "
        "NotReady at the next restart, if it is not already.",
        "Define the handler or put the former default back.",
        _default_undefined,
        ("runtimes.md §1.2",),
    ),
    Rule(
        "GW-RUNTIME-003",
        "error",
        "the runtime does not serve Kubernetes",
        "The CRI plugin of the runtime that the kubelet uses is switched off or in error.",
        "Read the runtime's log; Docker's containerd package switches CRI off in its config.toml.",
        _cri_down,
        ("runtimes.md §1.2",),
    ),
    Rule(
        "GW-RUNTIME-004",
        "warning",
        "the runtime's configuration could not be evaluated",
        "What the runtime makes of its files is not known, so nothing on this host can be planned safely.",
        "Correct the file that the message names.",
        _unreadable,
        ("runtimes.md §1.3",),
    ),
    Rule(
        "GW-RUNTIME-005",
        "warning",
        "the kubelet's runtime is not known",
        "No runtime on this host matches the kubelet's socket, or the socket could not be read.",
        "Let gpuwizard log in with sudo rights; check `containerRuntimeEndpoint` in the kubelet's configuration.",
        _unknown_runtime,
        ("hosts.md §7.1",),
    ),
    Rule(
        "GW-RUNTIME-006",
        "error",
        "the kubelet's runtime is not running",
        "The runtime is configured but no process of it was found.",
        "Start its unit and read its log.",
        _not_running,
        ("hosts.md §7.2",),
    ),
)
