"""Kubernetes flavours out of units, processes, marks and files (`hosts.md §7.1`, `runtimes.md §4-6`)."""

import pytest

from gpuwizard.facts.model import KubernetesFacts
from tests.kube_inputs import kube, process, unit


def test_processes_of_users() -> None:
    """A K3s without root is one; whatever else a user calls kubelet is none."""
    rootless = process(comm="k3s-agent", uid=1000)
    facts, socket = kube(processes=(rootless,))
    assert (facts.flavour, facts.active, facts.data_dir, socket) == ("k3s", True, None, None)
    facts, socket = kube(unit("kubelet.service"), processes=(rootless,), marks=("/etc/kubernetes/kubelet.conf",))
    assert (facts.flavour, facts.others, socket) == ("kubeadm", ("k3s",), "/run/containerd/containerd.sock")
    assert kube(processes=(process("/home/u/kubelet", uid=1000),))[0].flavour == "none"


def test_a_kubelet_that_docker_started() -> None:
    """It shares the processes of the host (RKE 1)."""
    arguments = (
        "kubelet",
        "--container-runtime-endpoint=/var/run/cri-dockerd.sock",
        "--kubeconfig=/etc/x/kubecfg.yaml",
    )
    facts, socket = kube(processes=(process(*arguments, in_container=True),))
    assert (facts.flavour, facts.active, socket) == ("kubeadm", True, "/run/cri-dockerd.sock")


# several at once


def test_the_running_flavour_wins() -> None:
    units = (unit("k3s.service", "k3s server", active="inactive", sub="dead"), unit("kubelet.service"))
    facts, _ = kube(*units, marks=("/etc/kubernetes/kubelet.conf",))
    assert (facts.flavour, facts.others) == ("kubeadm", ("k3s",))
    assert kube(units[0])[0].active is False


def test_two_that_run_are_not_told_apart() -> None:
    facts, socket = kube(
        unit("k3s.service", "k3s server"), unit("kubelet.service"), marks=("/var/lib/kubelet/config.yaml",)
    )
    assert (facts.flavour, facts.others, socket) == ("unknown", ("k3s", "kubeadm"), None)


def test_of_two_that_do_not_run_the_enabled_one() -> None:
    down = {"active": "inactive", "sub": "dead"}
    k3s = unit("k3s.service", "k3s server", **down, UnitFileState="disabled")
    rke2 = unit("rke2-agent.service", "rke2 agent", **down, UnitFileState="enabled")
    assert kube(k3s, rke2)[0].flavour == "rke2"
    both = unit("k3s.service", "k3s server", **down, UnitFileState="enabled")
    facts, _ = kube(both, rke2)
    assert (facts.flavour, facts.others) == ("unknown", ("k3s", "rke2"))


def test_a_kubelet_package_that_was_never_set_up() -> None:
    """kubeadm's package starts a kubelet that dies for want of a configuration, beside K3s as well as alone."""
    loop = unit("kubelet.service", "/usr/bin/kubelet $KUBELET_CONFIG_ARGS", active="activating", sub="auto-restart")
    facts, _ = kube(unit("k3s.service", "k3s server"), loop)
    assert (facts.flavour, facts.others) == ("k3s", ("kubeadm",))
    facts, _ = kube(loop)
    assert (facts.flavour, facts.active, facts.joined) == ("kubeadm", False, False)


def test_what_was_left_behind_is_no_kubernetes() -> None:
    unrelated = unit("docker.service")
    assert kube(unrelated, marks=("/etc/k0s", "/var/lib/rancher/rke2", "/etc/kubernetes/kubelet.conf"))[0] == (
        KubernetesFacts("none")
    )
    assert kube(marks=("/etc/k0s",))[0].flavour == "unknown"  # services could not be seen


def test_a_service_in_a_restart_loop() -> None:
    loop = unit("k3s.service", "k3s server", active="activating", sub="auto-restart", Result="exit-code", NRestarts="9")
    facts, _ = kube(loop)
    assert facts.active is False
    assert (facts.units[0].sub, facts.units[0].result, facts.units[0].restarts) == ("auto-restart", "exit-code", 9)
    starting = unit("k3s.service", "k3s server", active="activating", sub="start")
    assert kube(starting)[0].active is True


