"""Whole machines, driver 470 to 610: what the probe makes of them (`hosts.md §2.5, §3.3, §4`)."""

import pytest

from gpuwizard.facts.model import Gpu, HostFacts
from gpuwizard.facts.parse import parse_probe
from tests.captured import edit
from tests.gpu_hosts import all_na, bus_of, function, host, many, row

MIB = 1024 * 1024
MIG_LIST = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-00000000-aaaa-bbbb-cccc-dddddddddddd)
  MIG 3g.40gb     Device  0: (UUID: MIG-11111111-2222-3333-4444-555555555555)
  MIG 1c.2g.20gb  Device  1: (UUID: MIG-21111111-2222-3333-4444-555555555555)
  MIG 1g.10gb+me  Device  2: (UUID: MIG-31111111-2222-3333-4444-555555555555)
"""


def facts(raw: bytes) -> HostFacts:
    return parse_probe(raw).facts


def only_gpu(raw: bytes) -> Gpu:
    (gpu,) = facts(raw).gpus
    return gpu


def healthy(gpu: Gpu) -> None:
    assert (gpu.fault, gpu.fault_fields, gpu.denied, gpu.inforom_corrupted) == (None, (), (), None)
    assert gpu.seen_by == ("pci", "nvidia-smi")
    assert gpu.bound_driver == "nvidia"


def test_h100_with_mig() -> None:
    cells = {
        "mig.mode.current": "Enabled",
        "mig.mode.pending": "Enabled",
        "remapped_rows.pending": "[N/A]",
        "remapped_rows.failure": "[N/A]",
        "compute_cap": "9.0",
        "fabric.state": "Completed",
        "fabric.status": "Success",
    }
    h100 = row(0, "NVIDIA H100 80GB HBM3", "00000000:04:00.0", "2330", "81559") | cells
    gpu = only_gpu(host([h100], function("0000:04:00.0", "2330"), listing=MIG_LIST))
    healthy(gpu)
    assert gpu.mig_devices == ("3g.40gb", "1c.2g.20gb", "1g.10gb+me")
    assert gpu.mig_instances is not None
    assert [d.index for d in gpu.mig_instances] == [0, 1, 2]
    assert gpu.mig_instances[2].uuid == "MIG-31111111-2222-3333-4444-555555555555"
    assert (gpu.mig, gpu.mig_pending, gpu.generation) == ("Enabled", "Enabled", "hopper")
    assert (gpu.remap_pending, gpu.remap_failed, gpu.ecc_uncorrected) == (None, None, 0)
    assert (gpu.fabric_state, gpu.fabric_status) == ("Completed", "Success")


def test_mig_of_an_old_driver() -> None:
    uuid = "GPU-00000000-aaaa-bbbb-cccc-dddddddddddd"
    listing = f"GPU 0: A100-SXM4-40GB (UUID: {uuid})\n" + "".join(
        f"  MIG 1g.5gb Device {n}: (UUID: MIG-{uuid}/{7 + n}/0)\n" for n in range(3)
    )
    a100 = row(0, "A100-SXM4-40GB", "00000000:07:00.0", "20b0", "40536") | {
        "mig.mode.current": "Enabled",
        "mig.mode.pending": "Enabled",
    }
    gpu = only_gpu(host([a100], function("0000:07:00.0", "20b0"), driver="470.256.02", listing=listing))
    assert gpu.mig_devices == ("1g.5gb",) * 3
    assert gpu.mig_instances is not None
    assert gpu.mig_instances[1].uuid == f"MIG-{uuid}/8/0"
    assert (gpu.compute_capability, gpu.recovery_action, gpu.generation) == (None, None, "ampere")


def test_mig_without_devices_and_mig_that_was_not_listed() -> None:
    on = row(0, "NVIDIA A30", "00000000:04:00.0", "20b7", "24576") | {"mig.mode.current": "Enabled"}
    bus = function("0000:04:00.0", "20b7")
    empty = "GPU 0: NVIDIA A30 (UUID: GPU-00000000-aaaa-bbbb-cccc-dddddddddddd)\n"
    assert only_gpu(host([on], bus, listing=empty)).mig_instances == ()
    assert only_gpu(host([on], bus)).mig_instances is None
    assert only_gpu(host([on], bus, listing="Failed to initialize NVML: Unknown Error\n")).mig_instances is None


def test_gb10() -> None:
    gb10 = row(0, "NVIDIA GB10", "0000000F:01:00.0", "2e12", "[N/A]", compute_cap="12.1", addressing_mode="ATS")
    gpu = only_gpu(host([gb10], function("000f:01:00.0", "2e12", "030000")))
    healthy(gpu)
    assert (gpu.pci, gpu.memory_bytes, gpu.unified_memory) == ("000f:01:00.0", None, True)
    assert (gpu.generation, gpu.compute_capability, gpu.addressing_mode) == ("blackwell", "12.1", "ATS")


@pytest.mark.parametrize("memory", ["8128", "7929", "24512"])
def test_n1x_reports_a_part_of_its_memory(memory: str) -> None:
    """Its number is too small, so it is not shown; the neural processor beside it is no GPU."""
    n1x = row(0, "NVIDIA RTX Spark N1X (5120-core Blackwell RTX GPU)", "00000000:01:00.0", "2e06", memory)
    npu = all_na(row(1, "NVIDIA NPU", "N/A", "0000", "[N/A]"))
    gpu = only_gpu(host([n1x, npu], function("0000:01:00.0", "2e06", "030000"), driver="616.29"))
    assert (gpu.memory_bytes, gpu.unified_memory, gpu.generation) == (None, True, "blackwell")
    on_wsl = only_gpu(host([n1x, npu], "", driver="616.29"))  # nothing of it on the bus
    assert (on_wsl.seen_by, on_wsl.unified_memory, on_wsl.pci_id) == (("nvidia-smi",), True, "10de:2e06")


def test_jetson_orin() -> None:
    orin = all_na(row(0, "Orin (nvgpu)", "N/A", "0000", "[N/A]", uuid="54d0709b-1111-2222-3333-444444444444"))
    gpu = only_gpu(host([orin | {"driver_version": "540.4.0"}], "", driver="540.4.0"))
    assert (gpu.pci, gpu.pci_id, gpu.memory_bytes, gpu.unified_memory) == (None, None, None, True)
    assert (gpu.uuid, gpu.persistence, gpu.mig) == ("54d0709b-1111-2222-3333-444444444444", None, None)
    assert (gpu.temperature_c, gpu.throttle, gpu.fault) == (None, (), None)


def test_jetson_thor_is_on_the_bus() -> None:
    thor = all_na(row(0, "NVIDIA Thor", "00000000:01:00.0", "2b00", "[N/A]"), "pci.bus_id", "pci.device_id")
    gpu = only_gpu(host([thor], function("0000:01:00.0", "2b00", "030000")))
    assert (gpu.pci, gpu.unified_memory, gpu.generation) == ("0000:01:00.0", True, "blackwell")
    nameless = thor | {"pci.bus_id": "N/A", "pci.device_id": "[N/A]"}
    assert only_gpu(host([nameless], function("0000:01:00.0", "2b00", "030000"))).pci == "0000:01:00.0"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("[GPU requires reset]", "GPU requires reset"),
        ("[GPU is lost]", "GPU is lost"),
        ("[Unknown Error]", "Unknown Error"),
        ("ERR!", "ERR!"),
    ],
)
def test_a_fault_in_cells(words: str, fault: str) -> None:
    """The memory columns may still look healthy."""
    rows, bus = many(2, "NVIDIA RTX PRO 6000 Blackwell Server Edition", "2bb5", "97887")
    rows[1] |= {"temperature.gpu": words, "pstate": words, "ecc.mode.current": "[N/A]"}
    good, bad = facts(host(rows, bus)).gpus
    healthy(good)
    assert (bad.fault, bad.fault_fields) == (fault, ("pstate", "temperature.gpu"))
    assert (bad.memory_bytes, bad.temperature_c, bad.seen_by) == (97887 * MIB, None, ("pci", "nvidia-smi"))
    assert f"GPU 1: {fault}" in (facts(host(rows, bus)).driver.problem or "")


def test_the_worst_of_two_faults_counts() -> None:
    rows, bus = many(1, "NVIDIA L4", "27b8", "23034")
    rows[0] |= {"pstate": "[Unknown Error]", "temperature.gpu": "[GPU requires reset]"}
    assert only_gpu(host(rows, bus)).fault == "GPU requires reset"


def test_an_unknown_error_of_the_fabric_is_no_fault() -> None:
    rows, bus = many(
        1, "NVIDIA H200", "2335", "143771", fabric__state="[Unknown Error]", fabric__status="Unknown Error"
    )
    probe = facts(host(rows, bus))
    assert (probe.gpus[0].fault, probe.driver.problem) == (None, None)


@pytest.mark.parametrize("status", [0, 15, 255])
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Unable to determine the device handle for GPU3: 0000:10:00.0: Unknown Error", "Unknown Error"),
        ("Unable to determine the device handle for GPU0000:10:00.0: Unknown Error", "Unknown Error"),
        ("Unable to determine the device handle for GPU3: Unknown Error", "Unknown Error"),
        (
            "Unable to determine the device handle for GPU 0000:10:00.0: GPU is lost.  Reboot the system to recover "
            "this GPU",
            "GPU is lost",
        ),
    ],
)
def test_a_lost_gpu_among_good_ones(line: str, words: str, status: int) -> None:
    rows, bus = many(8, "NVIDIA A100-SXM4-80GB", "20b2", "81920")
    del rows[3]
    gpus = facts(host(rows, bus, said=f"{line}\n", status=status)).gpus
    assert [gpu.index for gpu in gpus if "nvidia-smi" in gpu.seen_by] == [0, 1, 2, 4, 5, 6, 7]
    lost = gpus[3]
    assert (lost.pci, lost.seen_by, lost.fault) == ("0000:10:00.0", ("pci",), words)
    assert lost.fault_fields == ("device handle",)
    assert lost.name == "NVIDIA A100-SXM4-80GB"  # of the table
    assert sum(gpu.fault is not None for gpu in gpus) == 1


def test_the_only_gpu_is_lost() -> None:
    said = "Unable to determine the device handle for GPU0: 0000:01:00.0: Unknown Error\nNo devices were found\n"
    gpu = only_gpu(host([], function("0000:01:00.0", "2684", "030000"), said=said, status=6))
    assert (gpu.fault, gpu.seen_by, gpu.name) == ("Unknown Error", ("pci",), "NVIDIA GeForce RTX 4090")


def test_a_lost_gpu_that_the_kernel_took_off_the_bus() -> None:
    rows, bus = many(1, "NVIDIA L40S", "26b9", "46068")
    said = "Unable to determine the device handle for GPU1: 0000:5f:00.0: Unknown Error\n"
    here, gone = facts(host(rows, bus, said=said)).gpus
    healthy(here)
    assert (gone.pci, gone.fault, gone.name) == ("0000:5f:00.0", "Unknown Error", None)


def test_no_permission_is_no_fault() -> None:
    rows, bus = many(1, "NVIDIA A100-SXM4-80GB", "20b2", "81920", mig__mode__current="[Insufficient Permissions]")
    probe = facts(host(rows, bus))
    assert (probe.gpus[0].fault, probe.gpus[0].denied, probe.gpus[0].mig) == (None, ("mig.mode.current",), None)
    assert [u.why for u in probe.unseen] == ["nvidia-smi lacks the permission"]
    said = "Unable to determine the device handle for GPU0: 0000:04:00.0: Insufficient Permissions\n"
    shut = only_gpu(host([], bus, said=said, status=4))
    assert (shut.fault, shut.denied) == (None, ("device handle",))


@pytest.mark.parametrize("address", ["0000:08:00.0", "00000000:08:00.0"])
def test_a_corrupted_inforom(address: str) -> None:
    rows, bus = many(2, "Tesla T4", "1eb8", "15360")
    text = host(rows, bus, status=14)
    assert [g.inforom_corrupted for g in facts(text).gpus] == [None, None]
    probe = facts(host(rows, bus, status=14, said=f"WARNING: infoROM is corrupted at gpu {address}\n"))
    assert [g.inforom_corrupted for g in probe.gpus] == [None, True]
    assert [g.uuid for g in probe.gpus] == [r["uuid"] for r in rows]
    assert probe.driver.problem_code == 14


@pytest.mark.parametrize(
    ("count", "name", "device"), [(16, "NVIDIA A100-SXM4-40GB", "20b0"), (24, "NVIDIA A16", "25b6")]
)
def test_many_gpus(count: int, name: str, device: str) -> None:
    rows, bus = many(count, name, device, "15356")
    gpus = facts(host(rows, bus, driver="570.86.15")).gpus
    assert [gpu.index for gpu in gpus] == list(range(count))
    assert [gpu.pci for gpu in gpus] == bus_of(count)
    for gpu in gpus:
        healthy(gpu)


@pytest.mark.parametrize(
    ("driver", "name", "device", "memory", "capability", "generation", "action"),
    [
        ("470.256.02", "Tesla T4", "1eb8", 15109, None, "turing", None),
        ("470.256.02", "Tesla K80", "102d", 11441, None, "kepler", None),
        ("535.309.01", "Tesla P100-PCIE-16GB", "15f8", 16384, "6.0", "pascal", None),
        ("550.163.01", "NVIDIA L40S", "26b9", 46068, "8.9", "ada", None),
        ("580.178.04", "Tesla V100-SXM2-16GB", "1db1", 16384, "7.0", "volta", "None"),
        ("595.91.07", "NVIDIA B200", "2901", 183359, "10.0", "blackwell", "None"),
        ("595.91.07", "NVIDIA B300 SXM6 AC", "3182", 275040, "10.3", "blackwell", "None"),
        ("610.57.04", "NVIDIA H200", "2335", 143771, "9.0", "hopper", "None"),
    ],
)
def test_driver_branches(
    driver: str, name: str, device: str, memory: int, capability: str | None, generation: str, action: str | None
) -> None:
    rows, bus = many(1, name, device, str(memory), compute_cap=capability or "-", driver_version=driver)
    probe = facts(host(rows, bus, driver=driver))
    gpu = probe.gpus[0]
    healthy(gpu)
    assert (gpu.name, gpu.memory_bytes, gpu.unified_memory) == (name, memory * MIB, False)
    assert (gpu.compute_capability, gpu.generation, gpu.recovery_action) == (capability, generation, action)
    assert (probe.driver.loaded, probe.driver.problem, gpu.throttle) == (driver, None, ("idle",))


def test_repairs_that_an_older_driver_tells_apart() -> None:
    rows, bus = many(2, "NVIDIA A100-SXM4-80GB", "20b2", "81920")
    raw = host(rows, bus, driver="550.163.01")
    assert [g.remap_pending for g in facts(raw).gpus] == [None, None]
    apart = "gpu_uuid, remapped_rows.pending, remapped_rows.failure\n" + "".join(
        f"{r['uuid']}, {pending}, No\n" for r, pending in zip(rows, ("No", "Yes"), strict=True)
    )
    first, second = facts(edit("smi-remapped", apart, probe=raw)).gpus
    assert (first.remap_pending, second.remap_pending, second.remap_failed) == (False, True, False)
    refused = facts(edit("smi-remapped", "Invalid combination of input arguments.", 2, probe=raw))
    assert [g.remap_pending for g in refused.gpus] == [None, None]


def test_retired_pages_before_ampere() -> None:
    na = {"remapped_rows.pending": "[N/A]", "remapped_rows.failure": "[N/A]", "retired_pages.pending": "Yes"}
    rows, bus = many(1, "Tesla V100-SXM2-32GB", "1db5", "32768")
    gpu = only_gpu(host([rows[0] | na], bus))
    assert (gpu.retired_pending, gpu.remap_pending) == (True, None)


def test_a_consumer_card() -> None:
    na = {
        "ecc.mode.current": "[N/A]",
        "ecc.errors.uncorrected.volatile.total": "[N/A]",
        "remapped_rows.pending": "[N/A]",
        "remapped_rows.failure": "[N/A]",
        "persistence_mode": "Disabled",
    }
    rows, bus = many(1, "NVIDIA GeForce RTX 4090", "2684", "24564", compute_cap="8.9")
    audio = "0000:04:00.1 0x22ba 0x040300 0 driver=snd_hda_intel\n"
    probe = facts(host([rows[0] | na], bus.replace("0x030200", "0x030000") + audio))
    (gpu,) = probe.gpus
    assert (gpu.ecc, gpu.ecc_uncorrected, gpu.remap_pending, gpu.persistence) == (None, None, None, False)
    assert probe.other_devices == ()


def test_grace_hopper_has_memory_of_its_own() -> None:
    gh200 = row(0, "NVIDIA GH200 480GB", "00000009:01:00.0", "2342", "97871", addressing_mode="ATS")
    bus = function("0009:01:00.0", "2342", more="sub=10de:1809 numa=8") + function("0009:00:00.0", "22b1", "060400")
    gpu = only_gpu(host([gh200], bus))
    assert (gpu.memory_bytes, gpu.unified_memory, gpu.addressing_mode) == (97871 * MIB, False, "ATS")
    assert (gpu.numa_node, gpu.subsystem_id) == (8, "10de:1809")


VGPU = """\
==============NVSMI LOG==============

