"""The probe against real hosts: what it says is compared with what the host itself says."""

import re
import tomllib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from assets import asset
from gpuwizard.facts.model import Probe, RuntimeFacts
from gpuwizard.findings import find
from gpuwizard.remote.transport import Transport
from gpuwizard.secret import Secret
from gpuwizard.work.probe import probe_host
from tests.lab.harness.hardware import DRIVER_VERSION, GPU_ADDRESS, GPU_UUID
from tests.lab.harness.host import LabHost
from tests.lab.harness.lab import Lab

Login = Callable[..., Awaitable[Transport]]

CONFIG = "/etc/containerd/config.toml"
DROP_IN = "/etc/containerd/conf.d/99-gpuwizard-nvidia.toml"

CRI_V3 = "io.containerd.cri"


async def probe_as(login: Login, host: LabHost, user: str, *, sudo_password: Secret | None = None) -> Probe:
    options: dict[str, Any] = {} if sudo_password is None else {"sudo_password": sudo_password}
    transport = await login(host, user=user, **options)
    return await probe_host(transport, sudo_password_known=sudo_password is not None)


def containerd(probe: Probe) -> RuntimeFacts:
    (runtime,) = [r for r in probe.facts.runtimes if r.kind == "containerd"]
    return runtime


def dumped_cri(host: LabHost) -> dict[str, Any]:
    """The containerd table of the CRI plugin as the host's own binary resolves it."""
    plugins = tomllib.loads(host.run("containerd config dump").stdout)["plugins"]
    cri = plugins.get("io.containerd.cri.v1.runtime") or plugins["io.containerd.grpc.v1.cri"]
    return dict(cri["containerd"])


async def test_system_facts_are_those_of_the_host(login: Login, each_containerd: LabHost) -> None:
    host = each_containerd
    facts = (await probe_as(login, host, "admin")).facts
    release = dict(line.split("=", 1) for line in host.read("/etc/os-release").decode().splitlines() if "=" in line)
    assert facts.os.id == "debian"
    assert facts.os.family == "debian"
    assert facts.os.pretty_name == release["PRETTY_NAME"].strip('"')
    assert facts.os.version_id == (release["VERSION_ID"].strip('"') if "VERSION_ID" in release else None)
    assert facts.kernel.release == host.run("uname -r").stdout.strip()
    assert facts.kernel.arch == host.run("uname -m").stdout.strip()
    assert facts.hostname == host.name
    assert facts.boot_id == host.read("/proc/sys/kernel/random/boot_id").decode().strip()


async def test_gpu_driver_and_toolkit(login: Login, each_containerd: LabHost) -> None:
    facts = (await probe_as(login, each_containerd, "admin")).facts
    (gpu,) = facts.gpus
    assert (gpu.pci, gpu.pci_id, gpu.bound_driver) == (GPU_ADDRESS, "10de:2335", "nvidia")
    assert (gpu.name, gpu.uuid, gpu.index) == ("NVIDIA H200", GPU_UUID, 0)
    assert gpu.memory_bytes == 143771 * 1024 * 1024
    assert gpu.compute_capability == "9.0"
    assert set(gpu.seen_by) >= {"pci", "nvidia-smi"}
    assert facts.driver.loaded == DRIVER_VERSION
    assert facts.driver.userspace == DRIVER_VERSION
    assert facts.driver.on_disk == DRIVER_VERSION
    assert facts.driver.flavour == "open"
    assert facts.driver.problem is None
    assert facts.toolkit.version == "1.17.8"
    assert facts.toolkit.runtime_path == "/usr/bin/nvidia-container-runtime"
    assert facts.toolkit.mode == "auto"


async def test_the_runtime_is_what_the_host_says_it_is(login: Login, each_containerd: LabHost) -> None:
    host = each_containerd
    probe = await probe_as(login, host, "admin")
    runtime, dumped = containerd(probe), dumped_cri(host)
    assert runtime.version is not None
    # by its package, where sid's program says `+unknown`
    assert re.split(r"[+~]", runtime.version)[0] == re.split(r"[+~]", host.containerd)[0]
    assert runtime.config_path == CONFIG
    assert runtime.config_version == tomllib.loads(host.read(CONFIG).decode())["version"]
    assert set(runtime.handlers) == set(dumped["runtimes"])
    assert runtime.default_handler == dumped["default_runtime_name"] == "runc"
    for name, handler in runtime.handlers.items():
        assert handler.runtime_type == dumped["runtimes"][name]["runtime_type"]
    assert runtime.handlers["runc"].options["SystemdCgroup"] is True
    assert runtime.cri == "ok"
    assert runtime.running is True
    assert runtime.unit == "containerd.service"
    assert runtime.socket == "/run/containerd/containerd.sock"
    assert str(runtime.pid) == host.run("systemctl show -P MainPID containerd").stdout.strip()
    assert runtime.used_by_kubelet is True


