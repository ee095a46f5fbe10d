"""Rules about the driver's presence, its versions, how it came to be on disk, and why it is not loaded."""

import pytest

from gpuwizard.findings.model import Finding
from tests.captured import CAPTURE, edit, ids, only, without
from tests.driver_hosts import KERNEL, NEWER, bare, gpu, host, kernels, log, no_module, on_disk, unloaded

LIBRARY = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so."
PACKAGES = (
    "libnvidia-compute-580-server 580.95.05-0ubuntu0.24.04.1\nnvidia-utils-580-server 580.95.05-0ubuntu0.24.04.1\n"
)


def of_driver(raw: bytes) -> list[str]:
    return [rule for rule in ids(raw) if rule.startswith("GW-DRIVER")]


def alone(raw: bytes, rule: str) -> Finding:
    """The finding, which is the only one about the driver."""
    assert of_driver(raw) == [rule]
    return only(raw, rule)


def test_no_driver() -> None:
    finding = alone(bare(), "GW-DRIVER-001")
    assert finding.severity == "error"
    assert "0000:00:06.0, NVIDIA H200, bound to no driver" in finding.evidence
    assert f"no module nvidia for {KERNEL}" in finding.evidence
    assert "GW-DRIVER-001" not in ids(CAPTURE)


def test_which_branch_a_gpu_without_driver_needs() -> None:
    assert "branch 580" in only(gpu(bare(), "1db6", driver=None), "GW-DRIVER-001").cause
    assert "open modules" in only(gpu(bare(), "2901", driver=None), "GW-DRIVER-001").cause
    assert "branch" not in only(bare(), "GW-DRIVER-001").cause


def test_nobody_could_see_whether_one_is_installed() -> None:
    finding = alone(without("driver-files", "kernels", probe=bare()), "GW-DRIVER-001")
    assert finding.title == "the NVIDIA driver is not loaded"
    assert "could not be seen" in finding.cause


def test_machines_that_have_no_driver_of_their_own() -> None:
    wsl = host(
        bare(), uname="gpu-a 6.6.87.2-microsoft-standard-WSL2 x86_64", marks="/dev/dxg\n/usr/lib/wsl/lib/nvidia-smi\n"
    )
    assert of_driver(wsl) == []
    container = host(bare(), marks="/.dockerenv\n")
    assert of_driver(container) == []
    passed = host(bare(), pci="0000:00:06.0 0x2335 0x030200 0 driver=vfio-pci\n")
    assert of_driver(passed) == []


def test_module_for_another_kernel_only() -> None:
    raw = host(unloaded(), kernels=kernels(KERNEL, "6.8.0-80-generic"), **on_disk({"6.8.0-80-generic": "580.95.05"}))
    finding = alone(raw, "GW-DRIVER-002")
    assert finding.evidence == (
        f"running kernel: {KERNEL}: no module nvidia",
        "installed kernel 6.8.0-80-generic: module 580.95.05",
    )
    assert "GW-DRIVER-002" not in ids(host(unloaded(), **on_disk({KERNEL: "580.95.05"})))


def test_driver_and_library_differ() -> None:
    said = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.178"
    raw = host(nvml_files=f"{LIBRARY}580.178.04\n", smi_core=(said, 18))
    finding = alone(raw, "GW-DRIVER-003")
    assert finding.evidence[:2] == ("loaded module: 580.159.04", "library: 580.178.04")
    old = host(nvml_files=f"{LIBRARY}470.256.02\n", smi_core=(said.partition("\n")[0], 18))
    assert "library: 470.256.02" in alone(old, "GW-DRIVER-003").evidence  # old drivers omit the second line


def test_a_stale_library_beside_a_driver_that_works_is_no_mismatch() -> None:
    assert "GW-DRIVER-003" not in ids(host(nvml_files=f"{LIBRARY}535.309.01\n"))
    operator = host(
        without("smi-core", "smi-started"),
        nvml_files=f"{LIBRARY}535.309.01\n/run/nvidia/driver/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.159.04\n",
        driver_marks="/run/nvidia/driver/usr\n",
        driver_files=("", 1),
        modinfo="",
        smi_missing="",
    )
    assert of_driver(operator) == []


@pytest.mark.parametrize("driver", ["nouveau", "nova_core"])
def test_another_driver_holds_it(driver: str) -> None:
    raw = gpu(bare(), "2335", driver=driver)
    assert f"bound to {driver}" in alone(raw, "GW-DRIVER-004").evidence[0]


def test_nouveau_is_blacklisted_and_holds_it_all_the_same() -> None:
    files = "/etc/modprobe.d/blacklist-nouveau.conf:blacklist nouveau\n"
    finding = only(host(gpu(bare(), "2335", driver="nouveau"), driver_files=files), "GW-DRIVER-004")
    assert "/etc/modprobe.d/blacklist-nouveau.conf: blacklist nouveau" in finding.evidence
    assert "initramfs was made before" in finding.cause
    assert "GW-DRIVER-004" not in ids(CAPTURE)


