"""Distribution, kernel, privilege and PCI parsers on text of real machines (`hosts.md §1, §2, §8`)."""

import pytest

from gpuwizard.facts.gpu.pci import bus_address, needs_proprietary_module, parse_drivers, parse_pci
from gpuwizard.facts.system.os_release import dgx_version, kernel_facts, os_facts, parse_os_release, secure_boot
from gpuwizard.facts.system.privilege import classify_sudo, privilege_facts
from gpuwizard.facts.text import load_toml, number, version_key, version_of

DGX_A100 = """\
DGX_NAME="DGX Server"
DGX_PRETTY_NAME="NVIDIA DGX Server"
DGX_SWBUILD_VERSION="5.1.0"
DGX_PLATFORM="DGX Server for DGX A100"
DGX_SERIAL_NUMBER="1573020000041"

DGX_OTA_VERSION="5.2.0"
DGX_OTA_DATE="Thu 24 Mar 2022 01:43:22 PM PDT"
DGX_OTA_VERSION="5.3.1"
"""


@pytest.mark.parametrize(
    ("release", "family", "immutable"),
    [
        ("ID=ubuntu\nID_LIKE=debian\nVERSION_ID='26.04'", "debian", False),
        ('ID=debian\nVERSION_ID="12"', "debian", False),
        ('ID="rhel"\nID_LIKE="centos fedora"\nVERSION_ID="10.0"', "rhel", False),
        ('ID="amzn"\nID_LIKE="fedora"\nVERSION_ID="2023"', "rhel", False),
        ('ID="ol"\nID_LIKE="fedora"', "rhel", False),
        ("ID=fedora\nVARIANT_ID=coreos\nVERSION_ID=43", "rhel", True),
        ('ID="sles"\nID_LIKE="suse"\nVERSION_ID="15.7"', "suse", False),
        ('ID="sl-micro"\nID_LIKE="suse"\nVERSION_ID="6.0"', "suse", True),
        ("ID=arch\nVERSION_ID=TEMPLATE_VERSION_ID", "arch", False),
        ("ID=flatcar\nID_LIKE=coreos", "flatcar", True),
        ("ID=talos\nVERSION_ID=v1.14.0-beta.1", "talos", True),
        ("ID=nixos", "nixos", True),
        ('ID=azurelinux\nVERSION_ID="3.0"', "azurelinux", False),
        ("ID=cos\nVERSION_ID=97", "other", True),
        ('ID="openEuler"', "other", False),
        ("ID=UOS", "other", False),
        ("", "unknown", None),
        ("NAME=x\nnot a line\nID", "unknown", None),
    ],
)
def test_families(release: str, family: str, immutable: bool | None) -> None:
    facts = os_facts(release)
    assert (facts.family, facts.immutable) == (family, immutable)


def test_quoting_and_absent_values() -> None:
    found = parse_os_release('A="x y"\nB=\'it\'\nC=plain\nD="open\nA=later\n E=1 2\n\x1b[31m=z')
    assert found == {"A": "later", "B": "it", "C": "plain", "D": "open", "E": "1 2"}
    assert os_facts("ID=arch\nVERSION_ID=TEMPLATE_VERSION_ID").version_id is None
    assert os_facts(None).id is None


@pytest.mark.parametrize("mark", ["/run/ostree-booted", "/etc/NIXOS", "transactional-update", "/usr is read-only"])
def test_marks_of_immutability(mark: str) -> None:
    assert os_facts("ID=fedora", marks={mark}).immutable is True


def test_bottlerocket_poses_as_amazon_linux() -> None:
    facts = os_facts('ID="amzn"\nVERSION_ID="2"', marks={"/.bottlerocket"})
    assert (facts.id, facts.family, facts.immutable) == ("bottlerocket", "other", True)


def test_special_environments() -> None:
    assert os_facts("ID=ubuntu", kernel_release="5.15.167.4-microsoft-standard-WSL2").kind == "wsl2"
    assert os_facts("ID=ubuntu", tegra_text="# R36 (release), REVISION: 4.0").kind == "jetson"
    assert os_facts("ID=ubuntu", marks={"/.dockerenv"}).kind == "container"
    assert os_facts("ID=ubuntu", marks={"/.dockerenv", "/run/systemd/system"}).kind == "host"


def test_dgx_os_takes_the_last_update() -> None:
    assert dgx_version(DGX_A100) == "5.3.1"
    assert dgx_version('DGX_NAME="DGX Spark"\nDGX_SWBUILD_VERSION="7.2.3"\n') == "7.2.3"
    assert dgx_version(None) is None
    assert os_facts("ID=ubuntu", dgx_text=DGX_A100).dgx == "5.3.1"


