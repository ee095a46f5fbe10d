"""The probe's part for Kubernetes, run by three shells on hosts in a folder, up to the facts."""

from pathlib import Path

import pytest

from gpuwizard.facts.model import Probe
from gpuwizard.facts.parse import parse_probe
from gpuwizard.work.probe import probe_script
from tests.probe_tree import SHELLS, Tree

TOKEN = "K10abcdef::server:5ecret"
V3 = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes"
RENDERED = f"version = 3\n[{V3}.runc]\nruntime_type = 'io.containerd.runc.v2'\n"


@pytest.fixture(params=SHELLS)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return Tree(tmp_path / "host", request.param)


def probed(tree: Tree) -> tuple[Probe, bytes]:
    raw = tree.run(probe_script())
    assert not tree.left_over()
    probe = parse_probe(raw)
    assert not [unseen for unseen in probe.facts.unseen if unseen.what == "the rest of the host"]
    return probe, raw


def running(pid: int, argv: str, **more: str) -> str:
    lines = "".join(f"\n{key}={text}" for key, text in more.items())
    return f"ActiveState=active\nSubState=running\nMainPID={pid}\nExecStart={{ path=x ; argv[]={argv} ; x=y }}{lines}"


def test_a_k3s_server_with_everything_elsewhere(tree: Tree) -> None:
    data, etc = "/srv/k3s", "/srv/k3s/agent/etc"
    tree.file(f"{etc}/containerd/config.toml", RENDERED)
    tree.file(f"{etc}/containerd/config-v3.toml.tmpl", '{{ template "base" . }}\n')
    tree.file(f"{etc}/containerd/config-v3.toml.d/50-x.toml", "version = 3\n")
    tree.file(f"{etc}/kubelet.conf.d/00-k3s-defaults.conf", "address: 0.0.0.0\ncgroupDriver: systemd\n")
    tree.folder(f"{data}/server/db/etcd")
    tree.file("/etc/rancher/k3s/config.yaml", f"token: {TOKEN}\ntls-san:\n  - x\n", 0o600)
    tree.file("/etc/rancher/k3s/config.yaml.d/10-gpu.yml", "default-runtime: nvidia\nwith-node-id: true\n")
    tree.file("/etc/rancher/node/id", "0a1b2c3d\n")
    tree.file("/etc/systemd/system/k3s-gpu.service", "")
    tree.file("/etc/systemd/system/k3s-gpu.service.env", f"K3S_TOKEN={TOKEN}\nK3S_NODE_NAME='Big-1'\n", 0o600)
    tree.file("/usr/bin/nvidia-container-runtime", "", 0o755)
    tree.file("/proc/900/environ", f"PATH=/opt/x:/usr/bin\0K3S_TOKEN={TOKEN}\0HOME=/root\0", 0o400)
    tree.process(900, "/usr/local/bin/k3s server", unit="k3s-gpu.service")
    tree.file("/proc/900/comm", "k3s-server\n")
    tree.tool("k3s", "case $* in --version) echo 'k3s version v1.34.6+k3s1 (abc)' ;; esac")
    argv = "/usr/local/bin/k3s server --data-dir /srv/k3s --flannel-backend none"
    tree.units({"k3s-gpu.service": running(900, argv, UnitFileState="enabled", NRestarts="2", Result="success")})
    probe, raw = probed(tree)
    facts = probe.facts.kubernetes
    assert (facts.flavour, facts.role, facts.service, facts.version) == (
        "k3s",
        "server",
        "k3s-gpu.service",
        "1.34.6+k3s1",
    )
    assert (facts.data_dir, facts.node_name, facts.default_runtime) == (data, "big-1-0a1b2c3d", "nvidia")
    assert (facts.cgroup_driver, facts.embedded_etcd, facts.kubeconfig) == (
        "systemd",
        True,
        "/etc/rancher/k3s/k3s.yaml",
    )
    assert facts.search_path == ("/usr/local/nvidia/toolkit", "/opt/x", "/usr/bin")
    assert facts.toolkit_changed == int((tree.root / "usr/bin/nvidia-container-runtime").stat().st_ctime)
    assert facts.rendered_at == int((tree.root / f"{etc}/containerd/config.toml".lstrip("/")).stat().st_mtime)
    assert [(t.path.rpartition("/")[2], t.state) for t in facts.template_states] == [
        ("config-v3.toml.tmpl", "fresh"),
        ("50-x.toml", "ignored"),
    ]
    assert facts.units[0].restarts == 2
    assert raw.count(TOKEN.encode()) == 0  # the file with it travels encoded, and is shown by nobody
    assert TOKEN not in repr(probe)
    assert "/etc/rancher/k3s/config.yaml.d/50-gpuwizard.yaml" in probe.files


