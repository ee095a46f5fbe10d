"""Rules about k0s, which manages containerd's file and takes drop-ins (`runtimes.md §6`)."""

from collections.abc import Iterator
from typing import Any

from gpuwizard.facts.kubernetes.release import KubeRelease
from gpuwizard.facts.model import HostFile, Probe
from gpuwizard.findings.kubernetes.words import documents, line_of, release_of
from gpuwizard.findings.model import Severity
from gpuwizard.findings.rule import KUBELET, NVIDIA_HANDLER, Rule, Verdict

__all__ = ["RULES"]

_MAIN, _FOLDER = "/etc/k0s/containerd.toml", "/etc/k0s/containerd.d"
_MAGIC = b"# k0s_managed=true"
_CRI_V2, _CRI_V3 = "io.containerd.grpc.v1.cri", ("io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images")
_BROKEN = ("GW-RUNTIME-001", "GW-RUNTIME-002", "GW-RUNTIME-003", "GW-RUNTIME-006", "GW-RUNTIME-012", "GW-KUBE-005")
"""What else is true of a k0s with such a drop-in."""
_CONFIGURER = "k0sproject/k0s pkg/component/worker/containerd/configurer.go"


def _is_k0s(probe: Probe) -> bool:
    return probe.facts.kubernetes.flavour == "k0s"


def _managed(probe: Probe) -> bool | None:
    """Whether k0s writes containerd's file; None where it could not be read."""
    file = probe.files.get(_MAIN)
    if file is None:
        return None
    return file.content is None or file.content.raw.split(b"\n", 1)[0].rstrip(b"\r") == _MAGIC


def _drop_ins(probe: Probe) -> Iterator[tuple[HostFile, dict[str, Any], frozenset[str]]]:
    """The drop-ins, with the names of their plugins."""
    for file, document in documents(probe, _FOLDER):
        plugins = document.get("plugins")
        yield file, document, frozenset(plugins if isinstance(plugins, dict) else ())


def _not_managed(probe: Probe) -> Verdict | None:
    if not _is_k0s(probe) or _managed(probe) is not False:
        return None
    return Verdict((f"{_MAIN}: its first line is not `{_MAGIC.decode()}`",))


def _rejected(probe: Probe) -> Verdict | None:
    release = release_of(probe)
    if not _is_k0s(probe) or release is None or release < KubeRelease(1, 36) or _managed(probe) is False:
        return None
    found = list(_old(probe))
    return Verdict(tuple(found), about=_subject(probe)) if found else None


def _subject(probe: Probe) -> frozenset[str]:
    """k0s with all that comes of such a drop-in."""
    runtime = probe.facts.kubelet_runtime
    paths = (runtime.config_path,) if runtime is not None and runtime.config_path else ()
    return frozenset((KUBELET, NVIDIA_HANDLER, *paths))


def _old(probe: Probe) -> Iterator[str]:
    for file, document, plugins in _drop_ins(probe):
        if document.get("version", 3) != 3:
            yield line_of(file.path, f"version = {document['version']}")
        elif _CRI_V2 in plugins:
            yield line_of(file.path, f"plugins.{_CRI_V2}")


def _before_upgrade(probe: Probe) -> Verdict | None:
    release = release_of(probe)
    if not _is_k0s(probe) or release is None or release >= KubeRelease(1, 36) or _managed(probe) is False:
        return None
    found = list(_old(probe))
    return Verdict((*found, f"k0s {probe.facts.kubernetes.version}")) if found else None


def _nested(probe: Probe) -> Verdict | None:
    release = release_of(probe)
    if not _is_k0s(probe) or release is None:
        return None
    found = [
        line_of(file.path, f"imports = {document['imports']!r}")
        for file, document, _ in _drop_ins(probe)
        if document.get("imports")
    ]
    if not found:
        return None
    severity: Severity | None = "error" if release < KubeRelease(1, 36) else None
    return Verdict(tuple(found), severity=severity, about=_subject(probe))


