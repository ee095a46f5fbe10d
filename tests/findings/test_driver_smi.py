"""Rules about nvidia-smi's failures, and about a loaded driver that could not start a GPU."""

import pytest

from tests.captured import CAPTURE, ids, only
from tests.driver_hosts import NOT_FOUND, bare, gpu, host, loaded, log, unloaded
from tests.findings.test_driver import alone, of_driver

NO_LIBRARY = (
    "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure that the NVIDIA Display Driver "
    "is properly installed and present in your system.\n"
    "Please also try adding directory that contains libnvidia-ml.so to your system PATH.\n"
)
INIT = "Failed to initialize NVML: "
OTHER = (
    "Mismatch in versions between nvidia-smi and NVML.\n"
    "Are you sure you are using nvidia-smi provided with the driver?\n"
)
FAILURES = [
    ("GW-DRIVER-031", 12, NO_LIBRARY),
    ("GW-DRIVER-032", 9, NOT_FOUND),
    ("GW-DRIVER-034", 4, f"{INIT}Insufficient Permissions"),
    ("GW-DRIVER-035", 255, OTHER),
    ("GW-DRIVER-036", 13, f"{INIT}Function Not Found"),
    ("GW-DRIVER-037", 255, f"{INIT}Timeout"),
    ("GW-DRIVER-038", 11, f"{INIT}Interrupt Request Issue"),
    ("GW-DRIVER-038", 10, ""),
    ("GW-DRIVER-039", 15, f"{INIT}GPU is lost"),
    ("GW-DRIVER-040", 255, f"{INIT}GPU requires reset"),
    ("GW-DRIVER-041", 17, f"{INIT}GPU access blocked by the operating system"),
    ("GW-DRIVER-042", 255, f"{INIT}No supported GPUs were found\n{OTHER}"),
    ("GW-DRIVER-043", 255, f"{INIT}Unknown Error"),
    ("GW-DRIVER-044", 124, ""),
    ("GW-DRIVER-028", 8, f"{INIT}Insufficient External Power"),
    ("GW-DRIVER-025", 6, "No devices were found"),
    ("GW-DRIVER-006", 255, "something that nobody has seen yet"),
    ("GW-DRIVER-006", 2, 'Field "index" is not a valid field to query.'),
    ("GW-DRIVER-006", 127, "sh: 1: nvidia-smi: not found"),
]


@pytest.mark.parametrize(("rule", "status", "said"), FAILURES)
def test_each_failure_has_a_cause_of_its_own(rule: str, status: int, said: str) -> None:
    finding = alone(host(smi_core=(said, status)), rule)
    assert finding.severity == "error"
    assert finding.evidence[0].startswith("nvidia-smi: ")


@pytest.mark.parametrize(("rule", "status", "said"), FAILURES)
def test_none_of_them_speaks_when_all_works_or_nothing_is_loaded(rule: str, status: int, said: str) -> None:
    assert rule not in ids(CAPTURE)
    assert rule not in ids(host(bare(), smi_core=(said, status)))


def test_the_same_in_a_container() -> None:
    raw = host(smi_core=(f"{INIT}Unknown Error", 255), marks="/.dockerenv\n")
    assert only(raw, "GW-DRIVER-043")


def test_a_host_without_gpu_whose_nvidia_smi_fails() -> None:
    raw = host(unloaded(), pci="")
    assert of_driver(raw) == []


@pytest.mark.parametrize("said", [NOT_FOUND, f"{INIT}Unknown Error", "No devices were found"])
def test_device_nodes_are_missing(said: str) -> None:
    status = {NOT_FOUND: 9, "No devices were found": 6}.get(said, 255)
    finding = only(host(smi_core=(said, status), device_nodes="nvidia-uvm\n"), "GW-DRIVER-033")
    assert "/dev/nvidiactl is missing" in finding.evidence
    assert "0 nodes /dev/nvidiaN for 1 GPUs" in finding.evidence
    assert "GW-DRIVER-033" not in ids(host(smi_core=(said, status)))
    assert "GW-DRIVER-033" not in ids(host(device_nodes=""))  # nvidia-smi works: it has made them by now


def test_a_user_without_rights() -> None:
    raw = host(smi_core=(f"{INIT}Insufficient Permissions", 4)).replace(b"@@ privilege 1 ", b"@@ privilege 0 ")
    finding = only(raw, "GW-HOST-002")  # whether root may use it is not known
    assert any("Insufficient Permissions" in line for line in finding.evidence)
    assert "GW-DRIVER-034" not in ids(raw)


def test_what_rules_about_gpus_tell() -> None:
    lost = "Unable to determine the device handle for GPU0: 0000:00:06.0: Unknown Error"
    raw = host(smi_core=(lost, 255))
    assert "GW-GPU-004" in ids(raw)
    assert of_driver(raw) == []
    corrupted = host(smi_core=("WARNING: infoROM is corrupted at gpu 0000:00:06.0", 14))
    assert of_driver(corrupted) == []


FAILED = "NVRM: GPU 0000:00:06.0: RmInitAdapter failed! (0x62:0xffff:2501)"
NOTHING = ("No devices were found", 6)


