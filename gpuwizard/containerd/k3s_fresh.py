"""The values that K3s and RKE2 give their built-in template today, where the rendered file is an old copy's (`§2.6`).

A stale template froze the pause image, CNI folders and cgroup driver of the release that it was copied from.
"""

import posixpath
from typing import Any

from gpuwizard.containerd.k3s_base import NodeState
from gpuwizard.containerd.k3s_release import has_certs_folder, has_stable_cni_folder
from gpuwizard.facts.kubernetes.release import KubeRelease

__all__ = ["fresh_values"]

_PAUSE = "rancher/mirrored-pause:3.6"
_STATE = "/run/k3s/containerd"


def fresh_values(
    node: NodeState | None, release: KubeRelease, program: str, data: str, *, systemd: bool, pause: str | None = None
) -> dict[str, Any]:
    """The values of the node at the next start with the built-in template. What depends on options of K3s alone
    (snapshotter, SELinux, CNI switched off) is as it was in the copy; `pause` is the option ``pause-image``."""
    old = dict(node.values) if node is not None else {}
    root = posixpath.join(data, "agent/containerd")
    values: dict[str, Any] = {
        "root": root,
        "state": _STATE,
        "address": f"{_STATE}/containerd.sock",
        "opt": root,
        "stream_address": "127.0.0.1",
        "stream_port": "10010",
        "selinux": old.get("selinux", False),
        "unprivileged_ports": old.get("unprivileged_ports", True),
        "unprivileged_icmp": old.get("unprivileged_icmp", True),
        "sandbox": pause or _sandbox(str(old.get("sandbox", "")), program),
        "snapshotter": old.get("snapshotter", "overlayfs"),
        "disable_annotations": old.get("disable_annotations", True),
        "runc_type": "io.containerd.runc.v2",
    }
    if release >= KubeRelease(1, 25):
        values["systemd_cgroup"] = systemd
    if release.has_v3_template:
        values |= {"local_pull": True, "device_ownership": old.get("device_ownership", False)}
    if has_certs_folder(release):
        values["registry_path"] = posixpath.join(data, "agent/etc/containerd/certs.d")
    if "cni_bin" in old:
        values["cni_bin"] = _cni(old["cni_bin"], release, data)
        values["cni_conf"] = old.get("cni_conf", posixpath.join(data, "agent/etc/cni/net.d"))
    return values


def _sandbox(old: str, program: str) -> str:
    """Today's pause image from the registry of the old one."""
    registry, found, _ = old.partition("rancher/")
    if found:
        return f"{registry}{_PAUSE}"
    return f"index.docker.io/{_PAUSE}" if program == "rke2" else _PAUSE


def _cni(old: Any, release: KubeRelease, data: str) -> Any:
    """The folder below ``<data>/data`` has the hash of the release in its name, until it became the same for all."""
    if not isinstance(old, str) or not old.startswith(f"{data}/data/"):
        return old
    return f"{data}/data/cni" if has_stable_cni_folder(release) else f"{data}/data/current/bin"
