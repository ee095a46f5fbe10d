"""Files of a simulated host's Kubernetes and containerd: unit files, their configuration, kubeadm's and K3s' own.

All text is our own, in the form that kubeadm, Debian's containerd and K3s give their files (`runtimes.md §1`, `§2`).
"""

from collections.abc import Iterator

from gpuwizard.containerd.release import Release
from gpuwizard.fleet.files import Entry
from gpuwizard.fleet.model import HostSpec

__all__ = ["K3S_DATA", "K3S_ETC", "containerd_version", "kubernetes_files", "unit_name"]

K3S_DATA = "/var/lib/rancher/k3s"
K3S_ETC = f"{K3S_DATA}/agent/etc/containerd"

_CONTAINERD_OF_K3S = (  # minor, patch from which on, containerd (runtimes.md §2.2)
    (36, 2, "2.3.4"), (36, 0, "2.2.3"), (35, 3, "2.2.1"), (34, 6, "2.2.1"), (33, 10, "2.2.1"), (35, 0, "2.1.5"),
    (34, 1, "2.1.4"), (33, 5, "2.1.4"), (32, 9, "2.1.4"), (31, 13, "2.1.4"), (34, 0, "2.0.5"), (33, 0, "2.0.4"),
    (32, 2, "2.0.2"), (31, 6, "2.0.2"), (0, 0, "1.7.23"),
)  # fmt: skip


def containerd_version(spec: HostSpec) -> str | None:
    """The release of the containerd that the kubelet uses, or that is installed; None: there is none."""
    if spec.containerd is not None or spec.kubernetes.flavour != "k3s":
        return spec.containerd
    release = Release.parse(spec.kubernetes.version)
    for minor, patch, version in _CONTAINERD_OF_K3S:
        if (release.minor == minor and release.patch >= patch) or minor == 0:
            return version
    return "2.3.4" if release.minor > 36 else "1.7.23"


def unit_name(spec: HostSpec) -> str | None:
    """The unit that owns the kubelet's container runtime."""
    if spec.kubernetes.flavour == "k3s":
        return "k3s.service" if spec.kubernetes.role == "server" else "k3s-agent.service"
    return "containerd.service" if spec.containerd is not None else None


def kubernetes_files(spec: HostSpec) -> dict[str, Entry]:
    """Unit files and configuration, by absolute path."""
    files: dict[str, Entry] = {}
    if spec.kubernetes.flavour == "k3s":
        files |= dict(_k3s(spec))
    elif spec.containerd is not None:
        files |= dict(_containerd(spec, spec.containerd))
    if spec.kubernetes.flavour == "kubeadm":
        files |= dict(_kubeadm(spec))
    if spec.driver is not None and spec.driver.loaded:
        start = "/usr/bin/nvidia-persistenced --user nvidia-persistenced --verbose"
        files |= dict(_unit("nvidia-persistenced.service", "NVIDIA Persistence Daemon", start))
    return files


def _unit(name: str, description: str, start: str, extra: str = "") -> Iterator[tuple[str, Entry]]:
    text = (
        f"[Unit]\nDescription={description}\nAfter=network-online.target\n\n[Service]\nExecStart={start}\n{extra}"
        "Restart=always\nRestartSec=5\n\n[Install]\nWantedBy=multi-user.target\n"
    )
    path = f"/etc/systemd/system/{name}" if name.startswith("k3s") else f"/usr/lib/systemd/system/{name}"
    yield path, Entry.text(text)
    yield f"/etc/systemd/system/multi-user.target.wants/{name}", Entry.to(path)