# the others


def test_k8s_snap() -> None:
    arguments = "--address=/data/k8s-containerd/run/containerd/containerd.sock\n" \
        '--config="/data/k8s-containerd/etc/containerd/config.toml"\n'  # fmt: skip
    flags = {
        "/var/snap/k8s/common/args/containerd": arguments,
        "/var/snap/k8s/common/args/kubelet": "--cgroup-driver=systemd\n--hostname-override=Snap-1\n",
        "/etc/default/kubelet": "KUBELET_EXTRA_ARGS=--hostname-override=never\n",
    }
    facts, socket = kube(
        unit("snap.k8s.kubelet.service", active="inactive"),
        unit("snap.k8s.k8sd.service"),
        versions={"snap:k8s": "v1.35.0"},
        flags=flags,
        marks=("/snap/k8s", "/var/snap/k8s/common/lock", "/var/snap/k8s/common/lock/worker"),
    )
    assert (facts.flavour, facts.role, facts.version, facts.node_name) == ("k8s-snap", "worker", "1.35.0", "snap-1")
    assert (facts.containerd_base_dir, socket) == ("/data/k8s-containerd", arguments.split("=")[1].split()[0])
    assert (facts.cgroup_driver, facts.active, facts.kubeconfig) == ("systemd", False, None)
    assert facts.drop_in_dirs == ("/data/k8s-containerd/etc/containerd/conf.d",)


@pytest.mark.parametrize(
    ("recorded", "version", "base"),
    [
        ("", "1.35.0", "/"),
        ("/data", "1.35.0", "/data/k8s-containerd"),
        ("/data", "1.36.0", "/data"),
        ("/data", None, None),
        (None, "1.36.0", None),
    ],
)
def test_the_base_folder_of_k8s_snap(recorded: str | None, version: str | None, base: str | None) -> None:
    versions = {"snap:k8s": version} if version else {}
    facts, socket = kube(unit("snap.k8s.kubelet.service"), base_dir=recorded, versions=versions)
    assert facts.containerd_base_dir == base
    assert socket == (None if base is None else f"{base.rstrip('/')}/run/containerd/containerd.sock")


def test_microk8s() -> None:
    flags = {
        "/var/snap/microk8s/current/args/kubelet": "--container-runtime-endpoint=${SNAP_COMMON}/run/containerd.sock\n",
        "/var/snap/microk8s/current/args/containerd": "--config ${SNAP_DATA}/args/containerd.toml\n",
    }
    facts, socket = kube(
        unit("snap.microk8s.daemon-kubelite.service"),
        processes=(process("/snap/microk8s/8000/kubelite", unit="snap.microk8s.daemon-kubelite.service"),),
        versions={"snap:microk8s": "v1.34.1"},
        flags=flags,
        marks=("/var/snap/microk8s/current/var/lock",),
    )
    assert (facts.flavour, facts.others, facts.role) == ("microk8s", (), "control-plane")
    assert (socket, facts.cgroup_driver) == ("/var/snap/microk8s/common/run/containerd.sock", "cgroupfs")
    assert facts.version == "1.34.1"


def test_k0s() -> None:
    kubelet = process(
        "/var/lib/k0s/bin/kubelet", "--config=/run/k0s/kubelet/config.yaml", "--hostname-override=k0s-A",
        unit="k0sworker.service",
    )  # fmt: skip
    facts, socket = kube(
        unit("k0sworker.service", "/usr/local/bin/k0s worker"),
        processes=(kubelet,),
        configs={"/run/k0s/kubelet/config.yaml": "containerRuntimeEndpoint: unix:///run/k0s/containerd.sock\n"},
        versions={"k0s": "v1.34.2+k0s.0"},
    )
    assert (facts.flavour, facts.others, facts.role, socket) == ("k0s", (), "worker", "/run/k0s/containerd.sock")
    assert (facts.node_name, facts.version) == ("k0s-a", "1.34.2+k0s.0")
    facts, socket = kube(unit("k0scontroller.service", "/usr/local/bin/k0s controller"))
    assert (facts.role, facts.runs_pods, socket) == ("control-plane", False, "")
    facts, socket = kube(unit("k0scontroller.service", "/usr/local/bin/k0s controller --single"))
    assert (facts.role, facts.runs_pods, socket) == ("control-plane", True, "/run/k0s/containerd.sock")
    argv = "/usr/local/bin/k0s worker --cri-socket=remote:unix:///run/containerd/containerd.sock"
    assert kube(unit("k0sworker.service", argv))[1] == "/run/containerd/containerd.sock"


