"""Rules about the flavours of Kubernetes on the text of whole probes: each where it holds and where it does not."""

from dataclasses import replace

import pytest

from gpuwizard.facts.model import Handler, OperatorFacts, OsFacts, Probe, RuntimeFacts
from tests.captured import CAPTURE, changed, ids, only, ready
from tests.kube_hosts import NOW, host, unit

JOINED = ("/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/config.yaml")
V2 = 'plugins."io.containerd.grpc.v1.cri"'
RUNC = f'version = 2\n[{V2}.containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n'


def rules(probe: Probe) -> set[str]:
    return {rule for rule in ids(probe) if rule.startswith(("GW-K", "GW-SNAP", "GW-MICROK8S"))}


def kubelet(active: str = "active", sub: str = "running", **more: str) -> str:
    return unit("kubelet.service", "/usr/bin/kubelet", active, sub, **more)


def test_a_node_that_is_ready() -> None:
    assert rules(ready()) == set()
    assert rules(host(kubelet(), marks=JOINED)) == set()


def test_stopped_or_in_a_loop() -> None:
    stopped = host(kubelet("inactive", "dead"), marks=JOINED)
    assert only(stopped, "GW-KUBE-001").severity == "warning"
    assert "GW-KUBE-005" not in rules(stopped)
    loop = host(kubelet("activating", "auto-restart", Result="exit-code", NRestarts="12"), marks=JOINED)
    finding = only(loop, "GW-KUBE-005")
    assert finding.severity == "error"
    assert finding.evidence[0] == "kubelet.service: activating (auto-restart), result exit-code, 12 restarts by systemd"
    assert "GW-RUNTIME-005" not in ids(loop)
    assert "GW-KUBE-001" not in rules(loop)
    assert only(host(kubelet("failed", "failed", Result="start-limit-hit"), marks=JOINED), "GW-KUBE-005")
    assert "GW-KUBE-005" in rules(host(kubelet("activating", "start", NRestarts="3"), marks=JOINED))
    starting = host(kubelet("activating", "start", NRestarts="0"), marks=JOINED)
    assert {"GW-KUBE-001", "GW-KUBE-005"}.isdisjoint(rules(starting))


def test_no_kubernetes() -> None:
    assert only(host(unit("docker.service")), "GW-KUBE-002").severity == "info"
    assert "GW-KUBE-002" not in rules(host(kubelet(), marks=JOINED))


def test_several() -> None:
    k3s = unit("k3s.service", "/usr/local/bin/k3s server")
    both = host(kubelet(), k3s, marks=JOINED)
    finding = only(both, "GW-KUBE-003")
    assert finding.evidence == ("found: K3s", "found: a kubelet of its own (kubeadm)")
    assert both.facts.kubelet_runtime is None
    assert "GW-KUBE-004" not in rules(both)
    beside = host(kubelet("inactive", "dead"), k3s, marks=JOINED)
    assert only(beside, "GW-KUBE-004").evidence == ("in use: K3s", "also installed: a kubelet of its own (kubeadm)")
    assert {"GW-KUBE-003", "GW-KUBE-004"}.isdisjoint(rules(host(k3s)))


def test_a_kubelet_that_was_never_set_up() -> None:
    loop = host(kubelet("activating", "auto-restart", NRestarts="900"))
    assert only(loop, "GW-KUBE-006").severity == "info"
    assert {"GW-KUBE-001", "GW-KUBE-005"}.isdisjoint(rules(loop))
    assert "GW-KUBE-006" not in rules(host(kubelet(), marks=JOINED))
    assert "GW-KUBE-006" not in rules(host(kubelet(), root=False))  # its files are root's


def test_nodes_in_containers() -> None:
    inside = host(kubelet(), marks=("/kind/version", *JOINED), kind_version="v1.34.0")
    assert only(inside, "GW-KUBE-007").evidence[0] == "this is a node container of kind"
    around = host(unit("docker.service"), nested_nodes="kind docker/ai/ai-control-plane\n")
    finding = only(around, "GW-KUBE-008")
    assert finding.evidence == ("a kubelet runs in the container of docker/ai/ai-control-plane",)
    assert "GW-KUBE-008" not in rules(inside)
    assert "GW-KUBE-007" not in rules(around)
    assert "GW-KUBE-011" not in rules(around)
    assert "GW-KUBE-002" not in rules(around)


def test_openshift_and_microshift() -> None:
    shift = host(kubelet(), marks=("/etc/machine-config-daemon",))
    assert "OperatorHub" in only(shift, "GW-KUBE-009").remedy
    micro = host(unit("microshift.service"), marks=("/etc/microshift",), microshift_version='{"version": "4.20.1"}')
    finding = only(micro, "GW-KUBE-009")
    assert (finding.evidence, "crio.conf.d" in finding.remedy) == (("MicroShift 4.20.1",), True)
    assert "GW-KUBE-009" not in rules(host(kubelet(), marks=JOINED))


