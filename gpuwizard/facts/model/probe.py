"""One probe of one host: its facts, its files, and what could not be seen."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuwizard.facts.model.driver import DriverFacts
from gpuwizard.facts.model.gpu import Gpu, PciDevice
from gpuwizard.facts.model.kubernetes import KubernetesFacts
from gpuwizard.facts.model.runtime import RuntimeFacts
from gpuwizard.facts.model.system import HostState, KernelFacts, OsFacts, PrivilegeFacts
from gpuwizard.facts.model.toolkit import OperatorFacts, ToolkitFacts
from gpuwizard.secret import SecretBytes

__all__ = ["HostFacts", "HostFile", "Probe", "Unseen"]


@dataclass(frozen=True, slots=True)
class Unseen:
    """Something that the probe could not look at, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Everything known of one host. `other_devices` are NVIDIA's functions that count as no GPU of it."""

    os: OsFacts = field(default_factory=OsFacts)
    kernel: KernelFacts = field(default_factory=KernelFacts)
    gpus: tuple[Gpu, ...] = ()
    driver: DriverFacts = field(default_factory=DriverFacts)
    toolkit: ToolkitFacts = field(default_factory=ToolkitFacts)
    runtimes: tuple[RuntimeFacts, ...] = ()
    kubernetes: KubernetesFacts = field(default_factory=KubernetesFacts)
    components: tuple[str, ...] = ()
    privilege: PrivilegeFacts = field(default_factory=PrivilegeFacts)
    unseen: tuple[Unseen, ...] = ()
    hostname: str | None = None
    boot_id: str | None = None
    memory_bytes: int | None = None
    nvswitches: int = 0
    state: HostState = field(default_factory=HostState)
    other_devices: tuple[PciDevice, ...] = ()
    operator: OperatorFacts = field(default_factory=OperatorFacts)

    @property
    def kubelet_runtime(self) -> RuntimeFacts | None:
        """The runtime that the kubelet uses, if it is known."""
        return next((r for r in self.runtimes if r.used_by_kubelet), None)


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file of the host as the probe read it. `content` is None when the path does not exist.

    `path` is the path as configured; `target` the resolved path when it is a symlink. `mtime` is in seconds since
    the epoch (whole seconds).
    """

    path: str
    content: SecretBytes | None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime: int | None = None
    target: str | None = None

    @property
    def sha256(self) -> str:
        """Hash of the content, or the word ``absent``."""
        return "absent" if self.content is None else self.content.sha256


@dataclass(frozen=True, slots=True)
class Probe:
    """What one probe of one host brought back: facts, the files that a plan may read, and how long it took.

    `files` maps the absolute path to the file, for every runtime configuration path that the host could have,
    present or not. `readable` is false when no root was to be had, and the files are therefore not known.
    """

    facts: HostFacts
    files: Mapping[str, HostFile] = field(default_factory=dict)
    readable: bool = True
    seconds: float = 0.0
