"""nvidia-smi, driver versions and the join of what PCI and driver see (`hosts.md §2.5, §3, §4`)."""

from pathlib import Path

import pytest

from gpuwizard.facts.driver.versions import driver_facts, library_version, module_version, newest_kernel, nvrm_version
from gpuwizard.facts.gpu.join import join_gpus, parse_information
from gpuwizard.facts.gpu.nvidia_smi import (
    CORE,
    MORE,
    SmiTable,
    cell,
    explain_status,
    fault,
    mebibytes,
    parse_csv,
    parse_mig_devices,
    smi_problem,
)
from gpuwizard.facts.gpu.pci import PciFunction
from gpuwizard.facts.model import DriverFacts

DATA = Path(__file__).parent.parent / "data" / "facts"


@pytest.mark.parametrize(
    "spelling",
    [
        "[N/A]",
        "N/A",
        "[Not Supported]",
        "Not Supported",
        "[Requested functionality has been deprecated]",
        "[Insufficient Permissions]",
        "[Unknown Error]",
        "[GPU is lost]",
        "[GPU requires reset]",
        "[Not Found]",
        "[Function Not Found]",
        "ERR!",
        "",
        'Deprecated, see "KMD version" instead',
    ],
)
def test_every_spelling_of_not_available(spelling: str) -> None:
    assert cell(spelling) is None
    assert mebibytes(spelling) is None


def test_faults_are_told_from_missing_features() -> None:
    assert fault("[GPU is lost]") == "GPU is lost"
    assert fault("ERR!") == "ERR!"
    assert fault("[N/A]") is None
    assert fault("Enabled") is None
    assert cell("None") == "None"  # a value of addressing_mode and of gpu_recovery_action


@pytest.mark.parametrize(("text", "size"), [("143771", 143771), ("81559 MiB", 81559), ("8128.0", 8128), ("x", None)])
def test_memory(text: str, size: int | None) -> None:
    assert mebibytes(text) == (None if size is None else size * 1024 * 1024)


def test_rows_warnings_and_lost_gpus() -> None:
    table = parse_csv(
        "index, uuid, name, pci.bus_id\n"
        "0, GPU-a, NVIDIA A100-SXM4-80GB, 00000000:07:00.0\n"
        "Unable to determine the device handle for GPU3: 0000:5F:00.0: Unknown Error\n"
        "WARNING: infoROM is corrupted at gpu 0000:0B:00.0\n",
        ("index", "uuid", "name", "pci.bus_id"),
    )
    assert [row["uuid"] for row in table.rows] == ["GPU-a"]
    assert len(table.notes) == 2
    assert "GPU3: 0000:5F:00.0" in (smi_problem(0, table) or "")


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (12, "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system."),
        (9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."),
        (4, "Failed to initialize NVML: Insufficient Permissions"),
        (255, "Failed to initialize NVML: Timeout"),
        (11, "Failed to initialize NVML: Interrupt Request Issue"),
        (15, "Failed to initialize NVML: GPU is lost"),
        (17, "Failed to initialize NVML: GPU access blocked by the operating system"),
        (18, "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.163"),
        (255, "Mismatch in versions between nvidia-smi and NVML."),
        (6, "No devices were found"),
        (2, 'Field "mig.mode.current" is not a valid field to query.'),
    ],
)
def test_errors_of_nvidia_smi_keep_their_words(status: int, text: str) -> None:
    table = parse_csv(text, CORE)
    assert table.rows == ()
    problem = smi_problem(status, table)
    assert problem is not None
    assert problem.startswith(text.partition("\n")[0])


@pytest.mark.parametrize("status", [2, 3, 4, 6, 8, 9, 10, 12, 13, 14, 15, 17, 18, 124, 127, 255])
def test_a_silent_failure_is_explained_by_its_status(status: int) -> None:
    assert smi_problem(status, SmiTable((), ())) == explain_status(status)


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
        ("NVRM version: NVIDIA UNIX Kernel Module for aarch64  34.1.1  Release Build  (...)", "34.1.1", "proprietary"),
        (
            "NVRM version:  NVIDIA UNIX Open Kernel Module for x86_64  515.57  Release Build Mi 20. Jul 11:53:35 CEST",
            "515.57",
            "open",
        ),
        ("GCC version:  gcc version 15.3.0 (GCC)", None, None),
        (None, None, None),
    ],
)
def test_loaded_module(line: str | None, version: str | None, flavour: str | None) -> None:
    assert nvrm_version(line) == (version, flavour)


def test_library_version() -> None:
    paths = ["/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.95.05", "/usr/lib64/libnvidia-ml.so.570.211.01", "/x"]
    assert library_version(paths) == "580.95.05"
    assert library_version([], "NVIDIA System Management Interface -- v550.163.01\n\nNVSMI") == "550.163.01"
    assert library_version([], "Failed to initialize NVML") is None
    assert module_version("580.159.04\n") == "580.159.04"
    assert module_version("modinfo: ERROR: Module nvidia not found.") is None


def test_newest_kernel() -> None:
    assert newest_kernel(["6.8.0-9-generic", "6.8.0-85-generic", "0-rescue-abc"]) == "6.8.0-85-generic"
    assert newest_kernel([]) is None


