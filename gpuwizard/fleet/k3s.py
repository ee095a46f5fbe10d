"""What a simulated K3s does at every start: find runtimes, render containerd's file, or refuse (`runtimes.md §2`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from gpuwizard.containerd.k3s_base import DETECTABLE, Detected, NodeState, base_document
from gpuwizard.containerd.k3s_fresh import fresh_values
from gpuwizard.containerd.k3s_release import Dialect, applying_template, release_of
from gpuwizard.containerd.k3s_render import NextStart, PredictionError, filled_with, toml_text
from gpuwizard.errors import GpuwizardError
from gpuwizard.facts.kubernetes.release import KubeRelease

__all__ = ["RenderError", "Rendered", "render"]

_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


class RenderError(Exception):
    """K3s says this and ends."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The configuration that K3s writes, and what it logs while it does so."""

    text: str
    log: tuple[str, ...] = ()
    found: Mapping[str, str] = field(default_factory=dict)


def render(
    files: Mapping[str, bytes],
    executables: frozenset[str],
    *,
    version: str,
    containerd: str,
    data: str,
) -> Rendered:
    """Render the configuration of a K3s of `version` with its `containerd`, from the host's files.

    `executables` are the paths of programs. Raises RenderError when K3s would not start.
    """
    release = _k3s_release(version)
    found = {
        name: Detected(kind, path)
        for name, (kind, program) in DETECTABLE.items()
        for folder in reversed(release.search_path(_PATH))
        if (path := f"{folder}/{program}") in executables
    }
    options = _options(files)
    default = options.get("default-runtime") if release.has_default_runtime else None
    if default is not None and default not in found:
        raise RenderError(f"default runtime {default} was not found")
    folder = f"{data}/agent/etc/containerd"
    applying = applying_template(files, folder, release)
    values = fresh_values(None, release, "k3s", data, systemd=True)
    values |= {"cni_bin": f"{data}/data/cni", "cni_conf": f"{data}/agent/etc/cni/net.d", "default_runtime": default}
    node = NodeState(applying.dialect, values, {}, _registry(applying.dialect, files))
    base = toml_text(base_document(node, release, applying.dialect, found, folder), "k3s")
    start = NextStart(release, "k3s", folder, files, found, default)
    try:
        text = filled_with(start, applying, node, {"base": base}).text
    except PredictionError as error:
        raise RenderError(f"template: {error.what}") from error
    log = tuple(f"Found nvidia container runtime at {one.path}" for one in found.values())
    return Rendered(text, log, {name: one.path for name, one in found.items()})


def _k3s_release(version: str) -> KubeRelease:
    try:
        return release_of(version)
    except GpuwizardError as error:
        raise RenderError(str(error)) from error


def _options(files: Mapping[str, bytes]) -> dict[str, str]:
    """Texts of config.yaml and what is laid over it; later files win."""
    folder = "/etc/rancher/k3s/config.yaml"
    names = [n for n in sorted(files) if n.startswith(f"{folder}.d/") and n.endswith((".yaml", ".yml"))]
    options: dict[str, str] = {}
    for name in [folder, *names]:
        try:
            content = yaml.safe_load(files.get(name, b""))
        except yaml.YAMLError as error:
            reason = str(error).splitlines()[0]
            raise RenderError(f"failed to load configuration file {name}: {reason}") from error
        if content is not None and not isinstance(content, dict):
            raise RenderError(f"failed to load configuration file {name}: it is not a mapping")
        options |= {str(key): str(value) for key, value in (content or {}).items()}
    return options


def _registry(dialect: Dialect, files: Mapping[str, bytes]) -> dict[str, Any]:
    """The credentials of registries.yaml, which K3s renders in plain text."""
    try:
        content = yaml.safe_load(files.get("/etc/rancher/k3s/registries.yaml", b"")) or {}
        configs = content.get("configs") or {}
        auths = {str(n): {"auth": dict(c["auth"])} for n, c in configs.items() if isinstance(c, dict) and c.get("auth")}
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise RenderError("failed to load registries.yaml") from error
    plugin = "io.containerd.cri.v1.images" if dialect == 3 else "io.containerd.grpc.v1.cri"
    return {"plugins": {plugin: {"registry": {"configs": auths}}}} if auths else {}
