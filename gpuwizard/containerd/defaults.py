"""containerd's built-in CRI configuration per release, as far as it matters here (`runtimes.md §1.2`).

A file is laid over these values; read from ``containerd config default`` of 1.6, 1.7, 2.1 and 2.3 and from the
releases' sources for the lines in between.
"""

from typing import Any

from gpuwizard.containerd.release import Release

__all__ = ["default_images", "default_runtime"]

_CDI_DIRS = ["/etc/cdi", "/var/run/cdi"]


def default_runtime(release: Release) -> dict[str, Any]:
    """The runtime half of the CRI defaults; on 1.x the whole CRI table has the same keys."""
    defaults: dict[str, Any] = {
        "containerd": {
            "default_runtime_name": "runc",
            "runtimes": {"runc": {"runtime_type": "io.containerd.runc.v2", "options": {"SystemdCgroup": False}}},
        },
        "cni": {"conf_dir": "/etc/cni/net.d", "max_conf_num": 1},
    }
    if release.has_cni_bin_dirs:
        defaults["cni"]["bin_dirs"] = ["/opt/cni/bin"]
    else:
        defaults["cni"]["bin_dir"] = "/opt/cni/bin"
    if release.line >= (1, 7):
        defaults["enable_cdi"] = release.major >= 2
        defaults["cdi_spec_dirs"] = list(_CDI_DIRS)
    return defaults


def default_images(release: Release) -> dict[str, Any]:
    """The image half: pause image, snapshotter, registry folder."""
    return {
        "pinned_images": {"sandbox": f"registry.k8s.io/pause:{_pause(release)}"},
        "snapshotter": "overlayfs",
        "registry": {"config_path": release.registry_folder},
    }


def _pause(release: Release) -> str:
    match release.line:
        case (1, minor) if minor <= 6:
            return "3.6"
        case (1, _):
            return "3.8"
        case (2, 0 | 1):
            return "3.10"
        case (2, 2):
            return "3.10.1"
        case _:
            return "3.10.2"
