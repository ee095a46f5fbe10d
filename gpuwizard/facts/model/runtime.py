"""The container runtimes of a host."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gpuwizard.facts.model.driver import ServiceState

__all__ = ["ConfigWarning", "ConfigWarningKind", "Handler", "RuntimeFacts"]

ConfigWarningKind = Literal[
    "",
    "twice",
    "syntax",
    "version",
    "unversioned",
    "old-table",
    "new-table",
    "foreign-table",
    "replaced",
    "newer-drop-in",
    "older-drop-in",
    "late-key",
    "missing-import",
    "not-imported",
    "backup",
    "overridden",
    "stub",
    "stub-versioned",
    "misplaced",
    "removed",
    "no-type",
    "mirrors",
    "cgroup-key",
    "flag-and-file",
    "unknown-key",
    "unread",
]


@dataclass(frozen=True, slots=True)
class Handler:
    """A CRI runtime handler as the runtime will see it."""

    runtime_type: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConfigWarning:
    """Something in a configuration file that the runtime takes otherwise than it was meant. `line` is 1-based.

    containerd's files (`runtimes.md §1.3`): ``twice``: a table or key defined twice; ``syntax``: no TOML;
    ``version``: a version that this release does not know; ``unversioned``: no version line, so that settings do
    nothing; ``old-table``: tables of version 1 in a file of version 2 or 3; ``new-table``: tables of version 3 in a
    file of version 2; ``foreign-table``: tables of version 2 in a file of version 3; ``replaced``: a drop-in that
    replaces settings of the file before it; ``newer-drop-in`` and ``older-drop-in``: a drop-in of another version than
    the root file's; ``late-key``: a key of the top level behind a table; ``missing-import``: an import that does not
    exist; ``not-imported``: a drop-in that nothing imports; ``backup``: a copy that is imported; ``overridden``: a
    drop-in that overrides settings of the file before it; ``stub``: CRI switched off, as Docker's package ships it;
    ``stub-versioned``: the same with a version line; ``misplaced``: a key at the wrong level or misspelt; ``removed``:
    a key that this release does not have any more; ``no-type``: a handler without runtime_type; ``mirrors``:
    registry.mirrors beside config_path; ``cgroup-key``: systemd_cgroup of the CRI table.

    Docker's and CRI-O's: ``flag-and-file``: a directive both as a flag and in the file; ``unknown-key``: a directive
    that does not exist; ``unread``: a file in a folder that is not read; ``backup`` and ``syntax`` as above.
    """

    path: str
    text: str
    line: int | None = None
    kind: ConfigWarningKind = ""


@dataclass(frozen=True, slots=True)
class RuntimeFacts:
    """One container runtime of the host, used by the kubelet or not (`runtimes.md §10`).

    `version` is that of the program on disk, which the next start runs; `running_version` that of the process where
    its file was replaced since. `unit` is the systemd unit that owns the process (for K3s: k3s.service), `service` its
    state and `restarts` how often systemd started it again by itself; `needs_daemon_reload` is true when systemd has
    not read the unit's file again since it changed. `owner` says who installed it: a package, k3s, rke2, k0s, docker,
    snap, or the administrator (``local``); `package` is the package with its version. `in_path` says whether PATH
    gives this program.

    `cri` is the state of the CRI plugin as the daemon reports it. `effective_error` is set when the files on disk could
    not be evaluated; `refused` is true when the runtime's own loader refuses them, so that it does not start with them.
    `systemd_cgroup` is the cgroup driver of the default handler; `cdi` whether the runtime knows CDI devices and
    `cdi_spec_dirs` where it looks for them. `warnings` are what the files hold that has no effect or another one.
    `missing_binaries` maps a handler to the program of it that is not on the host. `config_files` are the files that
    exist and count, in the order in which they are read; `config_newer_than_process` is true when one of them was
    written after the process began, so that it is not what runs, and `changed_files` are those that were.
    `binary_replaced` is true when the file of the running program is not on the disk any more; `waiting_command` is the
    command line with which the unit would start now, where it is another one than that of the process. `not_live` says
    where a running Docker or CRI-O has other handlers than its files give it, whatever the times of these files say.
    `toolkit_newer_than_process` is true for a dockerd that began before the NVIDIA hook was installed. `bridge` is the
    program between the kubelet and Docker (cri-dockerd), where there is one.
    """

    kind: Literal["containerd", "docker", "crio", "podman"]
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
    running_version: str | None = None
    service: ServiceState | None = None
    needs_daemon_reload: bool | None = None
    package: str | None = None
    in_path: bool | None = None
    refused: bool | None = None
    config_files: tuple[str, ...] = ()
    changed_files: tuple[str, ...] = ()
    bridge: str | None = None
    toolkit_newer_than_process: bool | None = None
    binary_replaced: bool | None = None
    waiting_command: str | None = None
    not_live: tuple[str, ...] = ()
