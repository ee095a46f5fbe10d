"""The data that K3s fills a template with, as far as a rendered file tells it (`runtimes.md §2.3`).

What is not known of a node is UNKNOWN; a field that the release does not have is not there.
"""

from collections.abc import Mapping
from typing import Any

from gpuwizard.containerd.go_values import UNKNOWN, GoMap, Struct
from gpuwizard.containerd.k3s_base import CRI_OF, Detected, NodeState
from gpuwizard.containerd.k3s_release import NEWEST
from gpuwizard.facts.kubernetes.release import KubeRelease

__all__ = ["node_config"]

_ZERO_RUNTIME = Struct("templates.ContainerdRuntimeConfig", {"RuntimeType": "", "BinaryName": ""})
_MAYBE = (  # field, first release that certainly has it; which of the older ones have it is not known
    ("EnableUnprivileged", KubeRelease(1, 25, 0)),
    ("SystemdCgroup", KubeRelease(1, 25, 0)),
    ("Program", KubeRelease(1, 26, 0)),
    ("NoDefaultEndpoint", KubeRelease(1, 31, 0)),
    ("NonrootDevices", KubeRelease(1, 31, 6)),
)


def node_config(
    release: KubeRelease, program: str, rendered: str, detected: Mapping[str, Detected], node: NodeState
) -> Struct:
    """The configuration of one node as its templates see it. `rendered` is the path of the rendered file."""
    values = node.values
    rootless = bool(values.get("disable_apparmor"))
    fields: dict[str, Any] = {
        "NodeConfig": _config_node(rendered, values),
        "DisableCgroup": bool(values.get("disable_cgroup")),
        "IsRunningInUserNS": rootless,
        "PrivateRegistryConfig": _registry(node),
        "EnableUnprivileged": values.get("unprivileged_ports", UNKNOWN),
        "SystemdCgroup": values.get("systemd_cgroup", UNKNOWN),
        "NonrootDevices": values.get("device_ownership", UNKNOWN),
        "NoDefaultEndpoint": UNKNOWN,
        "Program": program,
    }
    for name, first in _MAYBE:
        if release < first:
            fields[name] = UNKNOWN
    if release.detects_nvidia:
        found = {
            name: Struct(_ZERO_RUNTIME.name, {"RuntimeType": one.runtime_type, "BinaryName": one.path})
            for name, one in detected.items()
        }
        fields["ExtraRuntimes"] = GoMap(found, _ZERO_RUNTIME)
    return Struct("templates.ContainerdConfig", fields, complete=release <= NEWEST)


def _config_node(rendered: str, values: Mapping[str, Any]) -> Struct:
    agent = {
        "PauseImage": values.get("sandbox", ""),
        "Snapshotter": values.get("snapshotter", ""),
        "CNIBinDir": values.get("cni_bin", UNKNOWN),
        "CNIConfDir": values.get("cni_conf", UNKNOWN),
        "ImageServiceSocket": UNKNOWN if values.get("snapshotter") == "stargz" else "",
        "Systemd": values.get("systemd_cgroup", UNKNOWN),
    }
    containerd = {
        "Root": values.get("root", UNKNOWN),
        "State": values.get("state", UNKNOWN),
        "Address": values.get("address", UNKNOWN),
        "Opt": values.get("opt", UNKNOWN),
        "Registry": values.get("registry_path", UNKNOWN),
        "Config": rendered,
        "BlockIOConfig": values.get("blockio", ""),
        "RDTConfig": values.get("rdt", ""),
    }
    node = {
        "SELinux": values.get("selinux", UNKNOWN),
        "NoFlannel": "cni_bin" not in values,
        "DefaultRuntime": values.get("default_runtime") or "",
        "AgentConfig": Struct("config.Agent", agent, complete=False),
        "Containerd": Struct("config.Containerd", containerd, complete=False),
    }
    return Struct("config.Node", node, complete=False)


def _registry(node: NodeState) -> Struct:
    """Mirrors and credentials as the file shows them that this template gave last."""
    tables: Any = node.rest
    for part in ("plugins", "io.containerd.cri.v1.images" if node.dialect == 3 else CRI_OF[node.dialect], "registry"):
        tables = tables.get(part, {}) if isinstance(tables, Mapping) else {}
    mirrors = {
        name: Struct(
            "registries.Mirror",
            {
                "Endpoints": tuple(endpoints) if isinstance(endpoints := one.get("endpoint"), list) else (),
                "Rewrites": GoMap(rewrites if isinstance(rewrites := one.get("rewrite"), dict) else {}),
            },
        )
        for name, one in _tables(tables, "mirrors").items()
    }
    configs = {
        name: Struct("registries.RegistryConfig", {"Auth": _credentials(one), "TLS": _tls(one)})
        for name, one in _tables(tables, "configs").items()
    }
    return Struct("registries.Registry", {"Mirrors": GoMap(mirrors, None), "Configs": GoMap(configs, None)})


def _tables(tables: Any, name: str) -> dict[str, dict[str, Any]]:
    found = tables.get(name) if isinstance(tables, Mapping) else None
    return {k: v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}


def _credentials(config: Mapping[str, Any]) -> Struct | None:
    auth = config.get("auth")
    names = (("Username", "username"), ("Password", "password"), ("Auth", "auth"), ("IdentityToken", "identitytoken"))
    return Struct("registries.AuthConfig", {f: auth.get(k, "") for f, k in names}) if isinstance(auth, dict) else None


def _tls(config: Mapping[str, Any]) -> Struct | None:
    tls = config.get("tls")
    if not isinstance(tls, dict):
        return None
    names = (("CAFile", "ca_file"), ("CertFile", "cert_file"), ("KeyFile", "key_file"))
    skip = tls.get("insecure_skip_verify", False)
    return Struct("registries.TLSConfig", {**{f: tls.get(k, "") for f, k in names}, "InsecureSkipVerify": skip})
