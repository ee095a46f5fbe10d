"""What several rules about runtimes ask: which containerds, what their files hold, whether gpuwizard's plan helps."""

import re
from collections.abc import Iterator

from gpuwizard.errors import UsageError
from gpuwizard.facts.model import ConfigWarning, Handler, Probe, RuntimeFacts
from gpuwizard.facts.model.runtime import ConfigWarningKind
from gpuwizard.facts.runtimes.release import Release
from gpuwizard.findings.rule import KUBELET, NVIDIA_HANDLER, NVIDIA_HANDLERS, installed_gpus, shown_runtime

__all__ = [
    "OPERATOR_FOLDER",
    "SIGHUP",
    "concerns",
    "config_of",
    "containerds",
    "defines_nvidia",
    "is_nvidia",
    "plan_can_edit",
    "release_of",
    "shown_handler",
    "shown_warning",
    "shown_warnings",
    "warned",
    "whole",
    "works_now",
]

OPERATOR_FOLDER = "/usr/local/nvidia/toolkit/"
SIGHUP = "containerd has no reload: SIGHUP ends it, and systemd starts it again."
_RENDERED = ("k3s", "rke2", "k0s")
_MICROK8S = "/snap/microk8s/"
_NVIDIA = re.compile(rb"runtimes\s*\.\s*[\"']?nvidia[\"']?\s*[\].]")
_PLAN_NEEDS = frozenset(
    ("unversioned", "old-table", "new-table", "foreign-table", "newer-drop-in", "version", "missing-import", "stub")
)


def containerds(probe: Probe) -> Iterator[RuntimeFacts]:
    """The containerds whose files people write. Those of K3s, RKE2, k0s and MicroK8s are written at every start, and
    have rules of their own."""
    for runtime in probe.facts.runtimes:
        ours = runtime.kind == "containerd" and runtime.owner not in _RENDERED
        if ours and _MICROK8S not in (runtime.config_path or ""):
            yield runtime


def warned(probe: Probe, *kinds: ConfigWarningKind) -> list[tuple[RuntimeFacts, ConfigWarning]]:
    """What the files of those containerds hold, of the given kinds."""
    return [
        (runtime, warning) for runtime in containerds(probe) for warning in runtime.warnings if warning.kind in kinds
    ]


def config_of(runtime: RuntimeFacts) -> frozenset[str]:
    """The runtime by its configuration, for `Verdict.about`."""
    return frozenset((runtime.config_path,) if runtime.config_path else ())


def whole(runtime: RuntimeFacts) -> frozenset[str]:
    """The runtime with its handlers, and the kubelet where it uses this one, for `Verdict.about`."""
    names = (f"cgroup driver of handler {name}" for name in runtime.handlers)
    return config_of(runtime) | frozenset(names) | ({KUBELET} if runtime.used_by_kubelet else frozenset())


def concerns(probe: Probe, found: list[tuple[RuntimeFacts, ConfigWarning]]) -> frozenset[str]:
    """What those warnings are about: the runtimes that read the files, and the nvidia handler where one of the files
    defines it."""
    about = frozenset[str]().union(*(whole(runtime) for runtime, _ in found))
    paths = {warning.path for _, warning in found}.union(*(runtime.config_files for runtime, _ in found))
    if any(defines_nvidia(probe, path) or _named_so(probe, path) for path in paths):
        about |= {NVIDIA_HANDLER}
    return about


def _named_so(probe: Probe, path: str) -> bool:
    """A file whose content the probe did not bring, by its name: ``99-nvidia.toml``."""
    file = probe.files.get(path)
    return (file is None or file.content is None) and "nvidia" in path.rpartition("/")[2]


def defines_nvidia(probe: Probe, path: str) -> bool:
    """Whether that file has tables of a handler called nvidia, in whatever dialect."""
    file = probe.files.get(path)
    return file is not None and file.content is not None and _NVIDIA.search(file.content.raw) is not None


def shown_warning(warning: ConfigWarning) -> str:
    """One as a line of evidence: the file, the line, and what stands there."""
    place = warning.path if warning.line is None else f"{warning.path}:{warning.line}"
    return f"{place}: {warning.text}"


def shown_warnings(found: list[tuple[RuntimeFacts, ConfigWarning]]) -> tuple[str, ...]:
    """Several as evidence, with the runtime that reads the files first."""
    runtimes = dict.fromkeys(shown_runtime(runtime) for runtime, _ in found)
    return (*runtimes, *dict.fromkeys(shown_warning(warning) for _, warning in found))


def release_of(runtime: RuntimeFacts) -> Release | None:
    """containerd's release; None where it is not known."""
    try:
        return Release.parse(runtime.version) if runtime.version is not None else None
    except (UsageError, ValueError):
        return None


def is_nvidia(name: str, handler: Handler) -> bool:
    """Whether the handler is one of NVIDIA's, by its name or its program."""
    program = handler.options.get("BinaryName") or handler.options.get("path")
    return name in NVIDIA_HANDLERS or (isinstance(program, str) and "nvidia-container-runtime" in program)


def shown_handler(name: str, handler: Handler, *options: str) -> str:
    """One handler with some of its options as a line of evidence."""
    parts = [f"handler {name}: {handler.runtime_type or 'no runtime_type'}"]
    for option in options:
        found = handler.options.get(option)
        if found is not None:
            parts.append(f"{option} = {str(found).lower() if isinstance(found, bool) else found}")
    return ", ".join(parts)


def works_now(runtime: RuntimeFacts) -> bool:
    """It runs and serves Kubernetes, whatever its files hold by now."""
    return runtime.running is True and runtime.cri == "ok"


def plan_can_edit(probe: Probe, runtime: RuntimeFacts) -> bool:
    """Whether gpuwizard's plan edits the files of this containerd: that of the kubelet on a kubeadm node with a GPU,
    driver and toolkit, running and in order, of a known release, and with files that this release reads as written."""
    facts = probe.facts
    return (
        probe.readable
        and bool(installed_gpus(probe))
        and facts.driver.loaded is not None
        and facts.toolkit.runtime_path is not None
        and facts.kubernetes.flavour == "kubeadm"
        and runtime.kind == "containerd"
        and runtime.used_by_kubelet is True
        and runtime.running is not False
        and runtime.cri not in ("error", "disabled")
        and runtime.refused is not True
        and release_of(runtime) is not None
        and not _unversioned(probe, runtime)
        and not any(warning.kind in _PLAN_NEEDS for warning in runtime.warnings)
    )


def _unversioned(probe: Probe, runtime: RuntimeFacts) -> bool:
    """On 2.x the plan converts no root file without a version line that holds plugin tables."""
    release = release_of(runtime)
    if release is None or release.major < 2 or runtime.config_version not in (None, 1):
        return False
    file = probe.files.get(runtime.config_path or "")
    return file is not None and file.content is not None and b"plugins" in file.content.raw
