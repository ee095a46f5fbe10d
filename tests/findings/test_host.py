"""The rules about the host: each on text that provokes it, and on text on which it must say nothing."""

from dataclasses import replace
from datetime import date

import pytest

from gpuwizard.facts.model import HostState, KubernetesFacts, MountSpace, OsFacts, Probe
from gpuwizard.facts.parse import parse_probe
from gpuwizard.findings.host import age, distribution
from tests.captured import CAPTURE, changed, edit, ids, only, ready, without

NOW = 1795000000


def probed(*sections: tuple[str, str], received: float | None = None) -> Probe:
    """The captured host with some sections replaced or added."""
    raw = CAPTURE
    for name, text in sections:
        raw = edit(name, text, probe=raw)
    return parse_probe(raw, received=received)


def machine(probe: Probe, **facts: object) -> Probe:
    return changed(probe, state=replace(probe.facts.state, **facts))  # type: ignore[arg-type]


def kubernetes(probe: Probe, **facts: object) -> Probe:
    return changed(probe, kubernetes=replace(probe.facts.kubernetes, **facts))  # type: ignore[arg-type]


# --- distribution ---


@pytest.mark.parametrize(
    "release", ["ID=alpine\nVERSION_ID=3.23.2\n", 'ID="openEuler"\nVERSION_ID="24.03"\n', "ID=linux\n"]
)
def test_unknown_distribution(release: str) -> None:
    assert (
        release.splitlines()[0].split("=")[1].strip('"').lower()
        in only(edit("os-release", release), "GW-HOST-001").evidence[0]
    )


def test_a_like_of_a_known_one_is_not_unknown() -> None:
    assert "GW-HOST-001" not in ids(edit("os-release", 'ID="anolis"\nID_LIKE="rhel fedora centos"\nVERSION_ID="8"\n'))
    assert "GW-HOST-001" not in ids(CAPTURE)


@pytest.mark.parametrize(
    ("release", "word"),
    [
        ("ID=flatcar\nID_LIKE=coreos\nVERSION_ID=4459.0.0\n", "Ignition"),
        ("ID=talos\nVERSION_ID=v1.14.0\n", "nvidia-open-gpu-kernel-modules"),
        ('ID="sl-micro"\nID_LIKE="suse"\nVERSION_ID="6.1"\n', "transactional-update pkg in"),
        ('ID=nixos\nVERSION_ID="26.05"\n', "hardware.nvidia"),
        ('ID="rhcos"\nID_LIKE="rhel fedora"\nVERSION_ID="4.18"\n', "MachineConfigs"),
        ("ID=fedora\nVERSION_ID=43\nVARIANT_ID=silverblue\n", "bootc"),
        ("ID=cos\nVERSION_ID=121\n", "GKE"),
    ],
)
def test_immutable_systems_and_what_to_do_there(release: str, word: str) -> None:
    finding = only(edit("os-release", release), "GW-HOST-004")
    assert word in finding.remedy
    assert "gpuwizard only diagnoses" in finding.remedy


def test_immutable_by_a_mark() -> None:
    finding = only(edit("marks", "/run/systemd/system\n/run/ostree-booted\n"), "GW-HOST-004")
    assert "/run/ostree-booted" in finding.evidence[1]
    assert "bootc" in finding.remedy
    assert "GW-HOST-004" not in ids(CAPTURE)


