"""K3s and RKE2 out of units, processes and files, release by release (`runtimes.md §2`, `§3`)."""

import pytest

from gpuwizard.facts.kubernetes.flavour import k3s_settings
from gpuwizard.facts.kubernetes.release import KubeRelease
from tests.kube_inputs import files, kube, process, unit

K3S_SOCKET = "/run/k3s/containerd/containerd.sock"
K3S = "/etc/rancher/k3s/config.yaml"


def test_k3s_server_with_flags() -> None:
    argv = '/usr/local/bin/k3s server --data-dir=/srv/k3s/ --node-name "GPU-1" --default-runtime nvidia'
    facts, socket = kube(unit("k3s.service", argv), versions={"k3s": "k3s version v1.34.1+k3s1 (x)"})
    assert (facts.flavour, facts.role, facts.service, facts.data_dir) == ("k3s", "server", "k3s.service", "/srv/k3s")
    assert (facts.node_name, facts.version, facts.active) == ("gpu-1", "1.34.1+k3s1", True)  # always in lower case
    assert (socket, facts.runtime_endpoint, facts.default_runtime) == (K3S_SOCKET, K3S_SOCKET, "nvidia")
    assert (facts.kubeconfig, facts.runs_pods) == ("/etc/rancher/k3s/k3s.yaml", True)
    assert facts.services == {"k3s.service": "active"}


def test_k3s_settings_merge_in_order() -> None:
    host_files = files(
        {
            K3S: "data-dir: /a\nnode-name: one\nkubelet-arg:\n  - v=2\n",
            f"{K3S}.d/20-b.yaml": "node-name: two\nwith-node-id: true\nkubelet-arg+:\n  - cgroup-driver=systemd\n",
            f"{K3S}.d/10-a.yml": "data-dir: /b\ndefault-runtime: crun\n",
            f"{K3S}.d/30-broken.yaml": "data-dir: [",
            f"{K3S}.d/40-late.yaml.bak": "data-dir: /never\n",
        }
    )
    settings = k3s_settings(host_files, "/etc/rancher/k3s")
    assert settings["data-dir"] == ("/b",)
    assert settings["kubelet-arg"] == ("v=2", "cgroup-driver=systemd")
    facts, _ = kube(unit("k3s-agent.service", "/usr/local/bin/k3s agent"), host_files=host_files, node_id="0a1b2c3d")
    assert (facts.role, facts.data_dir, facts.node_name) == ("agent", "/b", "two-0a1b2c3d")
    assert (facts.cgroup_driver, facts.default_runtime, facts.kubeconfig) == ("systemd", "crun", None)


@pytest.mark.parametrize(
    "text",
    [
        "- data-dir\n",
        "data-dir: {a: b}\n",
        "data-dir: 99999999999999999999999999999999999999999999999\nnode-name: 0x" + "f" * 5000,
        "data-dir: 2026-99-99\n",
        "node-name: !!python/object:os.system x",
        "node-name: " + "[" * 3000,
        "&a [*a]: data-dir",
        "node-name: .nan\ndata-dir: .inf",
        "\x00data-dir",
    ],
)
def test_settings_that_are_none(text: str) -> None:
    assert "data-dir" not in k3s_settings(files({K3S: text}), "/etc/rancher/k3s")
    facts, _ = kube(unit("k3s.service", "/usr/local/bin/k3s server"), host_files=files({K3S: text}))
    assert facts.data_dir == "/var/lib/rancher/k3s"


def test_settings_that_could_not_be_read() -> None:
    """A name or a runtime that may be set in a file that only root may read is not known."""
    facts, socket = kube(
        unit("k3s-agent.service", "/usr/local/bin/k3s agent"), unread=(K3S,), root=False, versions={"k3s": "v1.34.1"}
    )
    assert (facts.node_name, facts.data_dir, socket, facts.search_path) == (None, None, None, None)
    facts, socket = kube(unit("k3s-agent.service", "k3s agent --node-name A"), unread=(K3S,), data_dirs=("/srv/k3s",))
    assert (facts.node_name, facts.data_dir, socket) == ("a", "/srv/k3s", K3S_SOCKET)