def test_installed_and_not_loaded() -> None:
    finding = alone(unloaded(), "GW-DRIVER-005")
    assert f"module 580.159.04 is on disk for {KERNEL}" in finding.evidence
    assert "modprobe nvidia" in finding.remedy
    locked = host(unloaded(), secure_boot="SecureBoot enabled")
    assert "Secure Boot is on" in alone(locked, "GW-DRIVER-005").evidence
    assert "GW-DRIVER-005" not in ids(CAPTURE)


def test_the_next_kernel_has_no_module() -> None:
    raw = host(kernels=kernels(KERNEL, NEWER))
    assert alone(raw, "GW-DRIVER-007").severity == "warning"
    other = kernels(KERNEL, NEWER)
    assert of_driver(host(kernels=other, **on_disk({KERNEL: "580.159.04", NEWER: "580.159.04"}))) == []
    assert of_driver(host(kernels=kernels("6.8.0-80-generic", KERNEL))) == []  # an older kernel may lack it
    assert of_driver(host(kernels=kernels(KERNEL) + kernels(NEWER, image=False))) == []  # what cannot boot may too


def test_the_next_kernel_of_a_node_with_the_operators_driver() -> None:
    raw = host(
        kernels=kernels(KERNEL, NEWER), driver_files=("", 1), modinfo="", driver_marks="/run/nvidia/driver/usr\n"
    )
    assert of_driver(raw) == []


def test_an_upgrade_waits() -> None:
    raw = host(**on_disk({KERNEL: "580.178.04"}))
    finding = alone(raw, "GW-DRIVER-008")
    assert finding.evidence == ("loaded module: 580.159.04", "on disk: 580.178.04", "library: 580.159.04")
    assert finding.remedy.startswith("Finish the upgrade first")  # a reboot alone would make them differ
    assert "GW-DRIVER-008" not in ids(CAPTURE)


def test_the_operators_driver_is_not_loaded() -> None:
    raw = host(bare(), driver_marks="/run/nvidia/driver/usr\n")
    assert "driver-daemonset" in alone(raw, "GW-DRIVER-010").remedy
    assert "GW-DRIVER-010" not in ids(bare())


def test_the_module_without_its_library() -> None:
    raw = host(without("smi-core", "smi-started", "smi-more", "smi-seconds"), nvml_files="", smi_missing="")
    assert "loaded module: 580.159.04" in alone(raw, "GW-DRIVER-011").evidence
    assert of_driver(host(raw, os_release="ID=flatcar\n")) == []  # an image keeps them where it likes
    assert of_driver(host(raw, nvml_files=f"{LIBRARY}580.159.04\n")) == []


API = "NVRM: API mismatch: the client has the version 550.100, but this kernel module has the version 580.159.04."


def test_a_container_that_brings_its_own_library() -> None:
    finding = alone(host(kernel_log=log((400.0, API))), "GW-DRIVER-012")
    assert finding.severity == "info"
    assert finding.evidence == (f"kernel log, 10 min before the probe: {API}",)
    mismatch = host(nvml_files=f"{LIBRARY}580.178.04\n", smi_core=("Driver/library version mismatch", 18))
    assert "GW-DRIVER-012" not in ids(host(mismatch, kernel_log=log(API)))
    assert "GW-DRIVER-012" not in ids(host(kernel_log=log("NVRM: Xid (PCI:0000:99:00): 31, x")))


def test_parts_of_a_driver() -> None:
    finding = alone(host(no_module(), nvml_files=f"{LIBRARY}580.95.05\n"), "GW-DRIVER-013")
    assert "libnvidia-ml.so.580.95.05" in finding.evidence
    packages = host(bare(), packages=PACKAGES)
    assert "package nvidia-utils-580-server 580.95.05-0ubuntu0.24.04.1" in alone(packages, "GW-DRIVER-013").evidence
    assert "GW-DRIVER-013" not in ids(bare())
    assert alone(host(bare(), packages="nvidia-fabricmanager-580 580.95.05-1\n"), "GW-DRIVER-001")


FAILED = (
    "DKMS (dkms-3.2.2) make.log for nvidia/580.95.05 for kernel {} (x86_64)\n"
    "/var/lib/dkms/nvidia/580.95.05/build/nvidia/nv.c:120:9: error: implicit declaration of function 'x'\n"
    "make[2]: *** [/usr/src/linux/scripts/Makefile.build:243: nvidia/nv.o] Error 1\n"
)