def _too_new(probe: Probe) -> Verdict | None:
    release = release_of(probe)
    if not _is_k0s(probe) or release is None or release >= KubeRelease(1, 36) or _managed(probe) is False:
        return None
    found = [
        line_of(file.path, f"version = {document['version']}")
        for file, document, _ in _drop_ins(probe)
        if document.get("version") in (3, 4)
    ]
    found += [
        line_of(file.path, f"plugins.{name}")
        for file, document, plugins in _drop_ins(probe)
        for name in _CRI_V3
        if name in plugins and document.get("version") not in (3, 4)
    ]
    return Verdict((*found, f"k0s {probe.facts.kubernetes.version} runs containerd 1.7")) if found else None


RULES = (
    Rule(
        "GW-K0S-001",
        "warning",
        "k0s does not manage containerd's file any more",
        "k0s writes /etc/k0s/containerd.toml only while its first line is exactly `# k0s_managed=true`; nvidia-ctk "
        "writes the file anew without its comments.",
        "Move the file away and let k0s write it again; put what is your own into /etc/k0s/containerd.d.",
        _not_managed,
        ("runtimes.md §6", "runtimes.md §11 #11"),
        effect="Pause image and settings stay those of today, drop-ins are not read unless the file imports them, and "
        "an upgrade to v1.36 meets a file of an old version.",
        detected="The first line of the file.",
        messages=("is not k0s managed, skipping config generation",),
        sources=("k0sproject/k0s pkg/component/worker/containerd/component.go",),
    ),
    Rule(
        "GW-K0S-002",
        "error",
        "k0s rejects a containerd drop-in",
        "Since v1.36 k0s runs containerd 2 with a version 3 file and checks every drop-in before it starts: another "
        "version, or a table io.containerd.grpc.v1.cri, ends it.",
        "Write the file with the tables of version 3 and `version = 3` or none; k0s reads it by itself.",
        _rejected,
        ("runtimes.md §6", "runtimes.md §11 #17"),
        effect="k0s exits at its next start and the node goes NotReady.",
        detected="Version and plugin names of the files in /etc/k0s/containerd.d.",
        messages=(
            "unsupported configuration version: expected 3, got 2",
            "which is the containerd v1 CRI plugin format",
        ),
        sources=(_CONFIGURER,),
        instead_of=_BROKEN,
    ),
    Rule(
        "GW-K0S-003",
        "info",
        "a containerd drop-in must be rewritten before the upgrade to v1.36",
        "Up to v1.35 k0s takes tables of version 2, from v1.36 on it refuses them.",
        "Rewrite the file with the tables of version 3 when the node is upgraded, before k0s is restarted.",
        _before_upgrade,
        ("runtimes.md §6", "runtimes.md §11 #17"),
        effect="None now; after the upgrade k0s does not start.",
        detected="Version and plugin names of the files in /etc/k0s/containerd.d.",
        messages=("unsupported configuration version: expected 3, got 2",),
        sources=(_CONFIGURER,),
    ),
    Rule(
        "GW-K0S-004",
        "warning",
        "a containerd drop-in imports further files",
        "NVIDIA's toolkit since 1.18 writes imports of /etc/containerd/conf.d into the file that it is given; such "
        "files go past k0s' own merging.",
        "Remove the imports line; in the operator's toolkit set RUNTIME_DROP_IN_CONFIG to a file in "
        "/etc/k0s/containerd.d.",
        _nested,
        ("runtimes.md §6",),
        effect="With containerd 1.7 the imported file replaces the whole CRI table: the node goes NotReady.",
        detected="The files in /etc/k0s/containerd.d.",
        messages=("no corresponding runtime configured",),
        sources=("k0sproject/k0s#6547", "k0sproject/k0s#3272"),
        instead_of=_BROKEN,
    ),
    Rule(
        "GW-K0S-005",
        "error",
        "a containerd drop-in is for a newer k0s",
        "Up to v1.35 k0s runs containerd 1.7, which knows configuration version 2 only.",
        "Write the file with `version = 2` and the tables of io.containerd.grpc.v1.cri.",
        _too_new,
        ("runtimes.md §6", "runtimes.md §11 #6"),
        effect="containerd does not start, or takes no notice of the file.",
        detected="Version and plugin names of the files in /etc/k0s/containerd.d.",
        messages=("unsupported config version `3`",),
        sources=(_CONFIGURER,),
        instead_of=_BROKEN,
    ),
)