def test_the_environment_of_the_service() -> None:
    environments = (
        ("/etc/systemd/system/k3s-gpu.service.env", "K3S_DATA_DIR=/third\n"),
        ("/etc/default/k3s-gpu", "K3S_DATA_DIR='/first'\nK3S_NODE_NAME=b\nPATH=/opt/nvidia/bin:/usr/bin\n"),
        ("/etc/default/k3s", "K3S_DATA_DIR=/of/another/service\n"),
    )
    facts, _ = kube(
        unit("k3s-gpu.service", "/usr/local/bin/k3s agent", Environment="K3S_NODE_NAME=a"),
        environments=environments,
        versions={"k3s": "v1.33.5+k3s1"},
        changed={"/usr/bin/nvidia-container-runtime": 5, "/opt/nvidia/bin/nvidia-container-runtime": 7},
    )
    assert (facts.service, facts.data_dir, facts.node_name) == ("k3s-gpu.service", "/third", "b")
    assert facts.search_path == ("/usr/local/nvidia/toolkit", "/opt/nvidia/bin", "/usr/bin")
    assert facts.toolkit_changed == 7


@pytest.mark.parametrize(
    ("version", "path"),
    [
        ("v1.25.3+k3s1", ("/usr/local/nvidia/toolkit", "/usr/bin")),
        ("v1.30.0", ("/usr/local/nvidia/toolkit", "/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin")),
        ("v1.31.2", ("/usr/local/nvidia/toolkit", "/x")),
        (None, None),
    ],
)
def test_where_k3s_looks_for_the_toolkit(version: str | None, path: tuple[str, ...] | None) -> None:
    versions = {"k3s": version} if version else {}
    assert kube(unit("k3s.service", "k3s server"), versions=versions, path="/x:relative")[0].search_path == path


def test_k3s_with_docker_or_another_runtime_or_without_a_kubelet() -> None:
    assert "cri-dockerd" in (kube(unit("k3s.service", "k3s server --docker"))[1] or "")
    argv = "k3s server --container-runtime-endpoint unix:///run/containerd/containerd.sock"
    assert kube(unit("k3s.service", argv))[1] == "/run/containerd/containerd.sock"
    facts, socket = kube(unit("k3s.service", "k3s server"), host_files=files({K3S: "disable-agent: true\n"}))
    assert (facts.runs_pods, socket, facts.runtime_endpoint) == (False, "", None)


def test_a_named_k3s_unit_and_a_job_that_is_none() -> None:
    job = unit("k3s-backup.service", "/usr/local/bin/backup-k3s", active="inactive")
    facts, _ = kube(unit("k3s-gpu.service", "/usr/local/bin/k3s agent"), job)
    assert (facts.service, facts.role, tuple(facts.services)) == ("k3s-gpu.service", "agent", ("k3s-gpu.service",))
    assert kube(job)[0].flavour == "none"


def test_k3s_without_systemd() -> None:
    """OpenRC: no unit, and a process whose title hides its flags."""
    running = process("/usr/local/bin/k3s agent", comm="k3s-agent")
    facts, _ = kube(processes=(running,), init_scripts=("k3s-agent",))
    assert (facts.service, facts.role, facts.active) == ("k3s-agent", "agent", True)
    facts, _ = kube(init_scripts=("k3s",))
    assert (facts.flavour, facts.service, facts.active) == ("k3s", "k3s", False)
    assert kube(processes=(process("/usr/local/bin/k3s", "kubectl", comm="kubectl"),))[0].flavour == "none"


def test_rootless_k3s() -> None:
    facts, _ = kube(unit("k3s.service", "k3s server --rootless", Environment="HOME=/home/u"))
    assert facts.data_dir == "/home/u/.rancher/k3s"
    assert kube(unit("k3s.service", "k3s server --rootless"))[0].data_dir is None