@pytest.mark.parametrize(
    ("release", "day", "ended"),
    [
        ('ID="amzn"\nVERSION_ID="2"\nPRETTY_NAME="Amazon Linux 2"\n', date(2026, 7, 1), "2026-06-30"),
        ('ID="amzn"\nVERSION_ID="2"\n', date(2026, 6, 30), None),
        ('ID="amzn"\nVERSION_ID="2023"\n', date(2026, 7, 1), None),
        ('ID=ubuntu\nVERSION_ID="20.04"\n', date(2026, 11, 1), "2025-05-31; with Ubuntu Pro until 2030-04-02"),
        ('ID=ubuntu\nVERSION_ID="20.04"\n', date(2031, 1, 1), "2025-05-31"),
        ('ID=ubuntu\nVERSION_ID="24.04"\n', date(2026, 11, 1), None),
        ('ID=debian\nVERSION_ID="11"\n', date(2026, 9, 1), "2026-08-31"),
        ("ID=debian\nVERSION_CODENAME=forky\n", date(2040, 1, 1), None),
        ('ID="centos"\nVERSION_ID="7"\n', date(2026, 11, 1), "2024-06-30"),
        ('ID="rhel"\nVERSION_ID="8.10"\nPLATFORM_ID="platform:el8"\n', date(2029, 6, 1), "2029-05-31"),
        ('ID="opensuse-leap"\nVERSION_ID="15.6"\n', date(2026, 11, 1), "2026-04-30"),
        ('ID="sles"\nVERSION_ID="15.7"\n', date(2026, 11, 1), None),
        ("ID=linuxmint\nVERSION_ID=20.3\nID_LIKE=ubuntu\n", date(2040, 1, 1), None),
    ],
)
def test_end_of_updates(monkeypatch: pytest.MonkeyPatch, release: str, day: date, ended: str | None) -> None:
    monkeypatch.setattr(distribution, "today", lambda: day)
    probe = parse_probe(edit("os-release", release))
    if ended is None:
        assert "GW-HOST-009" not in ids(probe)
    else:
        assert only(probe, "GW-HOST-009").evidence[0].endswith(f"updates ended on {ended}")


def test_paid_updates_and_vendors_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "today", lambda: date(2026, 11, 1))
    focal = edit("os-release", 'ID=ubuntu\nVERSION_ID="20.04"\n')
    esm = "/run/systemd/system\n/etc/apt/sources.list.d/ubuntu-esm-infra.list\n"
    assert "GW-HOST-009" in ids(focal)
    assert "GW-HOST-009" in ids(edit("marks", esm, probe=focal))  # its package brings this file to everybody
    assert "GW-HOST-009" not in ids(edit("marks", f"{esm}/etc/apt/auth.conf.d/90ubuntu-advantage\n", probe=focal))
    assert "GW-HOST-009" not in ids(edit("dgx-release", 'DGX_SWBUILD_VERSION="5.1.0"\n', probe=focal))
    assert "GW-HOST-009" not in ids(edit("tegra-release", "# R35 (release), REVISION: 6.2", probe=focal))


def test_the_day_is_today() -> None:
    assert age.today().year >= 2026


def test_a_rolling_distribution_has_no_version() -> None:
    for release in ("ID=arch\nBUILD_ID=rolling\n", "ID=arch\nVERSION_ID=TEMPLATE_VERSION_ID\n"):
        assert "no VERSION_ID in os-release" in only(edit("os-release", release), "GW-KUBE-012").evidence[0]
        assert "GW-HOST-014" not in ids(edit("os-release", release))  # it says the same
    several = KubernetesFacts("unknown", others=("k3s", "kubeadm"))
    assert only(changed(parse_probe(edit("os-release", "ID=arch\n")), kubernetes=several), "GW-HOST-014")
    assert "GW-HOST-014" not in ids(CAPTURE)
    assert "GW-HOST-014" not in ids(changed(parse_probe(edit("os-release", "ID=arch\n")), gpus=()))
    assert "GW-HOST-014" not in ids(without("os-release"))


EL8 = 'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="8.10"\nPLATFORM_ID="platform:el8"\n'


def test_the_mig_manager_on_el8() -> None:
    probe = parse_probe(edit("os-release", EL8))
    assert any("MIG Disabled" in line for line in only(probe, "GW-HOST-034").evidence)
    assert "GW-HOST-034" not in ids(edit("os-release", EL8.replace("8", "9")))
    assert "GW-HOST-034" not in ids(kubernetes(probe, flavour="none"))
    by_operator = changed(probe, driver=replace(probe.facts.driver, installer="operator"))
    assert "GW-HOST-034" not in ids(by_operator)
    no_mig = changed(probe, gpus=tuple(replace(gpu, mig=None) for gpu in probe.facts.gpus))
    assert "GW-HOST-034" not in ids(no_mig)


