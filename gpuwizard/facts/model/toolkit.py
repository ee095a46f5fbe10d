"""The NVIDIA container toolkit of a host, its CDI specifications, and what the GPU Operator placed there."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuwizard.facts.model.driver import ServiceState

__all__ = ["CdiSpec", "OperatorFacts", "ToolkitFacts"]


@dataclass(frozen=True, slots=True)
class CdiSpec:
    """One CDI specification file (`hosts.md §6.4`). `kind` is ``nvidia.com/gpu``; `devices` the names that it gives;
    `driver_version` the one that its libraries are of; `uuids` the GPUs and MIG devices that it names; `missing` the
    paths that it hands to containers and that are not on the host (at most 32); `mtime` in seconds since the epoch;
    `error` why no runtime can read it. `understood` is false when what it says is not known."""

    path: str
    kind: str | None = None
    cdi_version: str | None = None
    devices: tuple[str, ...] = ()
    driver_version: str | None = None
    uuids: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    mtime: int | None = None
    error: str | None = None
    understood: bool = True


@dataclass(frozen=True, slots=True)
class ToolkitFacts:
    """The NVIDIA container toolkit (`hosts.md §6`). `runtime_path` is where `nvidia-container-runtime` lies, and
    `binaries` maps each of its programs to its path: the host's own one where there is one, else the operator's.

    `packages` maps package to version. `config_path` is the config.toml that the runtime at `runtime_path` reads,
    `config_error` why it cannot read it (with the line); `mode` is what that file says (``auto`` where it says
    nothing), `resolved_mode` what containers get by it: ``jit-cdi``, ``legacy``, ``csv`` or ``cdi``. `runtimes` are
    the low-level runtimes that it looks for, `low_level` maps those that were looked up to where they lie (None:
    nowhere), `private_runtimes` are those that CRI-O keeps for itself. `spec_dirs` is None where the defaults hold.
    `debug` are the log files that are written at each start of a container, `driver_root` is nvidia-container-cli's.

    `specs` is what the files of `cdi_specs` say. `refresh_path` and `refresh_service` are the units
    nvidia-cdi-refresh. `legacy_hook` is an OCI hook that adds the legacy hook to every container; `dev_char` says
    whether /dev/char has links to NVIDIA's devices. `sources` are the package-source files that name NVIDIA's
    repository, `source_conflicts` the lines over which apt refuses to work. `operator_placed` is true when
    `runtime_path` is the GPU Operator's.
    """

    version: str | None = None
    runtime_path: str | None = None
    mode: str | None = None
    cdi_specs: tuple[str, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    binaries: Mapping[str, str] = field(default_factory=dict)
    config_path: str | None = None
    config_error: str | None = None
    runtimes: tuple[str, ...] = ()
    default_kind: str | None = None
    specs: tuple[CdiSpec, ...] = ()
    refresh_path: ServiceState | None = None
    refresh_service: ServiceState | None = None
    legacy_hook: str | None = None
    sources: tuple[str, ...] = ()
    operator_placed: bool | None = None
    resolved_mode: str | None = None
    low_level: Mapping[str, str | None] = field(default_factory=dict)
    private_runtimes: tuple[str, ...] = ()
    spec_dirs: tuple[str, ...] | None = None
    no_cgroups: bool | None = None
    log_level: str | None = None
    debug: tuple[str, ...] = ()
    driver_root: str | None = None
    dev_char: bool | None = None
    source_conflicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OperatorFacts:
    """What the GPU Operator and the device plugin left on the host (`kubernetes.md §1.4, §1.10`).

    `toolkit` says whether /usr/local/nvidia/toolkit is there, `toolkit_programs` what can be run in it,
    `toolkit_installed` whether the operator itself filled it (its config.toml or its programs NAME.real are there),
    `toolkit_version` its nvidia-ctk's version, `toolkit_error` why its runtime cannot start, `toolkit_pod` whether the
    pod that placed it runs (``running``, ``gone`` when it left its process number behind, ``none``). `validations` are
    the names of the status files below /run/nvidia/validations (None: there is no such folder, or it could not be
    read), `workload` the node's workload type there. `driver_root` is true when the operator's driver is mounted at
    /run/nvidia/driver, `driver_version` the one of its libraries; `host_driver` is what the validator found: a driver
    of the host or the operator's. `drop_ins` are the configuration files of runtimes that name the operator's toolkit.
    """

    toolkit: bool | None = None
    toolkit_programs: tuple[str, ...] = ()
    validations: tuple[str, ...] | None = None
    driver_root: bool | None = None
    device_plugin_socket: bool | None = None
    drop_ins: tuple[str, ...] = ()
    toolkit_installed: bool | None = None
    toolkit_version: str | None = None
    toolkit_error: str | None = None
    toolkit_pod: str | None = None
    workload: str | None = None
    driver_version: str | None = None
    host_driver: bool | None = None
