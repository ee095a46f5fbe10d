"""Rules about the kubelet's runtime: each on a host that shows it, and on one that does not."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gpuwizard.facts.model import (
    Handler,
    HostFile,
    KubernetesFacts,
    OperatorFacts,
    Probe,
    RuntimeFacts,
    ServiceState,
)
from gpuwizard.findings import find
from gpuwizard.secret import SecretBytes
from tests.captured import CAPTURE, changed, edit, ids, only, ready, without

RUNC = Handler("io.containerd.runc.v2", {"SystemdCgroup": True})


def host(*others: RuntimeFacts, kubernetes: KubernetesFacts | None = None, **changes: Any) -> Probe:
    """The captured host after the handler was added, with its runtime changed and others beside it."""
    probe = ready()
    runtime = replace(probe.facts.runtimes[0], **changes)
    probe = changed(probe, runtimes=(runtime, *others))
    return changed(probe, kubernetes=kubernetes) if kubernetes is not None else probe


def service(active: str = "active", sub: str = "running", enabled: str = "enabled", result: str = "success") -> Any:
    return ServiceState("containerd.service", True, active, enabled, sub, result)


def handlers(**options: Mapping[str, object]) -> dict[str, Handler]:
    return {name: Handler("io.containerd.runc.v2", dict(given)) for name, given in options.items()}


def test_the_host_that_these_tests_change_is_in_order() -> None:
    assert ids(host()) == ["GW-OK-001"]


def test_no_handler_on_a_runtime_that_the_plan_does_not_edit() -> None:
    crio = host(
        kind="crio", config_path="/etc/crio/crio.conf", handlers={"crun": Handler("oci")}, default_handler="crun"
    )
    finding = only(crio, "GW-RUNTIME-001")
    assert not finding.fixable
    assert "nvidia-ctk runtime configure --runtime=crio" in finding.remedy
    broken = host(handlers={"runc": RUNC}, cri="error")
    assert not only(broken, "GW-RUNTIME-001").fixable
    assert "--config-source=command" in only(broken, "GW-RUNTIME-001").remedy
    assert only(host(handlers={"runc": RUNC}), "GW-RUNTIME-001").fixable


def test_the_default_is_undefined_while_the_former_files_still_run() -> None:
    finding = only(host(default_handler="kata", cri="ok", running=True), "GW-RUNTIME-002")
    assert "next restart" in finding.title
    down = only(host(default_handler="kata", cri="error"), "GW-RUNTIME-002")
    assert down.title == "the default handler is not defined"
    # a dump of 1.x does not show the CRI table where CRI is off
    assert "GW-RUNTIME-002" not in ids(host(handlers={}, default_handler=None, cri="disabled"))


def test_a_refused_file_is_told_once() -> None:
    raw = edit("containerd-error:700", "containerd: failed to load TOML: bad", 1, probe=without("containerd-dump:700"))
    assert "GW-RUNTIME-004" not in ids(raw)  # GW-CONTAINERD-001 says it
    unread = host(effective_error="config dump of containerd 2.0.0 to 2.0.5 leaves out version 2 files", refused=False)
    assert only(unread, "GW-RUNTIME-004").severity == "warning"


def test_not_running_and_looping() -> None:
    loops = host(
        running=False, pid=None, service=service("activating", "auto-restart", result="exit-code"), restarts=12
    )
    finding = only(loops, "GW-RUNTIME-010")
    assert finding.severity == "error"
    assert "containerd.service: activating (auto-restart)" in finding.evidence
    assert "GW-RUNTIME-006" not in ids(loops)
    gave_up = host(running=False, pid=None, service=service("failed", "failed", result="start-limit-hit"), restarts=5)
    assert "Result=start-limit-hit" in only(gave_up, "GW-RUNTIME-010").evidence
    stopped = host(running=False, pid=None, service=service("inactive", "dead"), restarts=0)
    assert only(stopped, "GW-RUNTIME-006")
    assert "GW-RUNTIME-010" not in ids(stopped)
    other = RuntimeFacts("containerd", used_by_kubelet=False, service=service("activating", "auto-restart"))
    assert only(host(other), "GW-RUNTIME-010").severity == "warning"


def test_the_default_handlers_program_is_gone() -> None:
    path = "/usr/local/nvidia/toolkit/nvidia-container-runtime"
    gone = host(
        handlers=handlers(runc={"SystemdCgroup": True}, nvidia={"SystemdCgroup": True, "BinaryName": path}),
        default_handler="nvidia",
        missing_binaries={"nvidia": path},
    )
    finding = only(gone, "GW-RUNTIME-007")
    assert finding.evidence[1:] == ("default handler: nvidia", f"{path}: not there")
    assert not finding.fixable  # the operator's handler is the operator's
    assert {"GW-RUNTIME-008", "GW-RUNTIME-016"}.isdisjoint(ids(gone))
    moved = host(
        handlers=handlers(runc={"SystemdCgroup": True}, nvidia={"SystemdCgroup": True, "BinaryName": "/opt/x"}),
        default_handler="nvidia",
        missing_binaries={"nvidia": "/opt/x"},
    )
    assert only(moved, "GW-RUNTIME-007").fixable
    assert "GW-RUNTIME-007" not in ids(host())


def test_another_handlers_program_is_gone() -> None:
    both = handlers(runc={"SystemdCgroup": True}, nvidia={"SystemdCgroup": True, "BinaryName": "/n"}, kata={})
    assert only(host(handlers=both, missing_binaries={"nvidia": "/n"}), "GW-RUNTIME-008").severity == "error"
    assert only(host(handlers=both, missing_binaries={"kata": "/k"}), "GW-RUNTIME-008").severity == "warning"
    legacy = {
        **both,
        "nvidia-legacy": Handler("io.containerd.runc.v2", {"BinaryName": "/x/nvidia-container-runtime.legacy"}),
    }
    finding = only(host(handlers=legacy, missing_binaries={"nvidia-legacy": "/x"}), "GW-RUNTIME-008")
    assert (finding.severity, finding.fixable) == ("warning", False)
    assert "GW-RUNTIME-008" not in ids(host(handlers=both))


@pytest.mark.parametrize(
    ("version", "kubernetes", "kubelet", "systemd", "told"),
    [
        ("1.7.24", "1.31.4", "systemd", False, True),
        ("1.7.24", "1.31.4", "cgroupfs", True, True),
        ("1.7.24", "1.31.4", "systemd", True, False),
        ("2.1.9", "1.27.9", "systemd", False, True),
        ("2.1.9", "1.34.0", "systemd", False, False),  # the kubelet asks containerd
        ("2.1.9", None, "systemd", False, False),
        (None, "1.31.4", "systemd", False, False),
        ("1.7.24", "1.31.4", None, False, False),
        ("1.7.24", "1.31.4", "systemd", None, False),
    ],
)
def test_cgroup_drivers(version: str, kubernetes: str, kubelet: Any, systemd: bool | None, told: bool) -> None:
    facts = KubernetesFacts("kubeadm", kubernetes, "worker", "kubelet.service", active=True, cgroup_driver=kubelet)
    probe = host(version=version, systemd_cgroup=systemd, kubernetes=facts)
    assert ("GW-RUNTIME-009" in ids(probe)) is told
    if told:
        assert f"kubelet: cgroupDriver: {kubelet}" in only(probe, "GW-RUNTIME-009").evidence


def test_cgroup_driver_of_docker() -> None:
    old = KubernetesFacts("kubeadm", "1.26.1", service="kubelet.service", active=True, cgroup_driver="systemd")
    docker = {"kind": "docker", "systemd_cgroup": False, "handlers": {}, "default_handler": "nvidia"}
    assert "docker: cgroupfs" in only(host(kubernetes=old, **docker), "GW-RUNTIME-009").evidence
    new = replace(old, version="1.33.1")
    assert "GW-RUNTIME-009" not in ids(host(kubernetes=new, **docker))


def test_many_restarts() -> None:
    finding = only(host(restarts=9, unit="containerd.service"), "GW-RUNTIME-011")
    assert finding.evidence[1] == "containerd.service: NRestarts=9"
    operators = changed(host(restarts=9), operator=OperatorFacts(toolkit=True))
    assert "the GPU Operator's toolkit is on this host" in only(operators, "GW-RUNTIME-011").evidence
    assert "GW-RUNTIME-011" not in ids(host(restarts=2))


def test_files_that_are_not_in_force() -> None:
    path = "/etc/containerd/config.toml"
    probe = host(config_newer_than_process=True, changed_files=(path, "/etc/gone.toml"))
    probe = replace(probe, files={path: HostFile(path, SecretBytes(b""), mtime=1_700_000_000)})
    assert only(probe, "GW-RUNTIME-012").evidence[1] == f"{path}: written 2023-11-14T22:13:20Z"
    for known in (False, None):
        assert "GW-RUNTIME-012" not in ids(host(config_newer_than_process=known))
    odd = replace(probe, files={path: HostFile(path, SecretBytes(b""), mtime=10**15)})
    assert len(only(odd, "GW-RUNTIME-012").evidence) == 1
    other = host(config_newer_than_process=False, not_live=("handler x runs and stands in no file",))
    assert only(other, "GW-RUNTIME-012").evidence[1:] == ("handler x runs and stands in no file",)


def test_a_unit_that_systemd_has_not_read() -> None:
    assert only(host(needs_daemon_reload=True, unit="containerd.service"), "GW-RUNTIME-013")
    assert "GW-RUNTIME-013" not in ids(host(needs_daemon_reload=False, unit="containerd.service"))


def docker_own(**changes: Any) -> RuntimeFacts:
    plain = RuntimeFacts(
        "containerd", "2.1.4", "/run/docker/containerd/containerd.sock", "/var/run/docker/containerd/containerd.toml",
        used_by_kubelet=False, owner="docker", running=True, unit="docker.service",
    )  # fmt: skip
    return replace(plain, **changes)


def test_several_containerds() -> None:
    finding = only(host(docker_own()), "GW-RUNTIME-014")
    assert finding.severity == "info"
    assert finding.evidence[0].endswith("the kubelet's")
    assert "docker.service" in finding.evidence[1]
    assert "GW-RUNTIME-014" not in ids(host(docker_own(running=False)))


def test_path_gives_another_containerd() -> None:
    other = docker_own(in_path=True, binary="/usr/bin/containerd", owner="package")
    finding = only(host(other, in_path=False, binary="/opt/kube/containerd"), "GW-RUNTIME-015")
    assert finding.evidence[0].endswith("/opt/kube/containerd")
    assert "GW-RUNTIME-015" not in ids(host(other, in_path=True))
    assert "GW-RUNTIME-015" not in ids(host(other, in_path=None))
    assert "GW-RUNTIME-015" not in ids(host(in_path=False))  # there is none in PATH


def test_nvidia_is_the_default() -> None:
    assert only(host(default_handler="nvidia"), "GW-RUNTIME-016").severity == "info"
    assert "GW-RUNTIME-016" not in ids(host(default_handler="runc"))


def test_not_enabled_at_boot() -> None:
    assert only(host(running=True, service=service(enabled="disabled")), "GW-RUNTIME-017")
    for enabled in ("enabled", "static", "indirect"):
        assert "GW-RUNTIME-017" not in ids(host(running=True, service=service(enabled=enabled)))
    assert "GW-RUNTIME-017" not in ids(host(running=True, service=None))


def test_upgraded_and_not_restarted() -> None:
    finding = only(host(version="2.1.9", running_version="1.7.24"), "GW-RUNTIME-018")
    assert finding.title == "another major release of containerd waits for the next restart"
    assert only(host(version="1.7.27", running_version="1.7.24"), "GW-RUNTIME-018").evidence[1:] == (
        "running: 1.7.24",
        "on disk: 1.7.27",
    )
    assert "GW-RUNTIME-018" not in ids(host(version="1.7.24", running_version="1.7.24"))
    assert "GW-RUNTIME-018" not in ids(host(version="1.7.24", running_version=None))


def test_containerd_and_crio() -> None:
    crio = RuntimeFacts("crio", "1.33.2", used_by_kubelet=False, running=True, handlers={"crun": Handler("oci")})
    finding = only(host(crio), "GW-RUNTIME-019")
    assert finding.severity == "warning"
    assert finding.evidence[0].endswith("used by the kubelet")
    assert "GW-RUNTIME-014" not in ids(host(crio))
    assert "GW-RUNTIME-019" not in ids(host(replace(crio, running=False)))


def test_nothing_is_said_of_an_unknown_runtime() -> None:
    empty = host(
        version=None, handlers={}, default_handler=None, cri=None, running=None, service=None, systemd_cgroup=None
    )
    assert [f.id for f in find(empty)] == []
    assert "GW-RUNTIME-001" in ids(CAPTURE)
