"""The few things that apply can do, as data. A plan is made of these and apply runs exactly these."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from gpuwizard.facts.cluster import ObjectKey
from gpuwizard.secret import SecretBytes

__all__ = [
    "Action",
    "Activation",
    "ApplyObject",
    "Check",
    "EffectiveChange",
    "FileChange",
    "HostChange",
    "LabelNode",
    "Refusal",
    "Restart",
    "WriteFile",
]


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file, before and after. None means absent. `path` is where the runtime reads it (symlinks resolved by
    the host). `mode` is used for a new file only: an existing one keeps its own mode, owner and label."""

    path: str
    before: SecretBytes | None
    after: SecretBytes | None
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class EffectiveChange:
    """One line of the difference in what the runtime will see: ``handler nvidia``: before → after.

    `note` is what the change means beside what stays as it is (``same cgroup driver as runc``); it tells no two
    changes apart.
    """

    key: str
    before: str | None
    after: str | None
    note: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Activation:
    """How a change is made live: the unit that owns the runtime (``containerd.service``, ``k3s-agent.service``).

    ``restart``: systemd restarts it. ``snap-restart``: ``snap restart`` of `snap`, the service as snapd names it
    (``k8s.containerd``). ``watched``: nobody is asked, because the unit watches its files and restarts its runtime by
    itself (k0s, `runtimes.md §6`). `stops_containers` is true when the containers of that runtime end with it (Docker
    without live-restore).
    """

    unit: str
    verb: Literal["restart", "snap-restart", "watched"] = "restart"
    snap: str | None = None
    stops_containers: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """What must hold on the host after the activation, judged by the host-side script (`runtimes.md §12`).

    `handlers` must all be defined, `default_handler` must be the default, `cri_socket` answers with its CRI
    plugins ok. `config_path` and `binary` are what `config dump` is run with. `rendered` is the K3s/RKE2 rendered
    file that must name the handlers (None elsewhere), k0s' included. `kind` is whose commands judge and ask: `config
    dump` and ``ctr``, ``dockerd --validate`` and ``docker info``, or ``crio config`` and ``crio status``. `options` are
    those of handlers that must come out so: ``nvidia.BinaryName=/usr/bin/nvidia-container-runtime``.
    """

    unit: str
    handlers: tuple[str, ...]
    default_handler: str | None
    cri_socket: str | None
    binary: str | None
    config_path: str | None
    rendered: str | None = None
    kind: Literal["containerd", "docker", "crio"] = "containerd"
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a host or the cluster side is not changed. `detail` is a difference that shows it, already redacted."""

    id: str
    why: str
    remedy: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class HostChange:
    """What a flavour wants for one host: files in the order in which they are written, activation and checks.

    `effective` is the announced difference; `prediction` is set when the staged judgement can only be a
    prediction (K3s renders its own file). `predicted` is the predicted rendered configuration, judged in place of
    the real one. `undo` are the file changes that the automatic revert of a restart-only plan makes.
    """

    files: tuple[FileChange, ...] = ()
    activation: Activation | None = None
    check: Check | None = None
    effective: tuple[EffectiveChange, ...] = ()
    prediction: str | None = None
    undo: tuple[FileChange, ...] = ()

    @property
    def empty(self) -> bool:
        """Nothing to do."""
        return not self.files and self.activation is None


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Write (or remove) one file on one host. `told` is False where what the runtime will see of it is not known."""

    id: str
    change: FileChange
    summary: str
    effective: tuple[EffectiveChange, ...] = ()
    told: bool = True
    kind: Literal["file"] = "file"


@dataclass(frozen=True, slots=True)
class Restart:
    """Restart one unit on one host and hold its health checks."""

    id: str
    activation: Activation
    check: Check
    summary: str
    effective: tuple[EffectiveChange, ...] = ()
    prediction: str | None = None
    undo: tuple[FileChange, ...] = ()
    kind: Literal["restart"] = "restart"


@dataclass(frozen=True, slots=True)
class LabelNode:
    """Set a label on the host's node; done only after the host is confirmed (`safety.md`, across hosts). Without
    `after` it is removed, and before the host is changed."""

    id: str
    node: str
    key: str
    before: str | None
    after: str | None
    summary: str
    kind: Literal["label"] = "label"


@dataclass(frozen=True, slots=True)
class ApplyObject:
    """Server-side apply one Kubernetes object; an empty `manifest` deletes it. `before`/`after` are the cleaned YAML
    texts shown in the diff."""

    id: str
    key: ObjectKey
    manifest: Mapping[str, Any]
    before: str
    after: str
    summary: str
    unchecked: str | None = None
    kind: Literal["object"] = "object"


Action: TypeAlias = WriteFile | Restart | LabelNode | ApplyObject
HostAction: TypeAlias = WriteFile | Restart | LabelNode


@dataclass(frozen=True, slots=True)
class HostPlanned:
    """A flavour's answer for one host before it becomes actions; `reason` explains the strategy that was taken, and
    `latent` what else a restart would activate (`safety.md`, step 2)."""

    strategy: str
    reason: str
    change: HostChange = field(default_factory=HostChange)
    refusals: tuple[Refusal, ...] = ()
    latent: tuple[str, ...] = ()
