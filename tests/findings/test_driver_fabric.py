"""Rules about what joins GPUs, and about errors in the kernel log."""

import pytest

from tests.captured import CAPTURE, ids, only, without
from tests.driver_hosts import host, log, parse_smi, units, with_units
from tests.findings.test_driver import alone, of_driver

# fabric

SWITCHES = "".join(f"0000:{n:02x}:00.0 0x22a3 0x068000 0\n" for n in (0xC5, 0xC6))
H200 = "0000:00:06.0 0x2335 0x030200 0 driver=nvidia\n"
MANAGER = "nvidia-fabricmanager.service"


def hgx(state: str = "active", version: str = "580.159.04", load: str = "loaded", **sections: str) -> bytes:
    raw = with_units(units(MANAGER, state, load, result="exit-code" if state == "failed" else "success"))
    return host(raw, pci=H200 + SWITCHES, fabric_manager_version=f"Fabric Manager version is : {version}\n", **sections)


def test_fabric_manager_is_stopped() -> None:
    for state in ("inactive", "failed"):
        finding = only(hgx(state), "GW-DRIVER-056")
        assert finding.severity == "error"
        assert finding.evidence[0] == "2 NVSwitches on the bus"
    told = only(
        hgx("failed", fabric_manager_log="[Nov 20 2026 11:00:00] [ERROR] failed to open NVSwitch\n"), "GW-DRIVER-056"
    )
    assert any("failed to open NVSwitch" in line for line in told.evidence)
    assert of_driver(hgx()) == []
    assert "GW-DRIVER-056" not in ids(with_units(units(MANAGER, "inactive")))  # no switches: it has nothing to do


def test_who_else_sets_up_the_fabric() -> None:
    bus = host(pci=H200 + SWITCHES)
    assert "GW-HOST-008" in ids(bus)
    container = host(bus, driver_marks="/run/nvidia/driver/usr\n", driver_files=("", 1), modinfo="")
    assert "GW-HOST-008" not in ids(container)  # the operator's driver container
    assert "GW-HOST-008" not in ids(host(bus, unseen="services|there is no systemctl\n"))
    joined = parse_smi(CAPTURE).replace("None, N/A, N/A, None", "None, Completed, Success, None")
    assert "GW-HOST-008" not in ids(host(bus, smi_core=joined))
    operators = host(hgx("inactive"), driver_marks="/run/nvidia/driver/usr\n", driver_files=("", 1), modinfo="")
    assert of_driver(operators) == []


def test_fabric_manager_of_another_version() -> None:
    finding = alone(hgx("failed", "570.211.01"), "GW-DRIVER-057")
    assert finding.severity == "error"
    assert finding.evidence[:2] == ("fabric manager: 570.211.01", "loaded module: 580.159.04")
    assert alone(hgx("active", "570.211.01"), "GW-DRIVER-057").severity == "warning"
    by_package = without("fabric-manager-version", probe=hgx("failed"))
    packages = "nvidia-fabricmanager-580 580.95.05-0ubuntu0.24.04.1\n"
    assert "fabric manager: 580.95.05" in only(host(by_package, packages=packages), "GW-DRIVER-057").evidence


B200 = "0000:00:06.0 0x2901 0x030200 0 driver=nvidia\n"
VPD = "/sys/class/infiniband/mlx5_4/device/vpd\n"


def b200(state: str = "active", load: str = "loaded", **sections: str | tuple[str, int]) -> bytes:
    raw = without("pci-drivers", probe=with_units(units(MANAGER, state, load)))
    modules = "nvidia\nnvidia_uvm\nmlx5_core\nib_umad\n"
    given: dict[str, str | tuple[str, int]] = {"pci": B200, "nvlink5": VPD, "driver_modules": modules}
    smi = parse_smi(CAPTURE).replace("0x2335", "0x2901").replace("H200", "B200")
    return host(raw, **(given | {"smi_core": smi} | sections))


def test_nvlink5_without_fabric_manager() -> None:
    assert alone(b200("inactive", "not-found"), "GW-DRIVER-058").severity == "error"
    assert alone(b200("failed"), "GW-DRIVER-056").evidence[0] == "NVLink 5 switches (SW_MNG)"
    assert of_driver(b200()) == []
    assert of_driver(b200("inactive", "not-found", nvlink5=("", 1))) == []  # a B200 that was passed to a guest


def test_nvlink5_without_its_modules() -> None:
    raw = b200(driver_modules="nvidia\nnvidia_uvm\nmlx5_core\n")
    assert "module ib_umad is not loaded" in alone(raw, "GW-DRIVER-059").evidence
    assert of_driver(b200(driver_modules="nvidia\nnvidia_uvm\n", nvlink5=("", 1))) == []


def tray(state: str = "inactive", **sections: str) -> bytes:
    smi = parse_smi(CAPTURE).replace("0x2335", "0x2941").replace("H200", "GB200")
    raw = without(
        "pci-drivers", probe=with_units(units(MANAGER, state, result="exit-code"), *sections.pop("u", "").split("§"))
    )
    given = {"pci": B200.replace("2901", "2941"), "smi_core": smi}
    return host(raw, **(given | sections))


def test_a_tray_needs_no_fabric_manager() -> None:
    assert alone(tray("failed"), "GW-DRIVER-060").severity == "info"
    assert of_driver(tray()) == []
    assert "GW-DRIVER-060" not in ids(with_units(units(MANAGER, "failed")))  # an H200 is in no such rack


