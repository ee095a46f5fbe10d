"""The built-in fleet, looked at as any host is: the real probe over real SSH."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gpuwizard.errors import LoginError
from gpuwizard.facts.jsonable import facts_json
from gpuwizard.facts.model import Probe
from gpuwizard.findings import find
from gpuwizard.fleet import Fleet, open_fleet
from gpuwizard.work.probe import probe_host

from .conftest import log_in

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    async with open_fleet("mixed", state_dir=tmp_path_factory.mktemp("mixed")) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def probes(fleet: Fleet) -> Mapping[str, Probe]:
    found = {}
    for name in fleet.targets:
        if name != "locked":
            transport = await log_in(fleet, name)
            found[name] = await probe_host(
                transport, sudo_password_known=fleet.hosts[name].spec.sudo.kind == "password"
            )
            await transport.close()
    return found


def runtime(probe: Probe) -> dict[str, Any]:
    runtimes: list[dict[str, Any]] = facts_json(probe.facts)["runtimes"]
    (used,) = [r for r in runtimes if r["used_by_kubelet"]]
    return used


def slots(name: str, *buses: str) -> list[tuple[str, str]]:
    return [(f"0000:{bus}:00.0", name) for bus in buses]


async def test_nothing_of_the_probe_was_out_of_sight(probes: Mapping[str, Probe]) -> None:
    assert {name: probe.facts.unseen for name, probe in probes.items() if probe.facts.unseen} == {}
    assert all(probe.readable for probe in probes.values())


@pytest.mark.parametrize(
    ("name", "gpus", "driver", "flavour"),
    [
        ("k3s-server", slots("NVIDIA H100 80GB HBM3", "17", "3d"), "580.95.05", "open"),
        ("k3s-agent-1", slots("NVIDIA L40S", "17", "3d"), "570.195.03", "proprietary"),
        ("k3s-agent-2", [("0000:17:00.0", "NVIDIA GeForce RTX 4090")], "580.95.05", "open"),
        ("spark", [("000f:01:00.0", "NVIDIA GB10")], "580.95.05", "open"),
        ("kube-c17", slots("Tesla T4", "17", "3d", "60", "70"), "535.274.02", "proprietary"),
        ("kube-c21", [("0000:17:00.0", "NVIDIA L40S")], "580.95.05", "open"),
    ],
)  # fmt: skip
async def test_gpus_and_drivers(
    probes: Mapping[str, Probe], name: str, gpus: list[tuple[str, str]], driver: str, flavour: str
) -> None:
    facts = probes[name].facts
    assert [(gpu.pci, gpu.name) for gpu in facts.gpus] == gpus
    assert all(set(gpu.seen_by) == {"pci", "nvidia-smi"} and gpu.bound_driver == "nvidia" for gpu in facts.gpus)
    assert (facts.driver.loaded, facts.driver.userspace, facts.driver.on_disk) == (driver, driver, driver)
    assert facts.driver.flavour == flavour
    assert facts.toolkit.runtime_path == "/usr/bin/nvidia-container-runtime"
    assert facts.kernel.arch == ("aarch64" if name == "spark" else "x86_64")


async def test_k3s_has_not_seen_the_toolkit_yet(probes: Mapping[str, Probe]) -> None:
    for name in ("k3s-server", "k3s-agent-1", "k3s-agent-2", "spark"):
        used = runtime(probes[name])
        assert list(used["handlers"]) == ["runc"]
        assert used["owner"] == "k3s"
        assert used["version"].startswith("2.1.4")
        assert "GW-RUNTIME-001" in {finding.id for finding in find(probes[name])}
    kubernetes = probes["k3s-server"].facts.kubernetes
    assert (kubernetes.flavour, kubernetes.role, kubernetes.service) == ("k3s", "server", "k3s.service")
    assert probes["spark"].facts.kubernetes.role == "agent"


@pytest.mark.parametrize(("name", "version"), [("kube-c17", "1.7.24"), ("kube-c21", "2.1.4")])
async def test_kubeadm_nodes(probes: Mapping[str, Probe], name: str, version: str) -> None:
    used = runtime(probes[name])
    assert used["version"].startswith(version)
    assert used["config_path"] == "/etc/containerd/config.toml"
    assert used["handlers"]["runc"]["options"]["SystemdCgroup"] is True
    assert probes[name].facts.kubernetes.flavour == "kubeadm"
    content = probes[name].files["/etc/containerd/config.toml"].content
    assert content is not None
    assert "# containerd for Kubernetes nodes" in content.text()


async def test_special_hosts(probes: Mapping[str, Probe]) -> None:
    spark = probes["spark"].facts
    assert spark.os.dgx == "7.3.1"
    assert spark.gpus[0].memory_bytes is None
    assert spark.gpus[0].unified_memory is True
    bare = probes["no-driver"].facts
    assert bare.driver.loaded is None
    assert bare.gpus[0].seen_by == ("pci",)
    assert "GW-DRIVER-001" in {finding.id for finding in find(probes["no-driver"])}
    assert probes["kube-c17"].facts.privilege.sudo == "password"
    assert probes["k3s-agent-2"].facts.privilege.sudo == "root"
    assert probes["kube-c21"].facts.privilege.sudo == "nopasswd"


async def test_a_registry_password_lies_in_the_rendered_file(probes: Mapping[str, Probe]) -> None:
    """It is there to be redacted: no front end may show it."""
    files = probes["k3s-server"].files
    rendered = files["/var/lib/rancher/k3s/agent/etc/containerd/config.toml"].content
    assert rendered is not None
    assert "hunter2" in rendered.text()
    assert "hunter2" not in repr(files)


async def test_the_locked_host_lets_nobody_in(fleet: Fleet) -> None:
    with pytest.raises(LoginError):
        await log_in(fleet, "locked")
    assert fleet.servers["locked"].logins == 1


async def test_a_login_without_root_sees_less(fleet: Fleet) -> None:
    transport = await log_in(fleet, "kube-c17")
    probe = await probe_host(transport, sudo_password_known=False)
    await transport.close()
    assert probe.facts.privilege.sudo == "password"
    assert probe.readable is False
    assert any("root" in unseen.what for unseen in probe.facts.unseen)
    assert probe.facts.gpus[0].name == "Tesla T4"
    assert Path("/var/lib/kubelet/config.yaml") not in probe.files
