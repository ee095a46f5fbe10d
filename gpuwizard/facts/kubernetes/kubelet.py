"""The settings of a kubelet: flags win over its configuration file, that over the defaults (`hosts.md §7.1`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gpuwizard.facts.kubernetes.inputs import KubernetesInputs, argument_words, default_name, host_processes
from gpuwizard.facts.kubernetes.presence import owner_of
from gpuwizard.facts.kubernetes.release import KubeRelease
from gpuwizard.facts.model import KubernetesFlavour
from gpuwizard.facts.runtimes.inputs import socket_path
from gpuwizard.facts.text import value
from gpuwizard.facts.units import flag

__all__ = ["CONTAINERD_SOCKET", "CRIO_SOCKET", "Kubelet", "kubelet_of", "setting"]

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
CRIO_SOCKET = "/run/crio/crio.sock"
_DOCKERSHIM = "/run/dockershim.sock"
_OWN_FILES = ("/var/lib/kubelet/instance-config.yaml", "/var/lib/kubelet/config.yaml")
CgroupDriver = Literal["systemd", "cgroupfs"]


@dataclass(frozen=True, slots=True)
class Kubelet:
    """A kubelet as it was started, or would be. `running` is true where its process was seen; `arguments` are then
    those of the process. `complete` is false where a configuration file could not be read."""

    arguments: tuple[str, ...]
    running: bool
    endpoint: str | None
    cgroup_driver: CgroupDriver | None
    node_name: str | None
    complete: bool


def kubelet_of(
    inputs: KubernetesInputs,
    flavour: KubernetesFlavour,
    release: KubeRelease | None,
    *,
    files: Sequence[str] = _OWN_FILES,
    flags: str | None = None,
    default: str | None = None,
) -> Kubelet:
    """The kubelet of `flavour`.

    Where its process does not say: `files` are its configuration files, each before those that win over it, and
    `flags` is its argument file (None: kubelet.service and its environment files). `default` is the socket that it
    uses when nothing is set.
    """
    process = next((p for p in host_processes(inputs) if owner_of(p) == flavour and _is_kubelet(p.arguments)), None)
    arguments = tuple(process.arguments[1:]) if process is not None else _would_be(inputs, flags)
    configs, complete = _configs(inputs, arguments, files)
    driver = flag(arguments, "--cgroup-driver") or setting(configs, "cgroupDriver")
    known = complete and (process is not None or inputs.root)
    name = flag(arguments, "--hostname-override")
    return Kubelet(
        arguments=arguments,
        running=process is not None,
        endpoint=_endpoint(arguments, configs, release, default if known else None),
        cgroup_driver=_driver(driver, release, known),
        node_name=default_name(name or (inputs.hostname if process is not None or inputs.root else None)),
        complete=complete,
    )


def _would_be(inputs: KubernetesInputs, flags: str | None) -> tuple[str, ...]:
    """The arguments with which a kubelet that does not run would be started."""
    if flags is not None:
        return tuple(argument_words(inputs.flags.get(flags, "")))
    unit = inputs.units.get("kubelet.service")
    words = list(unit.arguments[1:] if unit is not None else ())
    for path, text in inputs.flags.items():
        if not path.startswith("/var/snap/"):
            words += argument_words(text)
    return tuple(words)


def _is_kubelet(arguments: Sequence[str]) -> bool:
    return bool(arguments) and arguments[0].rpartition("/")[2].split(" ")[0] in ("kubelet", "kubelite")


def _configs(
    inputs: KubernetesInputs, arguments: Sequence[str], files: Sequence[str]
) -> tuple[list[dict[str, str]], bool]:
    """The telling settings of each configuration file that it reads, each before those that win over it."""
    named, folder = flag(arguments, "--config"), flag(arguments, "--config-dir")
    paths = [named] if named is not None else list(files)
    if folder is not None:
        inside = f"{folder.rstrip('/')}/"
        paths += sorted(path for path in inputs.configs if path.startswith(inside))
    read = [_settings(inputs.configs[path]) for path in paths if path in inputs.configs]
    return read, (named in inputs.configs if named is not None else inputs.root or bool(read))


def _settings(text: str) -> dict[str, str]:
    """``key: value`` lines."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, rest = line.partition(":")
        shown = value(rest.strip().strip("\"'"))
        if colon and shown:
            found[key.strip().strip("\"'")] = shown
    return found


def setting(configs: Sequence[Mapping[str, str]], name: str) -> str | None:
    """The setting of the last file that has it."""
    return next((config[name] for config in reversed(configs) if name in config), None)


def _endpoint(
    arguments: Sequence[str], configs: Sequence[Mapping[str, str]], release: KubeRelease | None, default: str | None
) -> str | None:
    if release is not None and release.has_dockershim:
        kind = flag(arguments, "--container-runtime")
        if kind == "docker" or (kind is None and default is not None):
            return _DOCKERSHIM
    found = flag(arguments, "--container-runtime-endpoint") or setting(configs, "containerRuntimeEndpoint")
    return socket_path(found) if found else default


def _driver(text: str | None, release: KubeRelease | None, known: bool) -> CgroupDriver | None:
    if text == "systemd":
        return "systemd"
    if text == "cgroupfs":
        return "cgroupfs"
    if text is None and known and release is not None and not release.asks_runtime_for_cgroup_driver:
        return "cgroupfs"
    return None