@pytest.mark.parametrize("head", [FAILED, FAILED.replace("(dkms-3.2.2) ", "").replace("nvidia/580", "nvidia-580")])
def test_dkms_could_not_build(head: str) -> None:
    dkms = "nvidia 580.95.05 - - added\n"
    here = host(no_module(), nvml_files=f"{LIBRARY}580.95.05\n", dkms=dkms, dkms_log__x=head.format(KERNEL))
    finding = alone(here, "GW-DRIVER-014")
    assert finding.severity == "error"
    assert any("implicit declaration" in line for line in finding.evidence)
    later = host(kernels=kernels(KERNEL, NEWER), dkms=dkms, dkms_log__x=head.format(NEWER))
    assert only(later, "GW-DRIVER-014").severity == "warning"
    assert any(line.startswith("newest installed kernel") for line in alone(later, "GW-DRIVER-014").evidence)
    assert of_driver(host(dkms_log__x=head.format(KERNEL))) == []  # an old log: the module is there
    assert of_driver(host(kernels=kernels("6.5.0-1-generic", KERNEL), dkms_log__x=head.format("6.5.0-1-generic"))) == []


def test_dkms_built_it_only() -> None:
    dkms = f"nvidia 580.95.05 - - added\nnvidia 580.95.05 {KERNEL} x86_64 built\n"
    raw = host(no_module(), nvml_files=f"{LIBRARY}580.95.05\n", dkms=dkms)
    assert alone(raw, "GW-DRIVER-015").severity == "error"
    link = f"l 1 root root /var/lib/dkms/nvidia/kernel-{KERNEL}-x86_64 -> 580.95.05/{KERNEL}/x86_64\n"
    assert of_driver(host(dkms=dkms, dkms_links=link)) == []


def test_headers_of_the_running_kernel() -> None:
    dkms = "nvidia 580.95.05 - - added\n"
    raw = host(no_module(), nvml_files=f"{LIBRARY}580.95.05\n", dkms=dkms, kernels=kernels(KERNEL, headers=False))
    finding = alone(raw, "GW-DRIVER-016")
    assert finding.severity == "error"
    assert f"/lib/modules/{KERNEL}/build is missing" in finding.evidence
    works = alone(host(dkms=dkms, kernels=kernels(KERNEL, headers=False)), "GW-DRIVER-016")
    assert (works.severity, works.title) == ("info", "the next driver upgrade cannot be built for this kernel")
    assert of_driver(host(kernels=kernels(KERNEL, headers=False))) == []  # a precompiled module needs none
    assert of_driver(host(dkms=dkms)) == []


def test_headers_of_the_newest_kernel() -> None:
    dkms = "nvidia 580.95.05 - - added\n"
    raw = host(dkms=dkms, kernels=kernels(KERNEL) + kernels(NEWER, headers=False))
    assert any(line.startswith("running kernel") for line in alone(raw, "GW-DRIVER-017").evidence)
    assert only(raw, "GW-DRIVER-017").severity == "warning"
    built = host(raw, **on_disk({KERNEL: "580.159.04", NEWER: "580.159.04"}))
    assert "GW-DRIVER-017" not in of_driver(built)


def test_dkms_lost_its_source() -> None:
    assert alone(host(dkms="nvidia 570.86.15 - - broken\n"), "GW-DRIVER-018").severity == "warning"
    assert of_driver(host(dkms="nvidia 570.86.15 - - added\n")) == []


def test_an_empty_package() -> None:
    assert alone(host(bare(), packages="cuda-drivers 615.71.09-1\n"), "GW-DRIVER-019").severity == "error"
    assert alone(host(bare(), packages="cuda-drivers 580.95.05-1\n"), "GW-DRIVER-013")
    assert of_driver(host(packages="cuda-drivers 615.71.09-1\nnvidia-open 615.71.09-1\n")) == []


SIGNED = "sig_enforce:N\nlockdown:none [integrity] confidentiality\n"


def test_secure_boot_refuses_an_unsigned_module() -> None:
    raw = host(
        unloaded(),
        secure_boot="SecureBoot enabled",
        module_loading=SIGNED,
        **on_disk({KERNEL: "580.95.05"}, signer=None),
    )
    finding = alone(raw, "GW-DRIVER-020")
    assert f"/lib/modules/{KERNEL}/updates/dkms/nvidia.ko.zst: not signed" in finding.evidence
    free = host(raw, module_loading="sig_enforce:N\nlockdown:[none] integrity\n", secure_boot="bios")
    assert alone(free, "GW-DRIVER-005")


@pytest.mark.parametrize(
    "line",
    [
        "Loading of unsigned module is rejected",
        "Loading of module with unavailable key is rejected",
        "Lockdown: modprobe: unsigned module loading is restricted; see man kernel_lockdown.7",
    ],
)
def test_secure_boot_refuses_a_key(line: str) -> None:
    raw = host(unloaded(), secure_boot="SecureBoot enabled", kernel_log=log(line))
    finding = alone(raw, "GW-DRIVER-020")
    assert any("signed by gpu-a Secure Boot Module Signature key" in said for said in finding.evidence)
    assert any(line in said for said in finding.evidence)
    assert of_driver(host(secure_boot="SecureBoot enabled", kernel_log=log(line))) == []  # it is loaded: another module


