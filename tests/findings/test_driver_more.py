"""Rules about the driver's branch, its companions, its packages and the kernel log, and machines that are well."""

from datetime import date

import pytest

from gpuwizard.findings import find
from gpuwizard.findings.driver import branch
from gpuwizard.findings.driver.branches import BRANCHES, branch_of, ended, older
from tests.captured import ids, only, without
from tests.driver_hosts import KERNEL, NVRM, bare, gpu, host, loaded, on_disk, parse_smi, probe, units, with_units
from tests.findings.test_driver import alone, of_driver
from tests.findings.test_driver_fabric import b200, hgx, tray


@pytest.fixture(autouse=True)
def _november(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branch, "_today", lambda: date(2026, 11, 20))


# branches


@pytest.mark.parametrize(
    ("version", "rules"),
    [
        ("470.256.02", ["GW-DRIVER-045", "GW-DRIVER-047"]),
        ("510.108.03", ["GW-DRIVER-045", "GW-DRIVER-047"]),
        ("535.309.01", ["GW-DRIVER-045", "GW-DRIVER-047"]),
        ("550.163.01", ["GW-DRIVER-045", "GW-DRIVER-047"]),
        ("560.35.05", ["GW-DRIVER-045", "GW-DRIVER-047"]),
        ("570.211.01", ["GW-DRIVER-045", "GW-DRIVER-047"]),
        ("575.57.08", ["GW-DRIVER-045", "GW-DRIVER-047"]),
        ("580.65.06", []),
        ("580.178.04", []),
        ("590.48.01", ["GW-DRIVER-046"]),
        ("595.91.07", []),
        ("610.57.04", ["GW-DRIVER-046"]),
        ("615.71.09", []),
        ("620.10.01", []),
    ],
)
def test_what_is_said_of_a_branch(version: str, rules: list[str]) -> None:
    assert of_driver(loaded(version)) == rules
    assert all(only(loaded(version), rule).severity == "info" for rule in rules)


def test_a_branch_ends_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branch, "_today", lambda: date(2027, 1, 1))
    assert of_driver(loaded("590.48.01")) == ["GW-DRIVER-045"]
    assert "(new feature), support ended 2026-12" in only(loaded("590.48.01"), "GW-DRIVER-045").evidence[0]
    assert ended(580, date(2028, 7, 1)) is None  # one source says June, the other August
    assert ended(580, date(2028, 9, 1)) is BRANCHES[580]
    assert ended(615, date(2030, 1, 1)) is None  # nothing is known of it


@pytest.mark.parametrize(
    ("text", "number"), [("580.95.05", 580), ("34.1.1", None), ("5801.1", None), ("x", None), (None, None)]
)
def test_branch_of(text: str | None, number: int | None) -> None:
    assert branch_of(text) == number
    assert older(text, "580.65.06") is False


def test_which_cuda_a_driver_runs() -> None:
    assert only(loaded("470.256.02"), "GW-DRIVER-047").evidence == (
        "driver 470.256.02: CUDA 13 needs at least 580.65.06",
        "driver 470.256.02: CUDA 12 needs at least 525.60.13",
    )
    assert len(only(loaded("535.309.01"), "GW-DRIVER-047").evidence) == 1
    old = gpu(loaded("535.309.01", "proprietary"), "1db6")
    assert "GW-DRIVER-047" not in ids(old)  # a V100 runs no CUDA 13 whatever the driver
    older_still = gpu(loaded("470.256.02", "proprietary"), "1db6")
    assert "branch 580" in only(older_still, "GW-DRIVER-047").remedy


def test_the_first_driver_for_a_gpu() -> None:
    raw = gpu(loaded("570.86.15"), "2901")
    finding = only(host(raw, smi_core=("No devices were found", 6)), "GW-DRIVER-048")
    assert finding.severity == "error"  # it is why the GPU does not start
    assert "GW-DRIVER-025" not in ids(host(raw, smi_core=("No devices were found", 6)))
    assert "HGX B200 needs at least 570.133.20, the driver is 570.86.15" in finding.evidence[0]
    seen = host(raw, smi_core=parse_smi(raw).replace("0x2335", "0x2901").replace("H200", "B200"))
    assert only(seen, "GW-DRIVER-048").severity == "info"
    assert "GW-DRIVER-048" not in ids(gpu(loaded("570.133.20"), "2901"))
    assert "GW-DRIVER-048" in ids(gpu(loaded("575.51.03"), "2e12"))
    assert "GW-DRIVER-048" not in ids(gpu(loaded("580.65.06"), "2e12"))


