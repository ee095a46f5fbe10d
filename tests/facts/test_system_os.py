"""Which distribution and what kind of environment a host is: the rows and traps of `hosts.md §1`."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwizard.facts.parse import parse_probe
from gpuwizard.facts.system.os_release import l4t_version, os_facts, parse_os_release
from gpuwizard.work.probe import probe_script
from tests.captured import edit, without
from tests.probe_tree import SHELLS, Tree

RHEL10 = 'ID="rhel"\nID_LIKE="centos fedora"\nVERSION_ID="10.0"\nPLATFORM_ID="platform:el10"\n'
SPARK = """\
DGX_NAME="DGX Spark"
DGX_SWBUILD_VERSION="7.2.3"
DGX_PLATFORM="DGX Server for KVM"
DGX_SERIAL_NUMBER="1234567890123"

DGX_OTA_VERSION="7.4.0"
DGX_OTA_DATE="Thu Nov  6 09:12:44 UTC 2025"

DGX_OTA_VERSION="7.5.0"
"""


@pytest.mark.parametrize(
    ("release", "family", "immutable", "major"),
    [
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="26.04"\n', "debian", False, 26),
        ("ID=debian\nVERSION_CODENAME=forky\n", "debian", False, None),  # testing has no version
        (RHEL10, "rhel", False, 10),
        ('ID="ol"\nID_LIKE="fedora"\nVERSION_ID="9.6"\nVARIANT_ID="server"\n', "rhel", False, 9),
        ('ID="centos"\nID_LIKE="rhel fedora"\nVERSION_ID="9"\nPLATFORM_ID="platform:el9"\n', "rhel", False, 9),
        ('ID="amzn"\nID_LIKE="centos rhel fedora"\nVERSION_ID="2"\n', "rhel", False, 2),
        ('ID="amzn"\nID_LIKE="fedora"\nVERSION_ID="2023"\nPLATFORM_ID="platform:al2023"\n', "rhel", False, 2023),
        ("ID=fedora\nVERSION_ID=43\nVARIANT_ID=server\n", "rhel", False, 43),
        ("ID=fedora\nVERSION_ID=43\nVARIANT_ID=silverblue\n", "rhel", True, 43),
        ("ID=fedora\nVERSION_ID=43\nVARIANT_ID=sway-atomic\n", "rhel", True, 43),
        ('ID="rhel"\nVARIANT_ID=coreos\nVERSION_ID="9.6"\n', "rhel", True, 9),
        ('ID="rhcos"\nID_LIKE="rhel fedora"\nVERSION_ID="4.18"\n', "rhel", True, 4),
        ('ID="anolis"\nID_LIKE="rhel fedora centos"\nVERSION_ID="8.9"\n', "rhel", False, 8),
        ('ID="opencloudos"\nID_LIKE="opencloudos"\nVERSION_ID="9.2"\n', "other", False, 9),
        ('ID="openEuler"\nVERSION_ID="24.03"\n', "other", False, 24),
        ('ID="kairos"\nVERSION_ID="v3.5.0"\n', "other", True, 3),
        ('ID="kylin"\nVERSION_ID="V10"\n', "other", False, 10),
        ('ID=kylin\nID_LIKE=debian\nVERSION_ID="v10"\n', "debian", False, 10),
        ('ID=UOS\nVERSION_ID="20"\n', "other", False, 20),
        ('ID="sles"\nID_LIKE="suse"\nVERSION_ID="15.7"\n', "suse", False, 15),
        ('ID="sles_sap"\nVERSION_ID="12.2"\n', "suse", False, 12),
        ('ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\nVERSION_ID="20261101"\n', "suse", False, 20261101),
        ('ID="sl-micro"\nID_LIKE="suse"\nVERSION_ID="6.1"\n', "suse", True, 6),
        ('ID="suse-microos"\nID_LIKE="suse"\nVERSION_ID="5.4"\n', "suse", True, 5),
        ('ID="sle-micro"\nVERSION_ID="5.5"\n', "suse", True, 5),
        ('ID="alp-dolomite"\nID_LIKE="suse"\nVERSION_ID="1.0"\n', "suse", True, 1),
        ('ID="opensuse-leap-micro"\nID_LIKE="suse opensuse"\nVERSION_ID="6.0"\n', "suse", True, 6),
        ('ID="opensuse-microos"\nID_LIKE="suse opensuse"\nVERSION_ID="20261101"\n', "suse", True, 20261101),
        ("ID=flatcar\nID_LIKE=coreos\nVERSION_ID=4459.0.0\n", "flatcar", True, 4459),
        ("ID=talos\nVERSION_ID=v1.14.0-beta.1\n", "talos", True, 1),
        ("ID=bottlerocket\nVERSION_ID=1.40.0\nVARIANT_ID=aws-k8s-1.34-nvidia\n", "other", True, 1),
        ('ID=azurelinux\nVERSION_ID="3.0"\n', "azurelinux", False, 3),
        ('ID=mariner\nVERSION_ID="2.0"\n', "azurelinux", False, 2),
        ("ID=cos\nVERSION_ID=97\n", "other", True, 97),
        ("ID=photon\nVERSION_ID=5.0\n", "other", False, 5),
        ("ID=archarm\nID_LIKE=arch\n", "arch", False, None),
        ("ID=manjaro\n", "arch", False, None),
        ("ID=cachyos\nBUILD_ID=rolling\n", "arch", False, None),
        ("ID=steamos\nID_LIKE=arch\nVARIANT_ID=steamdeck\nVERSION_ID=3.7\n", "arch", True, 3),
        ('ID=steamos\nID_LIKE=debian\nVERSION_ID="2"\n', "debian", False, 2),
        ('ID=nixos\nVERSION_ID="26.05"\n', "nixos", True, 26),
        ('ID=ubuntu-core\nID_LIKE=debian\nVERSION_ID="24"\n', "debian", True, 24),
        ("ID=gentoo\n", "other", False, None),
        ("ID=alpine\nVERSION_ID=3.23.2\n", "other", False, 3),
        ("ID=void\n", "other", False, None),
        ('ID="rancheros"\nID_LIKE=\nVERSION_ID=v1.4.2\n', "other", True, 1),
        ("ID=linux\n", "unknown", False, None),  # what os-release(5) gives a system that does not say
        ("ID=what is this\n", "unknown", False, None),
        ('NAME="Some Linux"\nVERSION_ID="1"\n', "unknown", None, 1),
        ('ID_LIKE="rhel fedora"\nNAME="Nobody"\n', "rhel", None, None),
        ("", "unknown", None, None),
    ],
)
def test_distributions(release: str, family: str, immutable: bool | None, major: int | None) -> None:
    facts = os_facts(release)
    assert (facts.family, facts.immutable, facts.major) == (family, immutable, major)
    assert (facts.immutable_why is not None) == (facts.immutable is True)


def test_why_it_is_immutable() -> None:
    assert os_facts("ID=flatcar").immutable_why == "ID=flatcar: an image with A and B partitions"
    assert os_facts("ID=fedora\nVARIANT_ID=coreos").immutable_why == "VARIANT_ID=coreos: an OSTree image"
    for mark in ("/run/ostree-booted", "transactional-update", "/etc/kairos-release"):
        found = os_facts('ID="rhel"', marks={mark})
        assert found.immutable is True
        assert mark in (found.immutable_why or "")
    assert os_facts('ID="rhel"', marks={"/usr is read-only"}).immutable_why == "/usr is mounted read-only"
    assert os_facts("ID=ubuntu", marks=None).immutable is None  # the marks were not looked for
    assert os_facts("ID=flatcar", marks=None).immutable is True


def test_quoting_by_the_specification() -> None:
    text = (
        '\ufeff# a comment\r\n\r\nNAME=\'it is\'\r\nA="say \\"hi\\" for \\$5 and \\`x\\` \\\\ \\n"\r\nB=plain # no\r\n'
        'C=a\\ b\r\nD="not # a comment"\r\nE=\'a\'"b"c\r\nID=first\r\nID=last\r\nF=$(touch /x)\r\n=no\r\n1X=no\r\n'
        'G=\r\nH="open\r\n  I=indented\r\nexport J=no\r\nK = no\r\n'
    )
    assert dict(parse_os_release(text)) == {
        "NAME": "it is",
        "A": 'say "hi" for $5 and `x` \\ \\n',
        "B": "plain",
        "C": "a b",
        "D": "not # a comment",
        "E": "abc",
        "ID": "last",
        "F": "$(touch /x)",
        "G": "",
        "H": "open",
        "I": "indented",
    }


def test_a_garbled_name_is_no_distribution() -> None:
    assert os_facts("ID=ub\x00untu").family == "unknown"
    assert os_facts("ID=\ufffd\ufffd\nID_LIKE=debian").family == "debian"
    assert os_facts('ID="\x1b[31mubuntu\x1b[0m"').id == "ubuntu"


def test_a_cut_text_says_nothing_of_what_is_missing() -> None:
    whole = edit("os-release", "ID=homelinux\nVERSION_ID=1\nID_LIKE=debian\n")
    assert parse_probe(whole).facts.os.family == "debian"
    cut = parse_probe(whole[: whole.index(b"ID_LIKE=deb") + 7]).facts.os
    assert (cut.id, cut.family, cut.immutable) == ("homelinux", "unknown", None)
    half = parse_probe(whole[: whole.index(b"ID=homelinux") + 7]).facts.os
    assert (half.id, half.family) == (None, "unknown")


def test_immutability_is_not_known_without_the_marks() -> None:
    assert parse_probe(without("marks")).facts.os.immutable is None
    assert parse_probe(edit("mounts", "/ ext4 rw\n/usr ext4 ro\n")).facts.os.immutable is True
    assert parse_probe(edit("mounts", "/ ext4 rw\n/usr ext4 ro\n/usr ext4 rw\n")).facts.os.immutable is False
    assert parse_probe(edit("mounts", "/ squashfs ro\n")).facts.os.immutable is True
    assert parse_probe(edit("mounts", "/ ext4 ro\n")).facts.os.immutable is False  # a disk with errors


def test_dgx_os_and_spark() -> None:
    facts = os_facts("ID=ubuntu\n", dgx_text=SPARK)
    assert (facts.dgx, facts.dgx_name) == ("7.5.0", "DGX Spark")
    assert os_facts("ID=ubuntu", fastos_text='NAME="DGX SPARK FASTOS"\n').dgx_name == "DGX Spark"
    assert os_facts("ID=ubuntu", fastos_text='NAME="OTHER"\n').dgx_name is None
    assert os_facts("ID=ubuntu", dgx_text="").dgx_name is None


@pytest.mark.parametrize(
    ("line", "release"),
    [
        ("# R32 (release), REVISION: 7.6, GCID: 38171779, BOARD: t210ref, EABI: aarch64, DATE: Tue Nov  5", "32.7.6"),
        ("# R36 (release), REVISION: 4.3, GCID: 1", "36.4.3"),
        ("# R38 (release), REVISION: 2.0", "38.2.0"),
        ("# R39 (release), REVISION: 2", "39.2"),
        ("R36 something", None),
        (None, None),
    ],
)
def test_jetson_release(line: str | None, release: str | None) -> None:
    assert l4t_version(line) == release


UBUNTU = "ID=ubuntu\nID_LIKE=debian\n"
WSL2 = "5.15.167.4-microsoft-standard-WSL2"


def test_environments() -> None:
    def kind(**seen: object) -> str:
        return os_facts(UBUNTU, **seen).kind  # type: ignore[arg-type]

    assert kind(kernel_release=WSL2) == "wsl2"
    assert kind(kernel_release="4.19.128-microsoft-standard") == "wsl2"
    assert kind(kernel_release="4.4.0-19041-Microsoft") == "wsl1"
    assert kind(kernel_release="6.8.0-1015-azure") == "host"
    assert kind(marks={"/dev/dxg", "/usr/lib/wsl/lib/nvidia-smi"}) == "wsl2"  # a kernel of one's own
    assert kind(marks={"/dev/dxg"}) == "host"  # a Hyper-V guest
    assert kind(container="wsl", marks={"/run/systemd/system"}) == "wsl2"
    # the root of a guest may have been exported from a container; a container on WSL2 has its kernel
    assert kind(kernel_release=WSL2, marks={"/.dockerenv", "/run/WSL"}) == "wsl2"
    assert kind(kernel_release=WSL2, marks={"/.dockerenv"}) == "container"
    assert kind(tegra_text="# R36 (release), REVISION: 4.3") == "jetson"
    assert kind(soc_family="Tegra") == "jetson"
    assert kind(soc_family="jep106:0426") == "host"
    assert kind(tegra_text="# R36 (release), REVISION: 4.3", marks={"/.dockerenv"}) == "container"
    assert kind(marks={"/run/secrets/kubernetes.io"}) == "container"
    assert kind(init_groups="0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-abc.scope\n") == "container"
    assert kind(init_groups="12:pids:/docker/0123\n") == "container"
    assert kind(init_groups="0::/init.scope\n") == "host"
    assert kind(marks={"/.dockerenv", "/run/systemd/system"}, container="docker") == "host"
    assert kind(marks={"/.dockerenv", "/run/openrc"}) == "host"
    assert kind(marks={"/.bottlerocket", "/.dockerenv"}) == "bottlerocket"


def test_what_tells_the_environment() -> None:
    assert os_facts(UBUNTU, kernel_release=WSL2).kind_why == f"kernel {WSL2}"
    assert os_facts(UBUNTU, marks={"/run/.containerenv"}).kind_why == "/run/.containerenv"
    assert os_facts(UBUNTU).kind_why is None
    guest = os_facts(UBUNTU, marks={"/run/systemd/system"}, container="lxc")
    assert (guest.kind, guest.container) == ("host", "lxc")


def test_proxmox_by_its_package_and_not_by_its_kernel() -> None:
    probe = parse_probe(edit("packages", "pve-manager 9.1.6\n", probe=edit("uname", "pve 6.17.13-2-pve x86_64")))
    assert probe.facts.os.proxmox == "9.1.6"
    guest = parse_probe(edit("uname", "ct 6.17.13-2-pve x86_64"))  # a container on Proxmox has its kernel
    assert guest.facts.os.proxmox is None


def test_bottlerockets_admin_container() -> None:
    text = edit("os-release", 'ID="amzn"\nID_LIKE="centos rhel fedora"\nVERSION_ID="2"\nPRETTY_NAME="Amazon Linux 2"\n')
    facts = parse_probe(edit("marks", "/.bottlerocket\n/.dockerenv\n", probe=text)).facts
    assert (facts.os.id, facts.os.kind, facts.os.version_id) == ("bottlerocket", "bottlerocket", None)
    assert facts.os.immutable is True


def test_secure_boot_is_not_a_containers_to_say() -> None:
    assert parse_probe(edit("secure-boot", "bios")).facts.kernel.secure_boot is False
    inside = edit("marks", "/.dockerenv\n", probe=edit("secure-boot", "bios"))
    assert parse_probe(inside).facts.kernel.secure_boot is None


@pytest.fixture(params=SHELLS)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return Tree(tmp_path / "host", request.param)


def test_a_spark_in_a_folder(tree: Tree) -> None:
    tree.file("/etc/dgx-release", SPARK)
    raw = tree.run(probe_script())
    assert b"1234567890123" not in raw  # the serial number stays where it is
    assert parse_probe(raw).facts.os.dgx == "7.5.0"


def test_an_empty_file_in_etc_gives_way(tree: Tree) -> None:
    tree.file("/etc/os-release", "")
    tree.file("/usr/lib/os-release", RHEL10)
    assert parse_probe(tree.run(probe_script())).facts.os.major == 10


def test_a_jetson_and_a_ro_usr_in_a_folder(tree: Tree) -> None:
    tree.file("/etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 1\n# KERNEL_VARIANT: oot\n")
    tree.file("/proc/self/mounts", "/dev/x / ext4 rw 0 0\n/dev/y /usr ext4 ro,relatime 0 0\nproc /proc proc rw 0 0\n")
    tree.file("/run/systemd/container", "lxc\n")
    facts = parse_probe(tree.run(probe_script())).facts.os
    assert (facts.kind, facts.l4t, facts.immutable, facts.container) == ("jetson", "36.4.3", True, "lxc")


@given(st.text(max_size=300), st.lists(st.sampled_from(["/.dockerenv", "/run/ostree-booted", "/dev/dxg"])))
def test_any_text(text: str, marks: list[str]) -> None:
    facts = os_facts(f"ID=debian\n{text}", dgx_text=text, tegra_text=text, marks=marks, kernel_release=text[:40])
    assert facts.family in (
        "debian",
        "unknown",
        "other",
        "rhel",
        "suse",
        "arch",
        "nixos",
        "flatcar",
        "talos",
        "azurelinux",
    )
    assert facts.id is None or "\x1b" not in facts.id
