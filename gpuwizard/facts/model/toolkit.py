"""The NVIDIA container toolkit of a host, its CDI specifications, and what the GPU Operator placed there."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuwizard.facts.model.driver import ServiceState

__all__ = ["CdiSpec", "OperatorFacts", "ToolkitFacts"]


@dataclass(frozen=True, slots=True)
class CdiSpec:
    """One CDI specification file. `kind` is ``nvidia.com/gpu``; `driver_version` the one that its libraries are of;
    `uuids` the GPUs that it names; `missing` the paths that it mounts and that are not on the host; `error` why it
    could not be read."""

    path: str
    kind: str | None = None
    cdi_version: str | None = None
    devices: tuple[str, ...] = ()
    driver_version: str | None = None
    uuids: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    mtime: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ToolkitFacts:
    """The NVIDIA container toolkit (`hosts.md §6`). `runtime_path` is where `nvidia-container-runtime` lies, and
    `binaries` maps each of its programs to its path.

    `packages` maps package to version; `mode` is that of config.toml and `config_error` why that could not be read.
    `sources` are the package-source files that name NVIDIA's repository.
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


@dataclass(frozen=True, slots=True)
class OperatorFacts:
    """What the GPU Operator and the device plugin left on the host. `validations` are the names of the status files
    below /run/nvidia/validations; `driver_root` is /run/nvidia/driver when the operator's driver is mounted there."""

    toolkit: bool | None = None
    toolkit_programs: tuple[str, ...] = ()
    validations: tuple[str, ...] = ()
    driver_root: bool | None = None
    device_plugin_socket: bool | None = None
    drop_ins: tuple[str, ...] = ()