def test_kernel_and_secure_boot() -> None:
    host, kernel = kernel_facts("gpu-host 6.18.44 x86_64", True)
    assert (host, kernel.release, kernel.arch, kernel.secure_boot) == ("gpu-host", "6.18.44", "x86_64", True)
    assert kernel_facts("", None)[0] is None
    assert secure_boot("bios") is False
    assert secure_boot("   6   0   0   0   1\n") is True
    assert secure_boot("   6   0   0   0   0\n") is False
    assert secure_boot("SecureBoot enabled\n") is True
    assert secure_boot("EFI variables are not supported on this system", 1) is None
    assert secure_boot("6 0") is None


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("sudo: a password is required", "password"),
        ("sudo: a terminal is required to read the password; either use the -S option …", "password"),
        ("sudo-rs: interactive authentication is required", "password"),
        ("ops is not in the sudoers file.", "none"),
        ("Sorry, user ops is not allowed to execute '/bin/sh' as root on host.", "none"),
        ("sudo: sorry, you must have a tty to run sudo", "none"),
        ("sudo: PAM account management error: User account has expired", "none"),
        ("sudo-rs: I'm sorry ops. I'm afraid I can't do that", "none"),
        ("sudo is not installed", "none"),
        ('sudo: The "no new privileges" flag is set, which prevents sudo from running as root.', "none"),
        ("something else", None),
        (None, None),
    ],
)
def test_what_sudo_says(said: str | None, meaning: str | None) -> None:
    assert classify_sudo(said) == meaning


def test_privilege() -> None:
    assert privilege_facts("root|root|").sudo == "root"
    refused = privilege_facts("refused|ops|sudo: a password is required\x1b[0m")
    assert (refused.sudo, refused.user, refused.reason) == ("password", "ops", "sudo: a password is required")
    assert privilege_facts("password|ops|").sudo == "password"
    assert privilege_facts(None).sudo is None
    assert privilege_facts("what").sudo is None


@pytest.mark.parametrize(
    ("spelling", "address"),
    [
        ("00000000:83:00.0", "0000:83:00.0"),
        ("0000000F:01:00.0", "000f:01:00.0"),
        ("0000:00:06.0", "0000:00:06.0"),
        ("83:00.0", "0000:83:00.0"),
        ("00010000:E1:00.0", "10000:e1:00.0"),
        ("[N/A]", None),
        ("N/A", None),
        (None, None),
    ],
)
def test_bus_addresses(spelling: str | None, address: str | None) -> None:
    assert bus_address(spelling) == address


def test_pci_functions_by_class() -> None:
    drivers = parse_drivers(
        "lrwxrwxrwx 1 root root 0 Nov 20 /sys/bus/pci/devices/0000:00:06.0/driver -> ../../../bus/pci/drivers/nvidia\n"
        "lrwxrwxrwx 1 root root 0 Nov 20 /sys/bus/pci/devices/0000:43:00.0/driver -> ../../bus/pci/drivers/vfio-pci\n"
    )
    found = parse_pci(
        "0000:00:06.0 0x2335 0x030200 0\n"
        "0000:01:00.0 0x2684 0x030000 0\n"
        "0000:01:00.1 0x22ba 0x040300 0\n"  # its audio function
        "0000:02:00.0 0x22a3 0x068000 0\n"  # NVSwitch
        "0000:03:00.0 0x22ce 0x060400 0\n"  # a bridge of GB10
        "0000:04:00.4 0x2336 0x030200 1\n"  # a virtual function
        "0000:43:00.0 0x2335 0x030200 0\n"  # passed through
        "rubbish\n",
        drivers,
    )
    assert found is not None
    assert [f.address for f in found if f.is_gpu] == ["0000:00:06.0", "0000:01:00.0"]
    assert [f.address for f in found if f.is_nvswitch] == ["0000:02:00.0"]
    assert found[0].driver == "nvidia"
    assert parse_pci(None, {}) is None


def test_generation_by_device_id() -> None:
    assert needs_proprietary_module("1db6")  # V100
    assert not needs_proprietary_module("1eb8")  # T4
    assert not needs_proprietary_module("2e12")  # GB10


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6", "1.7.24~ds1"),
        ("containerd containerd.io v2.1.4 75cb2b7193e4e490e9fbdc236c0e811ccaba3376", "2.1.4"),
        ("containerd github.com/k3s-io/containerd v2.0.4-k3s2", "2.0.4-k3s2"),
        ("k3s version v1.31.6+k3s1 (6ab750f9)\ngo version go1.22.12", "1.31.6+k3s1"),
        ("Kubernetes v1.36.1", "1.36.1"),
        ("Docker version 28.2.2, build e6534b4", "28.2.2"),
        ("no version", None),
        (None, None),
    ],
)
def test_versions(text: str | None, version: str | None) -> None:
    assert version_of(text) == version


def test_versions_sort_as_people_expect() -> None:
    names = ["6.8.0-100-generic", "6.8.0-9-generic", "6.17.0-1021-nvidia", "5.15.0-1-amd64"]
    assert sorted(names, key=version_key) == [names[3], names[1], names[0], names[2]]
    assert number("12345678901234567890") is None
    assert isinstance(load_toml("a = " + "[" * 100_000), str)