def test_openshift_and_microshift() -> None:
    facts, socket = kube(
        unit("kubelet.service", "/usr/bin/kubelet --config=/etc/kubernetes/kubelet.conf"),
        marks=("/etc/machine-config-daemon", "/etc/kubernetes/kubelet.conf"),
        configs={"/etc/kubernetes/kubelet.conf": "cgroupDriver: systemd\n"},
        system={"ID": "rhcos", "OPENSHIFT_VERSION": "4.20"},
        versions={"kubelet": "v1.33.5"},
    )
    assert (facts.flavour, facts.version, facts.role, socket) == ("openshift", "4.20", "worker", "/run/crio/crio.sock")
    assert (facts.others, facts.cgroup_driver) == ((), "systemd")
    facts, socket = kube(
        unit("microshift.service"), marks=("/etc/microshift",), system={"hostnameOverride": "Edge-7"},
        versions={"microshift": '{"version":"4.20.1","boot_id":"x"}'},
    )  # fmt: skip
    assert (facts.flavour, facts.version, facts.node_name) == ("microshift", "4.20.1", "edge-7")
    assert socket == "/run/crio/crio.sock"


def test_inside_a_node_container() -> None:
    kubelet = unit("kubelet.service", "/usr/bin/kubelet")
    marks = ("/kind/version", "/var/lib/kubelet/config.yaml", "/etc/kubernetes/manifests/kube-apiserver.yaml")
    facts, socket = kube(kubelet, marks=marks, versions={"kind": "v1.33.1\n"})
    assert (facts.flavour, facts.in_node_container, facts.role) == ("kind", True, "control-plane")
    assert (facts.version, socket, facts.others) == ("1.33.1", "/run/containerd/containerd.sock", ())
    place = "/var/lib/minikube/binaries/v1.34.0/kubelet"
    running = process(place, "--hostname-override=minikube", unit="kubelet.service")
    facts, _ = kube(unit("kubelet.service", place), processes=(running,), marks=("/kic.txt",))
    assert (facts.flavour, facts.version, facts.in_node_container) == ("minikube", "1.34.0", True)
    facts, _ = kube(unit("kubelet.service", place), processes=(running,))  # driver none: on the host itself
    assert (facts.flavour, facts.version, facts.in_node_container) == ("minikube", "1.34.0", False)


def test_a_host_of_node_containers() -> None:
    nested = ("kind docker/ai/ai-control-plane", "kind docker/ai/ai-worker")
    facts, socket = kube(nested=nested)
    assert (facts.flavour, socket, facts.in_node_container, facts.runs_pods) == ("kind", "", False, False)
    assert facts.node_containers == ("docker/ai/ai-control-plane", "docker/ai/ai-worker")
    facts, _ = kube(unit("k3s.service", "k3s server"), nested=nested)
    assert (facts.flavour, facts.others) == ("k3s", ("kind",))


def test_no_kubernetes() -> None:
    assert kube() == (KubernetesFacts("none"), "")


# kubeadm and plain kubelets

JOINED = ("/etc/kubernetes/kubelet.conf",)


def test_kubelet_flags_win_over_its_file() -> None:
    words = "--container-runtime-endpoint=unix:///run/crio/crio.sock --hostname-override=N7"
    flags = {"/var/lib/kubelet/kubeadm-flags.env": f'KUBELET_KUBEADM_ARGS="{words}"\n'}
    configs = {"/var/lib/kubelet/config.yaml": 'containerRuntimeEndpoint: "unix:///run/containerd/containerd.sock"\n'}
    facts, socket = kube(unit("kubelet.service"), flags=flags, configs=configs, marks=JOINED)
    assert (socket, facts.node_name, facts.role) == ("/run/crio/crio.sock", "n7", "worker")
    facts, socket = kube(unit("kubelet.service"), configs=configs, marks=JOINED)
    assert (socket, facts.runtime_endpoint, facts.node_name) == (*["/run/containerd/containerd.sock"] * 2, "node-1")


