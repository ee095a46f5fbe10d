"""The driver's versions, modules, kernels, DKMS and log (`hosts.md §3`), from text as hosts print it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwizard.facts.driver.dkms import parse_dkms
from gpuwizard.facts.driver.log import read_log
from gpuwizard.facts.driver.modules import newest_kernel, parse_kernels, read_modules
from gpuwizard.facts.driver.smi import problem_kind
from gpuwizard.facts.driver.versions import (
    host_libraries,
    library_version,
    module_version,
    newer_kernel,
    nvrm_version,
)
from gpuwizard.facts.frames import Section, read_frames
from gpuwizard.facts.model import DkmsState, DriverFacts
from tests.captured import CAPTURE, edit, without
from tests.driver_hosts import KERNEL, NEWER, bare, host, kernels, loaded, on_disk, probe, unloaded


def driver(raw: bytes = CAPTURE, **sections: str | tuple[str, int]) -> DriverFacts:
    return probe(raw, **sections).facts.driver


@pytest.mark.parametrize(
    ("line", "version", "flavour"),
    [
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  595.91.07  Release Build  (a@b)  Wed Jul 29",
            "595.91.07",
            "open",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.142  Release Build  (a)", "580.142", "open"),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.173.02  Tue Jun 23 2026", "580.173.02", "proprietary"),
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.256.02  Thu May  2 14:37:44 UTC 2024",
            "470.256.02",
            "proprietary",
        ),
        ("NVRM version: NVIDIA UNIX Kernel Module for aarch64  34.1.1  Release Build  (...)", "34.1.1", "proprietary"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (a)", "540.4.0", "open"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.95.05  Release Build  (a)",
            "580.95.05",
            "open",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  615.71.09  Release Build  (a)", "615.71.09", "open"),
        (
            "NVRM version:  NVIDIA UNIX Open Kernel Module for x86_64  515.57  Release Build Mi 20. Jul 11:53:35 CEST",
            "515.57",
            "open",
        ),
        ("GCC version:  gcc version 15.3.0 (GCC)", None, None),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64", None, None),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  " + "5" * 100_000, None, None),
        ("\xff\x00NVRM", None, None),
        (None, None, None),
    ],
)
def test_loaded_module(line: str | None, version: str | None, flavour: str | None) -> None:
    assert nvrm_version(line) == (version, flavour)


def test_versions_as_modinfo_and_sysfs_print_them() -> None:
    assert module_version("580.159.04\n") == "580.159.04"
    assert module_version("modinfo: ERROR: Module nvidia not found.") is None
    assert module_version("580") is None


HOST = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so."


def test_one_library() -> None:
    assert library_version([f"{HOST}580.95.05", "/x"]) == "580.95.05"
    assert library_version([], help_text="NVIDIA System Management Interface -- v550.163.01\n\nNVSMI") == "550.163.01"
    assert library_version([], help_text="Failed to initialize NVML") is None


def test_of_several_libraries_the_link_decides() -> None:
    files = [f"{HOST}580.95.05", f"{HOST}570.211.01"]
    assert library_version(files) == "580.95.05"
    assert library_version(files, link="/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.570.211.01") == "570.211.01"
    assert library_version(files, link="/nowhere/libnvidia-ml.so.1.2.3") == "580.95.05"
    assert host_libraries(files) == ("570.211.01", "580.95.05")


def test_the_operators_driver_has_a_root_of_its_own() -> None:
    files = [f"{HOST}535.309.01", "/run/nvidia/driver/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.595.91.07"]
    assert library_version(files, loaded="595.91.07") == "595.91.07"
    assert library_version(files, loaded="535.309.01") == "535.309.01"
    assert library_version(files[1:]) == "595.91.07"
    assert host_libraries(files) == ("535.309.01",)


@pytest.mark.parametrize(
    ("release", "than", "newer"),
    [
        ("6.8.0-90-generic", "6.8.0-85-generic", True),
        ("6.8.0-9-generic", "6.8.0-85-generic", False),
        ("6.17.0-1021-nvidia", "6.17.0-1014-nvidia", True),
        ("5.14.0-570.42.2.el9_6.x86_64", "5.14.0-570.39.1.el9_6.x86_64", True),
        ("6.12.0-55.el10.aarch64+64k", "6.12.0-55.el10.aarch64", False),
        ("6.12.0-55.el10.aarch64", "6.12.0-55.el10.aarch64+64k", False),
        ("6.1.0-40-amd64", "6.1.0-40-cloud-amd64", False),
        ("7.0.0-8-generic", "6.17.0-99-generic", True),
        ("", "6.8", False),
    ],
)
def test_newer_kernels(release: str, than: str, newer: bool) -> None:
    assert newer_kernel(release, than) is newer


def test_the_newest_kernel_is_one_that_can_boot() -> None:
    listed = parse_kernels(kernels(KERNEL) + f"{NEWER} headers=1 image=0\n")
    assert newest_kernel(listed, KERNEL) == KERNEL
    unseen = parse_kernels(f"{KERNEL} headers=1 image=0\n{NEWER} headers=1 image=0\n")
    assert newest_kernel(unseen, KERNEL) == NEWER  # no image of any kernel was seen: /boot is not visible
    assert newest_kernel(parse_kernels("0-rescue-abc\n6.8.0-9-generic\n"), "6.8.0-8-generic") == "6.8.0-9-generic"
    assert newest_kernel((), None) is None


def test_a_new_kernel_without_module() -> None:
    found = driver(kernels=kernels(KERNEL, NEWER))
    assert (found.loaded, found.on_disk, found.next_kernel) == ("580.159.04", "580.159.04", None)
    assert (found.newest_kernel, found.kernels_without_module) == (NEWER, (NEWER,))


def test_a_new_kernel_with_its_module() -> None:
    found = driver(kernels=kernels(KERNEL, NEWER), **on_disk({KERNEL: "580.159.04", NEWER: "580.178.04"}))
    assert (found.on_disk, found.next_kernel, found.kernels_without_module) == ("580.159.04", "580.178.04", ())
    assert [m.version for m in found.kernel_modules] == ["580.159.04", "580.178.04"]


def test_modules_of_which_modinfo_was_not_asked_are_there_all_the_same() -> None:
    found = driver(kernels=kernels(KERNEL, NEWER), **on_disk({KERNEL: "580.159.04", NEWER: ""}))
    assert (found.next_kernel, found.kernels_without_module) == (None, ())


@pytest.mark.parametrize("status", [2, 124, 137])
def test_a_look_that_failed_proves_nothing(status: int) -> None:
    assert driver(driver_files=("", status), modinfo="").kernels_without_module == ()
    assert driver(without("driver-files")).kernels_without_module == ()


def test_the_running_kernels_folder_is_gone() -> None:
    """As on Arch after an upgrade of the kernel."""
    found = driver(kernels=kernels(NEWER), **on_disk({NEWER: "580.95.05"}))
    assert (found.on_disk, found.kernels_without_module) == (None, (KERNEL,))


def test_headers() -> None:
    found = driver(kernels=kernels(KERNEL) + kernels(NEWER, headers=False))
    assert found.kernels_without_headers == (NEWER,)
    assert driver(kernels=f"{KERNEL}\n").kernels_without_headers == ()  # not said is not missing


DEBIAN = (
    "/lib/modules/6.1.0-40-amd64/modules.dep:updates/dkms/nvidia-current-open.ko: kernel/drivers/acpi/video.ko\n"
    "/lib/modules/6.1.0-40-amd64/modules.dep:updates/dkms/nvidia-current.ko: kernel/drivers/acpi/video.ko\n"
    "/etc/modprobe.d/nvidia.conf:install nvidia modprobe -i nvidia-current $CMDLINE_OPTS\n"
    "/etc/modprobe.d/nvidia-blacklists-nouveau.conf:blacklist nouveau\n"
)


def debian(files: str = DEBIAN) -> DriverFacts:
    info = "".join(
        f"filename:       /lib/modules/6.1.0-40-amd64/updates/dkms/{name}.ko\nversion:        550.163.01\n"
        f"license:        {terms}\n"
        for name, terms in (("nvidia-current-open", "Dual MIT/GPL"), ("nvidia-current", "NVIDIA"))
    )
    uname = "gpu-a 6.1.0-40-amd64 x86_64"
    return driver(uname=uname, kernels=kernels("6.1.0-40-amd64"), driver_files=files, modinfo=info)


def test_debian_names_its_modules_otherwise() -> None:
    found = debian()
    assert (found.on_disk, found.disk_flavour, found.kernels_without_module) == ("550.163.01", "proprietary", ())
    assert found.module_settings == (
        "/etc/modprobe.d/nvidia.conf: install nvidia modprobe -i nvidia-current $CMDLINE_OPTS",
        "/etc/modprobe.d/nvidia-blacklists-nouveau.conf: blacklist nouveau",
    )
    assert debian(DEBIAN.replace("-i nvidia-current ", "-i nvidia-current-open ")).disk_flavour == "open"


@pytest.mark.parametrize(
    ("terms", "flavour"), [("NVIDIA", "proprietary"), ("Dual MIT/GPL", "open"), ("Ncr", None), ("", None)]
)
def test_flavour_on_disk(terms: str, flavour: str | None) -> None:
    assert driver(unloaded(), **on_disk({KERNEL: "580.95.05"}, terms=terms)).disk_flavour == flavour


def test_signature_on_disk() -> None:
    (signed,) = driver().kernel_modules
    assert (signed.signed, signed.signer) == (True, "gpu-a Secure Boot Module Signature key")
    (plain,) = driver(**on_disk({KERNEL: "580.95.05"}, signer=None)).kernel_modules
    assert (plain.signed, plain.signer) == (False, None)
    (unknown,) = driver(modinfo="modinfo: ERROR: Module nvidia not found.\n").kernel_modules
    assert (unknown.version, unknown.signed) == (None, None)


@pytest.mark.parametrize(
    ("words", "enforced"),
    [
        ("sig_enforce:Y\nlockdown:[none] integrity confidentiality\n", True),
        ("sig_enforce:N\nlockdown:none [integrity] confidentiality\n", True),
        ("sig_enforce:N\nlockdown:[none] integrity confidentiality\n", False),
        ("module.sig_enforce=1\n", True),
        ("sig_enforce:N\n", None),
        ("", None),
    ],
)
def test_whether_signatures_are_enforced(words: str, enforced: bool | None) -> None:
    assert driver(module_loading=words).signatures_enforced is enforced


def test_dkms_as_its_own_status_says_it() -> None:
    text = (
        "nvidia 580.95.05 - - added\n"
        "nvidia 580.95.05 6.8.0-85-generic x86_64 built\n"
        "nvidia 580.95.05 6.8.0-90-generic x86_64 built\n"
        "nvidia 570.211.01 - - added\n"
        "nvidia-current 535.309.01 - - broken\n"
    )
    links = (
        "lrwxrwxrwx 1 root root 37 Nov 20 11:00 /var/lib/dkms/nvidia/kernel-6.8.0-85-generic-x86_64 -> "
        "580.95.05/6.8.0-85-generic/x86_64\n"
        "lrwxrwxrwx 1 root root 38 Nov 20 11:00 /var/lib/dkms/nvidia/kernel-6.8.0-90-generic-x86_64 -> "
        "570.211.01/6.8.0-90-generic/x86_64\n"
    )
    assert parse_dkms(text, links) == (
        DkmsState("580.95.05", KERNEL, "installed", "nvidia", "x86_64"),
        DkmsState("580.95.05", NEWER, "built", "nvidia", "x86_64"),
        DkmsState("570.211.01", None, "added", "nvidia", None),
        DkmsState("535.309.01", None, "broken", "nvidia-current", None),
    )


def test_a_build_under_way_is_no_failure() -> None:
    head = "DKMS (dkms-3.2.2) make.log for nvidia/580.95.05 for kernel 6.8.0-90-generic (x86_64)\n"
    assert driver(dkms_log__nvidia=head).dkms_log == ()
    failed = driver(dkms_log__nvidia=f"{head}nv.c:12:5: error: implicit declaration\nmake: *** [Makefile:80] Error 2\n")
    assert failed.dkms_log[0] == head.strip()
    assert len(failed.dkms_log) == 3


def test_kernel_log() -> None:
    section = Section(
        "kernel-log", "", 0, b"864000.25\n3 12.500 NVRM: Xid (PCI:0000:ca:00): 79, x\n1 - nouveau failed\n"
    )
    log = read_log(section)
    assert log.uptime == 864000.25
    assert log.lines == ("[12.500] NVRM: Xid (PCI:0000:ca:00): 79, x (3 times)", "nouveau failed")
    assert read_log(None).lines is None
    assert read_log(Section("kernel-log", "", 0, b"nonsense\n1 2\n")).lines == ()


def test_where_the_driver_came_from() -> None:
    assert driver().installer is None  # the packages were not asked for
    assert driver(packages="nvidia-driver-580-open 580.95.05-1\n").installer == "package"
    assert (
        driver(packages="nvidia-fabricmanager-580 580.95.05-1\nnvidia-container-toolkit 1.20.0-1\n").installer is None
    )
    assert driver(packages="bash 5\n", driver_marks="/usr/bin/nvidia-uninstall\n").installer == "runfile"
    assert driver(bare(), driver_marks="/run/nvidia/driver/usr\n").installer == "operator"
    assert driver(os_release="ID=flatcar\n").installer == "image"


def test_packages_of_a_driver_and_of_other_things() -> None:
    listed = (
        "nvidia-container-toolkit 1.20.0-1\nlibnvidia-container1 1.20.0-1\nlibnvidia-compute-580-server 580.95.05\n"
        "linux-modules-nvidia-580-server-open-6.8.0-85-generic 6.8.0-85.85\nnvidia-driver-pinning-580 580\n"
        "kmod-nvidia-open-dkms 580.95.05-1.el9\nnvidia-fs-dkms 2.20\ncontainerd.io 2.1.4-1\ncuda-drivers 615.71.09-1\n"
        "nvidia-open-driver-G06-signed-kmp-default 580.126.20_k6.4.0\nnvidia-compute-utils-G06 580.126.20-1\n"
    )
    assert set(driver(packages=listed).packages) == {
        "libnvidia-compute-580-server",
        "linux-modules-nvidia-580-server-open-6.8.0-85-generic",
        "kmod-nvidia-open-dkms",
        "cuda-drivers",
        "nvidia-open-driver-G06-signed-kmp-default",
        "nvidia-compute-utils-G06",
    }


def test_fabric_managers_version() -> None:
    assert driver(packages="nvidia-fabricmanager-580 580.95.05-0ubuntu1\n").fabric_manager_version == "580.95.05"
    assert driver(packages="nvidia-fabric-manager 580.95.05-1\n").fabric_manager_version == "580.95.05"
    said = driver(fabric_manager_version="Fabric Manager version is : 570.211.01\n")
    assert said.fabric_manager_version == "570.211.01"
    both = driver(packages="nvidia-fabricmanager-580 580.95.05-1\nnvidia-fabricmanager-570 570.211.01-1\n")
    assert both.fabric_manager_version is None


def test_upgrades_by_night() -> None:
    lines = '/etc/apt/apt.conf.d/20auto-upgrades:APT::Periodic::Unattended-Upgrade "1";\n'
    mark = "/usr/bin/unattended-upgrade\n"
    assert driver(driver_files=lines, driver_marks=mark).auto_upgrades is True
    assert driver(driver_files=lines.replace('"1"', '"0"'), driver_marks=mark).auto_upgrades is False
    assert driver(driver_files=lines).auto_upgrades is None  # the program is not installed
    spared = driver(driver_files=lines + '/etc/apt/apt.conf.d/51nv:  "nvidia-";\n', driver_marks=mark)
    assert spared.auto_upgrades_spare == ('"nvidia-";',)


def test_nvlink5_shows_in_the_product_data_only() -> None:
    assert driver(nvlink5="/sys/class/infiniband/mlx5_4/device/vpd\n").nvlink5 is True
    assert driver(nvlink5=("", 1)).nvlink5 is False
    assert driver(nvlink5=("grep: x: Input/output error\n", 2)).nvlink5 is None
    assert driver().nvlink5 is False  # an H200 has none
    assert driver(edit("pci", "0000:00:06.0 0x2901 0x030200 0\n")).nvlink5 is None  # a B200, and nobody could look


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (12, "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure", "library-missing"),
        (9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure", "not-loaded"),
        (4, "Failed to initialize NVML: Insufficient Permissions", "permission"),
        (255, "Failed to initialize NVML: Timeout", "timeout"),
        (11, "Failed to initialize NVML: Interrupt Request Issue", "interrupt"),
        (10, None, "interrupt"),
        (15, "Failed to initialize NVML: GPU is lost", "lost"),
        (255, "Failed to initialize NVML: GPU requires reset", "reset"),
        (17, "Failed to initialize NVML: GPU access blocked by the operating system", "blocked"),
        (18, "Failed to initialize NVML: Driver/library version mismatch · NVML library version: 550.163", "mismatch"),
        (
            255,
            "Failed to initialize NVML: No supported GPUs were found · Mismatch in versions between nvidia-smi and",
            "unsupported",
        ),
        (255, "Failed to initialize NVML: Unknown Error", "unknown-error"),
        (255, "Mismatch in versions between nvidia-smi and NVML.", "other-nvidia-smi"),
        (6, "No devices were found", "no-devices"),
        (8, "Failed to initialize NVML: Insufficient External Power", "power"),
        (13, "Failed to initialize NVML: Function Not Found", "function-missing"),
        (14, "WARNING: infoROM is corrupted at gpu 0000:0B:00.0", "inforom"),
        (14, "Failed to initialize NVML: Corrupted infoROM", "inforom"),
        (0, "Unable to determine the device handle for GPU3: 0000:5F:00.0: Unknown Error", "device"),
        (0, "GPU 0: GPU requires reset", "device"),
        (6, "No devices were found. Please make sure /dev/nvidia* files are readable by current user.", "permission"),
        (2, 'Field "mig.mode.current" is not a valid field to query.', "field"),
        (124, "nvidia-smi gave no answer in time", "hangs"),
        (127, "sh: nvidia-smi: not found", "other"),
        (None, None, None),
        (0, None, None),
    ],
)
def test_what_kind_of_failure(status: int | None, text: str | None, kind: str | None) -> None:
    assert problem_kind(text, status) == kind


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            (
                "kernels",
                "driver-files",
                "modinfo",
                "dkms",
                "dkms-links",
                "dkms-log:x",
                "kernel-log",
                "driver-modules",
                "device-nodes",
                "module-loading",
                "nvml-files",
                "nvml-link",
                "nvrm-version",
                "fabric-manager-version",
                "packages",
                "packages-held",
                "packages-broken",
                "nvlink5",
                "imex-channels",
            )
        ),
        st.one_of(
            st.text(max_size=300),
            st.sampled_from((DEBIAN, "1 2 3 4 5\n" * 9, "x" * 100_000, "\x1b[31m1 1.5 NVRM: \x00\n", "filename:\n")),
        ),
        max_size=8,
    ),
    st.integers(0, 255),
)
def test_no_text_stops_the_reader(sections: dict[str, str], status: int) -> None:
    raw = CAPTURE
    for name, text in sections.items():
        raw = edit(name, text.encode("utf-8", "replace").decode(), status, probe=raw)
    found = probe(raw).facts.driver
    assert found.loaded is None or module_version(found.loaded) == found.loaded
    assert all("\x1b" not in line and len(line) < 700 for line in (*(found.log or ()), *found.dkms_log))


def test_the_shell_and_python_agree_on_nothing_when_all_is_missing() -> None:
    found = read_modules(read_frames(b""), "6.8.0")
    assert (found.kernels, found.files, found.without, found.auto_upgrades) == ((), (), (), None)


@pytest.mark.parametrize("version", ["470.256.02", "535.309.01", "550.163.01", "570.211.01", "595.91.07", "610.57.04"])
@pytest.mark.parametrize("flavour", ["open", "proprietary"])
def test_a_healthy_driver_of_any_branch(version: str, flavour: str) -> None:
    found = driver(loaded(version, flavour))
    assert (found.loaded, found.on_disk, found.userspace) == (version, version, version)
    assert (found.flavour, found.disk_flavour, found.problem_kind) == (flavour, flavour, None)


def test_fields_that_only_a_look_can_know_are_null_without_one() -> None:
    blank = probe(host(without("driver-modules", "device-nodes", "kernel-log", "driver-marks", "imex-channels")))
    found = blank.facts.driver
    assert (found.modules_loaded, found.device_nodes, found.log, found.runfile) == (None, None, None, None)
    assert (found.imex_channels, found.packages_held, found.uptime_seconds) == (None, None, None)


@pytest.mark.parametrize("cut", ["driver-modules", "device-nodes", "kernels", "driver-files", "kernel-log"])
def test_what_did_not_arrive_whole_proves_nothing(cut: str) -> None:
    at = CAPTURE.index(f"@@ {cut} ".encode())
    found = probe(CAPTURE[: CAPTURE.index(b"\n", at) + 3]).facts.driver
    assert found.modules_loaded is None or cut != "driver-modules"
    assert found.device_nodes is None or cut != "device-nodes"
    assert found.kernels_without_module == ()
    assert found.log is None