# persistence, nodes


def rows(count: int, persistence: str) -> dict[str, str]:
    cells = [
        f"{n}, GPU-{n}, NVIDIA H200, 00000000:{n + 4:02X}:00.0, 0x233510DE, 580.159.04, 143771, Disabled, {persistence}"
        for n in range(count)
    ]
    bus = "".join(f"0000:{n + 4:02x}:00.0 0x2335 0x030200 0 driver=nvidia\n" for n in range(count))
    return {"smi_core": "\n".join(cells), "pci": bus}


def test_slow_without_persistence() -> None:
    raw = host(smi_seconds="30", **rows(8, "Disabled"))
    assert "30 s" in alone(raw, "GW-DRIVER-009").evidence[0]
    assert of_driver(host(smi_seconds="30", **rows(8, "Enabled"))) == []


def test_several_gpus_without_persistence() -> None:
    assert alone(host(**rows(2, "Disabled")), "GW-DRIVER-049").severity == "info"
    assert of_driver(host(**rows(1, "Disabled"))) == []
    assert of_driver(host(**rows(2, "Enabled"))) == []


def test_the_persistence_daemon() -> None:
    name = "nvidia-persistenced.service"
    assert alone(with_units(units(name, "failed", result="exit-code")), "GW-DRIVER-050").severity == "warning"
    assert of_driver(with_units(units(name, "active"))) == []
    assert of_driver(with_units(units(name, "inactive", "not-found"))) == []


def test_unified_memory_is_not_loaded() -> None:
    raw = host(driver_modules="nvidia\nnvidia_modeset\n", device_nodes="nvidia0\nnvidiactl\n")
    assert alone(raw, "GW-DRIVER-051").severity == "warning"
    assert of_driver(host(raw, driver_modules="nvidia_current\nnvidia_current_uvm\n")) == []
    assert of_driver(host(raw, driver_modules="nvidia\nnvidia_vgpu_vfio\n")) == []  # a host of virtual GPUs
    assert of_driver(host(raw, driver_modules="ext4\n")) == []  # sysfs does not show the driver at all
    assert of_driver(host(raw, smi_core="No devices were found").replace(b"nvidia_modeset", b"nvidia_uvm____")) != []


# packages

UBUNTU = (
    "nvidia-utils-580-server 580.159.04-0ubuntu0.24.04.1\nlibnvidia-compute-580-server 580.159.04-0ubuntu0.24.04.1\n"
)


def test_mixed_sources() -> None:
    raw = host(packages=UBUNTU, driver_marks="/usr/bin/nvidia-uninstall\n")
    assert alone(raw, "GW-DRIVER-052").severity == "warning"
    assert of_driver(host(driver_marks="/usr/bin/nvidia-uninstall\n", packages="bash 5\n")) == []
    assert of_driver(host(packages=UBUNTU)) == []
    manager = "nvidia-fabricmanager-580 580.159.04-1\n"
    assert of_driver(host(packages=manager, driver_marks="/usr/bin/nvidia-uninstall\n")) == []


def test_several_libraries() -> None:
    folder = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so."
    raw = host(nvml_files=f"{folder}580.159.04\n{folder}535.309.01\n")
    assert "in use: 580.159.04" in alone(raw, "GW-DRIVER-053").evidence
    operator = f"{folder}580.159.04\n/run/nvidia/driver{folder}595.91.07\n"
    assert of_driver(host(nvml_files=operator)) == []


def test_half_installed_packages() -> None:
    raw = host(packages=UBUNTU, packages_broken="nvidia-dkms-580-server 580.159.04-0ubuntu1 half-configured\n")
    assert alone(raw, "GW-DRIVER-054").evidence[0] == "package nvidia-dkms-580-server half-configured"
    assert "GW-HOST-027" not in ids(raw)
    assert of_driver(host(packages=UBUNTU, packages_broken="podman 4.9 half-configured\n")) == []


