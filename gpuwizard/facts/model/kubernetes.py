"""The Kubernetes of a host."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["KubernetesFacts", "KubernetesFlavour", "Template"]

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


@dataclass(frozen=True, slots=True)
class Template:
    """A containerd template or drop-in of K3s or RKE2 (`runtimes.md §2.3, §2.6`).

    `state`: ``fresh`` (includes "base" and adds only what is its own), ``ignored`` (another file wins, or this
    release does not read it), ``stale`` (a full copy that hides what the release writes by itself), ``dangerous``
    (the service or the CRI plugin will not start with it), ``unread``. `why` are the telling lines.
    """

    path: str
    state: Literal["fresh", "ignored", "stale", "dangerous", "unread"]
    why: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KubernetesFacts:
    """The Kubernetes flavour of the host (`hosts.md §7`). `service` is the unit to restart (K3s) or the kubelet's.

    `templates` are K3s/RKE2 template files that exist, `template_states` what each of them does; `node_name` is what
    the kubelet registers as. `others` are the flavours that are installed besides this one. `services` maps each unit
    of the flavour to its ActiveState. `kubeconfig` is where an administrator's kubeconfig lies on the host.
    `cgroup_driver` is the kubelet's own setting, None where it asks the runtime or could not be read.
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