def test_dockershim() -> None:
    old = {"kubelet_version": "Kubernetes v1.23.17", "kubelet_config__/var/lib/kubelet/config.yaml": ""}
    assert "dockershim" in only(host(kubelet(), marks=JOINED, **old), "GW-KUBE-010").evidence[1]
    new = old | {"kubelet_version": "Kubernetes v1.24.17"}
    assert "GW-KUBE-010" not in rules(host(kubelet(), marks=JOINED, **new))
    remote = old | {"kubelet_flags__/etc/default/kubelet": "KUBELET_EXTRA_ARGS=--container-runtime=remote\n"}
    assert "GW-KUBE-010" not in rules(host(kubelet(), marks=JOINED, **remote))


def test_a_control_plane_without_a_kubelet() -> None:
    controller = host(unit("k0scontroller.service", "/usr/local/bin/k0s controller"))
    assert only(controller, "GW-KUBE-011").evidence[0] == "k0scontroller.service: --enable-worker is not set"
    server = host(unit("k3s.service", "/usr/local/bin/k3s server --disable-agent"))
    assert only(server, "GW-KUBE-011").evidence[0] == "k3s.service: disable-agent is set"
    assert "GW-KUBE-011" not in rules(host(unit("k0scontroller.service", "/usr/local/bin/k0s controller --single")))


def test_a_system_without_a_version() -> None:
    sid = OsFacts("debian", family="debian")
    assert only(changed(ready(), os=sid), "GW-KUBE-012").severity == "info"
    placed = changed(ready(), os=sid, operator=OperatorFacts(toolkit=True))
    assert only(placed, "GW-KUBE-012").severity == "warning"
    assert "GW-KUBE-012" not in rules(ready())


DROP_IN = "/etc/containerd/conf.d/99-nvidia.toml"


def test_the_operator_configured_another_runtime() -> None:
    operator = OperatorFacts(toolkit=True, drop_ins=(DROP_IN,))
    k0s = RuntimeFacts(
        "containerd", "1.7.28", config_path="/run/k0s/containerd-cri.toml", socket="/run/k0s/containerd.sock",
        used_by_kubelet=True, running=True, handlers={"runc": Handler("io.containerd.runc.v2")}, default_handler="runc",
    )  # fmt: skip
    kubernetes = replace(ready().facts.kubernetes, flavour="k0s")
    probe = changed(ready(), kubernetes=kubernetes, runtimes=(k0s,), operator=operator)
    finding = only(probe, "GW-KUBE-013")
    assert finding.evidence[0] == f"{DROP_IN}: written by the operator's toolkit"
    assert any("/run/k0s/containerd.sock" in line for line in finding.evidence)
    assert "GW-RUNTIME-001" not in ids(probe)
    crio = RuntimeFacts("crio", "1.34.1", used_by_kubelet=True, running=True)
    assert "GW-KUBE-013" in rules(changed(ready(), runtimes=(crio,), operator=operator))
    knows = replace(k0s, handlers={**k0s.handlers, "nvidia": Handler("io.containerd.runc.v2")})
    assert "GW-KUBE-013" not in rules(changed(ready(), kubernetes=kubernetes, runtimes=(knows,), operator=operator))
    assert "GW-KUBE-013" not in rules(changed(ready(), operator=operator))  # that is where it belongs
    assert "GW-KUBE-013" not in rules(changed(ready(), kubernetes=kubernetes, runtimes=(k0s,)))


# k8s-snap

ARGS = "/var/snap/k8s/common/args/containerd"


def snap(*drop_ins: str, version: str = "1.34.1", base: str = "", imports: str | None = None, **sections: str) -> Probe:
    root = f"{base}/etc/containerd"
    main = f'version = 2\nimports = ["{imports or root + "/conf.d/*.toml"}"]\n{RUNC.removeprefix("version = 2")}'
    files: dict[str, str | tuple[str, int]] = {f"{root}/config.toml": main}
    files |= {f"{root}/conf.d/{10 + number}-x.toml": text for number, text in enumerate(drop_ins)}
    flags = {f"kubelet_flags__{ARGS}": f"--config={root}/config.toml\n"}
    return host(
        unit("snap.k8s.kubelet.service"), files=files, marks=("/snap/k8s",), **flags, snap__k8s=version, **sections
    )


NVIDIA = f'version = 2\n[{V2}.containerd.runtimes.nvidia]\nruntime_type = "io.containerd.runc.v2"\n'