def in_progress(raw: bytes) -> bytes:
    return host(raw, smi_core=parse_smi(raw).replace("None, N/A, N/A, None", "None, In Progress, N/A, None"))


def test_the_fabric_is_not_ready() -> None:
    finding = alone(in_progress(hgx(kernel_log=log(uptime=90000.0))), "GW-DRIVER-061")
    assert finding.severity == "error"
    assert "fabric.state = In Progress" in finding.evidence[0]
    young = alone(in_progress(hgx(kernel_log=log(uptime=200.0))), "GW-DRIVER-061")
    assert young.severity == "warning"
    assert of_driver(in_progress(hgx("failed"))) == ["GW-DRIVER-056"]  # that explains it
    assert "trays of their own" in alone(in_progress(tray()), "GW-DRIVER-061").remedy
    assert of_driver(CAPTURE) == []


IMEX = "nvidia-imex.service"


def test_imex_of_the_host_and_of_kubernetes() -> None:
    marks = "/var/lib/kubelet/plugins/compute-domain.nvidia.com\n"
    raw = host(with_units(units(IMEX, "active")), driver_marks=marks)
    assert alone(raw, "GW-DRIVER-062").severity == "warning"
    assert of_driver(host(with_units(units(IMEX, "inactive")), driver_marks=marks)) == []
    assert of_driver(with_units(units(IMEX, "active"))) == []


def test_imex_failed() -> None:
    assert alone(tray(u=units(IMEX, "failed")), "GW-DRIVER-063").severity == "warning"
    assert of_driver(tray(u=units(IMEX, "active"))) == []
    assert of_driver(with_units(units(IMEX, "failed"))) == []  # of no use outside such a rack


# kernel log


@pytest.mark.parametrize(
    ("rule", "number", "rest"),
    [
        ("GW-DRIVER-064", 48, "pid=1234, name=python, DBE (Double Bit Error) ECC Error"),
        ("GW-DRIVER-064", 63, "Row Remapper: New row (0x0000000000aa) marked for remapping, reset gpu to activate."),
        ("GW-DRIVER-064", 64, "Row Remapper: Failed to remap"),
        ("GW-DRIVER-064", 94, "pid=77, name=python3, Contained: SM (0x1). RST: No, D-RST: No"),
        ("GW-DRIVER-064", 95, "Uncontained: FBHUB. RST: Yes"),
        ("GW-DRIVER-065", 74, "pid='<unknown>', name=<unknown>, NVLink: fatal error detected on link 4"),
        (
            "GW-DRIVER-066",
            119,
            "pid=1712, name=nvidia-smi, Timeout after 6s of waiting for RPC response from GPU0 GSP!",
        ),
        ("GW-DRIVER-066", 120, "GSP task exception: load access fault"),
        ("GW-DRIVER-067", 79, "pid='<unknown>', name=<unknown>, GPU has fallen off the bus."),
    ],
)
def test_errors_since_boot(rule: str, number: int, rest: str) -> None:
    line = f"NVRM: Xid (PCI:0000:00:06): {number}, {rest}"
    finding = alone(host(kernel_log=log((1000.0, line), uptime=1000.0 + 3 * 86400)), rule)
    assert finding.severity == "warning"
    assert finding.evidence[0] == "GPU 0 at 0000:00:06.0 (NVIDIA H200)"
    assert finding.evidence[1].startswith(
        f"kernel log, 3 days before the probe: NVRM: Xid (PCI:0000:00:06): {number}, "
    )
    assert of_driver(host(kernel_log=log("NVRM: Xid (PCI:0000:00:06): 31, pid=1, name=python, MMU Fault"))) == []
    assert rule not in ids(without("kernel-log"))


def test_errors_that_repeat_and_a_log_without_times() -> None:
    lines = f"90000\n7 - NVRM: Xid (PCI:00000000:00:06): 48, x\n2 5.0 NVRM: Xid (PCI:0000:00:06): 63, y\n"  # noqa: F541
    finding = only(host(kernel_log=lines), "GW-DRIVER-064")
    assert "kernel log: NVRM: Xid (PCI:00000000:00:06): 48, x (7 times)" in finding.evidence
    assert finding.evidence[-1].startswith("kernel log, 25 h before the probe: ")


def test_a_gpu_that_is_gone_has_not_come_back() -> None:
    line = "NVRM: Xid (PCI:0000:00:06): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
    raw = host(smi_core=("Unable to determine the device handle for GPU0: 0000:00:06.0: Unknown Error", 255))
    raw = host(raw, kernel_log=log(line))
    assert "GW-GPU-004" in ids(raw)
    assert "GW-DRIVER-067" not in ids(raw)


def test_errors_of_switches() -> None:
    fatal = "nvidia-nvswitch0: SXid (PCI:0000:c5:00.0): 20034, Fatal, Link 32 LTSSM Fault Up"
    mild = "nvidia-nvswitch0: SXid (PCI:0000:c5:00.0): 12028, Non-fatal, Link 61 egress non-posted PRIV error"
    assert alone(hgx(kernel_log=log(fatal)), "GW-DRIVER-068").severity == "warning"
    assert of_driver(hgx(kernel_log=log(mild))) == []
