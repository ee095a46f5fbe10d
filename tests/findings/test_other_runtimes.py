"""Rules about Docker and CRI-O, on their own texts."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from gpuwizard.facts.frames import read_frames
from gpuwizard.facts.model import Handler, KubernetesFacts, Probe, RuntimeFacts
from gpuwizard.facts.parse import parse_probe
from tests.captured import CAPTURE, changed, edit, ids, only, ready, without

NVIDIA = '"runtimes": {"nvidia": {"path": "nvidia-container-runtime", "args": []}}'


def sent(path: str, text: str, probe: bytes) -> bytes:
    return edit(f"file:{path}", base64.b64encode(text.encode()).decode(), probe=probe)


def docker(text: str, *arguments: str, programs: str = "", probe: bytes = CAPTURE) -> bytes:
    """The captured host with Docker beside its containerd."""
    words = "".join(f"arg={word}\n" for word in ("/usr/bin/dockerd", *arguments))
    raw = edit("process:50", f"comm=dockerd\nuid=0\ncgroup=0::/system.slice/docker.service\n{words}", probe=probe)
    raw = edit("docker-version", "Docker version 28.2.2, build 1234567", probe=raw)
    raw = edit("programs", programs, probe=raw)
    return sent("/etc/docker/daemon.json", text, raw)


def crio(files: dict[str, str], programs: str = "", unread: str = "") -> bytes:
    raw = edit("process:60", "comm=crio\nuid=0\ncgroup=0::/system.slice/crio.service\narg=/usr/bin/crio\n")
    raw = edit("crio-version", "crio version 1.33.2", probe=raw)
    raw = edit("crio-unread", unread, probe=edit("programs", programs, probe=raw))
    raw = without("file-stats", probe=raw)
    for path, text in files.items():
        raw = sent(path, text, raw)
    return raw


def told(probe: bytes | Probe, prefix: str) -> list[str]:
    return [rule for rule in ids(probe) if rule.startswith(prefix)]


def test_docker_in_order() -> None:
    fine = docker(f'{{{NVIDIA}, "features": {{"buildkit": true}}}}', programs="nvidia-container-runtime=/usr/bin/x\n")
    assert told(fine, "GW-DOCKER") == []
    assert told(CAPTURE, "GW-DOCKER") == []


def test_daemon_json_is_broken() -> None:
    finding = only(docker('{\n "default-runtime": "nvidia",\n}\n'), "GW-DOCKER-001")
    assert finding.evidence[1].startswith("/etc/docker/daemon.json:3: ")
    assert finding.evidence[2].startswith("dockerd runs")
    assert told(docker('{\n "default-runtime": "nvidia",\n}\n'), "GW-DOCKER") == ["GW-DOCKER-001"]


def test_flag_and_file() -> None:
    finding = only(docker('{"hosts": ["unix:///run/docker.sock"]}', "-H", "fd://"), "GW-DOCKER-002")
    assert '"hosts" stands in the file and is the flag -H, too' in finding.evidence[1]
    assert "GW-DOCKER-002" not in ids(docker(f"{{{NVIDIA}}}", "--add-runtime", "x=/x", "-H", "fd://"))


def test_the_default_runtime_is_undefined() -> None:
    assert only(docker('{"default-runtime": "nvidia"}'), "GW-DOCKER-003").evidence[2] == "runtimes: none"
    for fine in ('{"default-runtime": "runc"}', f'{{"default-runtime": "nvidia", {NVIDIA}}}', "{}"):
        assert "GW-DOCKER-003" not in ids(docker(fine))
    assert "GW-DOCKER-003" not in ids(docker('{"default-runtime": "io.containerd.kata.v2"}'))


def test_the_program_of_a_runtime_is_gone() -> None:
    gone = "nvidia-container-runtime=\n"
    default = docker(f'{{"default-runtime": "nvidia", {NVIDIA}}}', programs=gone)
    assert only(default, "GW-DOCKER-004").evidence[2] == "nvidia-container-runtime: not there"
    assert "GW-DOCKER-005" not in ids(default)
    other = docker(f"{{{NVIDIA}}}", programs=gone)
    assert only(other, "GW-DOCKER-005").severity == "warning"
    assert "GW-DOCKER-004" not in ids(other)
    assert {"GW-RUNTIME-007", "GW-RUNTIME-008"}.isdisjoint(ids(default))


def bridged(**changes: Any) -> Probe:
    """A node whose kubelet uses Docker."""
    runtime = RuntimeFacts(
        "docker", "28.2.2", "/run/docker.sock", used_by_kubelet=True, running=True, bridge="cri-dockerd",
        handlers={"nvidia": Handler("runc", {"path": "nvidia-container-runtime"})},
    )  # fmt: skip
    return changed(ready(), runtimes=(replace(runtime, **changes),))


def test_pods_by_cri_dockerd() -> None:
    finding = only(bridged(default_handler=None), "GW-DOCKER-006")
    assert finding.evidence[1:] == ("the kubelet uses it through cri-dockerd", "default runtime: runc")
    assert "GW-DOCKER-006" not in ids(bridged(default_handler="nvidia"))
    assert "GW-DOCKER-006" not in ids(bridged(default_handler=None, used_by_kubelet=False))
    bare = bridged(default_handler=None)
    assert "GW-DOCKER-006" not in ids(changed(bare, toolkit=replace(bare.facts.toolkit, runtime_path=None)))


def test_docker_is_older_than_the_toolkit() -> None:
    times = "755 0 0 9 9950 1 /usr/bin/nvidia-container-runtime-hook\n555 0 0 10000 10000 0 /proc/self\n"
    raw = edit("uptime", "500.00 900.00", probe=edit("file-stats", times, probe=docker("{}")))

    def began(ticks: int) -> bytes:
        text = next(s.text for s in read_frames(raw).sections if s.name == "process" and s.key == "50")
        return edit("process:50", f"{text}ticks={ticks}\n", probe=raw)

    assert only(began(40_000), "GW-DOCKER-007").severity == "warning"
    assert "GW-DOCKER-007" not in ids(began(46_000))  # 40 s ago, after the hook
    assert "GW-DOCKER-007" not in ids(docker("{}"))


def test_daemon_json_is_newer() -> None:
    assert only(bridged(config_newer_than_process=True, config_path="/x", default_handler="nvidia"), "GW-DOCKER-008")
    assert "GW-RUNTIME-012" not in ids(bridged(config_newer_than_process=True))
    assert "GW-DOCKER-008" not in ids(bridged(config_newer_than_process=None))
    assert only(bridged(not_live=("the default handler is x",), default_handler="nvidia"), "GW-DOCKER-008")


def test_cdi_is_off() -> None:
    def probe(cdi: bool | None, *specs: str) -> Probe:
        given = bridged(cdi=cdi, default_handler="nvidia")
        return changed(given, toolkit=replace(given.facts.toolkit, cdi_specs=specs))

    assert only(probe(False, "/var/run/cdi/nvidia.yaml"), "GW-DOCKER-009").severity == "info"
    for fine in (probe(True, "/var/run/cdi/nvidia.yaml"), probe(None, "/var/run/cdi/nvidia.yaml"), probe(False)):
        assert "GW-DOCKER-009" not in ids(fine)


def test_a_misspelt_directive() -> None:
    finding = only(docker('{\n"default_runtime": "runc"}'), "GW-DOCKER-010")
    assert finding.evidence[1] == '/etc/docker/daemon.json:2: "default_runtime" is no directive; "default-runtime" is'
    assert "GW-DOCKER-010" not in ids(docker('{"default-runtime": "runc", "something-new": 1}'))


def test_crio_in_order() -> None:
    assert told(crio({"/etc/crio/crio.conf": "[crio.runtime]\n"}), "GW-CRIO") == []
    assert told(CAPTURE, "GW-CRIO") == []


def test_crio_cannot_read_a_file() -> None:
    finding = only(crio({"/etc/crio/crio.conf.d/99-nvidia.conf": "[crio.runtime\n"}), "GW-CRIO-001")
    assert finding.evidence[1].startswith("/etc/crio/crio.conf.d/99-nvidia.conf:1: ")


def test_crios_default_is_undefined() -> None:
    default = '[crio.runtime]\ndefault_runtime = "nvidia"\n'
    finding = only(crio({"/etc/crio/crio.conf": default}), "GW-CRIO-002")
    assert finding.evidence[1:3] == ('default_runtime = "nvidia"', "handlers: crun")
    defined = f'{default}[crio.runtime.runtimes.nvidia]\nruntime_path = "/usr/bin/nvidia-container-runtime"\n'
    assert "GW-CRIO-002" not in ids(crio({"/etc/crio/crio.conf": defined}))


def test_a_handler_of_crio_without_its_program() -> None:
    path = "/usr/bin/nvidia-container-runtime"
    text = f'[crio.runtime.runtimes.nvidia]\nruntime_path = "{path}"\n'
    probe = parse_probe(crio({"/etc/crio/crio.conf.d/99-nvidia.conf": text}, programs=f"{path}=\ncrun=/usr/bin/crun\n"))
    runtime = next(r for r in probe.facts.runtimes if r.kind == "crio")
    node = changed(probe, runtimes=(replace(runtime, used_by_kubelet=True),), kubernetes=KubernetesFacts("kubeadm"))
    assert only(node, "GW-RUNTIME-008").evidence[1] == f"handler nvidia: {path}: not there"
    there = changed(node, runtimes=(replace(runtime, used_by_kubelet=True, missing_binaries={}),))
    assert "GW-RUNTIME-008" not in ids(there)


def test_a_folder_that_crio_does_not_read() -> None:
    finding = only(crio({}, unread="/etc/crio/conf.d/99-nvidia.toml\n"), "GW-CRIO-003")
    assert finding.evidence[1].startswith("/etc/crio/conf.d/99-nvidia.toml: CRI-O reads /etc/crio/crio.conf.d")
    assert "GW-CRIO-003" not in ids(crio({}))


@pytest.mark.parametrize("name", ["99-nvidia.conf.bak", "99-nvidia.conf~", "10-crio.conf.rpmsave", "x.old"])
def test_a_backup_that_crio_reads(name: str) -> None:
    assert name in only(crio({f"/etc/crio/crio.conf.d/{name}": ""}), "GW-CRIO-004").evidence[1]


@pytest.mark.parametrize("name", ["99-nvidia.conf", "99-nvidia", "50-bold.toml", "backup.conf"])
def test_other_files_are_no_backups(name: str) -> None:
    assert "GW-CRIO-004" not in ids(crio({f"/etc/crio/crio.conf.d/{name}": ""}))