def test_a_partial_drop_in_of_the_snap() -> None:
    finding = only(snap(NVIDIA), "GW-SNAP-001")
    assert finding.severity == "error"
    assert finding.evidence[0].endswith("10-x.toml: its CRI table replaces the whole one; handlers in it: nvidia")
    both = NVIDIA + RUNC.removeprefix("version = 2")
    assert "GW-SNAP-001" not in rules(snap(both))
    assert "GW-SNAP-001" in rules(snap(both, NVIDIA))  # the last one counts
    assert "GW-SNAP-001" not in rules(snap(NVIDIA, version="1.35.0"))  # containerd 2 merges
    assert "GW-SNAP-001" not in rules(snap("version = 2\n"))


def test_a_version_3_drop_in_of_the_snap() -> None:
    new = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]\n"
    assert "version = 3" in only(snap(new, version="1.35.0"), "GW-SNAP-002").evidence[0]
    assert "GW-SNAP-002" in rules(snap(new.removeprefix("version = 3\n"), version="1.36.0"))
    assert "GW-SNAP-002" not in rules(snap(NVIDIA, version="1.35.0"))


def test_docker_beside_the_snap() -> None:
    docker = {"docker_version": "Docker version 28.2.2, build x", "path_programs": "dockerd=/usr/bin/dockerd\n"}
    assert "Docker" in only(snap(**docker), "GW-SNAP-003").evidence[0]
    assert "GW-SNAP-003" not in rules(snap(base="/data", **docker))
    assert "GW-SNAP-003" not in rules(snap())


def test_the_snap_imports_from_elsewhere() -> None:
    foreign = snap(base="/data/k8s-containerd", imports="/etc/containerd/conf.d/*.toml")
    assert "/etc/containerd/conf.d/*.toml" in only(foreign, "GW-SNAP-004").evidence[0]
    assert "GW-SNAP-004" not in rules(snap(base="/data/k8s-containerd"))
    assert "GW-SNAP-004" not in rules(snap())


def test_the_snap_without_cdi() -> None:
    assert only(snap(version="1.32.9"), "GW-SNAP-005").severity == "info"
    placed = changed(snap(version="1.32.9"), operator=OperatorFacts(toolkit=True))
    assert only(placed, "GW-SNAP-005").severity == "warning"
    assert "GW-SNAP-005" not in rules(snap(version="1.33.0"))


# MicroK8s

MICRO = "/var/snap/microk8s/current/args"
TEMPLATE = (
    f'version = 2\n[{V2}.containerd]\n  snapshotter = "${{SNAPSHOTTER}}"\n'
    f'[{V2}.containerd.runtimes.runc]\n  runtime_type = "${{RUNTIME_TYPE}}"\n'
    f'[{V2}.containerd.runtimes.nvidia-container-runtime]\n  runtime_type = "${{RUNTIME_TYPE}}"\n'
    f'[{V2}.cni]\n  bin_dir = "${{SNAP_DATA}}/opt/cni/bin"\n'
)


def filled(text: str, kind: str = "io.containerd.runc.v2") -> str:
    values = {"SNAPSHOTTER": "overlayfs", "RUNTIME_TYPE": kind, "SNAP_DATA": "/var/snap/microk8s/8511"}
    for name, put in values.items():
        text = text.replace(f"${{{name}}}", put)
    return text


def microk8s(
    rendered: str | None = None, template: str | tuple[str, int] = TEMPLATE, version: str = "v1.34.1"
) -> Probe:
    files: dict[str, str | tuple[str, int]] = {
        f"{MICRO}/containerd-template.toml": template,
        f"{MICRO}/containerd.toml": rendered if rendered is not None else filled(TEMPLATE),
    }
    config = f"config={MICRO}/containerd.toml\nsocket=/var/snap/microk8s/common/run/containerd.sock\nbinary=\n"
    return host(
        unit("snap.microk8s.daemon-kubelite.service"), files=files, marks=("/snap/microk8s",), snap__microk8s=version,
        containerd__77=config, containerd_version__77="containerd x v1.7.28 y",
    )  # fmt: skip


ADDED = f"[{V2}.containerd.runtimes.nvidia]\n  runtime_type = 'io.containerd.runc.v2'\n"


def test_microk8s_as_it_comes() -> None:
    assert rules(microk8s()) == {"GW-MICROK8S-003"}


def test_the_rendered_file_of_microk8s_was_edited() -> None:
    finding = only(microk8s(filled(TEMPLATE) + ADDED), "GW-MICROK8S-001")
    assert finding.evidence[0] == f"{MICRO}/containerd.toml:10: [{V2}.containerd.runtimes.nvidia]"
    assert "GW-MICROK8S-001" not in rules(microk8s(filled(TEMPLATE + ADDED), TEMPLATE + ADDED))


def test_the_template_of_microk8s_waits() -> None:
    waiting = microk8s(template=(TEMPLATE + ADDED, NOW + 60))
    assert only(waiting, "GW-MICROK8S-002").severity == "info"
    assert "GW-MICROK8S-001" not in rules(waiting)
    assert "GW-MICROK8S-002" not in rules(microk8s())


