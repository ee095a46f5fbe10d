"""The Kubernetes of one probe."""

from gpuwizard.facts.kubernetes.flavour import KubernetesInputs, kubernetes_facts
from gpuwizard.facts.look import Look
from gpuwizard.facts.model import KubernetesFacts
from gpuwizard.facts.text import value

__all__ = ["read_kubernetes"]

_RENDERED = "/agent/etc/containerd/config.toml"


def read_kubernetes(look: Look, hostname: str | None) -> tuple[KubernetesFacts, str | None]:
    """The flavour, and the kubelet's CRI socket (None: unknown, empty: there is no kubelet)."""
    frames = look.frames
    if frames.get("kubernetes-marks") is None:
        return KubernetesFacts(), None
    versions = {p: text for p in ("k3s", "rke2", "k0s", "kubelet") if (text := frames.good(f"{p}-version")) is not None}
    versions |= {f"snap:{s.key}": s.text for s in frames.all("snap")}
    data_dirs = [
        line.removeprefix("config=").removesuffix(_RENDERED)
        for section in frames.all("containerd")
        for line in section.lines
        if line.startswith("config=") and line.endswith(_RENDERED) and "/rke2/" not in line
    ]
    return kubernetes_facts(
        KubernetesInputs(
            units=look.units,
            processes=look.processes,
            marks=look.marks,
            versions=versions,
            files=look.files,
            hostname=hostname,
            node_id=value(frames.text("node-id")),
            data_dirs=data_dirs,
            flags={s.key: s.text for s in frames.all("kubelet-flags")},
            configs={s.key: s.text for s in frames.all("kubelet-config")},
            init_scripts={s.key for s in frames.all("init-script")},
            root=look.root,
        )
    )
