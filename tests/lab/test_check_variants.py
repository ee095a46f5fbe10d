"""`check` on every release with containerd, without it, with Docker's stub configuration, and with two of them."""

from collections.abc import Awaitable, Callable, Iterator

import pytest

from gpuwizard.facts.model import Probe, RuntimeFacts
from gpuwizard.findings import find
from gpuwizard.remote.transport import Transport
from gpuwizard.work.probe import probe_host
from tests.lab.harness.disk import HostSpec
from tests.lab.harness.host import LabHost
from tests.lab.harness.lab import Lab
from tests.lab.harness.recipe import SUITES

Login = Callable[..., Awaitable[Transport]]

CONFIG = "/etc/containerd/config.toml"
STUB = 'disabled_plugins = ["cri"]\n'
SOCKET = "/run/containerd/containerd.sock"
RUNC = """\
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = true
"""
SECOND_CONFIG = f"""\
version = 2
root = "/var/lib/second"
state = "/run/second"
[grpc]
  address = "/run/second/containerd.sock"
{RUNC}\
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
  BinaryName = "/usr/bin/nvidia-container-runtime"
  SystemdCgroup = true
"""
SECOND_UNIT = """\
[Service]
Type=notify
ExecStart=/usr/bin/containerd --config /etc/second/config.toml
KillMode=process
"""


@pytest.fixture(scope="module")
def variants(lab: Lab) -> Iterator[dict[str, LabHost]]:
    """A host of its own for each release: the tests below change it more and more."""
    hosts = lab.start([HostSpec(f"variant-{suite}", suite) for suite in SUITES])
    yield dict(zip(SUITES, hosts, strict=True))
    for host in hosts:
        lab.remove(host)


@pytest.fixture(params=SUITES)
def host(variants: dict[str, LabHost], request: pytest.FixtureRequest) -> LabHost:
    """One of them."""
    return variants[request.param]


async def probed(login: Login, host: LabHost) -> Probe:
    return await probe_host(await login(host), sudo_password_known=False)


def containerds(probe: Probe) -> dict[str | None, RuntimeFacts]:
    """By unit."""
    return {r.unit: r for r in probe.facts.runtimes if r.kind == "containerd"}


def troubles(probe: Probe) -> set[str]:
    """The ids of errors and warnings."""
    return {f.id for f in find(probe) if f.severity in ("error", "warning")}


async def test_one_containerd(login: Login, host: LabHost) -> None:
    probe = await probed(login, host)
    ((unit, runtime),) = containerds(probe).items()
    assert (unit, runtime.config_path, runtime.socket) == ("containerd.service", CONFIG, SOCKET)
    assert (runtime.running, runtime.cri, runtime.used_by_kubelet) == (True, "ok", True)
    assert (runtime.owner, runtime.binary, runtime.default_handler) == ("package", "/usr/bin/containerd", "runc")
    assert str(runtime.version).startswith(f"{host.containerd_minor[0]}.{host.containerd_minor[1]}.")
    assert set(runtime.handlers) == {"runc"}
    assert probe.facts.unseen == ()
    assert troubles(probe) == {"GW-RUNTIME-001"}


async def test_two_containerds(login: Login, host: LabHost) -> None:
    """The second one has its own unit, configuration, socket and handlers; the kubelet uses the first."""
    host.write("/etc/second/config.toml", SECOND_CONFIG.encode())
    host.write("/etc/systemd/system/second-containerd.service", SECOND_UNIT.encode())
    host.run("systemctl daemon-reload && systemctl start second-containerd")
    probe = await probed(login, host)
    found = containerds(probe)
    assert set(found) == {"containerd.service", "second-containerd.service"}
    first, second = found["containerd.service"], found["second-containerd.service"]
    assert (first.used_by_kubelet, second.used_by_kubelet) == (True, False)
    assert (first.config_path, second.config_path) == (CONFIG, "/etc/second/config.toml")
    assert (first.socket, second.socket) == (SOCKET, "/run/second/containerd.sock")
    assert (set(first.handlers), set(second.handlers)) == ({"runc"}, {"runc", "nvidia"})
    assert (second.running, second.cri, second.binary) == (True, "ok", "/usr/bin/containerd")
    for runtime in found.values():
        assert str(runtime.pid) == host.run(f"systemctl show -P MainPID {runtime.unit}").stdout.strip()
    assert "/etc/second/config.toml" in probe.files
    assert troubles(probe) == {"GW-RUNTIME-001"}  # a handler that another runtime has is no help


async def test_a_second_one_whose_handlers_lost_runc(login: Login, host: LabHost) -> None:
    """On 1.x a table of handlers without runc leaves no runc, and CRI does not load; 2.x keeps its own."""
    host.write("/etc/second/config.toml", SECOND_CONFIG.replace(RUNC, "").encode())
    host.run("systemctl restart second-containerd")
    probe = await probed(login, host)
    second = containerds(probe)["second-containerd.service"]
    if host.containerd_minor < (2, 0):
        assert (second.cri, set(second.handlers)) == ("error", {"nvidia"})
        assert "GW-RUNTIME-002" in troubles(probe)
    else:
        assert (second.cri, set(second.handlers)) == ("ok", {"runc", "nvidia"})
        assert "GW-RUNTIME-002" not in troubles(probe)


async def test_dockers_stub(login: Login, host: LabHost) -> None:
    """Docker's package of containerd switches CRI off."""
    host.run(
        "systemctl disable --now second-containerd; rm -r /etc/second /etc/systemd/system/second-containerd.service"
    )
    host.write(CONFIG, STUB.encode())
    host.run("systemctl daemon-reload && systemctl restart containerd")
    probe = await probed(login, host)
    ((unit, runtime),) = containerds(probe).items()
    assert (unit, runtime.running, runtime.cri) == ("containerd.service", True, "disabled")
    assert [(w.kind, w.path, w.line) for w in runtime.warnings] == [("stub", CONFIG, 1)]
    (finding,) = [f for f in find(probe) if f.id == "GW-RUNTIME-003"]
    assert finding.severity == "error"
    assert f"{CONFIG}:1: {STUB.strip()}" in "\n".join(finding.evidence)
    assert "GW-OK-001" not in {f.id for f in find(probe)}


async def test_no_containerd(login: Login, host: LabHost) -> None:
    """A GPU node whose kubelet has nothing to run pods with."""
    host.run("dpkg --purge --force-all containerd")
    probe = await probed(login, host)
    assert probe.facts.runtimes == ()
    assert probe.facts.kubelet_runtime is None
    assert probe.facts.kubernetes.flavour == "kubeadm"
    assert probe.facts.kubernetes.runtime_endpoint == SOCKET
    assert probe.files[CONFIG].content is None
    found = {f.id: f for f in find(probe)}
    assert "no container runtime was found" in found["GW-RUNTIME-005"].evidence
    assert "GW-OK-001" not in found