def test_handlers_of_microk8s() -> None:
    assert only(microk8s(), "GW-MICROK8S-003").severity == "info"
    own = TEMPLATE + ADDED
    assert "GW-MICROK8S-003" not in rules(microk8s(filled(own), own))
    systemd = own + f"[{V2}.containerd.runtimes.nvidia.options]\n  SystemdCgroup = true\n"
    assert "nvidia: SystemdCgroup" in only(microk8s(filled(systemd), systemd), "GW-MICROK8S-004").evidence[0]
    assert "GW-MICROK8S-004" not in rules(microk8s(filled(own), own))
    old = filled(TEMPLATE, "io.containerd.runc.v1")
    assert "io.containerd.runc.v1" in only(microk8s(old, version="v1.35.0"), "GW-MICROK8S-005").evidence[0]
    assert "GW-MICROK8S-005" not in rules(microk8s(old))  # containerd 1.7 still has it
    assert "GW-MICROK8S-005" not in rules(microk8s(version="v1.35.0"))


def test_paths_of_one_revision() -> None:
    stale = TEMPLATE.replace("${SNAP_DATA}", "/var/snap/microk8s/8511")
    assert "8511" in only(microk8s(template=stale), "GW-MICROK8S-006").evidence[0]
    assert "GW-MICROK8S-006" not in rules(microk8s())


# k0s

MAGIC = "# k0s_managed=true\nversion = 2\n"


def k0s(*drop_ins: str, version: str = "v1.35.2+k0s.0", main: str | None = MAGIC) -> Probe:
    files: dict[str, str | tuple[str, int]] = {f"/etc/k0s/containerd.d/{n}.toml": t for n, t in enumerate(drop_ins)}
    if main is not None:
        files["/etc/k0s/containerd.toml"] = main
    return host(unit("k0sworker.service", "/usr/local/bin/k0s worker"), files=files, k0s_version=version)


V3_DROP_IN = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]\n"


def test_k0s_does_not_manage_its_file() -> None:
    assert only(k0s(main="version = 2\n"), "GW-K0S-001").evidence[0].startswith("/etc/k0s/containerd.toml: ")
    assert "GW-K0S-001" in rules(k0s(main=f" {MAGIC}"))
    assert "GW-K0S-001" not in rules(k0s())
    assert "GW-K0S-001" not in rules(k0s(main=None))


def test_drop_ins_of_k0s_before_and_after_the_upgrade() -> None:
    new = {"version": "v1.36.0+k0s.0"}
    assert only(k0s(NVIDIA, **new), "GW-K0S-002").severity == "error"
    assert "GW-K0S-002" in rules(k0s(NVIDIA.removeprefix("version = 2\n"), **new))
    assert rules(k0s(V3_DROP_IN, **new)) == set()
    assert rules(k0s(V3_DROP_IN.removeprefix("version = 3\n"), **new)) == set()
    assert only(k0s(NVIDIA), "GW-K0S-003").severity == "info"
    assert "GW-K0S-002" not in rules(k0s(NVIDIA))
    assert "GW-K0S-003" not in rules(k0s(V3_DROP_IN, **new))
    assert "version = 3" in only(k0s(V3_DROP_IN), "GW-K0S-005").evidence[0]
    assert "GW-K0S-005" in rules(k0s(V3_DROP_IN.removeprefix("version = 3\n")))
    assert "GW-K0S-005" not in rules(k0s(NVIDIA))


def test_nested_imports_of_k0s() -> None:
    nested = 'imports = ["/etc/containerd/conf.d/*.toml"]\n'
    assert only(k0s(nested), "GW-K0S-004").severity == "error"
    assert only(k0s(nested, version="v1.36.0+k0s.0"), "GW-K0S-004").severity == "warning"
    assert "GW-K0S-004" not in rules(k0s(NVIDIA))


@pytest.mark.parametrize(
    "text", ["version = [1]\n", "plugins = 3\n", 'imports = {a = "\\u001b[31m"}\n', "version = 1.5\n"]
)
def test_odd_values_in_drop_ins(text: str) -> None:
    for probe in (
        k0s(text),
        k0s(text, version="v1.36.0+k0s.0"),
        snap(text),
        snap(text, version="1.36.0"),
        microk8s(text),
    ):
        for finding in __import__("gpuwizard.findings", fromlist=["find"]).find(probe):
            assert not any("\x1b" in line for line in finding.evidence)


def test_nothing_is_said_of_the_captured_host() -> None:
    assert rules(host(kubelet(), marks=JOINED)) == set()
    assert not {rule for rule in ids(CAPTURE) if rule.startswith(("GW-K", "GW-SNAP", "GW-MICROK8S"))}