# --- kinds ---


def test_a_container_is_no_host() -> None:
    finding = only(edit("marks", "/.dockerenv\n"), "GW-HOST-005")
    assert finding.evidence[0] == "/.dockerenv"
    assert only(edit("init-cgroup", "0::/kubepods/pod1\n", probe=edit("marks", "/sys/kernel\n")), "GW-HOST-005")
    assert "GW-HOST-005" not in ids(edit("marks", "/.dockerenv\n/run/systemd/system\n"))


def test_a_system_container() -> None:
    assert only(edit("container", "lxc"), "GW-HOST-010").evidence == ("/run/systemd/container: lxc",)
    assert "GW-HOST-010" not in ids(edit("container", "wsl"))
    assert "GW-HOST-010" not in ids(CAPTURE)


def test_vendors_systems() -> None:
    dgx = only(edit("dgx-release", 'DGX_NAME="DGX Spark"\nDGX_SWBUILD_VERSION="7.2.3"\n'), "GW-HOST-006")
    assert dgx.evidence == ("DGX OS 7.2.3", "DGX Spark")
    assert only(edit("fastos-release", 'NAME="DGX SPARK FASTOS"\n'), "GW-HOST-006").evidence == ("DGX OS", "DGX Spark")
    jetson = only(edit("tegra-release", "# R36 (release), REVISION: 4.3, GCID: 1"), "GW-HOST-006")
    assert "Jetson Linux 36.4.3" in jetson.evidence
    wsl = only(edit("uname", "pc 5.15.167.4-microsoft-standard-WSL2 x86_64"), "GW-HOST-006")
    assert "Windows" in wsl.title
    assert "GW-HOST-006" not in ids(CAPTURE)


def test_wsl1() -> None:
    assert only(edit("uname", "pc 4.4.0-19041-Microsoft x86_64"), "GW-HOST-013").severity == "error"
    assert "GW-HOST-013" not in ids(edit("uname", "pc 5.15.167.4-microsoft-standard-WSL2 x86_64"))


def test_proxmox() -> None:
    assert only(edit("packages", "pve-manager 9.1.6\n"), "GW-HOST-011").evidence[0] == "pve-manager 9.1.6"
    assert "GW-HOST-011" not in ids(edit("uname", "ct 6.17.13-2-pve x86_64"))


def test_bottlerocket() -> None:
    probe = probed(("os-release", 'ID="amzn"\nVERSION_ID="2"\n'), ("marks", "/.bottlerocket\n/.dockerenv\n"))
    found = ids(probe)
    assert "GW-HOST-012" in found
    assert not {"GW-HOST-001", "GW-HOST-004", "GW-HOST-005", "GW-HOST-009"} & set(found)
    assert "GW-HOST-012" not in ids(CAPTURE)


# --- rights ---


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ("ops is not in the sudoers file.", "GW-HOST-002"),
        ("Sorry, user ops is not allowed to execute '/bin/sh' as root on host.", "GW-HOST-002"),
        ("sudo-rs: I'm sorry ops. I'm afraid I can't do that", "GW-HOST-002"),
        ("something else", "GW-HOST-002"),
        ("sudo: a password is required", "GW-HOST-003"),
        ("sudo-rs: interactive authentication is required", "GW-HOST-003"),
        ("sudo: sorry, you must have a tty to run sudo", "GW-HOST-015"),
        (
            "sudo: PAM account management error: Authentication service cannot retrieve authentication info",
            "GW-HOST-016",
        ),
        ("sudo: Account or password is expired, reset your password and try again", "GW-HOST-016"),
        ("sudo is not installed", "GW-HOST-017"),
        ("sudo: /usr/bin/sudo must be owned by uid 0 and have the setuid bit set", "GW-HOST-017"),
        ('sudo: The "no new privileges" flag is set, which prevents sudo from running as root.', "GW-HOST-017"),
    ],
)
def test_what_sudo_says_has_one_answer(said: str, rule: str) -> None:
    found = ids(edit("privilege", f"refused|ops|{said}"))
    rights = {f"GW-HOST-{number:03d}" for number in (2, 3, 15, 16, 17)}
    assert rights & set(found) == {rule}
    assert said in only(edit("privilege", f"refused|ops|{said}"), rule).evidence