Timestamp                                 : Mon Nov  9 10:11:12 2026
Driver Version                            : 535.309.01
Attached GPUs                             : 1
GPU 00000000:02:00.0
    Product Name                          : NVIDIA A40-48Q
    GPU Virtualization Mode
        Virtualization Mode               : VGPU
        Host VGPU Mode                    : N/A
    vGPU Software Licensed Product
        Product Name                      : NVIDIA RTX Virtual Workstation
        License Status                    : {status}
    IBMNPU
        Relaxed Ordering Mode             : N/A
"""


@pytest.mark.parametrize(
    ("status", "licensed", "restricted"),
    [
        ("Licensed (Expiry: 2027-1-31 11:32:22 GMT)", True, False),
        ("Unlicensed (Unrestricted)", False, False),
        ("Unlicensed (Restricted)", False, True),
        ("Unlicensed", False, None),
        ("Acquiring", None, None),
    ],
)
def test_a_virtual_gpu_and_its_licence(status: str, licensed: bool | None, restricted: bool | None) -> None:
    vgpu = row(0, "NVIDIA A40-48Q", "00000000:02:00.0", "2235", "49140")
    bus = function("0000:02:00.0", "2235", more="sub=10de:14d9")
    gpu = only_gpu(host([vgpu], bus, driver="535.309.01", full=VGPU.format(status=status)))
    assert gpu.virtualization == "vgpu"
    assert gpu.vgpu_license is not None
    assert (gpu.vgpu_license.status, gpu.vgpu_license.licensed) == (status, licensed)
    assert gpu.vgpu_license.restricted is restricted


def test_a_passed_through_gpu_of_a_guest() -> None:
    text = VGPU.replace("VGPU\n", "Pass-Through\n", 1).partition("    vGPU Software")[0]
    rows, bus = many(1, "NVIDIA H100 PCIe", "2331", "81559")
    gpu = only_gpu(host(rows, bus, full=text.replace("02:00.0", "04:00.0")))
    assert (gpu.virtualization, gpu.vgpu_license) == ("passthrough", None)


def test_an_nvswitch_box() -> None:
    rows, bus = many(8, "NVIDIA A100-SXM4-80GB", "20b2", "81920")
    switches = "".join(
        function(f"0000:{n:02x}:00.0", "1af1", "068000", driver="nvidia-nvswitch") for n in range(0xC0, 0xC6)
    )
    bridges = function("0000:00:01.0", "22d0", "060400", driver="pcieport")
    probe = facts(host(rows, bus + switches + bridges))
    assert (len(probe.gpus), probe.nvswitches) == (8, 6)
    assert {d.kind for d in probe.other_devices} == {"nvswitch"}
