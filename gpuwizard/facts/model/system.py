"""The host below everything else: distribution, kernel, rights, and the state of the machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Family", "HostState", "KernelFacts", "MountSpace", "OsFacts", "PrivilegeFacts", "Reach"]

Family = Literal["debian", "rhel", "suse", "arch", "nixos", "flatcar", "talos", "azurelinux", "other", "unknown"]


@dataclass(frozen=True, slots=True)
class OsFacts:
    """The distribution (`hosts.md §1`). `kind` is a special environment; ``container`` is one without an init.

    `family` is ``other`` for a distribution that says what it is and is in none of the families, ``unknown`` for one
    that does not say. `major` is the integer part of the version. `dgx` is the installed DGX OS version and `dgx_name`
    what the machine calls itself; `l4t` the Jetson release (``36.4.3``); `proxmox` the version of Proxmox VE.
    `immutable` is true where packages cannot be installed in place, and `immutable_why` says by what that is known.
    `kind_why` is the file or word by which a special environment is known. `container` is what systemd says it runs
    in (``lxc``, ``docker``, ``systemd-nspawn``, ``wsl``).
    """

    id: str | None = None
    id_like: tuple[str, ...] = ()
    version_id: str | None = None
    pretty_name: str | None = None
    family: Family = "unknown"
    immutable: bool | None = None
    dgx: str | None = None
    kind: Literal["host", "container", "wsl2", "wsl1", "jetson", "bottlerocket"] = "host"
    codename: str | None = None
    variant_id: str | None = None
    major: int | None = None
    dgx_name: str | None = None
    l4t: str | None = None
    proxmox: str | None = None
    immutable_why: str | None = None
    container: str | None = None
    kind_why: str | None = None


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
    """A file system: where it is mounted (`path`), its room in bytes for those who are not root, and whether it is
    mounted read-only. `holds` are the paths on it that matter: where the system, the runtimes and gpuwizard write."""

    path: str
    free_bytes: int | None = None
    total_bytes: int | None = None
    read_only: bool | None = None
    holds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether a registry or package source that the host is configured for answers. Only when it was asked for.

    `name` is its address without a path, `reason` what the host's curl or wget said.
    """

    name: str
    reached: bool | None = None
    reason: str | None = None
    kind: Literal["registry", "packages"] = "registry"


@dataclass(frozen=True, slots=True)
class HostState:
    """The state of the machine.

    `cgroup_version` is 1 or 2 (1 for the hybrid layout, where `cgroup_layout` says so: the controllers are those of
    version 1). `clock_offset_seconds` is the host's clock minus this machine's, to about a second; None where it could
    not be compared. `reboot_needed` is None where the distribution has no mark for it, and `reboot_why` says what asks
    for it. `swap_bytes` is the size of the swap that is on. `kubelet_refuses_swap` is failSwapOn, as set or by default;
    `kubelet_refuses_cgroup_v1` is failCgroupV1 where it is set: its default depends on the release.

    `proxies` maps a unit to the proxy variables that it gets from its settings and files (an empty mapping: it
    certainly gets none), and `host_proxies` a file of the host to those that it holds for everybody else; logins in
    them are hidden. `extended_support` is true where Ubuntu's paid repositories for old releases are set up.
    `held_packages` must not be updated (``apt-mark hold``), `broken_packages` are left half installed.
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
    cgroup_layout: Literal["unified", "hybrid", "legacy"] | None = None
    host_proxies: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    extended_support: bool | None = None
    held_packages: tuple[str, ...] = ()
    broken_packages: tuple[str, ...] = ()
    kubelet_refuses_swap: bool | None = None
    kubelet_refuses_cgroup_v1: bool | None = None