def test_root_needs_nothing() -> None:
    rights = {f"GW-HOST-{number:03d}" for number in (2, 3, 15, 16, 17)}
    assert not rights & set(ids(CAPTURE))


# --- machine ---


@pytest.mark.parametrize(
    ("received", "severity"),
    [(NOW + 29.0, None), (NOW + 40.0, "warning"), (NOW - 200.0, "warning"), (NOW + 400.0, "error"), (None, None)],
)
def test_clocks_differ(received: float | None, severity: str | None) -> None:
    probe = probed(("clock", str(NOW)), received=received)
    if severity is None:
        assert "GW-HOST-018" not in ids(probe)
    else:
        assert only(probe, "GW-HOST-018").severity == severity


def space(*lines: str, paths: str = "/ /etc /run /var/lib/kubelet /var/lib/containerd") -> bytes:
    head = "Filesystem 1024-blocks Used Available Capacity Mounted on"
    return edit("space", "\n".join([f"{paths} ", head, *lines]) + "\n")


ROOMY = "/dev/a 100000000 1000000 90000000 2% /"
RUN = "tmpfs 1000000 100 999900 1% /run"


def test_a_full_disk() -> None:
    full = "/dev/a 100000000 99950000 50000 100% /"
    finding = only(space(full, full, RUN, full, full), "GW-HOST-019")
    assert finding.evidence[0] == "/: 48 MiB free (0 %), and it holds /"
    assert "GW-HOST-019" not in ids(space(ROOMY, ROOMY, RUN, ROOMY, ROOMY))
    small = "tmpfs 20000 1000 19000 1% /run"  # little, and enough
    assert "GW-HOST-019" not in ids(space(ROOMY, ROOMY, small, ROOMY, ROOMY))
    assert only(space(ROOMY, ROOMY, "tmpfs 20000 19000 1000 95% /run", ROOMY, ROOMY), "GW-HOST-019")


def test_little_room_for_images() -> None:
    data = "/dev/b 40000000 36000000 4000000 90% /var/lib/containerd"
    tight = changed(parse_probe(space(ROOMY, ROOMY, RUN, ROOMY, data)), kubernetes=KubernetesFacts("none"))
    finding = only(tight, "GW-HOST-033")
    assert finding.evidence == ("/var/lib/containerd: 3.8 GiB free (10 %), and it holds /var/lib/containerd",)
    assert "GW-HOST-033" not in ids(space(ROOMY, ROOMY, RUN, ROOMY, data))  # the kubelet evicts there already
    assert "GW-HOST-033" not in ids(space(ROOMY, ROOMY, RUN, ROOMY, ROOMY))


def test_the_kubelet_evicts() -> None:
    big = "/dev/b 1000000000 860000000 140000000 86% /var/lib/containerd"
    finding = only(space(ROOMY, ROOMY, RUN, ROOMY, big), "GW-HOST-020")
    assert "imagefs.available<15%" in finding.evidence[0]
    assert "GW-HOST-033" not in ids(space(ROOMY, ROOMY, RUN, ROOMY, big))
    enough = "/dev/b 1000000000 840000000 160000000 84% /var/lib/containerd"
    assert "GW-HOST-020" not in ids(space(ROOMY, ROOMY, RUN, ROOMY, enough))
    mount = MountSpace("/", 7 * 2**30, 100 * 2**30, False, ("/", "/var/lib/kubelet", "/var/lib/rancher"))
    k3s = kubernetes(machine(ready(), space=(mount,)), flavour="k3s")  # K3s bears 5 %
    assert "GW-HOST-020" not in ids(k3s)
    assert only(kubernetes(k3s, flavour="kubeadm"), "GW-HOST-020")
    assert "GW-HOST-020" not in ids(kubernetes(k3s, flavour="microk8s"))  # it has thresholds of its own


