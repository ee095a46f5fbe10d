"""Hosts of Canonical Kubernetes for tests: the snap's own root file below its base folder."""

from collections.abc import Mapping
from typing import Any

from gpuwizard.facts.model import KubernetesFacts, Probe, RuntimeFacts
from tests.plan_probes import probe

BASE = "/var/lib/k8s-containerd"


def snap_root(base: str = "", *, imports: str = "") -> str:
    """What the snap writes at bootstrap: version 2 on every track."""
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return (
        f'version = 2\noom_score = 0\nimports = ["{base}/etc/containerd/conf.d/*.toml"{imports}]\n\n'
        f'[{cri}]\n  sandbox_image = "example.test/pause:3.10"\n'
        f'[{cri}.registry]\n  config_path = "{base}/etc/containerd/hosts.d"\n'
        f'[{cri}.containerd]\n  default_runtime_name = "runc"\n'
        f'[{cri}.containerd.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n'
        f"[{cri}.containerd.runtimes.runc.options]\n  SystemdCgroup = true\n"
        f'[{cri}.cni]\n  bin_dir = "/opt/cni/bin"\n  conf_dir = "/etc/cni/net.d"\n'
    )


def snap_host(
    containerd: str,
    files: Mapping[str, str | bytes | None] | None = None,
    *,
    base: str = "",
    config_path: str | None = "",
    **facts: Any,
) -> Probe:
    """A worker of Canonical Kubernetes whose containerd keeps its files below `base`."""
    main = f"{base}/etc/containerd/config.toml"
    runtime = RuntimeFacts(
        kind="containerd",
        version=containerd,
        socket=f"{base}/run/containerd/containerd.sock",
        config_path=main if config_path == "" else config_path,
        used_by_kubelet=True,
        owner="snap",
        unit="snap.k8s.containerd.service",
        binary="/snap/k8s/current/bin/containerd",
        running=True,
    )
    kubernetes = KubernetesFacts(
        "k8s-snap", "v1.34.1", "worker", "snap.k8s.kubelet.service", node_name="s1", containerd_base_dir=base or "/"
    )
    return probe({main: snap_root(base), **(files or {})}, runtime, kubernetes, **facts)
