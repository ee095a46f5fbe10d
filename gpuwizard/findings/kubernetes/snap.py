"""Rules about Canonical Kubernetes (k8s-snap), whose containerd has a version 2 file in every release."""

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from gpuwizard.facts.kubernetes.release import KubeRelease
from gpuwizard.facts.model import HostFile, Probe
from gpuwizard.facts.text import load_toml
from gpuwizard.findings.kubernetes.words import documents, line_of, release_of
from gpuwizard.findings.rule import KUBELET, NVIDIA_HANDLER, Rule, Verdict, installed_gpus
from gpuwizard.findings.runtimes.words import whole

__all__ = ["RULES"]

_CRI_V2, _CRI_V3 = "io.containerd.grpc.v1.cri", "io.containerd.cri.v1."
_BROKEN = (
    "GW-CONTAINERD-001",
    "GW-CONTAINERD-002",
    "GW-CONTAINERD-003",
    "GW-CONTAINERD-006",
    "GW-CONTAINERD-014",
    "GW-RUNTIME-001",
    "GW-RUNTIME-002",
    "GW-RUNTIME-003",
    "GW-RUNTIME-004",
    "GW-RUNTIME-006",
    "GW-RUNTIME-009",
    "GW-RUNTIME-010",
    "GW-RUNTIME-012",
    "GW-KUBE-005",
)
"""What else is true of a containerd with such a drop-in."""
_SETUP = "canonical/k8sd pkg/k8sd/setup/containerd.go"
_RESTART = "`snap restart k8s.containerd`"


def _is_snap(probe: Probe) -> bool:
    return probe.facts.kubernetes.flavour == "k8s-snap"


def _root(probe: Probe) -> tuple[str, Mapping[str, Any]] | None:
    """The snap's own config.toml."""
    base = probe.facts.kubernetes.containerd_base_dir
    path = posixpath.join(base or "/", "etc/containerd/config.toml")
    file = probe.files.get(path)
    if base is None or file is None or file.content is None:
        return None
    document = load_toml(file.content.raw)
    return (path, document) if isinstance(document, dict) else None


def _drop_ins(probe: Probe) -> Iterator[tuple[HostFile, dict[str, Any]]]:
    """The drop-ins that the snap's file imports."""
    root = _root(probe)
    imports = root[1].get("imports") if root is not None else None
    patterns = [entry for entry in imports if isinstance(entry, str)] if isinstance(imports, list) else []
    for folder in dict.fromkeys(posixpath.dirname(entry) for entry in patterns if entry.endswith("/*.toml")):
        yield from documents(probe, folder)


def _plugins(document: Mapping[str, Any]) -> Mapping[str, Any]:
    plugins = document.get("plugins")
    return plugins if isinstance(plugins, Mapping) else {}


def _partial(probe: Probe) -> Verdict | None:
    """containerd 1.x takes the CRI table of the last drop-in that has one, and nothing of the others."""
    release = release_of(probe)
    if not _is_snap(probe) or release is None or release >= KubeRelease(1, 35):
        return None
    with_cri = [(file, _plugins(d)[_CRI_V2]) for file, d in _drop_ins(probe) if _CRI_V2 in _plugins(d)]
    if not with_cri:
        return None
    file, table = with_cri[-1]
    containerd = table.get("containerd") if isinstance(table, Mapping) else None
    runtimes = containerd.get("runtimes") if isinstance(containerd, Mapping) else None
    if isinstance(runtimes, Mapping) and "runc" in runtimes:
        return None
    names = ", ".join(sorted(str(name) for name in runtimes)) if isinstance(runtimes, Mapping) else "none"
    shown = line_of(file.path, f"its CRI table replaces the whole one; handlers in it: {names}")
    return Verdict((shown,), about=_subject(probe))


def _subject(probe: Probe) -> frozenset[str]:
    """The snap's containerd with all that comes of its files."""
    root, runtime = _root(probe), probe.facts.kubelet_runtime
    own = whole(runtime) if runtime is not None else frozenset()
    return own | {KUBELET, NVIDIA_HANDLER, *((root[0],) if root is not None else ())}


def _version_3(probe: Probe) -> Verdict | None:
    if not _is_snap(probe):
        return None
    found = [
        line_of(file.path, f"version = {document['version']}")
        if document.get("version") in (3, 4)
        else line_of(file.path, "plugin names of version 3")
        for file, document in _drop_ins(probe)
        if document.get("version") in (3, 4) or any(name.startswith(_CRI_V3) for name in _plugins(document))
    ]
    root = _root(probe)
    if not found or root is None or root[1].get("version") != 2:
        return None
    return Verdict((*found, f"{root[0]}: version = 2"), about=_subject(probe))


def _docker(probe: Probe) -> Verdict | None:
    base = probe.facts.kubernetes.containerd_base_dir
    dockers = [r for r in probe.facts.runtimes if r.kind == "docker"]
    if not _is_snap(probe) or base != "/" or not dockers:
        return None
    version = f" {dockers[0].version}" if dockers[0].version else ""
    return Verdict((f"Docker{version} is installed", "the snap's containerd uses /etc/containerd and /run/containerd"))


