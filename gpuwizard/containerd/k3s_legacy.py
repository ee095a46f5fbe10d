"""The whole template for a K3s before v1.22.2, which finds no runtimes and has no "base" (`runtimes.md §2.6`, `§2.7`).

Version 1, as those releases write it. Values that change with K3s are actions, so that they follow an upgrade; the
rest is as the rendered file of this node says.
"""

from collections.abc import Mapping
from typing import Any

from gpuwizard.containerd.edit import literal
from gpuwizard.containerd.k3s_base import NodeState, base_document
from gpuwizard.containerd.statements import flat_path
from gpuwizard.facts.kubernetes.release import KubeRelease

__all__ = ["legacy_handler", "legacy_template"]

_ACTIONS = {
    ("plugins", "opt", "path"): '"{{ .NodeConfig.Containerd.Opt }}"',
    ("plugins", "cri", "sandbox_image"): '"{{ .NodeConfig.AgentConfig.PauseImage }}"',
    ("plugins", "cri", "cni", "bin_dir"): '"{{ .NodeConfig.AgentConfig.CNIBinDir }}"',
    ("plugins", "cri", "cni", "conf_dir"): '"{{ .NodeConfig.AgentConfig.CNIConfDir }}"',
}
"""Fields that every release of K3s has."""

_REGISTRIES = """\
{{ with .PrivateRegistryConfig }}
{{ range $name, $mirror := .Mirrors }}
[plugins.cri.registry.mirrors."{{ $name }}"]
  endpoint = [{{ range $i, $url := $mirror.Endpoints }}{{ if $i }}, {{ end }}{{ printf "%q" $url }}{{ end }}]
REWRITES{{ end }}
{{ range $name, $config := .Configs }}
{{ with $config.Auth }}
[plugins.cri.registry.configs."{{ $name }}".auth]
  username = {{ printf "%q" .Username }}
  password = {{ printf "%q" .Password }}
  auth = {{ printf "%q" .Auth }}
  identitytoken = {{ printf "%q" .IdentityToken }}
{{ end }}
{{ with $config.TLS }}
[plugins.cri.registry.configs."{{ $name }}".tls]
  ca_file = {{ printf "%q" .CAFile }}
  cert_file = {{ printf "%q" .CertFile }}
  key_file = {{ printf "%q" .KeyFile }}
SKIP{{ end }}
{{ end }}
{{ end }}
"""
_REWRITES = """\
{{ with $mirror.Rewrites }}
[plugins.cri.registry.mirrors."{{ $name }}".rewrite]
{{ range $pattern, $replacement := . }}
  "{{ $pattern }}" = "{{ $replacement }}"
{{ end }}
{{ end }}
"""
_SKIP = "  {{ if .InsecureSkipVerify }}insecure_skip_verify = true{{ end }}\n"


def legacy_template(node: NodeState, release: KubeRelease, path: str, default: str | None) -> str:
    """A full template of version 1 with handler nvidia at `path`."""
    values = {**node.values, **({"default_runtime": default} if default else {})}
    document = base_document(NodeState(1, values), release, 1, {}, "")
    lines = [
        "# Written by gpuwizard: this K3s does not look for the NVIDIA runtime, K3s v1.22.2 and newer do.",
        "# Remove this file when K3s is upgraded.",
    ]
    for key, value in document.items():
        if isinstance(value, Mapping):
            lines += _tables((key,), value)
    # Later fields are used only where the rendered file shows that this release has them.
    registries = _REGISTRIES.replace("REWRITES", _REWRITES if _has_key(node.rest, "rewrite") else "")
    registries = registries.replace("SKIP", _SKIP if _has_key(node.rest, "insecure_skip_verify") else "")
    return "\n".join(lines) + "\n" + registries + legacy_handler(path)


def _has_key(table: Mapping[str, Any], name: str) -> bool:
    return name in table or any(_has_key(one, name) for one in table.values() if isinstance(one, Mapping))


def legacy_handler(path: str) -> str:
    """The tables of handler nvidia in version 1."""
    return (
        '[plugins.cri.containerd.runtimes.nvidia]\n  runtime_type = "io.containerd.runc.v2"\n'
        f"[plugins.cri.containerd.runtimes.nvidia.options]\n  BinaryName = {literal(path)}\n"
    )


def _tables(path: tuple[str, ...], table: Mapping[str, Any]) -> list[str]:
    own = [(key, value) for key, value in table.items() if not isinstance(value, Mapping)]
    lines = [f"[{flat_path(path)}]"] if own else []
    lines += [f"  {flat_path((key,))} = {_ACTIONS.get((*path, key)) or literal(value)}" for key, value in own]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _tables((*path, key), value)
    return lines