def test_rke2(tree: Tree) -> None:
    data = "/var/lib/rancher/rke2"
    bin_dir = f"{data}/data/v1.33.5-rke2r1-0a1b2c3d4e5f/bin"
    tree.file(f"{data}/agent/etc/containerd/config.toml", RENDERED)
    tree.file(f"{data}/agent/etc/containerd/config.toml.tmpl", RENDERED.replace("version = 3", "version = 2"))
    tree.folder(bin_dir)
    tree.link(f"{data}/bin", bin_dir)
    tree.file("/etc/rancher/rke2/config.yaml", f"token: {TOKEN}\nnode-name: r-1\n", 0o600)
    tree.process(10, "/usr/local/bin/rke2 agent", unit="rke2-agent.service")
    tree.process(11, f"{bin_dir}/kubelet", "--cgroup-driver=systemd", unit="rke2-agent.service")
    tree.tool("rke2", "echo 'this would cost time'; exit 3")
    tree.units({"rke2-agent.service": running(10, "/usr/local/bin/rke2 agent")})
    probe, _ = probed(tree)
    facts = probe.facts.kubernetes
    assert (facts.flavour, facts.role, facts.version, facts.node_name) == ("rke2", "agent", "1.33.5+rke2r1", "r-1")
    assert (facts.others, facts.cgroup_driver, facts.data_dir) == ((), "systemd", data)
    assert [(t.path.rpartition("/")[2], t.state) for t in facts.template_states] == [("config.toml.tmpl", "dangerous")]
    assert probe.files[f"{data}/agent/etc/containerd/config-v3.toml.tmpl"].content is None


def test_k8s_snap_below_a_folder(tree: Tree) -> None:
    base = "/data/k8s-containerd"
    tree.file("/snap/k8s/current/meta/snap.yaml", "name: k8s\nversion: v1.35.0\n")
    tree.file("/var/snap/k8s/common/lock/.containerd-base-dir", "/data", 0o600)
    tree.file("/var/snap/k8s/common/lock/worker", "")
    tree.file("/var/snap/k8s/common/args/containerd", f"--address={base}/run/containerd/containerd.sock\n"
              f'--config="{base}/etc/containerd/config.toml"\n')  # fmt: skip
    tree.file("/var/snap/k8s/common/args/kubelet", "--cgroup-driver=systemd\n--hostname-override=Snap-1\n")
    tree.file(
        f"{base}/etc/containerd/config.toml", f'version = 2\nimports = ["{base}/etc/containerd/conf.d/*.toml"]\n', 0o600
    )
    tree.file(f"{base}/etc/containerd/conf.d/99-nvidia.toml", "version = 2\n")
    tree.units(
        {"snap.k8s.kubelet.service": "ActiveState=inactive", "snap.k8s.containerd.service": "ActiveState=inactive"}
    )
    probe, _ = probed(tree)
    facts = probe.facts.kubernetes
    assert (facts.flavour, facts.version, facts.role, facts.node_name) == ("k8s-snap", "1.35.0", "worker", "snap-1")
    assert (facts.containerd_base_dir, facts.runtime_endpoint) == (base, f"{base}/run/containerd/containerd.sock")
    assert (facts.active, facts.cgroup_driver) == (False, "systemd")
    assert probe.files[f"{base}/etc/containerd/config.toml"].mode == 0o600
    assert probe.files[f"{base}/etc/containerd/conf.d/99-nvidia.toml"].content is not None
    assert probe.files[f"{base}/etc/containerd/conf.d/99-gpuwizard-nvidia.toml"].content is None