def test_a_read_only_file_system() -> None:
    lines = space(ROOMY, ROOMY, RUN, ROOMY, ROOMY)
    finding = only(edit("mounts", "/ ext4 ro\n/run tmpfs rw\n", probe=lines), "GW-HOST-021")
    assert finding.evidence[0].startswith("/ is mounted read-only and holds /, /etc")
    assert "GW-HOST-021" not in ids(edit("mounts", "/ ext4 ro\n/ ext4 rw\n/run tmpfs rw\n", probe=lines))
    assert "GW-HOST-021" not in ids(lines)
    micro = edit("os-release", 'ID="sl-micro"\nVERSION_ID="6.1"\n', probe=edit("mounts", "/ btrfs ro\n", probe=lines))
    assert "GW-HOST-021" not in ids(micro)


def test_cgroup_v1() -> None:
    old = kubernetes(parse_probe(edit("cgroup", "hybrid")), version="v1.34.2", active=True)
    assert "hybrid" in only(old, "GW-HOST-022").evidence[0]
    assert "GW-HOST-032" not in ids(old)
    new = kubernetes(old, version="v1.35.1+k3s1", active=False)
    assert only(new, "GW-HOST-032").severity == "error"
    assert "GW-HOST-022" not in ids(new)
    assert only(kubernetes(new, active=True), "GW-HOST-032").severity == "warning"
    assert only(machine(new, kubelet_refuses_cgroup_v1=False), "GW-HOST-032").severity == "info"
    for probe in (parse_probe(edit("cgroup", "unified")), kubernetes(new, flavour="none"), parse_probe(CAPTURE)):
        assert not {"GW-HOST-022", "GW-HOST-032"} & set(ids(probe))


def test_a_reboot_is_pending() -> None:
    marks = ("reboot", "needed:/run/reboot-required\n")
    finding = only(probed(marks, ("reboot-packages", "linux-image-6.8.0-90-generic\n")), "GW-HOST-023")
    assert finding.evidence == ("/run/reboot-required", "linux-image-6.8.0-90-generic")
    assert "GW-HOST-023" not in ids(probed(("reboot", "watched:/usr/share/x\n")))


def test_selinux() -> None:
    assert only(edit("selinux", "1"), "GW-HOST-024").severity == "info"
    assert "GW-HOST-024" not in ids(edit("selinux", "0"))


def test_no_systemd() -> None:
    assert only(edit("marks", "/run/openrc\n"), "GW-HOST-025")
    assert "GW-HOST-025" not in ids(CAPTURE)
    assert "GW-HOST-025" not in ids(without("marks"))
    assert "GW-HOST-025" not in ids(edit("marks", "/.dockerenv\n"))


SWAP = "Filename Type Size Used Priority\n/dev/sda3 partition 8388604 0 -2\n"


def test_swap() -> None:
    config = ("kubelet-config:/var/lib/kubelet/config.yaml", "cgroupDriver: systemd\n")
    assert "8.0 GiB" in only(probed(("swaps", SWAP), config), "GW-HOST-026").evidence[0]
    allowed = (config[0], "failSwapOn: false\n")
    assert "GW-HOST-026" not in ids(probed(("swaps", SWAP), allowed))
    assert "GW-HOST-026" not in ids(probed(("swaps", SWAP)))  # the kubelet's configuration was not seen
    assert "GW-HOST-026" not in ids(probed(("swaps", SWAP.splitlines()[0] + "\n"), config))
    assert "GW-HOST-026" not in ids(kubernetes(probed(("swaps", SWAP), config), flavour="k3s"))


