"""Rules about MicroK8s, which renders containerd's file from a template at every start of the daemon."""

import re
from collections.abc import Iterator

from gpuwizard.facts.kubernetes.release import KubeRelease
from gpuwizard.facts.model import HostFile, Probe
from gpuwizard.findings.kubernetes.words import line_of, moment, release_of
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus

__all__ = ["RULES"]

_ARGS = "/var/snap/microk8s/current/args"
_TEMPLATE, _RENDERED = f"{_ARGS}/containerd-template.toml", f"{_ARGS}/containerd.toml"
_LIMIT = 64 * 1024
_VARIABLE = re.compile(r"\$\{[A-Z_]+\}")
_REVISION = re.compile(r"/(?:var/)?snap/microk8s/(?:x?\d+)/")
_HANDLERS = ("nvidia", "nvidia-container-runtime", "nvidia-cdi", "nvidia-legacy")
_WRAPPER = "canonical/microk8s microk8s-resources/wrappers/run-containerd-with-args"
_RESTART = "`snap restart microk8s.daemon-containerd`"


def _is_microk8s(probe: Probe) -> bool:
    return probe.facts.kubernetes.flavour == "microk8s"


def _file(probe: Probe, path: str) -> HostFile | None:
    file = probe.files.get(path)
    return file if file is not None and file.content is not None else None


def _differences(template: str, rendered: str) -> Iterator[tuple[int, str]]:
    """The lines of the rendered file that do not come from the template, where its variables stand for anything."""
    exact = set(template.splitlines())
    ends = [(parts[0], parts[-1]) for line in exact if len(parts := _VARIABLE.split(line)) > 1][:100]
    for number, line in enumerate(rendered.splitlines(), 1):
        known = line in exact or any(line.startswith(start) and line.endswith(end) for start, end in ends)
        if line.strip() and not known:
            yield number, line.strip()


def _edited(probe: Probe) -> Verdict | None:
    template, rendered = _file(probe, _TEMPLATE), _file(probe, _RENDERED)
    if not _is_microk8s(probe) or template is None or rendered is None:
        return None
    if template.mtime is None or rendered.mtime is None or template.mtime > rendered.mtime:
        return None  # the template was changed since, and is not in use yet
    assert template.content is not None
    assert rendered.content is not None
    if len(template.content) > _LIMIT or len(rendered.content) > _LIMIT:
        return None
    foreign = list(_differences(template.content.text(), rendered.content.text()))
    tables = [(number, line) for number, line in foreign if line.startswith("[")]
    if not foreign:
        return None
    shown = tuple(line_of(_RENDERED, line, number) for number, line in (tables or foreign)[:5])
    return (
        Verdict((*shown, f"{len(foreign)} lines are not in {_TEMPLATE}"), about=frozenset((_RENDERED,)))
        if tables
        else None
    )


def _waits(probe: Probe) -> Verdict | None:
    template, rendered = _file(probe, _TEMPLATE), _file(probe, _RENDERED)
    if not _is_microk8s(probe) or template is None or rendered is None:
        return None
    if template.mtime is None or rendered.mtime is None or template.mtime <= rendered.mtime:
        return None
    return Verdict((f"{_TEMPLATE}: changed {moment(template.mtime)}", f"{_RENDERED}: written {moment(rendered.mtime)}"))


def _built_in(probe: Probe) -> Verdict | None:
    runtime = probe.facts.kubelet_runtime
    if not _is_microk8s(probe) or runtime is None or not installed_gpus(probe):
        return None
    if "nvidia-container-runtime" not in runtime.handlers or "nvidia" in runtime.handlers:
        return None
    return Verdict((f"{runtime.config_path}: handler nvidia-container-runtime, none called nvidia",))


def _systemd_cgroup(probe: Probe) -> Verdict | None:
    runtime = probe.facts.kubelet_runtime
    if not _is_microk8s(probe) or runtime is None or probe.facts.kubernetes.cgroup_driver == "systemd":
        return None
    runc = runtime.handlers.get("runc")
    if runc is None or runc.options.get("SystemdCgroup") is True:
        return None
    wrong = [n for n in _HANDLERS if n in runtime.handlers and runtime.handlers[n].options.get("SystemdCgroup") is True]
    evidence = tuple(f"{runtime.config_path}: {name}: SystemdCgroup = true" for name in wrong)
    about = frozenset((runtime.config_path or "", *(f"cgroup driver of handler {name}" for name in wrong)))
    return Verdict(evidence, about=about) if wrong else None


def _old_shim(probe: Probe) -> Verdict | None:
    runtime, release = probe.facts.kubelet_runtime, release_of(probe)
    if not _is_microk8s(probe) or runtime is None or release is None or release < KubeRelease(1, 35):
        return None
    old = sorted(name for name, h in runtime.handlers.items() if h.runtime_type == "io.containerd.runc.v1")
    if not old:
        return None
    version = f" (cgroup version {probe.facts.state.cgroup_version})" if probe.facts.state.cgroup_version else ""
    return Verdict(
        tuple(f"{runtime.config_path}: {name}: runtime_type io.containerd.runc.v1{version}" for name in old),
        about=frozenset(f"shim of handler {name}" for name in old),
    )


