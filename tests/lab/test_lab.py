"""The lab keeps what its README says: the other lab tests rest on this."""

import subprocess
from collections.abc import Callable, Sequence

import asyncssh
import pytest

from tests.lab.harness import cgroup
from tests.lab.harness.host import LabHost
from tests.lab.harness.lab import SLOTS, Lab


def ssh(lab: Lab, host: LabHost, user: str, command: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """The system's own ssh client: the lab is judged by another program than ours."""
    argv = ["ssh", "-F", str(lab.ssh_config), "-o", "BatchMode=yes", "-o", "ConnectTimeout=3"]
    argv += ["-o", "KexAlgorithms=curve25519-sha256", *options, f"{user}@{host.name}", command]
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30, check=False)


def test_each_host_is_a_kubeadm_node_with_one_gpu(each_containerd: LabHost) -> None:
    host = each_containerd
    assert host.run("systemctl is-active kubelet containerd").stdout.split() == ["active", "active"]
    assert host.run("systemctl --failed --no-legend").stdout == ""
    assert "H200" in host.run("nvidia-smi -L").stdout
    assert host.run("cat /sys/bus/pci/devices/0000:83:00.0/vendor").stdout == "0x10de\n"
    assert host.read("/sys/module/nvidia/version") == b"580.159.04\n"
    assert host.run("modinfo -F version nvidia").stdout == "580.159.04\n"
    assert b"NVRM version" in host.read("/proc/driver/nvidia/version")
    assert host.run("readlink /sys/bus/pci/devices/0000:83:00.0/driver").stdout.endswith("/nvidia\n")


def test_the_cri_plugin_of_each_containerd_is_ok(each_containerd: LabHost) -> None:
    plugins = each_containerd.run("ctr plugins ls").stdout.splitlines()
    cri = [line.split() for line in plugins if ".cri" in line or " cri " in line]
    assert cri
    assert {row[-1] for row in cri} == {"ok"}


def test_the_three_containerds_are_three_minor_versions(lab: Lab) -> None:
    versions = [lab.host(name).containerd_minor for name in ("bookworm", "trixie", "sid")]
    assert versions[0] == (1, 6)
    assert versions[1] == (1, 7)
    assert versions[2] >= (2, 0)


@pytest.mark.parametrize(
    ("user", "uid", "root"),
    [
        pytest.param("root", "0", True, id="root is root"),
        pytest.param("admin", "1000", True, id="admin has sudo without password"),
        pytest.param("ops", "1001", False, id="ops must give a password"),
        pytest.param("guest", "1002", False, id="guest has no sudo"),
    ],
)
def test_users_that_log_in_by_key(lab: Lab, each_containerd: LabHost, user: str, uid: str, root: bool) -> None:
    assert ssh(lab, each_containerd, user, "id -u").stdout == f"{uid}\n"
    assert (ssh(lab, each_containerd, user, "sudo -n id -u").stdout == "0\n") is root


@pytest.mark.parametrize("user", ["typist", "twofactor"])
def test_users_that_a_key_does_not_let_in(lab: Lab, each_containerd: LabHost, user: str) -> None:
    refused = ssh(lab, each_containerd, user, "id")
    assert refused.returncode == 255
    assert "Permission denied" in refused.stderr


def test_sudo_takes_the_password_of_ops(lab: Lab, each_containerd: LabHost) -> None:
    script = f"printf '%s\\n' '{lab.passwords['ops']}' | sudo -S -k -p '' id -u"
    assert ssh(lab, each_containerd, "ops", script).stdout == "0\n"


def test_sudo_rs_host_has_the_other_sudo(lab: Lab) -> None:
    host = lab.host("sudo-rs")
    assert "sudo-rs" in host.run("sudo --version 2>&1").stdout
    assert ssh(lab, host, "admin", "sudo -n id -u").stdout == "0\n"


def test_the_hidden_host_is_reached_through_a_jump_only(lab: Lab) -> None:
    hidden = lab.host("hidden")
    assert ssh(lab, hidden, "admin", "hostname").stdout == "hidden\n"
    direct = ssh(lab, hidden, "admin", "hostname", "-o", "ProxyJump=none")
    assert direct.returncode == 255