def test_a_half_installed_package() -> None:
    broken = "linux-image-generic 6.8.0-90.91 half-configured\nnvidia-dkms-580-open 580.95.05-0ubuntu1 unpacked\n"
    finding = only(edit("packages-broken", broken), "GW-HOST-027")
    assert finding.evidence == tuple(broken.splitlines())
    assert "GW-HOST-027" not in ids(edit("packages-broken", ""))


# --- network ---

GENERAL = ("proxy:/etc/environment", "https_proxy=http://bob:pw@proxy.example:3128\n")


def test_a_proxy_for_the_host_alone() -> None:
    finding = only(probed(GENERAL), "GW-HOST-028")
    assert finding.evidence == (
        "/etc/environment: https_proxy=http://hidden@proxy.example:3128",
        "containerd.service: no HTTPS_PROXY",
    )
    drop_in = ("proxy:/etc/systemd/system/containerd.service.d/p.conf", 'Environment="HTTPS_PROXY=http://p:1"\n')
    assert "GW-HOST-028" not in ids(probed(GENERAL, drop_in))
    assert "GW-HOST-028" not in ids(probed(drop_in))
    apt = ("proxy:/etc/apt/apt.conf.d/proxy", 'Acquire::http::Proxy "http://cache.example:3142";\n')
    assert "GW-HOST-028" not in ids(probed(apt))  # a cache for packages is no way to the world


def test_a_unit_that_was_not_wholly_seen_is_not_said_to_have_none() -> None:
    probe = probed(GENERAL)
    unseen = {name: p for name, p in probe.facts.state.proxies.items() if name != "containerd.service"}
    assert "GW-HOST-028" not in ids(machine(probe, proxies=unseen))


@pytest.mark.parametrize(
    ("no_proxy", "fires"),
    [
        (None, True),
        ("localhost,127.0.0.1,127.0.0.0/8,169.254.0.0/16", True),
        ("localhost,.example.com,10.1.2.3", True),
        ("localhost,10.0.0.0/8", False),
        ("localhost,.svc,.cluster.local", False),
        ("*", False),
        ("fd00::/8", False),
    ],
)
def test_the_clusters_own_addresses(no_proxy: str | None, fires: bool) -> None:
    proxies = {"HTTPS_PROXY": "http://p:1"} | ({"NO_PROXY": no_proxy} if no_proxy else {})
    probe = machine(ready(), proxies={"containerd.service": proxies})
    assert ("GW-HOST-029" in ids(probe)) is fires
    if fires:
        assert only(probe, "GW-HOST-029").evidence[0] == "containerd.service: HTTPS_PROXY=http://p:1"
    assert "GW-HOST-029" not in ids(kubernetes(probe, flavour="k3s"))  # it adds them itself


def test_what_does_not_answer() -> None:
    lines = (
        "registry https://nvcr.io 6 curl: (6) Could not resolve host: nvcr.io HTTP 000\n"
        "registry https://registry.k8s.io 0 HTTP 401\n"
        "packages http://deb.example 7 curl: (7) Failed to connect HTTP 000\n"
    )
    probe = probed(("reach", lines))
    assert only(probe, "GW-HOST-030").evidence == ("https://nvcr.io: curl: (6) Could not resolve host: nvcr.io",)
    assert only(probe, "GW-HOST-031").evidence[0].startswith("http://deb.example: ")
    assert not {"GW-HOST-030", "GW-HOST-031"} & set(ids(CAPTURE))
    assert not {"GW-HOST-030", "GW-HOST-031"} & set(ids(probed(("reach", lines.splitlines()[1] + "\n"))))


# --- and nothing where nothing is known ---


def test_the_ready_host_has_none_of_them() -> None:
    assert [rule for rule in ids(ready()) if rule.startswith("GW-HOST")] == []


def test_a_blank_host() -> None:
    blank = changed(ready(), os=OsFacts(), state=HostState(), kubernetes=KubernetesFacts(), runtimes=(), gpus=())
    assert [rule for rule in ids(blank) if rule.startswith("GW-HOST")] == []
