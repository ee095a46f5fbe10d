"""The Kubernetes of a host."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "KubernetesFacts",
    "KubernetesFlavour",
    "KubernetesService",
    "Template",
    "TemplateProblem",
    "TemplateProblemKind",
]

KubernetesFlavour = Literal[
    "k3s",
    "rke2",
    "kubeadm",
    "k8s-snap",
    "microk8s",
    "k0s",
    "openshift",
    "microshift",
    "kind",
    "minikube",
    "none",
    "unknown",
]
TemplateProblemKind = Literal[
    "full-copy",
    "operator",
    "nvidia-twice",
    "table-twice",
    "unknown-word",
    "no-base",
    "not-toml",
    "old-tables",
    "no-version",
    "no-state",
    "wrong-dialect",
    "wrong-version",
    "after-base",
    "other-wins",
    "not-imported",
]


@dataclass(frozen=True, slots=True)
class TemplateProblem:
    """What is the matter with a template or drop-in. `line` is 1-based; `text` is the telling line or a sentence.

    ``full-copy``: it does not include "base"; ``operator``: the GPU Operator wrote it; ``nvidia-twice`` and
    ``table-twice``: tables that the base writes, too; ``unknown-word``: a field or function that this release does not
    have; ``no-base``: this release has no template "base"; ``not-toml``: what comes out is no TOML; ``old-tables``:
    tables of version 1; ``no-version``: no version line; ``no-state``: a v3 template without root, state or address;
    ``wrong-dialect``: plugin names of another version; ``wrong-version``: a version that does not fit the file it is
    in; ``after-base``: top-level keys below the base; ``other-wins``: another template is used; ``not-imported``: a
    folder that nothing imports.
    """

    kind: TemplateProblemKind
    text: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """A containerd template or drop-in of K3s or RKE2 (`runtimes.md §2.3, §2.6`).

    `state`: ``fresh`` (includes "base", or renders detected runtimes itself, and adds only what is its own),
    ``ignored`` (another file wins, or this release does not read it), ``stale`` (a full copy that hides what the
    release writes by itself), ``dangerous`` (the service or the CRI plugin will not start with it, or loses its
    settings), ``unread``. `why` are the telling lines, `problems` the same for programs.
    """

    path: str
    state: Literal["fresh", "ignored", "stale", "dangerous", "unread"]
    why: tuple[str, ...] = ()
    problems: tuple[TemplateProblem, ...] = ()


@dataclass(frozen=True, slots=True)
class KubernetesService:
    """A unit of the flavour. `active`, `sub`, `enabled` and `result` are ActiveState, SubState, UnitFileState and
    Result; `restarts` counts those that systemd made by itself."""

    name: str
    active: str | None = None
    sub: str | None = None
    enabled: str | None = None
    result: str | None = None
    restarts: int | None = None


@dataclass(frozen=True, slots=True)
class KubernetesFacts:
    """The Kubernetes flavour of the host (`hosts.md §7`). `service` is the unit to restart (K3s) or the kubelet's.

    `flavour` is ``unknown`` where nothing could be seen, and where two flavours run at once (then both are in
    `others`). ``kind`` and ``minikube`` also name a host that runs such nodes in containers: `node_containers` are
    their names. `in_node_container` is true inside such a node.

    `templates` are K3s/RKE2 template files that exist, `template_states` what each of them and of their drop-ins does;
    `node_name` is what the kubelet registers as. `others` are the flavours that are installed besides this one.
    `services` maps each unit of the flavour to its ActiveState, `units` says more of each. `kubeconfig` is where an
    administrator's kubeconfig lies on the host. `cgroup_driver` is the kubelet's own setting, None where it asks the
    runtime or could not be read. `runtime_endpoint` is the path of the kubelet's CRI socket. `drop_in_dirs` are the
    folders whose files containerd reads besides its own. `default_runtime` is K3s' and RKE2's option of that name.
    `containerd_base_dir` is k8s-snap's base (``/`` by default).

    `search_path` are the folders in which K3s and RKE2 look for nvidia-container-runtime when they start, and
    `toolkit_changed` when the one found there was put in place (seconds since the epoch); `rendered_at` is when the
    service last wrote containerd's configuration. `runs_pods` is false on a node without a kubelet; `joined` is false
    where a kubelet was installed and never set up. `embedded_etcd` is true where K3s or RKE2 keeps etcd on this host.
    """

    flavour: KubernetesFlavour = "unknown"
    version: str | None = None
    role: Literal["server", "agent", "control-plane", "worker"] | None = None
    service: str | None = None
    data_dir: str | None = None
    node_name: str | None = None
    templates: tuple[str, ...] = ()
    active: bool | None = None
    others: tuple[str, ...] = ()
    services: Mapping[str, str] = field(default_factory=dict)
    kubeconfig: str | None = None
    cgroup_driver: Literal["systemd", "cgroupfs"] | None = None
    runtime_endpoint: str | None = None
    template_states: tuple[Template, ...] = ()
    drop_in_dirs: tuple[str, ...] = ()
    default_runtime: str | None = None
    containerd_base_dir: str | None = None
    units: tuple[KubernetesService, ...] = ()
    node_containers: tuple[str, ...] = ()
    in_node_container: bool | None = None
    search_path: tuple[str, ...] | None = None
    toolkit_changed: int | None = None
    rendered_at: int | None = None
    runs_pods: bool | None = None
    joined: bool | None = None
    embedded_etcd: bool | None = None
