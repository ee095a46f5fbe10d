"""probe-driver.sh, run for real by three shells on a host in a folder."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from assets import asset
from gpuwizard.facts.frames import Frames, read_frames
from gpuwizard.facts.model import DriverFacts
from gpuwizard.facts.parse import parse_probe
from gpuwizard.work.probe import probe_script
from tests.probe_tree import SHELLS, Tree

RUNNING = "6.8.0-85-generic"
NEWER = "6.8.0-90-generic"


@pytest.fixture(params=SHELLS)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    tree = Tree(tmp_path / "host", request.param)
    tree.h200()
    tree.file("/proc/sys/kernel/osrelease", f"{RUNNING}\n")
    tree.tool("uname", f"echo gpu-a {RUNNING} x86_64")
    shutil.rmtree(tree.root / "lib/modules")
    tree.kernel(RUNNING, "580.159.04", signer="a key")
    return tree


def frames(tree: Tree) -> Frames:
    return read_frames(tree.run(probe_script()))


def driver(tree: Tree) -> DriverFacts:
    return parse_probe(tree.run(probe_script())).facts.driver


def test_a_healthy_host(tree: Tree) -> None:
    tree.file("/dev/nvidia0", "")
    tree.file("/dev/nvidiactl", "")
    tree.file("/dev/nvidia-uvm", "")
    found = driver(tree)
    assert (found.loaded, found.on_disk, found.next_kernel, found.userspace) == ("580.159.04",) * 4
    assert (found.newest_kernel, found.kernels_without_module, found.kernels_without_headers) == (RUNNING, (), ())
    assert found.modules_loaded == ("nvidia", "nvidia_modeset", "nvidia_uvm")
    assert found.device_nodes == ("nvidia-uvm", "nvidia0", "nvidiactl")
    (module,) = found.kernel_modules
    assert (module.path, module.signed, module.signer) == ("updates/dkms/nvidia.ko.zst", True, "a key")
    assert (found.log, found.uptime_seconds, found.runfile) == ((), 1000.0, False)


def test_only_the_running_and_the_newest_kernel_are_asked_about(tree: Tree) -> None:
    for release in ("6.8.0-9-generic", "6.8.0-79-generic", NEWER):
        tree.kernel(release, "580.178.04", path="kernel/nvidia-580srv-open/nvidia.ko.xz")
    tree.kernel("6.8.0-99-generic", None, image=False)  # its image was removed
    found = driver(tree)
    assert (found.newest_kernel, found.on_disk, found.next_kernel) == (NEWER, "580.159.04", "580.178.04")
    assert {m.kernel: m.version for m in found.kernel_modules} == {
        RUNNING: "580.159.04",
        NEWER: "580.178.04",
        "6.8.0-79-generic": None,
        "6.8.0-9-generic": None,
    }
    assert found.kernels_without_module == ("6.8.0-99-generic",)


def test_a_newer_kernel_without_module_and_headers(tree: Tree) -> None:
    tree.kernel(NEWER, None, headers=False)
    found = driver(tree)
    assert (found.newest_kernel, found.next_kernel) == (NEWER, None)
    assert (found.kernels_without_module, found.kernels_without_headers) == ((NEWER,), (NEWER,))


@pytest.mark.parametrize("name", ["nvidia-current", "nvidia-current-open", "nvidia-tesla-470", "nvidia-legacy-390xx"])
def test_debians_names(tree: Tree, name: str) -> None:
    shutil.rmtree(tree.root / "lib/modules")
    tree.kernel(RUNNING, "550.163.01", terms="NVIDIA", path=f"updates/dkms/{name}.ko")
    tree.file("/etc/modprobe.d/nvidia.conf", f"install nvidia modprobe -i {name} $CMDLINE_OPTS\n# blacklist nvidia\n")
    found = driver(tree)
    assert (found.on_disk, found.disk_flavour) == ("550.163.01", "proprietary")
    assert found.module_settings == (f"/etc/modprobe.d/nvidia.conf: install nvidia modprobe -i {name} $CMDLINE_OPTS",)


def test_modules_that_are_none_of_the_driver(tree: Tree) -> None:
    shutil.rmtree(tree.root / "lib/modules")
    tree.kernel(RUNNING, None)
    listed = (
        "kernel/drivers/platform/x86/nvidia-wmi-ec-backlight.ko:\nupdates/dkms/nvidia-fs.ko: updates/dkms/nvidia.ko\n"
    )
    tree.file(f"/lib/modules/{RUNNING}/modules.dep", f"{listed}kernel/drivers/video/fbdev/nvidia/nvidiafb.ko:\n")
    found = driver(tree)
    assert (found.kernel_modules, found.kernels_without_module) == ((), (RUNNING,))


def test_no_modinfo(tree: Tree) -> None:
    (tree.bin / "modinfo").unlink()
    probe = parse_probe(tree.run(probe_script()))
    assert probe.facts.driver.on_disk is None
    assert len(probe.facts.driver.kernel_modules) == 1
    assert [u.what for u in probe.facts.unseen] == ["version of the NVIDIA module on disk"]


DKMS = "/var/lib/dkms/nvidia"


def test_dkms_tree(tree: Tree) -> None:
    tree.folder(f"{DKMS}/580.159.04/{RUNNING}/x86_64/module")
    tree.folder(f"{DKMS}/580.159.04/{NEWER}/x86_64/module")
    tree.folder("/usr/src/nvidia-580.159.04")
    tree.link(f"{DKMS}/580.159.04/source", "../../../../../usr/src/nvidia-580.159.04")
    tree.link(f"{DKMS}/kernel-{RUNNING}-x86_64", f"580.159.04/{RUNNING}/x86_64")
    tree.folder(f"{DKMS}/570.86.15")
    tree.link(f"{DKMS}/570.86.15/source", "/nowhere/nvidia-570.86.15")
    tree.folder("/var/lib/dkms/nvidia-fs/2.20/source")
    tree.folder(f"{DKMS}/original_module/{RUNNING}/x86_64")
    found = {(s.version, s.kernel, s.state) for s in driver(tree).dkms}
    assert found == {
        ("580.159.04", RUNNING, "installed"),
        ("580.159.04", NEWER, "built"),
        ("570.86.15", None, "broken"),
    }


def test_a_failed_dkms_build(tree: Tree) -> None:
    tree.file(
        f"{DKMS}/580.159.04/build/make.log",
        f"DKMS (dkms-3.2.2) make.log for nvidia/580.159.04 for kernel {NEWER} (x86_64)\nFri Nov 20\n  CC [M] nv.o\n"
        "nv.c:9:1: error: unknown type name 'vm_flags'\nmake: *** [Makefile:80: modules] Error 2\n",
    )
    found = driver(tree)
    assert found.dkms_log[0].endswith(f"for kernel {NEWER} (x86_64)")
    assert any("unknown type name" in line for line in found.dkms_log)


def test_where_the_files_come_from(tree: Tree) -> None:
    tree.file("/usr/bin/nvidia-uninstall", "", 0o755)
    tree.file("/run/nvidia/driver/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.595.91.07", "")
    tree.file("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.570.211.01", "")
    tree.link("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1", "libnvidia-ml.so.570.211.01")
    tree.file("/usr/lib/i386-linux-gnu/libnvidia-ml.so.390.157", "")
    answer = frames(tree)
    assert (answer.text("nvml-link") or "").strip() == "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.570.211.01"
    found = driver(tree)
    assert found.libraries == ("570.211.01", "580.159.04")
    assert found.userspace == "580.159.04"  # nvidia-smi works, whatever lies about
    assert found.runfile is True


def test_what_the_kernel_was_told(tree: Tree) -> None:
    tree.file(
        "/proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 password=x modprobe.blacklist=nouveau nomodeset quiet\n"
    )
    tree.file("/sys/module/module/parameters/sig_enforce", "N\n")
    tree.file("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    found = driver(tree)
    assert found.kernel_arguments == ("modprobe.blacklist=nouveau", "nomodeset")
    assert found.signatures_enforced is True


LOG = """\
[    0.000000] Linux version 6.8.0-85-generic
[    8.100000] NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build
[    8.200000] nvidia: module verification failed: signature and/or required key missing - tainting kernel
[   99.500000] NVRM: GPU at PCI:0000:00:06: GPU-1
[  100.500000] NVRM: Xid (PCI:0000:00:06): 31, pid=1, name=a, MMU Fault
[  200.500000] NVRM: Xid (PCI:0000:00:06): 31, pid=2, name=b, MMU Fault
[  300.000001][ T1234] NVRM: Xid (PCI:0000:00:06): 79, pid='<unknown>', GPU has fallen off the bus.
[  400.000000] NVRM: GPU 0000:00:06.0: RmInitAdapter failed! (0x62:0xffff:2501)
[  500.000000] NVRM: GPU 0000:00:06.0: RmInitAdapter failed! (0x62:0xffff:2501)
[  600.000000] eth0: link up nvidia-ish
"""


@pytest.mark.parametrize("awk", ["mawk", "gawk", "busybox", "original-awk"])
def test_kernel_log(tmp_path: Path, awk: str) -> None:
    program = shutil.which(awk)
    if program is None:
        pytest.skip(f"{awk} is not installed")
    tree = Tree(tmp_path / "host")
    tree.h200()
    tree.tool("awk", f'exec {program} {"awk " if awk == "busybox" else ""}"$@"')
    tree.file("/data/log", LOG)
    tree.tool("dmesg", f"cat {tree.root}/data/log")
    assert driver(tree).log == (
        "[8.200000] nvidia: module verification failed: signature and/or required key missing - tainting kernel",
        "[200.500000] NVRM: Xid (PCI:0000:00:06): 31, pid=2, name=b, MMU Fault (2 times)",
        "[300.000001] NVRM: Xid (PCI:0000:00:06): 79, pid='<unknown>', GPU has fallen off the bus.",
        "[500.000000] NVRM: GPU 0000:00:06.0: RmInitAdapter failed! (0x62:0xffff:2501) (2 times)",
    )


def test_a_log_that_is_flooded_keeps_its_xids(tree: Tree) -> None:
    flood = "".join(f"[{n}.0] NVRM: line {n}\n" for n in range(100, 900))
    tree.file(
        "/data/log", f"[1.0] NVRM: Xid (PCI:0000:00:06): 48, x\n{flood}[999.0] NVRM: Xid (PCI:0000:00:06): 119, y\n"
    )
    tree.tool("dmesg", f"cat {tree.root}/data/log")
    lines = driver(tree).log
    assert lines is not None
    assert len(lines) <= 90
    assert [line for line in lines if "Xid" in line] == [
        "[1.0] NVRM: Xid (PCI:0000:00:06): 48, x",
        "[999.0] NVRM: Xid (PCI:0000:00:06): 119, y",
    ]


def test_a_log_that_may_not_be_read(tree: Tree) -> None:
    tree.tool("dmesg", "echo 'dmesg: read kernel buffer failed: Operation not permitted' >&2; exit 1")
    probe = parse_probe(tree.run(probe_script()))
    assert probe.facts.driver.log is None
    assert [u.why for u in probe.facts.unseen] == ["dmesg: read kernel buffer failed: Operation not permitted"]


def test_without_root_the_log_is_read_only_where_the_kernel_allows_it(tree: Tree) -> None:
    tree.login(1000, "ops")
    tree.tool("dmesg", "echo '[1.0] NVRM: Xid (PCI:0000:00:06): 48, x'")
    assert driver(tree).log is None
    tree.file("/proc/sys/kernel/dmesg_restrict", "0\n")
    assert driver(tree).log == ("[1.0] NVRM: Xid (PCI:0000:00:06): 48, x",)


def test_fabric(tree: Tree) -> None:
    tree.tool("nv-fabricmanager", "echo 'Fabric Manager version is : 580.159.04'")
    assert driver(tree).fabric_manager_version is None  # nobody asks where there is no switch
    tree.gpu("0000:c5:00.0", "22a3", None, "0x068000")
    tree.file("/var/log/fabricmanager.log", "old\n" * 50 + "the last line\n")
    found = driver(tree)
    assert found.fabric_manager_version == "580.159.04"
    assert found.fabric_manager_log[-1] == "the last line"


def test_nvlink5_and_imex(tree: Tree) -> None:
    tree.file("/proc/devices", "Character devices:\n195 nvidia\n234 nvidia-caps-imex-channels\n\nBlock devices:\n")
    assert (driver(tree).imex_channels, driver(tree).nvlink5) == (True, False)
    tree.gpu("0000:18:00.0", "2901")
    assert driver(tree).nvlink5 is False
    tree.file("/sys/class/infiniband/mlx5_0/device/vpd", b"\x82\x10\x00ConnectX-7\x90\x00")
    tree.file("/sys/class/infiniband/mlx5_4/device/vpd", b"\x82\x10\x00V0\x06SW_MNG\x78")
    assert driver(tree).nvlink5 is True


def test_processes(tmp_path: Path) -> None:
    """The driver's share on a typical node: at most a dozen."""
    tree = Tree(tmp_path / "host")
    tree.h200()
    tree.kernel(NEWER, "580.159.04")
    tree.folder(f"{DKMS}/580.159.04/{NEWER}/x86_64/module")
    tree.link(f"{DKMS}/kernel-{NEWER}-x86_64", f"580.159.04/{NEWER}/x86_64")
    log = tree.root / "started"
    for tool in list(tree.bin.iterdir()):
        tool.rename(tree.bin / f".{tool.name}")
        tool.write_text(f'#!/bin/sh\necho {tool.name} >>{log}\nexec {tree.bin}/.{tool.name} "$@"\n')
        tool.chmod(0o755)
    parts = "\n".join(asset(f"remote/{name}").read_text() for name in ("probe.sh", "probe-driver.sh"))
    begin = "ROOT=1 TIMEOUT=1 ROOT_PATH=$R UNSEEN= pci= NL='\n'\nBLANKS=\" \t$NL\"\nIFS=$BLANKS\n"
    done = subprocess.run(
        ["/bin/sh"],
        input=f"{parts}\nR={tree.root}\n{begin}look_at_driver\nlook_at_companions\n",
        env={"PATH": str(tree.bin)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    started = log.read_text().split()
    assert len(started) <= 12, started


@pytest.mark.skipif(not os.path.exists("/usr/bin/shellcheck"), reason="shellcheck is not installed")
def test_shellcheck() -> None:
    text = asset("remote/probe-driver.sh").read_text()
    done = subprocess.run(["shellcheck", "-s", "sh", "-"], input=text, capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_a_list_of_modules_in_binary_form_only(tree: Tree) -> None:
    tree.kernel(NEWER, None)
    (tree.root / f"lib/modules/{NEWER}/modules.dep").rename(tree.root / f"lib/modules/{NEWER}/modules.dep.bin")
    found = driver(tree)
    assert (found.newest_kernel, found.kernels_without_module) == (NEWER, ())