def _revision(probe: Probe) -> Verdict | None:
    if not _is_microk8s(probe):
        return None
    found = [
        line_of(path, line, number)
        for path, file in sorted(probe.files.items())
        if path.endswith(".toml") and path != _RENDERED and file.content is not None and len(file.content) < _LIMIT
        for number, line in enumerate(file.content.text().splitlines(), 1)
        if _REVISION.search(line) and not line.lstrip().startswith("#")
    ]
    return Verdict(tuple(found[:5])) if found else None


RULES = (
    Rule(
        "GW-MICROK8S-001",
        "warning",
        "the rendered containerd.toml was edited",
        "MicroK8s writes args/containerd.toml anew from args/containerd-template.toml at every start of its daemon.",
        f"Put the tables into containerd-template.toml, then {_RESTART}.",
        _edited,
        ("runtimes.md §5", "runtimes.md §11 #12"),
        effect="The edit is gone after the next start, and pods that need the handler fail.",
        detected="Tables of the rendered file are looked for in the template.",
        messages=('no runtime for "nvidia" is configured',),
        sources=(_WRAPPER,),
        instead_of=("GW-RUNTIME-012",),
    ),
    Rule(
        "GW-MICROK8S-002",
        "info",
        "a changed template waits for a restart",
        "The template is rendered only when the daemon starts.",
        f"Look at the change, then {_RESTART}.",
        _waits,
        ("runtimes.md §5",),
        effect="The change takes effect at the next restart, whoever makes it.",
        detected="The template is younger than the rendered file.",
        sources=(_WRAPPER,),
    ),
    Rule(
        "GW-MICROK8S-003",
        "info",
        "the built-in handler is called nvidia-container-runtime",
        "MicroK8s' template has a handler of that name; none is called nvidia.",
        "Create a RuntimeClass whose handler is nvidia-container-runtime, or add runtimes.nvidia to the template.",
        _built_in,
        ("runtimes.md §5",),
        effect="A RuntimeClass with handler nvidia does not work here.",
        detected="The handlers of its containerd.",
        messages=('no runtime for "nvidia" is configured',),
        sources=("canonical/microk8s microk8s-resources/default-args/containerd-template.toml",),
    ),
    Rule(
        "GW-MICROK8S-004",
        "error",
        "an nvidia handler uses systemd cgroups",
        "MicroK8s' kubelet and its runc use cgroupfs; most guides are for nodes with systemd and set SystemdCgroup.",
        f"Remove SystemdCgroup from the handler in containerd-template.toml, then {_RESTART}.",
        _systemd_cgroup,
        ("runtimes.md §5", "runtimes.md §11 #9"),
        effect="Pods with that handler do not start.",
        detected="SystemdCgroup of the NVIDIA handlers against that of runc.",
        messages=('expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups',),
        sources=("canonical/microk8s microk8s-resources/default-args/containerd-template.toml",),
        instead_of=("GW-CONTAINERD-014", "GW-RUNTIME-009"),
    ),
    Rule(
        "GW-MICROK8S-005",
        "error",
        "a handler needs a shim that containerd 2 does not have",
        "On hosts with cgroup version 1 MicroK8s renders runtime type io.containerd.runc.v1, which containerd 2.0 "
        "(snap 1.35 and newer) removed.",
        "Boot with cgroup version 2 (systemd.unified_cgroup_hierarchy=1), or stay on track 1.34.",
        _old_shim,
        ("runtimes.md §5", "runtimes.md §1.1"),
        effect="No pod can be started on the node.",
        detected="runtime_type of its handlers and the version of the snap.",
        messages=('failed to start shim: failed to resolve runtime path: runtime "io.containerd.runc.v1"',),
        sources=(_WRAPPER, "containerd/containerd RELEASES.md"),
        instead_of=("GW-CONTAINERD-015",),
    ),
    Rule(
        "GW-MICROK8S-006",
        "warning",
        "containerd's files name one revision of the snap",
        "Paths like /var/snap/microk8s/8511/ are valid until the snap is refreshed; the operator's toolkit copies them "
        "from the rendered file.",
        f"Write /var/snap/microk8s/current instead, then {_RESTART}.",
        _revision,
        ("runtimes.md §5", "runtimes.md §11 #18"),
        effect="After the next refresh CNI, certificates or the runtime are looked for in a folder that is gone.",
        detected="The template and the drop-ins are searched for revision numbers.",
        messages=("no such file or directory",),
        sources=("canonical/microk8s addons/core nvidia",),
    ),
)