def test_the_next_kernels_module_is_not_signed() -> None:
    here = on_disk({KERNEL: "580.159.04"})
    there = on_disk({NEWER: "580.159.04"}, signer=None)
    both = {name: here[name] + there[name] for name in here}
    raw = host(kernels=kernels(KERNEL, NEWER), module_loading=SIGNED, **both)
    assert alone(raw, "GW-DRIVER-021").severity == "warning"
    assert of_driver(edit("module-loading", "sig_enforce:N\nlockdown:[none] integrity\n", probe=raw)) == []
    signed = on_disk({KERNEL: "580.159.04", NEWER: "580.159.04"})
    assert of_driver(host(kernels=kernels(KERNEL, NEWER), module_loading=SIGNED, **signed)) == []


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ("/etc/modprobe.d/blacklist-nvidia.conf:blacklist nvidia\n", ""),
        ("/usr/lib/modprobe.d/x.conf:install nvidia /bin/false\n", ""),
        ("", "module_blacklist=nvidia,nvidia_drm\n"),
        ("", "modprobe.blacklist=nvidia\n"),
    ],
)
def test_the_module_is_blacklisted(files: str, words: str) -> None:
    disk = on_disk({KERNEL: "580.95.05"})
    raw = host(unloaded(), driver_files=disk["driver_files"] + files, modinfo=disk["modinfo"], module_loading=words)
    finding = alone(raw, "GW-DRIVER-022")
    assert any("nvidia" in line and ("blacklist" in line or "false" in line) for line in finding.evidence)
    assert of_driver(host(driver_files=disk["driver_files"] + files, module_loading=words, modinfo="")) == []


def test_lines_that_do_not_blacklist_nvidia() -> None:
    disk = on_disk({KERNEL: "580.95.05"})
    files = (
        "/etc/modprobe.d/nvidia.conf:install nvidia modprobe -i nvidia-current $CMDLINE_OPTS\n"
        "/etc/modprobe.d/b.conf:blacklist nouveau\n"
    )
    words = "modprobe.blacklist=nouveau\nrd.driver.blacklist=nouveau,nova_core\n"
    raw = host(unloaded(), driver_files=disk["driver_files"] + files, modinfo=disk["modinfo"], module_loading=words)
    assert alone(raw, "GW-DRIVER-005")


@pytest.mark.parametrize(
    "line",
    [
        "nvidia: version magic '6.8.0-80-generic SMP mod_unload ' should be '6.8.0-85-generic SMP mod_unload '",
        "nvidia: disagrees about version of symbol module_layout",
        "nvidia_drm: Unknown symbol drm_helper_x (err -2)",
    ],
)
def test_the_module_does_not_fit(line: str) -> None:
    assert alone(host(unloaded(), kernel_log=log(line)), "GW-DRIVER-023")
    assert of_driver(host(kernel_log=log(line))) == []  # it is loaded now


def test_nouveau_is_loaded_and_holds_nothing() -> None:
    raw = host(bare(), driver_modules="nouveau\n")
    assert only(raw, "GW-DRIVER-024").severity == "warning"
    beside = alone(host(driver_modules="nvidia\nnvidia_uvm\nnouveau\n"), "GW-DRIVER-024")
    assert beside.severity == "info"
    assert "GW-DRIVER-024" not in ids(gpu(host(bare(), driver_modules="nouveau\n"), "2335", driver="nouveau"))
    assert "GW-DRIVER-024" not in ids(CAPTURE)


def test_a_library_that_is_left_beside_the_operators_driver() -> None:
    said = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 535.309"
    raw = host(
        nvml_files=f"{LIBRARY}535.309.01\n/run/nvidia/driver{LIBRARY}580.159.04\n",
        driver_marks="/run/nvidia/driver/usr\n",
        packages="libnvidia-compute-535-server 535.309.01-0ubuntu1\n",
        smi_core=(said, 18),
        **on_disk({KERNEL: "535.309.01"}),
    )
    finding = alone(raw, "GW-DRIVER-003")
    assert finding.severity == "warning"
    assert "Pods do not" in finding.cause


def test_a_driver_that_works_is_loaded_whatever_sysfs_shows() -> None:
    raw = without("nvrm-version", "module-version", "pci-drivers")
    assert of_driver(raw) == []


def test_a_kernel_whose_list_of_modules_nobody_could_read() -> None:
    raw = host(kernels=kernels(KERNEL) + f"{NEWER} headers=1 image=1 listed=0\n")
    assert of_driver(raw) == []