def test_upgrades_by_night() -> None:
    disk = on_disk({KERNEL: "580.159.04"})["driver_files"]
    switch = '/etc/apt/apt.conf.d/20auto-upgrades:APT::Periodic::Unattended-Upgrade "1";\n'
    raw = host(
        packages=UBUNTU, packages_held="", driver_files=disk + switch, driver_marks="/usr/bin/unattended-upgrade\n"
    )
    assert alone(raw, "GW-DRIVER-055").severity == "warning"
    assert of_driver(host(raw, packages_held=UBUNTU)) == []
    assert of_driver(host(raw, driver_files=disk + switch + '/etc/apt/apt.conf.d/51:  "nvidia-";\n')) == []
    assert of_driver(host(raw, driver_files=disk + switch.replace('"1"', '"0"'))) == []
    assert of_driver(host(raw, packages=UBUNTU.replace("-0ubuntu0.24.04.1", "-1"))) == []  # NVIDIA's own repository


# machines that are well


def machine(device: str, name: str, version: str, flavour: str = "open", pci_class: str = "0x030200") -> bytes:
    raw = gpu(loaded(version, flavour), device, pci_class=pci_class)
    smi = parse_smi(raw).replace("0x2335", f"0x{device.upper()}").replace("NVIDIA H200", name)
    return host(raw, smi_core=smi)


WELL = {
    "HGX B200": b200(),
    "HGX H100": hgx(),
    "GB200 tray": tray(),
    "GB10": host(
        machine("2e12", "NVIDIA GB10", "580.95.05", pci_class="0x030000"),
        uname=f"spark {KERNEL} aarch64",
        dgx_release='DGX_NAME="DGX Spark"\nDGX_SWBUILD_VERSION="7.2.3"\nDGX_OTA_VERSION="7.5.0"\n',
    ),
    "L40S, proprietary": machine("26b9", "NVIDIA L40S", "580.95.05", "proprietary"),
    "V100": machine("1db6", "Tesla V100-SXM2-32GB", "580.178.04", "proprietary"),
    "K80": machine("102d", "Tesla K80", "470.256.02", "proprietary"),
    "guest with a virtual GPU": machine("20b5", "NVIDIA A100-40C", "570.158.01", "proprietary"),
    "Jetson": host(
        bare(),
        uname=f"orin {KERNEL} aarch64",
        tegra_release="# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic, EABI: aarch64, DATE: Tue Jan 7 2025",
        pci="",
        nvrm_version="NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (a)",
        smi_core="0, 54d0709b-1111-2222-3333-444444444444, Orin (nvgpu), [N/A], [N/A], 540.4.0, [N/A], [N/A], [N/A]",
        driver_modules="nvgpu\nnvidia\n",
    ),
    "WSL2": host(
        bare(),
        uname="pc 6.6.87.2-microsoft-standard-WSL2 x86_64",
        marks="/dev/dxg\n/usr/lib/wsl/lib/nvidia-smi\n/run/systemd/system\n",
        pci="",
        kernels="",
        smi_core="0, GPU-a, NVIDIA GeForce RTX 4090, 00000000:01:00.0, 0x268410DE, 581.57, 24564, [N/A], Enabled",
    ),
    "operator's driver": host(
        without("smi-core", "smi-started", "smi-more", "smi-seconds"),
        nvml_files="/run/nvidia/driver/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.159.04\n",
        driver_marks="/run/nvidia/driver/usr\n",
        driver_files=("", 1),
        modinfo="",
        smi_missing="",
        kernels=f"{KERNEL} headers=0 image=1\n6.8.0-90-generic headers=0 image=1\n",
    ),
    "nothing was asked": without("driver-modules", "driver-files", "modinfo", "kernel-log", "device-nodes", "kernels"),
}


@pytest.mark.parametrize("name", WELL)
def test_machines_that_are_well(name: str) -> None:
    found = [f for f in find(probe(WELL[name])) if f.id.startswith("GW-DRIVER") and f.severity in ("error", "warning")]
    assert found == []


@pytest.mark.parametrize(
    "version", ["470.256.02", "535.309.01", "570.211.01", "580.142", "590.48.01", "610.57.04", "615.71.09"]
)
@pytest.mark.parametrize("flavour", NVRM)
def test_a_driver_of_any_branch_is_well(version: str, flavour: str) -> None:
    found = [f for f in find(probe(loaded(version, flavour))) if f.id.startswith("GW-DRIVER") and f.severity != "info"]
    assert found == []
