"""The host below everything else: distribution, kernel, rights, and the state of the machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Family", "HostState", "KernelFacts", "MountSpace", "OsFacts", "PrivilegeFacts", "Reach"]

Family = Literal["debian", "rhel", "suse", "arch", "nixos", "flatcar", "talos", "azurelinux", "other", "unknown"]


@dataclass(frozen=True, slots=True)
class OsFacts:
    """The distribution (`hosts.md §1`). `kind` is a special environment.

    `dgx` is the installed DGX OS version and `dgx_name` what the machine calls itself; `l4t` the Jetson release
    (``36.4.3``); `proxmox` the version of Proxmox VE. `immutable` is true where packages cannot be installed in
    place, and `immutable_why` says by what that is known.
    """

    id: str | None = None
    id_like: tuple[str, ...] = ()
    version_id: str | None = None
    pretty_name: str | None = None
    family: Family = "unknown"
    immutable: bool | None = None
    dgx: str | None = None
    kind: Literal["host", "container", "wsl2", "jetson", "bottlerocket"] = "host"
    codename: str | None = None
    variant_id: str | None = None
    major: int | None = None
    dgx_name: str | None = None
    l4t: str | None = None
    proxmox: str | None = None
    immutable_why: str | None = None


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """The running kernel. `secure_boot` is None where it could not be read."""

    release: str | None = None
    arch: str | None = None
    secure_boot: bool | None = None


@dataclass(frozen=True, slots=True)
class PrivilegeFacts:
    """How root can be had: `sudo` is ``root`` when the login is root itself. `reason` is sudo's own text."""

    sudo: Literal["none", "nopasswd", "password", "root"] | None = None
    user: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class MountSpace:
    """Room on the file system below `path`, in bytes; `read_only` when it is mounted so."""

    path: str
    free_bytes: int | None = None
    total_bytes: int | None = None
    read_only: bool | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether a registry or package source that the host is configured for answers. Only when it was asked for."""

    name: str
    reached: bool | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class HostState:
    """The state of the machine.

    `cgroup_version` is 1 or 2. `clock_offset_seconds` is the host's clock minus this machine's, at the middle of the
    probe; None where the clock could not be read. `reboot_needed` is None where the distribution has no mark for it,
    and `reboot_why` says what asks for it. `proxies` maps a unit to the proxy variables in its environment.
    `swap_bytes` is the size of the swap that is on.
    """

    cgroup_version: Literal[1, 2] | None = None
    clock_offset_seconds: float | None = None
    reboot_needed: bool | None = None
    reboot_why: tuple[str, ...] = ()
    space: tuple[MountSpace, ...] = ()
    proxies: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    reach: tuple[Reach, ...] = ()
    swap_bytes: int | None = None
    selinux: Literal["enforcing", "permissive", "disabled"] | None = None
    systemd: bool | None = None