def test_microk8s(tree: Tree) -> None:
    now = "/var/snap/microk8s/current"
    tree.file("/snap/microk8s/current/meta/snap.yaml", "name: microk8s\nversion: v1.34.1\n")
    tree.folder(f"{now}/var/lock")
    tree.file(f"{now}/args/kubelet", "--container-runtime-endpoint=${SNAP_COMMON}/run/containerd.sock\n")
    tree.file(f"{now}/args/containerd", "--config ${SNAP_DATA}/args/containerd.toml\n")
    tree.file(f"{now}/args/containerd-template.toml", "version = 2\n")
    tree.file(f"{now}/args/containerd.toml", 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n')
    tree.file("/etc/containerd/conf.d/99-nvidia.toml", "version = 2\n")
    tree.units({"snap.microk8s.daemon-kubelite.service": "ActiveState=active"})
    probe, _ = probed(tree)
    facts = probe.facts.kubernetes
    assert (facts.flavour, facts.version, facts.role, facts.cgroup_driver) == (
        "microk8s",
        "1.34.1",
        "control-plane",
        "cgroupfs",
    )
    assert facts.runtime_endpoint == "/var/snap/microk8s/common/run/containerd.sock"
    present = {path for path, file in probe.files.items() if file.content is not None}
    assert present >= {f"{now}/args/containerd-template.toml", f"{now}/args/containerd.toml"}
    assert "/etc/containerd/conf.d/99-nvidia.toml" in present


def test_k0s(tree: Tree) -> None:
    tree.file("/etc/k0s/containerd.toml", "# k0s_managed=true\n")
    tree.file("/etc/k0s/containerd.d/nvidia.toml", "version = 2\n")
    tree.file(
        "/run/k0s/kubelet/config.yaml",
        "cgroupDriver: systemd\ncontainerRuntimeEndpoint: unix:///run/k0s/containerd.sock\n",
    )
    tree.tool("k0s", "case $* in version) echo v1.35.1+k0s.0 ;; esac")
    kubelet = ("/var/lib/k0s/bin/kubelet", "--config=/run/k0s/kubelet/config.yaml", "--hostname-override=k0s-a")
    tree.process(20, *kubelet, unit="k0sworker.service")
    tree.units({"k0sworker.service": running(19, "/usr/local/bin/k0s worker --token-file /x")})
    probe, _ = probed(tree)
    facts = probe.facts.kubernetes
    assert (facts.flavour, facts.version, facts.node_name) == ("k0s", "1.35.1+k0s.0", "k0s-a")
    assert (facts.cgroup_driver, facts.runtime_endpoint) == ("systemd", "/run/k0s/containerd.sock")
    assert probe.files["/etc/k0s/containerd.d/nvidia.toml"].content is not None
    assert probe.files["/etc/k0s/containerd.toml"].content is not None


def test_openshift_and_microshift(tree: Tree) -> None:
    tree.file("/etc/os-release", 'ID="rhcos"\nOPENSHIFT_VERSION="4.20"\nVERSION_ID="9.6"\n')
    tree.folder("/etc/machine-config-daemon")
    tree.file("/etc/kubernetes/kubelet.conf", "kind: KubeletConfiguration\n  cgroupDriver: systemd # x\n")
    tree.tool("kubelet", "echo 'this would cost time'; exit 3")
    tree.units({"kubelet.service": running(5, "/usr/bin/kubelet --config=/etc/kubernetes/kubelet.conf")})
    facts = probed(tree)[0].facts.kubernetes
    assert (facts.flavour, facts.version, facts.cgroup_driver) == ("openshift", "4.20", "systemd")
    assert facts.runtime_endpoint == "/run/crio/crio.sock"


def test_microshift(tree: Tree) -> None:
    tree.file("/etc/microshift/config.yaml", f"node:\n  hostnameOverride: Edge-7\nx: {TOKEN}\n")
    tree.file("/var/lib/microshift/version", '{"version":"4.20.1","deployment_id":"","boot_id":"x"}', 0o600)
    tree.units({"microshift.service": running(5, "microshift run")})
    probe, raw = probed(tree)
    facts = probe.facts.kubernetes
    assert (facts.flavour, facts.version, facts.node_name) == ("microshift", "4.20.1", "edge-7")
    assert TOKEN.encode() not in raw


def test_inside_a_node_of_kind(tree: Tree) -> None:
    tree.file("/kind/version", "v1.34.0\n")
    tree.file("/etc/kubernetes/kubelet.conf", "")
    tree.file("/.dockerenv", "")
    tree.units({"kubelet.service": running(5, "/usr/bin/kubelet")})
    facts = probed(tree)[0].facts.kubernetes
    assert (facts.flavour, facts.version, facts.in_node_container) == ("kind", "1.34.0", True)


def nested(tree: Tree, pid: int, *arguments: str) -> None:
    tree.process(pid, *arguments)
    tree.file(f"/proc/{pid}/status", f"Name:\tkubelet\nUid:\t0\t0\t0\t0\nNSpid:\t{pid}\t7\n")


def test_a_host_of_node_containers(tree: Tree) -> None:
    nested(tree, 60, "/usr/bin/kubelet", "--node-ip=1.2.3.4", "--provider-id=kind://docker/ai/ai-worker", "--x=y")
    nested(tree, 61, "/usr/bin/kubelet", "--provider-id=kind://podman/ai/ai-control-plane")
    nested(tree, 62, "/usr/bin/kubelet", "--of=somebody-else")
    facts = probed(tree)[0].facts.kubernetes
    assert (facts.flavour, facts.in_node_container) == ("kind", False)
    assert facts.node_containers == ("docker/ai/ai-worker", "podman/ai/ai-control-plane")


def test_a_host_with_minikube(tree: Tree) -> None:
    nested(tree, 60, "/var/lib/minikube/binaries/v1.34.0/kubelet", "--hostname-override=minikube-m02", "--x=y")
    facts = probed(tree)[0].facts.kubernetes
    assert (facts.flavour, facts.node_containers) == ("minikube", ("minikube-m02",))


def test_a_plain_kubelet_with_json_and_drop_ins(tree: Tree) -> None:
    folder = "/etc/kubernetes/kubelet"
    text = '{"kind":"KubeletConfiguration","cgroupDriver":"cgroupfs","clusterDNS":["1.2.3.4"],'
    text += '"containerRuntimeEndpoint":"unix:///run/containerd/containerd.sock"}'
    tree.file(f"{folder}/config.json", text)
    tree.file(f"{folder}/config.json.d/10-x.conf", "# cgroupDriver: cgroupfs\ncgroupDriver: 'systemd'  # ours\n")
    arguments = ("/usr/bin/kubelet", f"--config={folder}/config.json", f"--config-dir={folder}/config.json.d")
    tree.process(800, *arguments, "--hostname-override=Eks-1", unit="kubelet.service")
    tree.tool("kubelet", "echo Kubernetes v1.33.5-eks-1")
    tree.units({"kubelet.service": running(800, " ".join(arguments))})
    probe, raw = probed(tree)
    facts = probe.facts.kubernetes
    assert (facts.flavour, facts.joined, facts.node_name) == ("kubeadm", True, "eks-1")
    assert b"clusterDNS" not in raw
    assert (facts.cgroup_driver, facts.runtime_endpoint) == ("systemd", "/run/containerd/containerd.sock")
    assert facts.version == "1.33.5-eks-1"


def test_names_of_files_are_never_words_of_the_shell(tree: Tree) -> None:
    """Quotes, blanks and patterns in what the host's files say change nothing of what the probe does."""
    tree.file("/etc/rancher/k3s/config.yaml", "data-dir: /*\nnode-name: $(touch /tmp/x) `id`\n")
    tree.file("/etc/default/k3s", "K3S_DATA_DIR='/a b; touch x'\nPATH=$(id):/usr/bin\n")
    tree.file("/var/snap/k8s/common/args/containerd", "--config=/etc/*/config.toml;id\n")
    tree.file("/snap/k8s/current/meta/snap.yaml", "version: $(id)\n")
    tree.units({"k3s.service": running(1, "/usr/local/bin/k3s server --data-dir=/../../* -d '[a'")})
    probe, _ = probed(tree)
    assert not (tree.root / "tmp/x").exists()
    assert probe.facts.kubernetes.flavour == "k3s"
    assert not [path for path in probe.files if "*" in path]