def _foreign_import(probe: Probe) -> Verdict | None:
    root, base = _root(probe), probe.facts.kubernetes.containerd_base_dir
    if not _is_snap(probe) or root is None or base in (None, "/"):
        return None
    imports = root[1].get("imports")
    foreign = [
        entry
        for entry in (imports if isinstance(imports, list) else [])
        if isinstance(entry, str) and not entry.startswith(f"{base}/")
    ]
    return Verdict(tuple(line_of(root[0], f"imports {entry}") for entry in foreign)) if foreign else None


def _no_cdi(probe: Probe) -> Verdict | None:
    release = release_of(probe)
    if not _is_snap(probe) or release is None or release >= KubeRelease(1, 33) or not installed_gpus(probe):
        return None
    there = probe.facts.operator.toolkit is True
    return Verdict((f"Canonical Kubernetes {probe.facts.kubernetes.version}",), severity="warning" if there else None)


RULES = (
    Rule(
        "GW-SNAP-001",
        "error",
        "a drop-in takes runc away from the snap's containerd",
        "Tracks 1.32 to 1.34 have containerd 1.x, which replaces the whole CRI table by that of the last drop-in "
        "instead of merging them.",
        f"Put the nvidia tables into config.toml itself, or the complete CRI table into the drop-in, then {_RESTART}.",
        _partial,
        ("runtimes.md §4", "runtimes.md §11 #1", "runtimes.md §11 #3"),
        effect="The CRI plugin does not load at the next start of containerd: the node goes NotReady.",
        detected="The drop-ins that config.toml imports are read in containerd's order.",
        messages=('no corresponding runtime configured in `containerd.runtimes` for `default_runtime_name = "runc"`',),
        sources=("canonical/k8s-snap#1991", _SETUP),
        instead_of=_BROKEN,
    ),
    Rule(
        "GW-SNAP-002",
        "error",
        "a drop-in of version 3 below the snap's version 2 file",
        "The snap writes a version 2 file in every release, also for containerd 2.x, and a drop-in must have the "
        "dialect of the file that imports it.",
        f"Write it with `version = 2` and io.containerd.grpc.v1.cri, then {_RESTART}.",
        _version_3,
        ("runtimes.md §4", "runtimes.md §11 #2"),
        effect="containerd 2.1 (track 1.35) drops all CRI settings of config.toml, 2.3 (1.36) and 1.x do not start.",
        detected="Version and plugin names of the drop-ins that config.toml imports.",
        messages=("drop-in config version 3 higher than root config version 2", "unsupported config version `3`"),
        sources=(_SETUP, "canonical/k8s-snap#2529"),
        instead_of=_BROKEN,
    ),
    Rule(
        "GW-SNAP-003",
        "warning",
        "Docker shares its folders with the snap's containerd",
        "Without containerd-base-dir the snap keeps containerd in /etc/containerd and /run/containerd, where Docker's "
        "containerd is at home, too.",
        "Remove Docker, or set the node up again with containerd-base-dir; always name the snap's own files and socket "
        "to tools.",
        _docker,
        ("runtimes.md §4", "kubernetes.md §1.14 #7"),
        effect="Whoever starts last takes the socket, and a tool for the one changes the files of the other.",
        detected="Docker is installed and the snap's base folder is /.",
        messages=("required for the containerd socket already exists",),
        sources=("canonical/k8s-snap docs howto/install/dev-env", "canonical/k8s-snap#1991"),
    ),
    Rule(
        "GW-SNAP-004",
        "warning",
        "the snap's containerd imports files from outside its folder",
        "NVIDIA's toolkit adds /etc/containerd/conf.d to the imports unless it is told where the drop-ins belong; "
        "with a base folder that is another containerd's.",
        "Remove the import; in the operator's toolkit set RUNTIME_DROP_IN_CONFIG and RUNTIME_CONFIG_SOURCE to paths "
        f"below the base folder, then {_RESTART}.",
        _foreign_import,
        ("runtimes.md §4", "runtimes.md §11 #16"),
        effect="Files that were made for Docker's containerd decide what this one does.",
        detected="The imports of config.toml are compared with the base folder of the snap.",
        messages=("no corresponding runtime configured",),
        sources=("canonical/k8s-snap#1991",),
    ),
    Rule(
        "GW-SNAP-005",
        "info",
        "track 1.32 has no CDI",
        "Its containerd 1.6 does not know CDI in CRI, which the GPU Operator uses by default since 25.10.",
        "Upgrade the snap, or set `cdi.enabled=false` in the operator's values.",
        _no_cdi,
        ("runtimes.md §4",),
        effect="With the operator's defaults containers do not get their GPUs.",
        detected="By the version of the snap.",
        messages=("unresolvable CDI devices",),
        sources=("canonical/k8s-snap#2388",),
        instead_of=("GW-CONTAINERD-017",),
    ),
)