def test_the_bare_host_has_no_gpu_and_no_kubelet(lab: Lab) -> None:
    bare = lab.host("bare")
    assert not bare.exists("/usr/bin/nvidia-smi")
    assert not bare.exists("/sys/bus/pci/devices/0000:83:00.0")
    assert not bare.exists("/proc/driver/nvidia")
    assert not bare.exists("/var/lib/kubelet/config.yaml")


def test_the_agents_key_lies_in_no_file(lab: Lab, trixie: LabHost, lab_agent: str) -> None:
    assert not lab.agent_key.exists()
    through_agent = ("-o", "IdentitiesOnly=no", "-o", "IdentityFile=none", "-o", f"IdentityAgent={lab_agent}")
    assert ssh(lab, trixie, "admin", "id -un", *through_agent).stdout == "admin\n"


def test_a_cut_link_is_silent_and_heals(lab: Lab, sid: LabHost) -> None:
    with sid.link_cut():
        refused = ssh(lab, sid, "admin", "true")
        assert refused.returncode == 255
        assert "timed out" in refused.stderr
        assert sid.run("hostname").stdout == "sid\n"
    assert ssh(lab, sid, "admin", "hostname").stdout == "sid\n"


def test_dropped_logins_end_at_once_and_the_next_one_works(lab: Lab, each_containerd: LabHost) -> None:
    host = each_containerd
    argv = ["ssh", "-F", str(lab.ssh_config), "-o", "BatchMode=yes", f"admin@{host.name}", "echo in; exec sleep 600"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as client:
        try:
            assert client.stdout is not None
            assert client.stdout.readline() == "in\n"
            host.drop_logins()
            assert client.wait(10) == 255
        finally:
            client.kill()
    assert ssh(lab, host, "admin", "hostname").stdout == f"{host.name}\n"


def test_a_fresh_host_keeps_its_disk_through_reboot_and_power_loss(fresh_host: Callable[..., LabHost]) -> None:
    host = fresh_host("trixie", files={"/etc/lab-note": b"before boot\n"})
    assert host.read("/etc/lab-note") == b"before boot\n"
    boots = [host.read("/proc/sys/kernel/random/boot_id")]
    host.write("/etc/lab-note", b"changed\n", 0o600)
    host.reboot()
    boots.append(host.read("/proc/sys/kernel/random/boot_id"))
    host.crash()
    boots.append(host.read("/proc/sys/kernel/random/boot_id"))
    assert len(set(boots)) == 3
    assert host.read("/etc/lab-note") == b"changed\n"
    assert host.run("stat -c %a /etc/lab-note").stdout == "600\n"
    assert host.run("cat /sys/bus/pci/devices/0000:83:00.0/vendor").stdout == "0x10de\n"


class TwoFactorClient(asyncssh.SSHClient):
    """Answers each prompt of keyboard-interactive by its words."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.prompts: list[str] = []

    def kbdint_auth_requested(self) -> str:
        return ""

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str]:
        texts = [str(text) for text, _ in prompts]
        self.prompts += texts
        return [self.lab.one_time_code() if "code" in t.lower() else self.lab.passwords["twofactor"] for t in texts]


async def test_twofactor_wants_the_password_and_the_code_of_the_hosts_own_pam(
    lab: Lab, each_containerd: LabHost
) -> None:
    client = TwoFactorClient(lab)
    async with asyncssh.connect(
        each_containerd.address,
        username="twofactor",
        client_factory=lambda: client,
        known_hosts=str(lab.known_hosts),
        client_keys=None,
        agent_path=None,
        config=None,
    ) as connection:
        done = await connection.run("id -un", check=True)
    assert done.stdout == "twofactor\n"
    assert [p.strip() for p in client.prompts] == ["Password:", "Verification code:"]


def test_what_another_container_left_in_the_control_groups_is_in_nobodys_way(lab: Lab) -> None:
    left = [str(slot) for slot in SLOTS if slot != lab.slot]
    for groups in left:
        cgroup.make(f"{groups}/bookworm")
    try:
        second = Lab(lab.bases, lab.folder.parent.parent)
        try:
            assert second.host("bookworm").run("id -u").stdout == "0\n"
        finally:
            second.close()
    finally:
        for groups in left:
            cgroup.all_gone(groups)