def _k3s(spec: HostSpec) -> Iterator[tuple[str, Entry]]:
    server = spec.kubernetes.role == "server"
    unit = "k3s.service" if server else "k3s-agent.service"
    role = "server" if server else "agent"
    start = f"/usr/local/bin/k3s {role}"
    extra = f"Type=notify\nEnvironmentFile=-/etc/systemd/system/{unit}.env\nKillMode=process\nTimeoutStartSec=0\n"
    yield from _unit(unit, "Lightweight Kubernetes", start, extra)
    yield f"/etc/systemd/system/{unit}.env", Entry.text("", 0o600)
    token = f"K10f0simulated0token0of0{spec.name}::server:5e3d1c0a9b"
    if server:
        text = f'# K3s server\nwrite-kubeconfig-mode: "0600"\ntls-san:\n  - k3s.example.org\ntoken: {token}\n'
        yield f"{K3S_DATA}/server/node-token", Entry.text(f"{token}\n", 0o600)
        yield f"{K3S_DATA}/server/manifests/runtimes.yaml", Entry.text("# RuntimeClass objects of K3s\n", 0o600)
        yield "/etc/rancher/k3s/k3s.yaml", Entry.text("# the kubeconfig of a simulated server is not here\n", 0o600)
    else:
        text = f"# K3s agent\nserver: https://k3s.example.org:6443\ntoken: {token}\n"
        text += "node-label:\n  - example.org/pool=gpu\n"
    yield "/etc/rancher/k3s/config.yaml", Entry.text(text, 0o600)
    yield (
        "/etc/rancher/k3s/registries.yaml",
        Entry.text(
            "configs:\n  registry.example.org:\n    auth:\n      username: puller\n"
            "      password: hunter2-registry-of-the-simulation\n",
            0o600,
        ),
    )
    yield "/etc/rancher/node/id", Entry.text(f"{spec.name}\n")
    yield f"{K3S_DATA}/data/current", Entry.to("1f2e3d4c5b6a79888f9e0d1c2b3a4958")
    yield f"{K3S_DATA}/agent/containerd/containerd.log", Entry.text("", 0o600)
    yield "/run/k3s/containerd/containerd.sock", Entry(mode=0o660)


def _containerd(spec: HostSpec, version: str) -> Iterator[tuple[str, Entry]]:
    debian = spec.distro.startswith("debian")
    binary = "/usr/bin/containerd"
    extra = "ExecStartPre=-/sbin/modprobe overlay\nType=notify\nDelegate=yes\nKillMode=process\n"
    yield from _unit("containerd.service", "containerd container runtime", binary, extra)
    text = _main_file_1(debian) if Release.parse(version).major < 2 else _main_file_2(version)
    yield "/etc/containerd/config.toml", Entry.text(text)
    yield (
        "/etc/containerd/certs.d/registry.example.org/hosts.toml",
        Entry.text(
            'server = "https://registry.example.org"\n\n[host."https://mirror.example.org"]\n'
            '  capabilities = ["pull", "resolve"]\n'
        ),
    )
    yield "/etc/cni/net.d/10-flannel.conflist", Entry.text('{"name": "cbr0", "cniVersion": "1.0.0", "plugins": []}\n')
    yield "/run/containerd/containerd.sock", Entry(mode=0o660)


def _main_file_1(debian: bool) -> str:
    plugins = "/usr/lib/cni" if debian else "/opt/cni/bin"
    return f"""\
# containerd for Kubernetes nodes. Owner: platform team; ask before you edit.
version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    # the same pause image on every node, from our mirror
    sandbox_image = "registry.example.org/k8s/pause:3.9"

    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "{plugins}"
      conf_dir = "/etc/cni/net.d"

    [plugins."io.containerd.grpc.v1.cri".containerd]
      default_runtime_name = "runc"   # pods without a runtime class
      snapshotter = "overlayfs"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes]
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
          runtime_type = "io.containerd.runc.v2"

          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
            SystemdCgroup = true      # kubeadm: the kubelet uses systemd, too

    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "/etc/containerd/certs.d"

[metrics]
  address = "127.0.0.1:1338"
"""


def _main_file_2(version: str) -> str:
    number = 4 if Release.parse(version).line >= (2, 3) else 3
    return f"""\
# containerd for Kubernetes nodes. Owner: platform team; ask before you edit.
version = {number}

[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'

  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    # the same pause image on every node, from our mirror
    sandbox = 'registry.example.org/k8s/pause:3.10'

  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = '/etc/containerd/certs.d'

[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = 'runc'

  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'

    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = true   # kubeadm: the kubelet uses systemd, too

[metrics]
  address = '127.0.0.1:1338'
"""


def _kubeadm(spec: HostSpec) -> Iterator[tuple[str, Entry]]:
    start = "/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS"
    yield from _unit("kubelet.service", "kubelet: The Kubernetes Node Agent", start)
    endpoint = "unix:///run/containerd/containerd.sock"
    yield (
        "/var/lib/kubelet/kubeadm-flags.env",
        Entry.text('KUBELET_KUBEADM_ARGS="--pod-infra-container-image=registry.example.org/k8s/pause:3.10"\n'),
    )
    yield (
        "/var/lib/kubelet/config.yaml",
        Entry.text(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\ncgroupDriver: systemd\n"
            f"containerRuntimeEndpoint: {endpoint}\nclusterDomain: cluster.local\n"
        ),
    )
    yield "/etc/kubernetes/kubelet.conf", Entry.text("apiVersion: v1\nkind: Config\n", 0o600)
    if spec.kubernetes.role == "control-plane":
        yield "/etc/kubernetes/manifests/kube-apiserver.yaml", Entry.text("apiVersion: v1\nkind: Pod\n", 0o600)
