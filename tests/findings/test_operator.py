"""Rules about the GPU Operator's traces, on text that provokes them and on text that must not."""

from base64 import b64encode
from dataclasses import replace

import pytest

from gpuwizard.facts.model import KubernetesFacts, Probe, RuntimeFacts
from gpuwizard.facts.parse import parse_probe
from tests.captured import CAPTURE, changed, edit, ids, only, ready, without

TOOLKIT = "/usr/local/nvidia/toolkit"
STAGES = ("driver-ready", "toolkit-ready", "cuda-ready", "plugin-ready")
PLACED = f"toolkit {TOOLKIT}\ninstalled config\nprogram nvidia-container-runtime\nprogram nvidia-ctk\n"
ALIVE = "pod running\n"


def stages(*names: str) -> str:
    return "validations /run/nvidia/validations\n" + "".join(f"validation {name}\n" for name in names)


DONE = stages(*STAGES)


def host(operator: str, *, version: str = "1.20.0", probe: bytes = CAPTURE) -> bytes:
    """The captured host with these lines about the operator."""
    raw = edit("operator-version", f"NVIDIA Container Toolkit CLI version {version}", probe=probe)
    raw = edit("toolkit-runtime", f"{TOOLKIT}/nvidia-container-runtime", probe=raw)
    return edit("operator", operator, probe=raw)


def active(raw: bytes, flavour: str = "kubeadm") -> Probe:
    probe = parse_probe(raw)
    kubernetes = replace(probe.facts.kubernetes, flavour=flavour, active=True)
    return changed(probe, kubernetes=kubernetes)


def with_file(path: str, text: str, probe: bytes) -> bytes:
    return edit(f"file:{path}", b64encode(text.encode()).decode(), probe=without("file-stats", probe=probe))


def mine(probe: Probe | bytes) -> list[str]:
    return [found for found in ids(probe) if found.startswith(("GW-CDI", "GW-TOOLKIT", "GW-OPERATOR"))]


def test_a_node_that_the_operator_keeps_is_silent() -> None:
    assert mine(active(host(PLACED + ALIVE + DONE))) == []
    driver = "driver /run/nvidia/driver\ndriver-library /run/nvidia/driver/usr/lib/x/libnvidia-ml.so.580.159.04\n"
    assert mine(active(edit("modinfo", "", 1, probe=host(PLACED + ALIVE + DONE + driver)))) == []
    assert mine(active(edit("operator", "pod none\n"))) == []
    assert mine(ready()) == []


def test_a_toolkit_that_was_left_behind() -> None:
    finding = only(active(host(PLACED + "pod none\n")), "GW-OPERATOR-001")
    assert f"{TOOLKIT}/nvidia-container-runtime" in finding.evidence
    gone = only(active(host(PLACED + "pod gone\n" + stages())), "GW-OPERATOR-001")
    assert any(line.endswith("is gone") for line in gone.evidence)
    for lines in (
        PLACED + ALIVE,
        PLACED + "pod none\n" + DONE,
        PLACED,  # processes are hidden
        PLACED.replace("installed config\n", "") + "pod none\n",  # put there by hand
    ):
        assert "GW-OPERATOR-001" not in ids(active(host(lines)))
    stopped = active(host(PLACED + "pod none\n"))
    assert "GW-OPERATOR-001" not in ids(changed(stopped, kubernetes=KubernetesFacts("kubeadm", active=False)))


def test_a_toolkit_that_is_not_whole() -> None:
    lines = f"{PLACED}{ALIVE}{DONE}broken {TOOLKIT}/nvidia-container-runtime.real does not exist\n"
    finding = only(active(host(lines)), "GW-OPERATOR-002")
    assert finding.severity == "error"
    assert f"{TOOLKIT}/nvidia-container-runtime.real does not exist" in finding.evidence
    assert "GW-OPERATOR-002" not in ids(active(host(PLACED + ALIVE + DONE)))


def test_two_toolkits() -> None:
    binaries = f"nvidia-container-runtime {TOOLKIT}/nvidia-container-runtime\n"
    one = edit("toolkit-binaries", binaries, probe=host(PLACED + ALIVE + DONE))
    assert "GW-OPERATOR-003" not in ids(active(one))
    own = binaries + "nvidia-container-runtime /usr/bin/nvidia-container-runtime\n"
    finding = only(active(edit("toolkit-binaries", own, probe=one)), "GW-OPERATOR-003")
    assert finding.severity == "info"
    assert finding.evidence == (
        f"{TOOLKIT}/nvidia-container-runtime 1.20.0",
        "/usr/bin/nvidia-container-runtime 1.20.0",
    )


def test_two_drivers() -> None:
    driver = "driver /run/nvidia/driver\ndriver-library /run/nvidia/driver/usr/lib/x/libnvidia-ml.so.595.91.07\n"
    finding = only(active(host(PLACED + ALIVE + DONE + driver)), "GW-OPERATOR-004")
    assert finding.evidence[0] == "/run/nvidia/driver: driver 595.91.07"
    packages = edit("packages", "nvidia-driver-580 580.159.04-1\n", probe=host(PLACED + ALIVE + DONE + driver))
    assert any("580.159.04" in line for line in only(active(packages), "GW-OPERATOR-004").evidence)
    assert "GW-OPERATOR-004" not in ids(active(host(PLACED + ALIVE + DONE)))
    tools = edit("packages", "nvidia-modprobe 595.91.07-1\n", probe=host(PLACED + ALIVE + DONE + driver))
    assert "GW-OPERATOR-004" not in ids(active(edit("modinfo", "modinfo: ERROR", 1, probe=tools)))