async def test_the_host_is_a_kubeadm_worker(login: Login, each_containerd: LabHost) -> None:
    kubernetes = (await probe_as(login, each_containerd, "admin")).facts.kubernetes
    assert kubernetes.flavour == "kubeadm"
    assert kubernetes.version == "1.33.4"
    assert kubernetes.role == "worker"
    assert kubernetes.service == "kubelet.service"
    assert kubernetes.node_name == each_containerd.name
    assert kubernetes.active is True


async def test_files_come_back_byte_for_byte(login: Login, each_containerd: LabHost) -> None:
    host = each_containerd
    probe = await probe_as(login, host, "admin")
    assert probe.readable
    config = probe.files[CONFIG]
    assert config.content is not None
    assert config.content.raw == host.read(CONFIG)
    mode, uid, gid, mtime = host.run(f"stat -c '%a %u %g %Y' {CONFIG}").stdout.split()
    assert (config.mode, config.uid, config.gid, config.mtime) == (int(mode, 8), int(uid), int(gid), int(mtime))
    assert probe.files[DROP_IN].content is None
    assert probe.files[DROP_IN].sha256 == "absent"


async def test_files_that_shells_spoil_survive(login: Login, fresh_host: Callable[..., LabHost]) -> None:
    """No newline at the end, CRLF, a NUL byte, bytes that are no UTF-8, and a name with a blank behind a symlink."""
    odd = b"# \xff\xfe caf\xc3\xa9\r\nversion = 2\r\n# \x1b[31mred\x00 'quoted' $(id) `id` \\n"
    host = fresh_host("trixie")
    host.run("systemctl stop containerd")
    host.write("/srv/the real config.toml", odd)
    host.run(f"ln -sf '/srv/the real config.toml' {CONFIG}")
    probe = await probe_as(login, host, "admin")
    config = probe.files[CONFIG]
    assert config.content is not None
    assert config.content.raw == odd
    assert config.target == "/srv/the real config.toml"


@pytest.mark.parametrize(
    ("user", "sudo", "readable"),
    [("root", "root", True), ("admin", "nopasswd", True), ("ops", "password", False), ("guest", None, False)],
)
async def test_privilege_by_user(
    login: Login, each_containerd: LabHost, user: str, sudo: str | None, readable: bool
) -> None:
    probe = await probe_as(login, each_containerd, user)
    assert probe.readable is readable
    assert probe.facts.privilege.user == user
    if sudo is None:  # sudo asks anybody for a password before it says no
        assert probe.facts.privilege.sudo in ("none", "password")
    else:
        assert probe.facts.privilege.sudo == sudo
    if not readable:
        assert probe.facts.unseen, "what was not seen must be said"
        assert probe.facts.gpus, "GPUs are seen without root"
        assert probe.facts.kubernetes.flavour == "kubeadm"


@pytest.mark.parametrize("name", ["bookworm", "trixie", "sid", "sudo-rs"])
async def test_with_a_sudo_password_all_is_seen(login: Login, lab: Lab, name: str) -> None:
    host = lab.host(name)
    probe = await probe_as(login, host, "ops", sudo_password=Secret(lab.passwords["ops"]))
    assert probe.readable
    assert containerd(probe).cri == "ok"
    content = probe.files[CONFIG].content
    assert content is not None
    assert content.raw == host.read(CONFIG)
    assert probe.facts.privilege.sudo == "password"


async def test_sudo_rs_without_password(login: Login, lab: Lab) -> None:
    probe = await probe_as(login, lab.host("sudo-rs"), "admin")
    assert probe.facts.privilege.sudo == "nopasswd"
    assert probe.readable