@pytest.mark.parametrize("line", [FAILED, "NVRM: rm_init_adapter failed, device minor number 0"])
def test_a_gpu_that_does_not_start(line: str) -> None:
    finding = alone(host(smi_core=NOTHING, kernel_log=log((940.0, line))), "GW-DRIVER-025")
    assert f"kernel log, 60 s before the probe: {line}" in finding.evidence
    assert of_driver(host(kernel_log=log(line))) == []  # it works by now
    elsewhere = host(kernel_log=log(FAILED.replace("00:06.0", "99:00.0")))
    assert of_driver(elsewhere) == []


def test_one_of_two_gpus_does_not_start() -> None:
    two = "0000:00:06.0 0x2335 0x030200 0 driver=nvidia\n0000:00:07.0 0x2335 0x030200 0 driver=nvidia\n"
    line = FAILED.replace("00:06.0", "00:07.0")
    finding = alone(host(pci=two, kernel_log=log(line)), "GW-DRIVER-025")
    assert any("0000:00:07.0" in said for said in finding.evidence)
    assert not any("0000:00:06.0" in said for said in finding.evidence)


def test_no_memory_window() -> None:
    lines = (
        "NVRM: This PCI I/O region assigned to your NVIDIA device is invalid:",
        "NVRM: BAR1 is 0M @ 0x0 (PCI:0000:00:06.0)",
    )
    finding = alone(host(smi_core=NOTHING, kernel_log=log(*lines, FAILED)), "GW-DRIVER-026")
    assert "Above 4G" in finding.remedy
    assert of_driver(host(kernel_log=log(*lines))) == []


@pytest.mark.parametrize(
    "line",
    [
        "nvidia 0000:00:06.0: Direct firmware load for nvidia/580.159.04/gsp_ga10x.bin failed with error -2",
        "NVRM: RmFetchGspRmImages: No firmware image found",
    ],
)
def test_firmware_is_missing(line: str) -> None:
    finding = alone(host(smi_core=NOTHING, kernel_log=log(line, FAILED)), "GW-DRIVER-027")
    assert "loaded module: 580.159.04" in finding.evidence
    assert of_driver(host(kernel_log=log(line))) == []


def test_power_cables() -> None:
    line = "NVRM: GPU 0000:00:06.0: GPU does not have the necessary power cables connected."
    assert alone(host(smi_core=NOTHING, kernel_log=log(line, FAILED)), "GW-DRIVER-028")
    assert of_driver(host(kernel_log=log(line))) == []


GSP = (
    "NVRM: installed in this system is not supported by open nvidia.ko because it does not include the required GPU "
    "System Processor (GSP)."
)


@pytest.mark.parametrize(("device", "what"), [("1db6", "volta"), ("1b38", "pascal"), ("17fd", "maxwell")])
def test_the_open_module_and_an_old_gpu(device: str, what: str) -> None:
    raw = gpu(host(loaded("580.95.05"), smi_core=NOTHING), device)
    finding = alone(raw, "GW-DRIVER-029")
    assert any(what in line for line in finding.evidence)
    assert any(GSP in line for line in alone(host(raw, kernel_log=log(GSP)), "GW-DRIVER-029").evidence)
    assert "GW-DRIVER-029" not in ids(gpu(host(loaded("580.95.05", "proprietary"), smi_core=NOTHING), device))
    assert "GW-DRIVER-029" not in ids(gpu(host(loaded("580.95.05"), smi_core=NOTHING), "1eb8"))  # a T4 has a GSP


def test_the_open_module_refused_to_stay_for_an_old_gpu() -> None:
    """Without any GPU that it knows the module does not stay loaded."""
    raw = gpu(host(unloaded(), kernel_log=log(GSP)), "1db6", driver=None)
    assert alone(raw, "GW-DRIVER-029").evidence[1] == "open kernel module 580.159.04"


@pytest.mark.parametrize(
    ("device", "version"),
    [("2901", "570.211.01"), ("2b85", "580.95.05"), ("2342", "550.163.01"), ("2941", "595.91.07")],
)
def test_the_proprietary_module_and_a_new_gpu(device: str, version: str) -> None:
    raw = gpu(host(loaded(version, "proprietary"), smi_core=NOTHING), device)
    found = [rule for rule in of_driver(raw) if rule not in ("GW-DRIVER-045", "GW-DRIVER-047")]
    assert found == ["GW-DRIVER-030"]
    assert f"proprietary kernel module {version}" in only(raw, "GW-DRIVER-030").evidence
    assert "GW-DRIVER-030" not in ids(gpu(host(loaded(version), smi_core=NOTHING), device))
    assert "GW-DRIVER-030" not in ids(gpu(host(loaded(version, "proprietary"), smi_core=NOTHING), "2330"))


def test_a_gpu_that_works_is_of_the_right_flavour() -> None:
    assert "GW-DRIVER-029" not in ids(loaded("580.95.05"))
    row = "0, GPU-a, NVIDIA B200, 00000000:00:06.0, 0x290110DE, 580.95.05, 183359, Disabled, Enabled"
    raw = host(gpu(loaded("580.95.05", "proprietary"), "2901"), smi_core=row)
    assert "GW-DRIVER-030" not in ids(raw)