@pytest.mark.parametrize(
    ("stage", "rule"),
    list(zip(STAGES, ("GW-OPERATOR-005", "GW-OPERATOR-006", "GW-OPERATOR-007", "GW-OPERATOR-008"), strict=True)),
)
def test_where_the_validator_stopped(stage: str, rule: str) -> None:
    there = [".driver-ctr-ready", *STAGES[: STAGES.index(stage)]]
    finding = only(active(host(PLACED + ALIVE + stages(*there))), rule)
    assert f"no {stage}" in finding.evidence
    assert mine(active(host(PLACED + ALIVE + stages(*there)))) == [rule]
    assert rule not in ids(active(host(PLACED + ALIVE + DONE)))
    assert rule not in ids(active(host(PLACED + ALIVE + stages())))  # nobody began, or all is removed
    virtual = stages("vfio-pci-ready", "workload-type") + "workload vm-passthrough\n"
    assert rule not in ids(active(host(PLACED + ALIVE + virtual)))


def test_a_path_of_the_pod_among_containerds_imports() -> None:
    config = 'version = 2\n# "/runtime/config-dir.d/x.toml"\nimports = ["/runtime/config-dir.d/*.toml"]\n'
    raw = with_file("/etc/containerd/config.toml", config, host(PLACED + ALIVE + DONE))
    finding = only(active(raw), "GW-OPERATOR-009")
    assert finding.evidence[0] == "/etc/containerd/config.toml: line 3: /runtime/config-dir.d/*.toml"
    good = 'version = 2\n# was "/runtime/config-dir.d/*.toml"\nimports = ["/etc/containerd/conf.d/*.toml"]\n'
    raw = with_file("/etc/containerd/config.toml", good, host(PLACED + ALIVE + DONE))
    assert "GW-OPERATOR-009" not in ids(active(raw))


def test_jetson() -> None:
    probe = active(host(PLACED + ALIVE + DONE))
    jetson = changed(probe, os=replace(probe.facts.os, kind="jetson", l4t="36.4.3"))
    assert "L4T 36.4.3" in only(jetson, "GW-OPERATOR-010").evidence
    assert "GW-OPERATOR-010" not in ids(probe)
    bare = active(edit("operator", "pod none\n"))
    assert "GW-OPERATOR-010" not in ids(changed(bare, os=replace(bare.facts.os, kind="jetson")))


def test_a_containerd_that_is_not_the_kubelets() -> None:
    drop_in = f'version = 2\n[plugins.x]\nBinaryName = "{TOOLKIT}/nvidia-container-runtime"\n'
    raw = with_file("/etc/containerd/conf.d/99-nvidia.toml", drop_in, host(PLACED + ALIVE + DONE))
    probe = active(raw, "k3s")
    docker = replace(probe.facts.runtimes[0], used_by_kubelet=False, owner="docker")
    k3s = RuntimeFacts(
        "containerd",
        "2.1.4",
        config_path="/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        used_by_kubelet=True,
        running=True,
    )
    finding = only(changed(probe, runtimes=(k3s, docker)), "GW-OPERATOR-011")
    assert finding.evidence[0] == "/etc/containerd/conf.d/99-nvidia.toml"
    assert "GW-OPERATOR-011" not in ids(changed(probe, runtimes=(k3s,)))  # nobody reads it
    assert "GW-OPERATOR-011" not in ids(active(raw))  # the kubelet's own
    clean = active(host(PLACED + ALIVE + DONE), "k3s")
    assert "GW-OPERATOR-011" not in ids(changed(clean, runtimes=(k3s, docker)))


def test_releases_with_faults() -> None:
    assert only(active(host(PLACED + ALIVE + DONE, version="1.18.0")), "GW-OPERATOR-012").severity == "warning"
    assert only(active(host(PLACED + ALIVE + DONE, version="1.17.0"), "k3s"), "GW-OPERATOR-013")
    for version in ("1.17.3", "1.18.1", "1.20.0"):
        found = ids(active(host(PLACED + ALIVE + DONE, version=version), "k3s"))
        assert not {"GW-OPERATOR-012", "GW-OPERATOR-013"} & set(found)
    assert "GW-OPERATOR-013" not in ids(active(host(PLACED + ALIVE + DONE, version="1.17.0")))


def test_a_toolkit_that_waits_for_its_driver() -> None:
    config = '[nvidia-container-cli]\nroot = "/run/nvidia/driver"\n'
    raw = edit("operator-config", config, probe=host(PLACED + ALIVE + DONE))
    assert "nothing" not in only(active(raw), "GW-OPERATOR-014").evidence[0]
    mounted = edit("operator-config", config, probe=host(PLACED + ALIVE + DONE + "driver /run/nvidia/driver\n"))
    assert "GW-OPERATOR-014" not in ids(active(mounted))
    own = edit("operator-config", '[nvidia-container-cli]\nroot = "/"\n', probe=host(PLACED + ALIVE + DONE))
    assert "GW-OPERATOR-014" not in ids(active(own))
