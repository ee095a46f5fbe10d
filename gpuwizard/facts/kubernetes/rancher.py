"""K3s and RKE2: one code base, other paths (`runtimes.md §2.1`, `§3`)."""

import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from gpuwizard.facts.kubernetes.drop_ins import TemplateFiles, read_templates, rendered_imports
from gpuwizard.facts.kubernetes.inputs import (
    Found,
    KubernetesInputs,
    default_name,
    host_processes,
    is_up,
    rootless,
    states,
    version,
)
from gpuwizard.facts.kubernetes.kubelet import kubelet_of
from gpuwizard.facts.kubernetes.presence import owner_of, rancher_units
from gpuwizard.facts.kubernetes.release import KubeRelease
from gpuwizard.facts.kubernetes.settings import RancherSettings, environment_of, rancher_settings
from gpuwizard.facts.kubernetes.templates import Rendering
from gpuwizard.facts.model import KubernetesFacts
from gpuwizard.facts.runtimes.inputs import socket_path
from gpuwizard.facts.units import Unit, flag

__all__ = ["rancher_facts"]

_SOCKET = "/run/k3s/containerd/containerd.sock"
_DOCKER_SOCKET = "/run/k3s/cri-dockerd/cri-dockerd.sock"
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Role = Literal["server", "agent"]
Program = Literal["k3s", "rke2"]


def rancher_facts(inputs: KubernetesInputs, program: Program) -> Found:
    """The facts of a K3s or RKE2 host."""
    units = rancher_units(inputs, program)
    service = _service(units)
    environment = _environment(inputs, service, program)
    arguments = service.arguments if service is not None else ()
    settings = rancher_settings(inputs.files, f"/etc/rancher/{program}", arguments, environment, inputs.unread)
    text, release = version(inputs, program)
    data = _data_dir(inputs, settings, program, environment)
    folder = f"{data}/agent/etc/containerd" if data is not None else None
    role = _role(inputs, service, program, data)
    files = TemplateFiles(inputs.files, folder, inputs.unread) if folder is not None else None
    pods = role != "server" or not settings.switch("disable-agent")
    endpoint = _endpoint(inputs, settings, program, folder) if pods else ""
    search = _search_path(inputs, release, environment, service)
    short, long = states(units)
    facts = KubernetesFacts(
        flavour=program,
        version=text,
        role=role,
        service=service.name if service is not None else _script(inputs, program, role),
        data_dir=data,
        node_name=_node_name(inputs, settings),
        templates=_existing(files),
        active=_active(inputs, service, program),
        services=short,
        units=long,
        kubeconfig=_kubeconfig(settings, program) if role == "server" else None,
        cgroup_driver=_cgroup_driver(inputs, settings, program, data, release),
        runtime_endpoint=endpoint or None,
        template_states=read_templates(files, _rendering(settings, program, role, release)) if files else (),
        drop_in_dirs=_drop_in_dirs(files),
        default_runtime=settings.text("default-runtime"),
        search_path=search,
        toolkit_changed=_changed(inputs, search),
        rendered_at=files.changed("config.toml") if files is not None else None,
        runs_pods=pods,
        embedded_etcd=_etcd(inputs, data, role),
    )
    return facts, endpoint


def _service(units: Sequence[Unit]) -> Unit | None:
    """The unit that counts: packages install the server's and the agent's together, and one of them is used."""
    tests: tuple[Callable[[Unit], bool], ...] = (
        is_up,
        lambda unit: unit.active in ("activating", "failed"),
        lambda unit: unit.enabled == "enabled",
    )
    for test in tests:
        if found := [unit for unit in units if test(unit)]:
            return found[0]
    return units[0] if len(units) == 1 else None


def _environment(inputs: KubernetesInputs, service: Unit | None, program: Program) -> dict[str, str]:
    """What the unit sets, and what its files set over it."""
    prefix = f"{program.upper()}_"
    unit = service.environment if service is not None else {}
    own = {name.removeprefix(prefix): text for name, text in unit.items()}
    return own | environment_of(inputs.environments, service.name if service is not None else None)


def _data_dir(
    inputs: KubernetesInputs, settings: RancherSettings, program: Program, environment: Mapping[str, str]
) -> str | None:
    """Where a running containerd of it says, else where its options say; None where these could not be read."""
    running = [path for path in inputs.data_dirs if ("/rke2" in path) == (program == "rke2")] or list(inputs.data_dirs)
    if len(set(running)) == 1:
        return running[0]
    if (named := settings.text("data-dir")) is not None:
        return named.rstrip("/") or named
    if settings.switch("rootless"):
        home = environment.get("HOME")
        return f"{home}/.rancher/{program}" if home else None
    if rootless(inputs) and not rancher_units(inputs, program):
        return None  # below the home of that user
    usual = f"/var/lib/rancher/{program}"
    return usual if settings.complete or usual in inputs.marks else None


