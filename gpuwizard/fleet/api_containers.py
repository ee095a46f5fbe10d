"""What a container does on a simulated host: pure, from its spec, its handler and the host's runtime.

Messages are those of containerd, runc and NVIDIA's tools (`kubernetes.md §1.14`, `§6`, appendix E).
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from gpuwizard.fleet.api_nodes import GPU
from gpuwizard.fleet.node import NodeRuntime

__all__ = ["Life", "NotStarted", "Outcome", "is_device_plugin", "life_of", "no_sandbox", "pull_problem"]

Json = dict[str, Any]

_TASK = "failed to create containerd task: failed to create shim task: OCI runtime create failed: "
_PLUGIN_HINT = "If this is a GPU node, did you configure the NVIDIA Container Toolkit?"


@dataclass(frozen=True, slots=True)
class Life:
    """A container that started: its log, and after how many seconds it ends with which status (None: it stays).

    `devices` are what it announces when it is the device plugin. `stubborn`: it ignores SIGTERM, and is killed only
    when its grace is over.
    """

    log: str = ""
    exit_code: int | None = None
    seconds: float = 0.5
    devices: tuple[str, ...] | None = None
    stubborn: bool = False


@dataclass(frozen=True, slots=True)
class NotStarted:
    """A container that the runtime could not start, in the runtime's words."""

    message: str


Outcome: TypeAlias = Life | NotStarted


def is_device_plugin(container: Json) -> bool:
    """Whether the container is NVIDIA's device plugin."""
    image = str(container.get("image", "")).partition("@")[0]
    return image.rpartition("/")[2].partition(":")[0] == "k8s-device-plugin"


def no_sandbox(runtime: NodeRuntime, handler: str, sandbox: str) -> str | None:
    """Why the pod's sandbox cannot be made; None when it can. `handler` is the runtime class's, or the default."""
    if not runtime.service_active:
        address = (
            "/run/k3s/containerd/containerd.sock"
            if "k3s" in runtime.runtime_version
            else ("/run/containerd/containerd.sock")
        )
        dial = f'"transport: Error while dialing: dial unix {address}: connect: connection refused"'
        return f"rpc error: code = Unavailable desc = connection error: desc = {dial}"
    if runtime.cri != "ok":
        return "rpc error: code = Unimplemented desc = unknown service runtime.v1.RuntimeService"
    if handler not in runtime.handlers:
        modern = re.match(r"containerd://v?[2-9]", runtime.runtime_version)
        start = f'unable to get OCI runtime for sandbox "{sandbox}"' if modern else "failed to get sandbox runtime"
        return f'rpc error: code = Unknown desc = {start}: no runtime for "{handler}" is configured'
    if _is_nvidia(handler) and not runtime.toolkit_ok:
        log = f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{sandbox}/log.json"
        missing = 'exec: "nvidia-container-runtime": executable file not found in $PATH'
        return (
            "rpc error: code = Unknown desc = failed to start sandbox "
            f'"{sandbox}": {_TASK}unable to retrieve OCI runtime error (open {log}: no such file or directory): '
            f"{missing}: unknown"
        )
    return None


def pull_problem(image: str) -> str | None:
    """Why an image cannot be pulled; None when it can. Registries under ``.invalid`` have no address (RFC 2606), and
    nothing listens at a port of the node's own loopback address."""
    registry, _, rest = image.partition("/")
    host, _, port = registry.partition(":")
    name, _, tag = rest.partition(":")
    tag = tag or "latest"
    request = f'failed to do request: Head "https://{registry}/v2/{name}/manifests/{tag}"'
    if host.endswith(".invalid"):
        why = f"{request}: dial tcp: lookup {host}: no such host"
    elif host in ("127.0.0.1", "localhost") and rest:
        why = f"{request}: dial tcp 127.0.0.1:{port or 443}: connect: connection refused"
    else:
        return None
    return f'failed to pull and unpack image "{image}": failed to resolve image: {why}'


def life_of(
    container: Json, handler: str, runtime: NodeRuntime, devices: tuple[str, ...], config: str | None
) -> Outcome:
    """What becomes of the container. `devices` are those that the kubelet handed it; `config` is the text of the
    device plugin's configuration file, None when it names none."""
    environment = {e["name"]: str(e.get("value", "")) for e in container.get("env") or ()}
    plugin = is_device_plugin(container)
    visible = environment.get("NVIDIA_VISIBLE_DEVICES", "all" if plugin and not devices else ",".join(devices))
    injected = _is_nvidia(handler) and visible not in ("", "void", "none")
    if injected and not runtime.driver_ok:
        why = "nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown"
        return NotStarted(f"{_TASK}runc create failed: unable to start container process: {why}")
    gpus = _visible_gpus(runtime, visible) if injected else ()
    if plugin:
        return _plugin_life(runtime, injected, config)
    argv = [*(container.get("command") or ()), *(container.get("args") or ())]
    return _command_life([str(a) for a in argv], injected, gpus)


