"""Every container runtime of the host, and which of them the kubelet uses (`hosts.md §7.2`, `runtimes.md §10`)."""

from gpuwizard.facts.model import RuntimeFacts
from gpuwizard.facts.runtimes.containerd import RENDERED, containerd_facts
from gpuwizard.facts.runtimes.crio import crio_facts
from gpuwizard.facts.runtimes.docker import docker_facts
from gpuwizard.facts.runtimes.inputs import ContainerdLook, RuntimeInputs, same_socket, socket_path
from gpuwizard.facts.text import version_of

__all__ = ["ContainerdLook", "RuntimeInputs", "runtime_facts", "same_socket", "socket_path"]


def runtime_facts(inputs: RuntimeInputs) -> tuple[RuntimeFacts, ...]:
    """The runtimes, that of the kubelet first."""
    looks = list(inputs.containerds)
    kube = inputs.kubernetes
    rendered = f"{kube.data_dir}{RENDERED}"
    if kube.flavour in ("k3s", "rke2") and kube.data_dir and not any(look.config == rendered for look in looks):
        file = inputs.files.get(rendered)
        if file is not None and file.content is not None:  # its service is down
            looks.append(ContainerdLook(None, rendered, "/run/k3s/containerd/containerd.sock"))
    found = [containerd_facts(look, inputs) for look in looks]
    found += [*docker_facts(inputs), *crio_facts(inputs), *_podman(inputs)]
    return tuple(sorted(found, key=lambda runtime: not runtime.used_by_kubelet))


def _podman(inputs: RuntimeInputs) -> list[RuntimeFacts]:
    """Podman has no daemon: it is there or it is not, and no kubelet uses it."""
    path = inputs.path_programs.get("podman")
    version = inputs.packages.get("podman")
    if path is None and version is None:
        return []
    return [
        RuntimeFacts(
            kind="podman",
            version=version_of(version),
            used_by_kubelet=False,
            owner="package" if version else None,
            binary=path,
            package=f"podman {version}" if version else None,
            in_path=path is not None,
        )
    ]