def facts(**changes: object) -> DriverFacts:
    given: dict[str, object] = {
        "nvrm": None,
        "module": None,
        "modinfo": None,
        "license_text": None,
        "others": {},
        "kernels": [],
        "running": "6.8.0-85-generic",
        "libraries": [],
        "help_text": None,
        "smi": None,
        "smi_seconds": None,
    }
    return driver_facts(**(given | changes))  # type: ignore[arg-type]


def test_a_new_kernel_without_module() -> None:
    driver = facts(
        modinfo=(0, "580.95.05\n"),
        license_text="NVIDIA\n",
        kernels=["6.8.0-85-generic", "6.8.0-90-generic"],
        others={"6.8.0-90-generic": (1, "modinfo: ERROR: Module nvidia not found.")},
        module="580.95.05",
    )
    assert (driver.loaded, driver.on_disk, driver.next_kernel) == ("580.95.05", "580.95.05", None)
    assert (driver.newest_kernel, driver.kernels_without_module) == ("6.8.0-90-generic", ("6.8.0-90-generic",))
    assert driver.flavour == "proprietary"


def test_unknown_is_not_absent() -> None:
    driver = facts(kernels=["6.8.0-85-generic"])
    assert (driver.on_disk, driver.kernels_without_module) == (None, ())
    assert facts(modinfo=(0, "580.95.05"), kernels=["6.8.0-85-generic"]).next_kernel == "580.95.05"


def test_h200() -> None:
    core = parse_csv((DATA / "h200_core.csv").read_text(), CORE)
    more = parse_csv((DATA / "h200_more.csv").read_text(), MORE)
    information = parse_information((DATA / "h200_information.txt").read_text())
    assert information["GPU UUID"] == "GPU-11111111-2222-3333-4444-555555555555"
    function = PciFunction("0000:00:06.0", "2335", "030200", virtual=False, driver="nvidia")
    (gpu,) = join_gpus([function], {"0000:00:06.0": information}, core.rows, more.rows, [])
    assert (gpu.name, gpu.index, gpu.pci_id, gpu.compute_capability) == ("NVIDIA H200", 0, "10de:2335", "9.0")
    assert (gpu.memory_bytes, gpu.unified_memory, gpu.mig) == (143771 * 1024**2, False, "Disabled")
    assert smi_problem(0, core) is None


def test_gb10_shares_its_memory() -> None:
    rows = parse_csv(
        "0, GPU-b10, NVIDIA GB10, 0000000F:01:00.0, 0x2E1210DE, 580.95.05, [N/A], [N/A], Enabled\n", CORE
    ).rows
    function = PciFunction("000f:01:00.0", "2e12", "030000", virtual=False, driver="nvidia")
    (gpu,) = join_gpus([function], {}, rows, [], [])
    assert (gpu.memory_bytes, gpu.unified_memory, gpu.mig, gpu.pci) == (None, True, None, "000f:01:00.0")
    assert gpu.seen_by == ("pci", "nvidia-smi")


def test_jetson_has_no_bus() -> None:
    rows = parse_csv(
        "0, 54d0709b-1111-2222-3333-444444444444, Orin (nvgpu), [N/A], [N/A], 540.4.0, [N/A], [N/A], N/A\n", CORE
    ).rows
    (gpu,) = join_gpus([], {}, rows, [], [])
    assert (gpu.pci, gpu.pci_id, gpu.memory_bytes, gpu.unified_memory) == (None, None, None, True)


def test_a_gpu_that_only_the_bus_knows() -> None:
    functions = [
        PciFunction("0000:07:00.0", "20b2", "030200", virtual=False, driver="nvidia"),
        PciFunction("0000:5f:00.0", "20b2", "030200", virtual=False, driver="nvidia"),
    ]
    row = "0, GPU-a, NVIDIA A100-SXM4-80GB, 00000000:07:00.0, 0x20B210DE, 535.309.01, 81920, Enabled, Enabled\n"
    first, lost = join_gpus(functions, {}, parse_csv(row, CORE).rows, [], [])
    assert (first.seen_by, lost.seen_by) == (("pci", "nvidia-smi"), ("pci",))
    assert (lost.name, lost.memory_bytes, lost.unified_memory) == ("NVIDIA A100", None, None)


def test_mig_devices() -> None:
    text = (
        "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-a)\n"
        "  MIG 3g.40gb     Device  0: (UUID: MIG-11111111-1111-1111-1111-111111111111)\n"
        "  MIG 1c.3g.71gb  Device  1: (UUID: MIG-22222222-1111-1111-1111-111111111111)\n"
        "GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-b)\n"
    )
    devices = parse_mig_devices(text)
    assert [(d.gpu_uuid, d.profile) for d in devices] == [("GPU-a", "3g.40gb"), ("GPU-a", "1c.3g.71gb")]
    row = "0, GPU-a, NVIDIA H100 80GB HBM3, 00000000:07:00.0, 0x233010DE, 580.95.05, 81559, Enabled, Enabled\n"
    (gpu,) = join_gpus([], {}, parse_csv(row, CORE).rows, [], devices)
    assert (gpu.mig, gpu.mig_devices) == ("Enabled", ("3g.40gb", "1c.3g.71gb"))


def test_excluded_gpu_has_no_uuid() -> None:
    function = PciFunction("0000:07:00.0", "20b2", "030200", virtual=False, driver=None)
    (gpu,) = join_gpus(
        [function], {"0000:07:00.0": {"GPU UUID": "GPU-????????-????", "Model": "NVIDIA A100"}}, [], [], []
    )
    assert (gpu.uuid, gpu.name) == (None, "NVIDIA A100")
