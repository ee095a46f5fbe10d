"""What a host is, as data: the facts of `cli.md`. `None` means "not known", never "no"."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gpuwizard.secret import SecretBytes

__all__ = [
    "DriverFacts",
    "Gpu",
    "Handler",
    "HostFacts",
    "HostFile",
    "KernelFacts",
    "KubernetesFacts",
    "OsFacts",
    "PrivilegeFacts",
    "Probe",
    "RuntimeFacts",
    "ToolkitFacts",
    "Unseen",
]

Family = Literal["debian", "rhel", "suse", "arch", "nixos", "flatcar", "talos", "azurelinux", "other", "unknown"]
KubernetesFlavour = Literal[
    "k3s", "rke2", "kubeadm", "k8s-snap", "microk8s", "k0s", "openshift", "microshift", "none", "unknown"
]


@dataclass(frozen=True, slots=True)
class OsFacts:
    """The distribution (`hosts.md §1`). `dgx` is the installed DGX OS version; `kind` a special environment."""

    id: str | None = None
    id_like: tuple[str, ...] = ()
    version_id: str | None = None
    pretty_name: str | None = None
    family: Family = "unknown"
    immutable: bool | None = None
    dgx: str | None = None
    kind: Literal["host", "container", "wsl2", "jetson"] = "host"


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """The running kernel. `secure_boot` is None where it could not be read."""

    release: str | None = None
    arch: str | None = None
    secure_boot: bool | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One physical GPU, joined from PCI and nvidia-smi by bus id (`hosts.md §2`, `§4`).

    `pci` is the sysfs address (``0000:83:00.0``), `pci_id` vendor:device (``10de:2335``). `memory_bytes` is None
    where the GPU shares the host's memory (GB10, Jetson): then `unified_memory` is true. `seen_by` says which of
    ``pci`` and ``nvidia-smi`` know it. `mig_devices` are the profiles of its MIG devices (``1g.10gb``).
    """

    pci: str | None = None
    pci_id: str | None = None
    name: str | None = None
    uuid: str | None = None
    index: int | None = None
    memory_bytes: int | None = None
    unified_memory: bool | None = None
    compute_capability: str | None = None
    mig: str | None = None
    bound_driver: str | None = None
    seen_by: tuple[str, ...] = ()
    mig_devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DriverFacts:
    """Driver versions (`hosts.md §0 rule 6`): loaded module, module on disk for the running kernel, user space,
    module for the newest installed kernel. `problem` is nvidia-smi's own words when it fails; `problem_code`
    its exit status. `kernels_without_module` are the installed kernels for which there is certainly no module;
    `smi_seconds` is how long nvidia-smi took (whole seconds)."""

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


@dataclass(frozen=True, slots=True)
class ToolkitFacts:
    """The NVIDIA container toolkit (`hosts.md §6`). `runtime_path` is where `nvidia-container-runtime` lies."""

    version: str | None = None
    runtime_path: str | None = None
    mode: str | None = None
    cdi_specs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Handler:
    """A CRI runtime handler as containerd will see it."""

    runtime_type: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RuntimeFacts:
    """One container runtime of the host, used by the kubelet or not (`runtimes.md §10`).

    `unit` is the systemd unit that owns the process (for K3s: k3s.service). `cri` is the state of the CRI plugin
    as the daemon reports it. `owner` says who installed it: a package, k3s, a snap.
    `effective_error` is set when the files on disk could not be evaluated.
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


@dataclass(frozen=True, slots=True)
class KubernetesFacts:
    """The Kubernetes flavour of the host (`hosts.md §7`). `service` is the unit to restart (K3s) or the kubelet's.

    `templates` are K3s/RKE2 template files that exist; `node_name` is what the kubelet registers as.
    """

    flavour: KubernetesFlavour = "unknown"
    version: str | None = None
    role: Literal["server", "agent", "control-plane", "worker"] | None = None
    service: str | None = None
    data_dir: str | None = None
    node_name: str | None = None
    templates: tuple[str, ...] = ()
    active: bool | None = None


@dataclass(frozen=True, slots=True)
class PrivilegeFacts:
    """How root can be had: `sudo` is ``root`` when the login is root itself. `reason` is sudo's own text."""

    sudo: Literal["none", "nopasswd", "password", "root"] | None = None
    user: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Unseen:
    """Something that the probe could not look at, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Everything known of one host."""

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
