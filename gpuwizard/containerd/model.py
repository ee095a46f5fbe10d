"""The effective configuration of a containerd, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gpuwizard.facts.model import Handler

__all__ = ["CRI_V2", "IMAGES_V3", "RUNTIME_V3", "Effective", "Origin"]

CRI_V2 = "io.containerd.grpc.v1.cri"
RUNTIME_V3 = "io.containerd.cri.v1.runtime"
IMAGES_V3 = "io.containerd.cri.v1.images"
_RUNC_TYPES = ("", None, "io.containerd.runc.v1", "io.containerd.runc.v2")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value stands."""

    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Effective:
    """What a containerd of one release makes of a set of files.

    `starts` is false when the daemon would refuse to come up; `cri` is ``error`` when it comes up with a broken CRI
    plugin (node NotReady) and None when it does not start. `error` explains both. `root_version` is the number
    in the root file (0: none), `config_version` the one the release works with. Options of handlers that are
    empty or false are left out: they are containerd's defaults. `settings` holds every value that the files set in
    any plugin table, flat by dotted path after merge and migration, so that any loss can be seen. `files` is the
    order in which files were read. `warnings` names each setting that stands in a file and does nothing, with file
    and line. `origins` tells for every value that files set where it stands. `dumps`: ``config dump`` takes the files
    (it also takes some on which the daemon does not start).
    """

    release: str
    starts: bool
    cri: Literal["ok", "error", "disabled"] | None
    error: str | None = None
    config_version: int = 0
    root_version: int = 0
    default_runtime_name: str | None = None
    runtimes: Mapping[str, Handler] = field(default_factory=dict)
    sandbox_image: str | None = None
    snapshotter: str | None = None
    registry_config_path: str | None = None
    enable_cdi: bool | None = None
    cdi_spec_dirs: tuple[str, ...] | None = None
    cni: Mapping[str, Any] = field(default_factory=dict)
    imports: tuple[str, ...] = ()
    disabled_plugins: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    required_plugins: tuple[str, ...] = ()
    origins: Mapping[str, Origin] = field(default_factory=dict)
    dumps: bool = True

    @property
    def usable(self) -> bool:
        """The daemon starts and its CRI plugin works."""
        return self.starts and self.cri == "ok"

    @property
    def cgroup_driver(self) -> str | None:
        """The driver that 2.x reports to the kubelet: that of the first handler with runc's options, the default one
        before the others in their alphabetical order (`runtimes.md §1.4`). None when there is no such handler, or the
        default one is not defined."""
        if self.default_runtime_name not in self.runtimes:
            return None
        for name in (self.default_runtime_name or "", *sorted(self.runtimes)):
            handler = self.runtimes.get(name)
            if handler is not None and handler.runtime_type in _RUNC_TYPES:
                return "systemd" if handler.options.get("SystemdCgroup") is True else "cgroupfs"
        return None
