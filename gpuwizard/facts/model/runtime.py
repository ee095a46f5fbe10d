"""The container runtimes of a host."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["ConfigWarning", "Handler", "RuntimeFacts"]


@dataclass(frozen=True, slots=True)
class Handler:
    """A CRI runtime handler as the runtime will see it."""

    runtime_type: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConfigWarning:
    """Something in a configuration file that the runtime takes otherwise than it was meant. `line` is 1-based."""

    path: str
    text: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class RuntimeFacts:
    """One container runtime of the host, used by the kubelet or not (`runtimes.md §10`).

    `unit` is the systemd unit that owns the process (for K3s: k3s.service). `cri` is the state of the CRI plugin
    as the daemon reports it. `owner` says who installed it: a package, k3s, a snap.
    `effective_error` is set when the files on disk could not be evaluated. `systemd_cgroup` is the cgroup driver of
    the default handler; `warnings` what the files hold that has no effect or another one. `missing_binaries` maps a
    handler to the BinaryName that is not on the host.
    """

    kind: Literal["containerd", "docker", "crio"]
    version: str | None = None
    socket: str | None = None
    config_path: str | None = None
    config_version: int | None = None
    imports: tuple[str, ...] = ()
    handlers: Mapping[str, Handler] = field(default_factory=dict)
    default_handler: str | None = None
    used_by_kubelet: bool | None = None
    owner: str | None = None
    unit: str | None = None
    binary: str | None = None
    pid: int | None = None
    cri: Literal["ok", "error", "disabled"] | None = None
    running: bool | None = None
    effective_error: str | None = None
    systemd_cgroup: bool | None = None
    cdi: bool | None = None
    cdi_spec_dirs: tuple[str, ...] = ()
    snapshotter: str | None = None
    sandbox_image: str | None = None
    warnings: tuple[ConfigWarning, ...] = ()
    missing_binaries: Mapping[str, str] = field(default_factory=dict)
    restarts: int | None = None
    config_newer_than_process: bool | None = None