def test_rke2() -> None:
    kubelet = process(
        "/var/lib/rancher/rke2/data/v1.33.5-rke2r1-0a1b2c3d4e5f/bin/kubelet", "--cgroup-driver=systemd",
        comm="kubelet", unit="rke2-server.service",
    )  # fmt: skip
    facts, socket = kube(
        unit("rke2-server.service", "/usr/local/bin/rke2 server"),
        processes=(kubelet, process("/usr/local/bin/rke2 server", comm="rke2")),
        host_files=files({"/etc/rancher/rke2/config.yaml": "node-name: Big\nwrite-kubeconfig: /root/kc\n"}),
        versions={"rke2": "v1.33.5+rke2r1"},
        marks=("/var/lib/rancher/rke2/server/db/etcd",),
        data_dirs=("/var/lib/rancher/rke2",),
    )
    assert (facts.flavour, facts.others, facts.role, socket) == ("rke2", (), "server", K3S_SOCKET)
    assert (facts.version, facts.node_name, facts.cgroup_driver) == ("1.33.5+rke2r1", "big", "systemd")
    assert (facts.kubeconfig, facts.embedded_etcd) == ("/root/kc", True)


def test_the_cgroup_driver_that_k3s_gives_its_kubelet() -> None:
    folder = "/var/lib/rancher/k3s/agent/etc/kubelet.conf.d"
    configs = {f"{folder}/00-k3s-defaults.conf": "cgroupDriver: systemd\n", f"{folder}/50-x.conf": ""}
    assert kube(unit("k3s.service", "k3s server"), configs=configs)[0].cgroup_driver == "systemd"
    assert kube(unit("k3s.service", "k3s server"))[0].cgroup_driver is None


def test_a_configuration_in_another_place() -> None:
    argv = "/usr/local/bin/k3s server --config /opt/k3s.yaml"
    host_files = files(
        {"/opt/k3s.yaml": "node-name: x\n", "/opt/k3s.yaml.d/1.yaml": "data-dir: /y\n", K3S: "data-dir: /n\n"}
    )
    facts, _ = kube(unit("k3s.service", argv), host_files=host_files)
    assert (facts.node_name, facts.data_dir) == ("x", "/y")
    facts, socket = kube(unit("k3s.service", argv))  # the probe did not bring it
    assert (facts.node_name, facts.data_dir, socket) == (None, None, None)


def test_of_the_units_that_a_package_brings_the_used_one() -> None:
    down = {"active": "inactive", "sub": "dead"}
    server = unit("rke2-server.service", "/usr/local/bin/rke2 server", **down, UnitFileState="disabled")
    agent = unit("rke2-agent.service", "/usr/local/bin/rke2 agent", **down, UnitFileState="enabled")
    facts, _ = kube(server, agent)
    assert (facts.service, facts.role, facts.active) == ("rke2-agent.service", "agent", False)
    facts, _ = kube(server, agent.replace("enabled", "disabled"))
    assert (facts.service, facts.role, facts.active) == (None, None, False)


@pytest.mark.parametrize(
    ("version", "features"),
    [
        ("1.22.1+k3s1", ""),
        ("1.22.2", "detects"),
        ("1.26.7", "detects"),
        ("1.26.12", "detects base default"),
        ("1.27.8", "detects base"),
        ("1.28.1", "detects base"),
        ("1.30.5", "detects base default fixed"),
        ("1.30.6", "detects base default fixed own"),
        ("1.31.5", "detects base default fixed own"),
        ("1.31.13", "detects base default fixed own v3"),
        ("1.32.12", "detects base default fixed own v3"),
        ("1.33.9", "detects base default fixed own v3"),
        ("1.33.10+rke2r1", "detects base default fixed own v3 imports"),
        ("1.35.2", "detects base default fixed own v3"),
        ("1.36.1", "detects base default fixed own v3 imports"),
        ("1.36.2", "detects base default fixed own v3 imports migrates"),
        ("2.0.0", "detects base default fixed own v3 imports migrates"),
    ],
)
def test_features_by_release(version: str, features: str) -> None:
    release = KubeRelease.parse(version)
    assert release is not None
    has = {
        "detects": release.detects_nvidia,
        "base": release.has_base,
        "default": release.has_default_runtime,
        "fixed": release.looks_in_fixed_path,
        "own": release.looks_in_own_path,
        "v3": release.has_v3_template,
        "imports": release.has_imports,
        "migrates": release.containerd_2_3,
    }
    assert " ".join(name for name, there in has.items() if there) == features


def test_no_release() -> None:
    assert KubeRelease.parse(None) is KubeRelease.parse("latest") is KubeRelease.parse("v1") is None
