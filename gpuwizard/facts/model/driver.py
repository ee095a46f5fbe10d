"""The NVIDIA driver of a host and the daemons beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["DkmsState", "DriverFacts", "ServiceState"]


@dataclass(frozen=True, slots=True)
class DkmsState:
    """One line of ``dkms status``: module version, kernel, and ``added``, ``built`` or ``installed``."""

    version: str
    kernel: str | None
    state: str


@dataclass(frozen=True, slots=True)
class ServiceState:
    """A systemd unit. `active` is its ActiveState, `enabled` its UnitFileState; `loaded` is false when it is not
    installed."""

    name: str
    loaded: bool | None = None
    active: str | None = None
    enabled: str | None = None
    sub: str | None = None
    result: str | None = None


@dataclass(frozen=True, slots=True)
class DriverFacts:
    """Driver versions (`hosts.md §0 rule 6`): loaded module, module on disk for the running kernel, user space,
    module for the newest installed kernel. `problem` is nvidia-smi's own words when it fails; `problem_code`
    its exit status. `kernels_without_module` are the installed kernels for which there is certainly no module;
    `smi_seconds` is how long nvidia-smi took (whole seconds).

    `disk_flavour` is that of the module on disk. `kernels_without_headers` are the installed kernels whose headers
    are certainly missing. `packages` maps the installed driver packages to their versions; `installer` is how the
    driver came. `log` are telling lines of the kernel log (None: it could not be read).
    """

    loaded: str | None = None
    on_disk: str | None = None
    userspace: str | None = None
    next_kernel: str | None = None
    flavour: Literal["open", "proprietary"] | None = None
    problem: str | None = None
    problem_code: int | None = None
    newest_kernel: str | None = None
    kernels_without_module: tuple[str, ...] = ()
    smi_seconds: float | None = None
    persistence: bool | None = None
    disk_flavour: Literal["open", "proprietary"] | None = None
    kernels_without_headers: tuple[str, ...] = ()
    dkms: tuple[DkmsState, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    installer: Literal["package", "runfile", "operator", "image"] | None = None
    modules_loaded: tuple[str, ...] = ()
    log: tuple[str, ...] | None = None
    persistenced: ServiceState | None = None
    fabric_manager: ServiceState | None = None
    fabric_manager_version: str | None = None
    imex: ServiceState | None = None
    imex_channels: bool | None = None
    nvlink5: bool | None = None
    device_nodes: tuple[str, ...] | None = None