async def test_the_bare_host(login: Login, lab: Lab) -> None:
    probe = await probe_as(login, lab.host("bare"), "admin")
    facts = probe.facts
    assert facts.gpus == ()
    assert facts.driver.loaded is None
    assert facts.toolkit.runtime_path is None
    assert facts.kubernetes.flavour == "none"
    assert containerd(probe).running is True
    assert not containerd(probe).used_by_kubelet


# what every login writes, whoever logs in
_NOT_OURS = ("/dev", "/proc", "/sys", "/run/dbus", "/run/log", "/run/sudo", "/run/systemd", "/run/user", "/var/log")


def picture_of(host: LabHost) -> set[str]:
    """Every file of the host with size and time of change, and when its services started."""
    pruned = " -o ".join(f"-path {path}" for path in (*_NOT_OURS, "/run/utmp", "/var/lib/lastlog"))
    files = host.run(f"find / \\( {pruned} \\) -prune -o ! -type d -printf '%p %s %C@\\n' 2>/dev/null").stdout
    units = host.run("systemctl show -p Id,MainPID,NRestarts,ActiveEnterTimestampMonotonic containerd kubelet ssh")
    return {*files.splitlines(), units.stdout}


async def test_the_probe_changes_nothing(login: Login, each_containerd: LabHost) -> None:
    """No file is made, changed or left behind, and no service notices: compared over the whole disk."""
    transport = await login(each_containerd, user="admin")
    await probe_host(transport, sudo_password_known=False)
    before = picture_of(each_containerd)
    await probe_host(transport, sudo_password_known=False)
    assert picture_of(each_containerd) ^ before == set()


async def test_a_failing_nvidia_smi_is_reported_in_its_own_words(
    login: Login, fresh_host: Callable[..., LabHost]
) -> None:
    words = "Failed to initialize NVML: Driver/library version mismatch"
    host = fresh_host("bookworm", files={"/etc/gpuwizard-lab/nvidia-smi": f"18\n{words}\n".encode()})
    probe = await probe_as(login, host, "admin")
    assert probe.facts.driver.problem_code == 18
    assert probe.facts.driver.problem is not None
    assert words in probe.facts.driver.problem
    assert [g.seen_by for g in probe.facts.gpus] == [("pci",)]
    assert any(f.severity == "error" for f in find(probe))


async def test_a_stopped_containerd_is_seen_as_stopped(login: Login, fresh_host: Callable[..., LabHost]) -> None:
    host = fresh_host("sid")
    host.run("systemctl stop kubelet containerd")
    probe = await probe_as(login, host, "admin")
    runtime = containerd(probe)
    assert runtime.running is False
    assert runtime.cri != "ok"
    assert probe.facts.kubernetes.active is False


async def test_a_configuration_that_breaks_cri_is_seen(login: Login, fresh_host: Callable[..., LabHost]) -> None:
    host = fresh_host("trixie")
    text = host.read(CONFIG).decode()
    host.write(
        CONFIG, text.replace("version = 2", 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]').encode()
    )
    host.run("systemctl restart containerd")
    assert containerd(await probe_as(login, host, "admin")).cri == "disabled"


async def test_the_only_finding_is_the_missing_handler(login: Login, each_containerd: LabHost) -> None:
    probe = await probe_as(login, each_containerd, "admin")
    found = {f.id: f for f in find(probe) if f.severity in ("error", "warning")}
    ((rule, finding),) = found.items()
    assert rule == "GW-RUNTIME-001"
    assert "nvidia" in f"{finding.title} {finding.evidence}"


async def test_containerd_says_of_its_plugins_what_ctr_prints(each_containerd: LabHost) -> None:
    """The few lines of Perl and ctr agree on every plugin that is asked for, in the daemon's own order."""
    program = asset("remote/plugins.pl").read_bytes()
    ask = "cat >/run/plugins.pl && perl /run/plugins.pl /run/containerd/containerd.sock"
    asked = each_containerd.run(ask, stdin=program)
    listed = [line.split() for line in each_containerd.run("ctr plugins ls").stdout.splitlines()]
    expected = [
        (row[0], row[1], row[-1]) for row in listed if row and row[0].startswith(("io.containerd.grpc", CRI_V3))
    ]
    assert len(expected) > 10
    assert [(row[0], row[1], row[-1]) for row in map(str.split, asked.stdout.splitlines())] == expected
