"""The NVIDIA driver of a host and the daemons beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["DkmsState", "DriverFacts", "KernelModule", "ModuleFlavour", "ServiceState", "SmiProblem"]

ModuleFlavour = Literal["open", "proprietary"]
SmiProblem = Literal[
    "library-missing",
    "not-loaded",
    "permission",
    "timeout",
    "interrupt",
    "lost",
    "reset",
    "blocked",
    "mismatch",
    "unsupported",
    "unknown-error",
    "other-nvidia-smi",
    "no-devices",
    "power",
    "function-missing",
    "inforom",
    "device",
    "hangs",
    "field",
    "other",
]


@dataclass(frozen=True, slots=True)
class DkmsState:
    """One line of ``dkms status``: module version, kernel, and ``added``, ``built``, ``installed`` or ``broken`` (its
    source is gone). `name` is what DKMS calls the module (``nvidia``, ``nvidia-current``)."""

    version: str
    kernel: str | None
    state: str
    name: str | None = None
    arch: str | None = None


@dataclass(frozen=True, slots=True)
class KernelModule:
    """NVIDIA's module on disk for one installed kernel. `path` is as the kernel's module list has it; version, flavour
    and signature are known for the running and the newest kernel alone. `signed` tells whether the file carries a
    signature, `signer` by whose key."""

    kernel: str
    path: str
    version: str | None = None
    flavour: ModuleFlavour | None = None
    signed: bool | None = None
    signer: str | None = None


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

    `flavour` is that of the loaded module, else of the one on disk, which is `disk_flavour`. `kernels_without_headers`
    are the installed kernels whose headers are certainly missing. `packages` maps the installed driver packages to
    their versions, `packages_held` are those that the package manager may not upgrade, `packages_broken` those that
    are half installed (with dpkg's word for it); None: not asked. `installer` is how the driver came, `runfile` that
    NVIDIA's .run installer left its uninstaller. `log` are telling lines of the kernel log with the seconds since
    boot (None: it could not be read), `uptime_seconds` how long the host was up at that moment.

    `problem_kind` sorts `problem`. `libraries` are the versions of all files libnvidia-ml.so that were found.
    `kernel_modules` are NVIDIA's modules on disk, `modules_loaded` the modules of NVIDIA and of others that could hold
    a GPU (None: not seen). `module_settings` are lines of modprobe.d that blacklist or replace a module (``path:
    line``), `kernel_arguments` the words of the kernel's command line about modules. `signatures_enforced` is true
    when the kernel refuses modules without a good signature. `dkms_log` are the telling lines of a failed DKMS build.
    `device_nodes` are names below /dev. `auto_upgrades` is true when unattended-upgrades is on, `auto_upgrades_spare`
    the patterns about NVIDIA in its configuration. `compute_domains` is true when the DRA driver manages IMEX here.
    `fabric_manager_log` are the last lines of its log. `nvlink5` is true when the host manages NVLink 5 switches.
    """

    loaded: str | None = None
    on_disk: str | None = None
    userspace: str | None = None
    next_kernel: str | None = None
    flavour: ModuleFlavour | None = None
    problem: str | None = None
    problem_code: int | None = None
    newest_kernel: str | None = None
    kernels_without_module: tuple[str, ...] = ()
    smi_seconds: float | None = None
    persistence: bool | None = None
    disk_flavour: ModuleFlavour | None = None
    kernels_without_headers: tuple[str, ...] = ()
    dkms: tuple[DkmsState, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    installer: Literal["package", "runfile", "operator", "image"] | None = None
    modules_loaded: tuple[str, ...] | None = None
    log: tuple[str, ...] | None = None
    persistenced: ServiceState | None = None
    fabric_manager: ServiceState | None = None
    fabric_manager_version: str | None = None
    imex: ServiceState | None = None
    imex_channels: bool | None = None
    nvlink5: bool | None = None
    device_nodes: tuple[str, ...] | None = None
    problem_kind: SmiProblem | None = None
    libraries: tuple[str, ...] = ()
    kernel_modules: tuple[KernelModule, ...] = ()
    module_settings: tuple[str, ...] = ()
    kernel_arguments: tuple[str, ...] = ()
    signatures_enforced: bool | None = None
    dkms_log: tuple[str, ...] = ()
    runfile: bool | None = None
    packages_held: tuple[str, ...] | None = None
    packages_broken: tuple[str, ...] | None = None
    auto_upgrades: bool | None = None
    auto_upgrades_spare: tuple[str, ...] = ()
    uptime_seconds: float | None = None
    compute_domains: bool | None = None
    fabric_manager_log: tuple[str, ...] = ()
