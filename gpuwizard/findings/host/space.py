"""Rules about room on disks: by bytes where something is written, and by share where the kubelet evicts pods."""

from collections.abc import Mapping

from gpuwizard.facts.model import MountSpace, Probe
from gpuwizard.findings.rule import Rule, Verdict

__all__ = ["RULES"]

_MIB, _GIB = 2**20, 2**30
_SYSTEM = {"/": 100 * _MIB, "/etc": 20 * _MIB, "/run": 10 * _MIB, "/var": 100 * _MIB, "/var/lib": 100 * _MIB}
"""Below that much, writing configuration or state fails or soon will."""
_IMAGES = (
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/rancher",
    "/var/lib/containers",
    "/var/lib/k0s",
    "/var/snap",
)
_ROOM_FOR_IMAGES = 5 * _GIB
"""A CUDA image is 2 to 10 GB, unpacked beside its download."""
_STORES: Mapping[str, str] = {"k3s": "/var/lib/rancher", "rke2": "/var/lib/rancher", "k0s": "/var/lib/k0s"}
_STORE_OF_RUNTIME: Mapping[str, str] = {
    "containerd": "/var/lib/containerd",
    "docker": "/var/lib/docker",
    "crio": "/var/lib/containers",
}
_DEFAULTS: Mapping[str, tuple[float, float]] = {
    "k3s": (5, 5),
    "rke2": (5, 5),
    "kubeadm": (10, 15),
    "k0s": (10, 15),
    "openshift": (10, 15),
    "microshift": (10, 15),
}
"""Percent free on the kubelet's and on the images' file system below which it evicts, where nothing else is set."""


def _below(probe: Probe, path: str) -> MountSpace | None:
    """The file system that holds `path`, if the path exists."""
    return next((mount for mount in probe.facts.state.space if path in mount.holds), None)


def _percent(mount: MountSpace) -> float | None:
    if mount.free_bytes is None or not mount.total_bytes:
        return None
    return mount.free_bytes * 100 / mount.total_bytes


def _shown(mount: MountSpace) -> str:
    free, percent = mount.free_bytes or 0, _percent(mount)
    size = f"{free / _GIB:.1f} GiB" if free >= _GIB else f"{free // _MIB} MiB"
    return f"{mount.path}: {size} free" + (f" ({percent:.0f} %)" if percent is not None else "")


def _full(probe: Probe) -> Verdict | None:
    if probe.facts.os.kind == "container":
        return None
    found: dict[str, str] = {}
    for path, least in _SYSTEM.items():
        mount = _below(probe, path)
        if (
            mount is None
            or mount.free_bytes is None
            or mount.free_bytes >= least
            or mount.read_only
            or not mount.total_bytes
        ):
            continue
        found.setdefault(mount.path, f"{_shown(mount)}, and it holds {path}")
    return Verdict(tuple(found.values()), about=frozenset(found)) if found else None


def _tight(probe: Probe) -> Verdict | None:
    facts = probe.facts
    if facts.os.kind == "container" or not (facts.runtimes or facts.kubernetes.flavour not in ("none", "unknown")):
        return None
    found: dict[str, str] = {}
    for path in _IMAGES:
        mount = _below(probe, path)
        if mount is None or mount.free_bytes is None or mount.free_bytes >= _ROOM_FOR_IMAGES or not mount.total_bytes:
            continue
        found.setdefault(mount.path, f"{_shown(mount)}, and it holds {path}")
    return Verdict(tuple(found.values()), about=frozenset(found)) if found else None


def _evicts(probe: Probe) -> Verdict | None:
    facts = probe.facts
    shares = _DEFAULTS.get(facts.kubernetes.flavour)
    if shares is None or facts.os.kind == "container":
        return None
    runtime = facts.kubelet_runtime
    store = _STORES.get(facts.kubernetes.flavour) or _STORE_OF_RUNTIME.get(runtime.kind if runtime is not None else "")
    wanted = (("/var/lib/kubelet", shares[0], "nodefs"), (store or "", shares[1], "imagefs"))
    lines, places = [], []
    for path, least, signal in wanted:
        mount = _below(probe, path)
        percent = _percent(mount) if mount is not None else None
        if mount is not None and percent is not None and percent < least:
            lines.append(f"{_shown(mount)}, and it holds {path}: {signal}.available<{least:g}%")
            places.append(mount.path)
    return Verdict(tuple(lines), about=frozenset(places)) if lines else None


RULES = (
    Rule(
        "GW-HOST-019",
        "error",
        "the disk is full where the system writes",
        "There is no room left for configuration, state or logs.",
        "`du -xh --max-depth=2 / | sort -h | tail`, `journalctl --vacuum-size=200M`, `crictl rmi --prune`; then make "
        "the disk larger.",
        _full,
        ("hosts.md §9.1",),
        effect="Writing fails half-way: packages stay half installed, services do not start, and gpuwizard changes "
        "nothing.",
        detected="`df -P` of /, /etc, /run, /var and /var/lib, in bytes.",
        messages=("No space left on device",),
        sources=("df(1)",),
        instead_of=("GW-HOST-020", "GW-HOST-033"),
    ),
    Rule(
        "GW-HOST-033",
        "warning",
        "little room for images",
        "Images with CUDA are 2 to 10 GB each and are unpacked beside their download.",
        "`crictl rmi --prune` (or `docker image prune -a`), a larger disk, or another folder for the runtime's data.",
        _tight,
        ("hosts.md §9.1",),
        effect="Pulls of GPU images fail, and the kubelet begins to evict pods.",
        detected="`df -P` of the runtimes' folders: less than 5 GiB.",
        messages=("no space left on device", "ImagePullBackOff"),
        sources=("df(1)", "NVIDIA/gpu-operator getting started: images"),
    ),
    Rule(
        "GW-HOST-020",
        "warning",
        "the kubelet evicts pods for want of disk",
        "Less of the disk is free than the kubelet's hard eviction threshold allows: by default 10 % where it keeps "
        "its "
        "own data and 15 % where images are, 5 % with K3s and RKE2.",
        "Free room (`crictl rmi --prune`) or make the disk larger; on large disks set evictionHard to sizes instead.",
        _evicts,
        ("hosts.md §9.1",),
        effect="The node has DiskPressure: its pods are evicted, new ones are not scheduled, images are deleted.",
        detected="`df -P` of the kubelet's and the runtime's folders, against the defaults; evictionHard may be set to "
        "something else.",
        messages=("DiskPressure", "The node was low on resource: ephemeral-storage"),
        sources=("kubernetes.io docs: node-pressure eviction", "k3s-io/k3s pkg/daemons/agent"),
        instead_of=("GW-HOST-033",),
    ),
)