def test_a_running_kubelet_says_it_itself() -> None:
    running = process(
        "/usr/bin/kubelet", "--config=/etc/kubernetes/kubelet/config.json", "--config-dir=/etc/kubernetes/kubelet/d",
        unit="kubelet.service",
    )  # fmt: skip
    configs = {
        "/var/lib/kubelet/config.yaml": "cgroupDriver: cgroupfs\n",
        "/etc/kubernetes/kubelet/config.json": 'cgroupDriver: "cgroupfs"\ncontainerRuntimeEndpoint: "unix:///a.sock"\n',
        "/etc/kubernetes/kubelet/d/10.conf": "cgroupDriver: systemd\n",
    }
    flags = {"/etc/default/kubelet": "KUBELET_EXTRA_ARGS=--cgroup-driver=cgroupfs\n"}
    facts, socket = kube(unit("kubelet.service"), processes=(running,), configs=configs, flags=flags, root=False)
    assert (facts.cgroup_driver, socket, facts.joined) == ("systemd", "/a.sock", True)
    assert facts.role is None  # the manifests are root's
    facts, socket = kube(unit("kubelet.service"), processes=(running,), root=False)
    assert (facts.cgroup_driver, socket) == (None, None)  # its file could not be read


def test_defaults_of_kubelets() -> None:
    empty = {"/var/lib/kubelet/config.yaml": ""}
    for version, driver, socket in (
        ("v1.34.1", None, "/run/containerd/containerd.sock"),  # asks the runtime
        ("v1.29.3", "cgroupfs", "/run/containerd/containerd.sock"),
        ("v1.23.17", "cgroupfs", "/run/dockershim.sock"),
    ):
        facts, endpoint = kube(
            unit("kubelet.service"), marks=JOINED, configs=empty, versions={"kubelet": f"Kubernetes {version}"}
        )
        assert (facts.cgroup_driver, endpoint) == (driver, socket)
    remote = {"/var/lib/kubelet/kubeadm-flags.env": "KUBELET_KUBEADM_ARGS=--container-runtime=remote "
              "--container-runtime-endpoint=/run/crio/crio.sock\n"}  # fmt: skip
    endpoint = kube(unit("kubelet.service"), marks=JOINED, flags=remote, versions={"kubelet": "v1.23.1"})[1]
    assert endpoint == "/run/crio/crio.sock"
    assert kube(unit("kubelet.service"), root=False)[1] is None


def test_a_control_plane_is_known_by_its_manifest() -> None:
    control, _ = kube(
        unit("kubelet.service"), marks=(*JOINED, "/etc/kubernetes/manifests/kube-apiserver.yaml"), root=False
    )
    assert (control.role, control.kubeconfig) == ("control-plane", "/etc/kubernetes/admin.conf")
    assert kube(unit("kubelet.service"), marks=JOINED, root=False)[0].role is None


def test_a_node_of_another_flavour_is_no_kubeadm() -> None:
    for flavour, name, path in (
        ("rke2", "rke2-agent.service", "/var/lib/rancher/rke2/data/v1.33.1-rke2r1-0/bin/kubelet"),
        ("k8s-snap", "snap.k8s.kubelet.service", "/snap/k8s/12/bin/kubelet"),
    ):
        facts, _ = kube(unit(name), processes=(process(path, unit=name),))
        assert (facts.flavour, facts.others) == (flavour, ())


def test_a_kubelet_that_was_set_up_elsewhere() -> None:
    stopped = unit("kubelet.service", "/usr/bin/kubelet $KUBELET_ARGS", active="inactive", sub="dead")
    flags = {"/etc/sysconfig/kubelet": "KUBELET_ARGS=--kubeconfig=/var/lib/kubelet/kubeconfig\n"}
    assert kube(stopped, flags=flags)[0].joined is True
    usual = {"/etc/sysconfig/kubelet": "KUBELET_ARGS=--kubeconfig=/etc/kubernetes/kubelet.conf\n"}
    assert kube(stopped, flags=usual)[0].joined is False
    assert kube(stopped, flags=usual, root=False)[0].joined is None