def _role(inputs: KubernetesInputs, service: Unit | None, program: Program, data: str | None) -> Role | None:
    arguments, name = (service.arguments, service.name) if service is not None else ((), "")
    for role in ("agent", "server"):
        if role in arguments[1:2] or name == f"{program}-{role}.service":
            return role
    for process in host_processes(inputs):
        if owner_of(process) == program:
            words = " ".join(process.arguments[:2]).split()
            if process.comm.endswith("-agent") or "agent" in words[1:2]:
                return "agent"
            if process.comm.endswith("-server") or "server" in words[1:2]:
                return "server"
    if name == f"{program}.service" or f"{data}/server" in inputs.marks:
        return "server"
    return "agent" if f"{program}-agent" in inputs.init_scripts else None


def _script(inputs: KubernetesInputs, program: Program, role: Role | None) -> str | None:
    """The OpenRC service."""
    order = (f"{program}-agent", program) if role == "agent" else (program, f"{program}-agent", f"{program}-server")
    return next((name for name in order if name in inputs.init_scripts), None)


def _node_name(inputs: KubernetesInputs, settings: RancherSettings) -> str | None:
    """Always in lower case; with its own number behind it where that was asked for."""
    name = settings.text("node-name") or (inputs.hostname if settings.complete else None)
    if settings.switch("with-node-id"):
        return default_name(f"{name}-{inputs.node_id}") if name and inputs.node_id else None
    return default_name(name)


def _existing(files: TemplateFiles | None) -> tuple[str, ...]:
    if files is None:
        return ()
    names = ("config-v3.toml.tmpl", "config.toml.tmpl")
    return tuple(f"{files.folder}/{name}" for name in names if files.content(name) is not None)


def _active(inputs: KubernetesInputs, service: Unit | None, program: Program) -> bool | None:
    if service is not None:
        return is_up(service)
    if rootless(inputs) or any(owner_of(process) == program for process in host_processes(inputs)):
        return True
    return False if inputs.root or inputs.units else None


def _kubeconfig(settings: RancherSettings, program: Program) -> str:
    return settings.text("write-kubeconfig") or f"/etc/rancher/{program}/{program}.yaml"


def _endpoint(inputs: KubernetesInputs, settings: RancherSettings, program: Program, folder: str | None) -> str | None:
    if settings.switch("docker"):
        return _DOCKER_SOCKET
    if (named := settings.text("container-runtime-endpoint")) is not None:
        return socket_path(named)
    if rootless(inputs) and not rancher_units(inputs, program):
        return None
    return _SOCKET if settings.complete or inputs.data_dirs else None


def _cgroup_driver(
    inputs: KubernetesInputs, settings: RancherSettings, program: Program, data: str | None, release: KubeRelease | None
) -> Literal["systemd", "cgroupfs"] | None:
    """From the options for the kubelet, from RKE2's kubelet itself, or from the files that the service writes."""
    asked = [f"--{text}" for text in settings.options.get("kubelet-arg", ())]
    if (named := flag(asked, "--cgroup-driver")) in ("systemd", "cgroupfs"):
        return "systemd" if named == "systemd" else "cgroupfs"
    folder = f"{data}/agent/etc/kubelet.conf.d/"
    files = sorted(path for path in inputs.configs if path.startswith(folder))
    return (
        kubelet_of(inputs, program, None, files=files, flags="").cgroup_driver if program == "rke2" or files else None
    )


def _rendering(
    settings: RancherSettings, program: Program, role: Role | None, release: KubeRelease | None
) -> Rendering:
    flannel = program == "k3s" and role == "server" and settings.complete and settings.text("flannel-backend") != "none"
    return Rendering(release, settings.text("default-runtime") is not None, flannel)


def _drop_in_dirs(files: TemplateFiles | None) -> tuple[str, ...]:
    """The folders that the rendered file imports."""
    imports = rendered_imports(files) if files is not None else None
    return tuple(dict.fromkeys(posixpath.dirname(path) for path in imports or ()))


def _search_path(
    inputs: KubernetesInputs, release: KubeRelease | None, environment: Mapping[str, str], service: Unit | None
) -> tuple[str, ...] | None:
    """None where the release or the PATH of the service is not known."""
    own = inputs.path or environment.get("PATH") or (_DEFAULT_PATH if service is not None and inputs.root else None)
    if release is None or (own is None and release.looks_in_own_path):
        return None
    return release.search_path(tuple(folder for folder in (own or "").split(":") if folder.startswith("/")))


def _changed(inputs: KubernetesInputs, search: tuple[str, ...] | None) -> int | None:
    """When the runtime that it would find was put in place."""
    paths = [f"{folder}/nvidia-container-runtime" for folder in search or ()]
    return next((inputs.changed[path] for path in paths if path in inputs.changed), None)


def _etcd(inputs: KubernetesInputs, data: str | None, role: Role | None) -> bool | None:
    if role != "server" or data is None:
        return False if role == "agent" else None
    return True if f"{data}/server/db/etcd" in inputs.marks else False if inputs.root else None
