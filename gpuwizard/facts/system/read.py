"""The host's distribution, kernel, rights and state out of one probe."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gpuwizard.facts.look import Look
from gpuwizard.facts.model import HostState, KernelFacts, OsFacts, PrivilegeFacts
from gpuwizard.facts.system.os_release import kernel_facts, os_facts, secure_boot
from gpuwizard.facts.system.privilege import privilege_facts
from gpuwizard.facts.system.state import mounts, read_state
from gpuwizard.facts.text import number, value

__all__ = ["System", "read_system"]

_IMAGE_TYPES = ("squashfs", "erofs", "cramfs", "iso9660")
_NOT_ITS_OWN = ("container", "wsl1", "wsl2")
"""Kinds of environment whose firmware is not theirs to be seen."""


@dataclass(frozen=True, slots=True)
class System:
    """All that is known of the machine below its GPUs and runtimes. `memory_bytes` is its main memory."""

    os: OsFacts
    kernel: KernelFacts
    hostname: str | None
    boot_id: str | None
    memory_bytes: int | None
    privilege: PrivilegeFacts
    state: HostState


def read_system(look: Look) -> System:
    """The system facts of one probe."""
    frames = look.frames
    boot = frames.get("secure-boot")
    hostname, kernel = kernel_facts(frames.text("uname"), None if boot is None else secure_boot(boot.text, boot.status))
    memory = number((frames.text("memory") or "").partition(" ")[0])
    mounted = mounts(look)
    release = frames.get("os-release")
    marks = frames.get("marks")
    os = os_facts(
        None if release is None else release.text,
        dgx_text=frames.text("dgx-release"),
        tegra_text=frames.text("tegra-release"),
        marks=None if marks is None or marks.cut else look.marks | _marks_of_mounts(mounted),
        kernel_release=kernel.release,
        fastos_text=frames.text("fastos-release"),
        soc_family=frames.text("soc-family"),
        container=value(frames.text("container")),
        init_groups=frames.text("init-cgroup"),
        proxmox=look.packages.get("pve-manager"),
        whole=release is None or not release.cut,
    )
    return System(
        os=os,
        kernel=replace(kernel, secure_boot=None) if os.kind in _NOT_ITS_OWN else kernel,
        hostname=hostname,
        boot_id=value(frames.text("boot-id")),
        memory_bytes=memory * 1024 if memory is not None else None,
        privilege=privilege_facts(frames.text("privilege")),
        state=read_state(look, mounted, contained=os.kind == "container"),
    )


def _marks_of_mounts(mounted: Mapping[str, tuple[str, bool]]) -> frozenset[str]:
    """What the mounts say of the system: a root that was only remounted read-only after an error is no image."""
    found = set()
    if mounted.get("/usr", ("", False))[1]:
        found.add("/usr is read-only")
    kind, read_only = mounted.get("/", ("", False))
    if read_only and kind in _IMAGE_TYPES:
        found.add("/ is a read-only image")
    return frozenset(found)