def _is_nvidia(handler: str) -> bool:
    return handler == "nvidia" or handler.startswith("nvidia-")


def _visible_gpus(runtime: NodeRuntime, visible: str) -> tuple[tuple[int, str, str], ...]:
    if visible == "all":
        return runtime.gpus
    wanted = {device.partition("::")[0] for device in visible.split(",")}
    return tuple(g for g in runtime.gpus if g[2] in wanted or str(g[0]) in wanted)


def _plugin_life(runtime: NodeRuntime, injected: bool, config: str | None) -> Life:
    try:
        replicas = _replicas(config)
    except ValueError as error:
        return Life(f"unable to load config: unable to finalize config: {error}\n", 1)
    if not injected:
        return Life(
            "Failed to initialize NVML: ERROR_LIBRARY_NOT_FOUND.\n"
            f"{_PLUGIN_HINT}\nError starting plugins: nvml init failed: ERROR_LIBRARY_NOT_FOUND\n",
            1,
        )
    if not runtime.gpus:
        return Life("No devices found. Waiting indefinitely.\n", devices=())
    devices = tuple(
        uuid if replicas == 1 else f"{uuid}::{replica}" for _, _, uuid in runtime.gpus for replica in range(replicas)
    )
    lines = (
        f"Retrieving plugins.\nStarting GRPC server for '{GPU}'\nRegistered device plugin for '{GPU}' with Kubelet\n"
    )
    return Life(lines, devices=devices)


def _replicas(config: str | None) -> int:
    """Replicas of nvidia.com/gpu in a device plugin configuration (`kubernetes.md §2.4`); 1 without sharing."""
    if config is None:
        return 1
    try:
        parsed = yaml.safe_load(config) or {}
    except yaml.YAMLError as error:
        raise ValueError("unable to parse the config file: error converting YAML") from error
    if not isinstance(parsed, Mapping) or parsed.get("version") != "v1":
        raise ValueError("unknown version")
    sharing = (parsed.get("sharing") or {}).get("timeSlicing")
    if not sharing:
        return 1
    if not sharing.get("resources"):
        raise ValueError("no resources specified")
    for resource in sharing["resources"]:
        replicas = resource.get("replicas")
        if not isinstance(replicas, int) or replicas < 2:
            raise ValueError("number of replicas must be >= 2")
        if resource.get("name") == GPU:
            return replicas
    return 1


def _command_life(argv: list[str], injected: bool, gpus: tuple[tuple[int, str, str], ...]) -> Outcome:
    shell = len(argv) >= 3 and argv[0].rpartition("/")[2] in ("sh", "bash") and argv[1] == "-c"
    words = _words(argv[2]) if shell else argv
    match words:
        case ["nvidia-smi", *options]:
            return _nvidia_smi(options, shell, injected, gpus)
        case ["sleep", seconds] if seconds.isdigit():
            return Life(exit_code=0, seconds=float(seconds))
        case ["trap", "", "TERM;", *_]:
            return Life(stubborn=True)
        case ["true"]:
            return Life(exit_code=0)
        case ["false"]:
            return Life(exit_code=1)
        case ["echo", *said]:
            return Life(" ".join(said) + "\n", 0)
        case _:
            return Life()


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return [text]


def _nvidia_smi(options: list[str], shell: bool, injected: bool, gpus: tuple[tuple[int, str, str], ...]) -> Outcome:
    """nvidia-smi is there only when the nvidia runtime has put it into the container."""
    if not injected:
        if shell:
            return Life("sh: 1: nvidia-smi: not found\n", 127)
        why = 'exec: "nvidia-smi": executable file not found in $PATH: unknown'
        return NotStarted(
            f"{_TASK}runc create failed: unable to start container process: error during container init: {why}"
        )
    if not gpus:
        return Life("No devices were found\n", 6)
    if options == ["-L"]:
        return Life("".join(f"GPU {i}: {name} (UUID: {uuid})\n" for i, (_, name, uuid) in enumerate(gpus)), 0)
    return Life("".join(f"| {i}  {name} |\n" for i, (_, name, _) in enumerate(gpus)), 0)
