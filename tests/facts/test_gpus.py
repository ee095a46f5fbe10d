"""nvidia-smi and the join of what PCI and driver see (`hosts.md §2.5, §3, §4`)."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwizard.facts.gpu.complaints import Complaint, corrupted_inforoms, unreachable
from gpuwizard.facts.gpu.join import Sources, join_gpus, parse_information
from gpuwizard.facts.gpu.mig import parse_list
from gpuwizard.facts.gpu.names import generation_of_capability, product
from gpuwizard.facts.gpu.nvidia_smi import (
    COLUMNS,
    SmiTable,
    cell,
    denied,
    explain_status,
    fault,
    mebibytes,
    parse_csv,
    parse_query,
    row_faults,
    smi_problem,
    throttle_reasons,
)
from gpuwizard.facts.gpu.pci import PciFunction, parse_pci
from gpuwizard.facts.gpu.vgpu import license_of, parse_full_query

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
    assert (fault("[Insufficient Permissions]"), denied("[Insufficient Permissions]")) == (None, True)
    assert cell("[Some Error Of Tomorrow]") is None
    assert (fault("[Function Not Found]"), denied("[N/A]")) == (None, False)
    assert row_faults({"temperature.gpu": "ERR!", "fabric.state": "[Unknown Error]"}) == {"temperature.gpu": "ERR!"}
    assert row_faults({"addressing_mode": "[GPU is lost]"}) == {"addressing_mode": "GPU is lost"}


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
    table = parse_query(text)
    assert table.rows == ()
    problem = smi_problem(status, table)
    assert problem is not None
    assert problem.startswith(text.partition("\n")[0])


@pytest.mark.parametrize("status", [2, 3, 4, 6, 8, 9, 10, 12, 13, 14, 15, 17, 18, 124, 127, 255])
def test_a_silent_failure_is_explained_by_its_status(status: int) -> None:
    assert smi_problem(status, SmiTable((), ())) == explain_status(status)


def test_h200() -> None:
    text = (DATA / "h200_smi.csv").read_text()
    information = parse_information((DATA / "h200_information.txt").read_text())
    assert information["GPU UUID"] == "GPU-11111111-2222-3333-4444-555555555555"
    function = PciFunction("0000:00:06.0", "2335", "030200", virtual=False, driver="nvidia")
    table = parse_query(text)
    (gpu,) = join_gpus(Sources([function], table.rows, {"0000:00:06.0": information}))
    assert (gpu.name, gpu.index, gpu.pci_id, gpu.compute_capability) == ("NVIDIA H200", 0, "10de:2335", "9.0")
    assert (gpu.memory_bytes, gpu.unified_memory, gpu.mig) == (143771 * 1024**2, False, "Disabled")
    assert (gpu.excluded, gpu.throttle, gpu.generation) == (False, ("idle",), "hopper")
    assert smi_problem(0, table) is None
    assert table.notes == ()


def test_a_header_names_the_columns_in_any_order_and_spelling() -> None:
    table = parse_query(
        "gpu_uuid, gpu_bus_id, index, gpu_name, memory.total [MiB], clocks_event_reasons.active, strange.field [J]\n"
        "GPU-a, 00000000:07:00.0, 4, NVIDIA A30, 24576, 0x00000000000000C8, 7\n"
        "Connection to 10.0.0.1 closed.\n"
    )
    (row,) = table.rows
    assert (row["uuid"], row["pci.bus_id"], row["index"], row["name"]) == (
        "GPU-a",
        "00000000:07:00.0",
        "4",
        "NVIDIA A30",
    )
    assert throttle_reasons(row["clocks_throttle_reasons.active"]) == ("hw-slowdown", "hw-thermal", "hw-power-brake")
    assert table.notes == ("Connection to 10.0.0.1 closed.",)


def test_a_row_without_header_has_the_columns_that_the_probe_asked_for() -> None:
    text = "0, GPU-a, NVIDIA A30, 00000000:07:00.0, 0x20B710DE, 535.309.01, 24576, Disabled, Enabled"
    assert dict(parse_query(text).rows[0]) == dict(zip(COLUMNS, text.split(", "), strict=False))
    assert parse_query("1, 2, 3").rows == ()
    assert parse_query(", ".join(["x"] * 9)).rows == ()  # neither a number nor a UUID: no GPU


def test_cut_rows_are_no_rows() -> None:
    whole = "index, uuid, name, memory.total [MiB]\n0, GPU-a, NVIDIA A30, 24576\n1, GPU-b, NVIDIA A30, 24576\n"
    assert len(parse_query(whole).rows) == 2
    assert [row["uuid"] for row in parse_query(whole[:-12]).rows] == ["GPU-a"]


@pytest.mark.parametrize(
    ("note", "complaint"),
    [
        ("GPU3: 0000:5F:00.0: Unknown Error", Complaint(3, "0000:5f:00.0", "Unknown Error")),
        ("gpu 00000000:25:00.0: Unknown Error", Complaint(None, "0000:25:00.0", "Unknown Error")),
        ("GPU0000:25:00.0: Unknown Error", Complaint(None, "0000:25:00.0", "Unknown Error")),
        ("GPU 0000:05:00.0: GPU is lost.  Reboot the system", Complaint(None, "0000:05:00.0", "GPU is lost")),
        ("GPU 00000000:65:00.0: Not Found", Complaint(None, "0000:65:00.0", "Not Found")),
        ("GPU1: Unknown Error", Complaint(1, None, "Unknown Error")),
        ("GPU 0: Unknown Error", Complaint(0, None, "Unknown Error")),
        ("GPU0", Complaint(0, None, "Unknown Error")),
        ("GPU", Complaint(None, None, "Unknown Error")),
    ],
)
def test_the_gpu_that_a_complaint_names(note: str, complaint: Complaint) -> None:
    line = f"Unable to determine the device handle for {note}"
    assert unreachable([line, "No devices were found", line]) == (complaint,)


def test_two_complaints_without_addresses_go_to_the_two_that_are_missing() -> None:
    functions = [PciFunction(f"0000:0{n}:00.0", "20b2", "030200", virtual=False, driver="nvidia") for n in range(4)]
    rows = [{"index": str(n), "uuid": f"GPU-{n}", "pci.bus_id": f"00000000:0{n}:00.0"} for n in (0, 3)]
    complaints = [Complaint(1, None, "Unknown Error"), Complaint(2, None, "GPU is lost")]
    gpus = join_gpus(Sources(functions, rows, complaints=complaints))
    assert [(g.index, g.fault) for g in gpus] == [(0, None), (1, "Unknown Error"), (2, "GPU is lost"), (3, None)]
    unclear = join_gpus(Sources(functions, rows, complaints=complaints[:1]))  # which of the two is not said
    assert [g.fault for g in unclear] == [None] * 4


def test_inforoms() -> None:
    assert corrupted_inforoms(["WARNING: infoROM is corrupted at gpu 0000:0B:00.0", "x"]) == {"0000:0b:00.0"}
    assert corrupted_inforoms(["WARNING: infoROM is corrupted"]) == {""}
    functions = [PciFunction("0000:0b:00.0", "1eb8", "030200", virtual=False, driver="nvidia")]
    assert join_gpus(Sources(functions, inforoms=frozenset([""])))[0].inforom_corrupted
    functions.append(PciFunction("0000:0c:00.0", "1eb8", "030200", virtual=False, driver="nvidia"))
    assert {g.inforom_corrupted for g in join_gpus(Sources(functions, inforoms=frozenset([""])))} == {None}


def test_a_gpu_that_only_the_bus_knows() -> None:
    functions = [
        PciFunction("0000:07:00.0", "20b2", "030200", virtual=False, driver="nvidia"),
        PciFunction("0000:5f:00.0", "20b2", "030200", virtual=False, driver="nvidia"),
    ]
    row = {"index": "0", "uuid": "GPU-a", "name": "NVIDIA A100-SXM4-80GB", "pci.bus_id": "00000000:07:00.0"}
    first, lost = join_gpus(Sources(functions, [row]))
    assert (first.seen_by, lost.seen_by) == (("pci", "nvidia-smi"), ("pci",))
    assert (lost.name, lost.memory_bytes, lost.unified_memory) == ("NVIDIA A100-SXM4-80GB", None, False)


def test_mig_devices() -> None:
    text = (
        "\x1b[4mGPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-a)\x1b[0m\n"
        "  MIG 3g.40gb     Device  0: (UUID: MIG-11111111-1111-1111-1111-111111111111)\n"
        "  MIG 1c.3g.71gb  Device  1: (UUID: MIG-22222222-1111-1111-1111-111111111111)\n"
        "  MIG 1g.10gb+gfx Device  2: (UUID: MIG-32222222-1111-1111-1111-111111111111)\n"
        "GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-b)\n"
        "Unable to determine the device handle for GPU2: 0000:5F:00.0: Unknown Error\n"
    )
    first, second = parse_list(text)
    assert [(d.profile, d.index) for d in first.devices] == [("3g.40gb", 0), ("1c.3g.71gb", 1), ("1g.10gb+gfx", 2)]
    assert (second.uuid, second.devices) == ("GPU-b", ())
    assert parse_list("  MIG 3g.40gb     Device  0: (UUID: MIG-1)\n") == ()


def test_full_query_of_several_gpus() -> None:
    """Also by the label of drivers before 13.0, and with what belongs to no GPU left out."""
    text = (
        "GPU 00000000:02:00.0\n    GPU Virtualization Mode\n        Virtualization Mode : VGPU\n"
        "    GRID Licensed Product\n        License Status : Unlicensed (Restricted)\n"
        "GPU 00000000:03:00.0\n        Virtualization Mode : N/A\n        License Status : N/A\n"
    )
    found = parse_full_query(f"        License Status : Licensed\n{text}")
    assert found["0000:02:00.0"].mode == "vgpu"
    assert found["0000:02:00.0"].license == license_of("Unlicensed (Restricted)")
    assert (found["0000:03:00.0"].mode, found["0000:03:00.0"].license) == (None, None)


@pytest.mark.parametrize(
    ("device", "subsystem", "name", "generation"),
    [
        ("102d", None, "Tesla K80", "kepler"),
        ("17fd", None, "Tesla M40", "maxwell"),
        ("15f8", None, "Tesla P100 PCIe 16GB", "pascal"),
        ("1db6", None, "Tesla V100 PCIe 32GB", "volta"),
        ("1eb8", None, "Tesla T4", "turing"),
        ("20b2", "10de:1463", "NVIDIA A100-SXM4-80GB", "ampere"),
        ("25b6", "10de:14a9", "NVIDIA A16", "ampere"),
        ("25b6", "1028:14a9", "NVIDIA A2 / A16", "ampere"),
        ("26b9", None, "NVIDIA L40S", "ada"),
        ("2335", "10de:18bf", "NVIDIA H200", "hopper"),
        ("2342", "10de:1809", "NVIDIA GH200 480GB", "hopper"),
        ("2941", None, "NVIDIA GB200", "blackwell"),
        ("31c2", None, "NVIDIA GB300", "blackwell"),
        ("2e12", None, "NVIDIA GB10", "blackwell"),
        ("2bb5", None, "NVIDIA RTX PRO 6000 Blackwell Server Edition", "blackwell"),
    ],
)
def test_names(device: str, subsystem: str | None, name: str, generation: str) -> None:
    found = product(device, subsystem)
    assert found is not None
    assert (found.name, found.generation) == (name, generation)


def test_names_of_gpus_only() -> None:
    for other in ("22a3", "1af1", "22ba", "22d0", "1ad6", "ffff", ""):  # NVSwitch, audio, root port, USB
        assert product(other) is None
    assert {d for d in ("2e12", "2e06", "2b00") if (p := product(d)) and p.shares_memory} == {"2e12", "2e06", "2b00"}
    assert not any(p.shares_memory for d in ("2342", "2941", "2335") if (p := product(d)))


@pytest.mark.parametrize(
    ("capability", "generation"),
    [
        ("3.7", "kepler"), ("5.2", "maxwell"), ("6.0", "pascal"), ("7.0", "volta"), ("7.2", "volta"),
        ("7.5", "turing"), ("8.0", "ampere"), ("8.7", "ampere"), ("8.9", "ada"), ("9.0", "hopper"),
        ("10.3", "blackwell"), ("12.1", "blackwell"), ("99.0", None), ("9", None), ("x.y", None), (None, None),
    ],
)  # fmt: skip
def test_generations_by_capability(capability: str | None, generation: str | None) -> None:
    assert generation_of_capability(capability) == generation


@pytest.mark.parametrize(
    ("line", "kind", "is_gpu"),
    [
        ("0000:01:00.0 0x2684 0x030000 0 driver=nvidia", None, True),
        ("0000:01:00.0 0x2684 0x030000 0 driver=nouveau", None, True),
        ("0000:01:00.0 0x2684 0x030000 0", None, True),
        ("0000:01:00.0 0x2684 0x030000 0 driver=vfio-pci", "passed-through", False),
        ("0000:01:00.0 0x2684 0x030000 0 driver=pci-stub", "passed-through", False),
        ("0000:01:00.0 0x2684 0x030000 0 driver=xen-pciback", "passed-through", False),
        ("0000:01:00.0 0x2235 0x030200 1 driver=nvidia", "virtual-function", False),
        ("0000:01:00.0 0x1fb0 0x038000 0", "display", False),
        ("0000:01:00.0 0x1af1 0x068000 0 driver=nvidia-nvswitch", "nvswitch", False),
        ("0000:01:00.1 0x22ba 0x040300 0 driver=vfio-pci", None, False),
        ("0000:01:00.2 0x1ad6 0x0c0330 0 driver=xhci_hcd", None, False),
        ("0000:01:00.3 0x1ad7 0x0c8000 0", None, False),
        ("0000:00:00.0 0x22ce 0x060400 0 driver=pcieport", None, False),
    ],
)
def test_functions_by_class_and_driver(line: str, kind: str | None, is_gpu: bool) -> None:
    (function,) = parse_pci(line, {}) or ()
    assert (function.kind, function.is_gpu) == (kind, is_gpu)


def test_details_of_a_function() -> None:
    line = "0000:17:00.0 0x26b9 0x030200 0 sub=0x10de:0x1851 numa=1 vfs=32 power=suspended"
    (function,) = parse_pci(f"{line}\n{line}\ngarbage\n0000:18:00.0 0x26b9\n", {"0000:17:00.0": "nvidia"}) or ()
    assert (function.subsystem, function.numa, function.virtual_functions) == ("10de:1851", 1, 32)
    assert (function.driver, function.gone) == ("nvidia", False)
    (plain,) = parse_pci("0000:17:00.0 0x26b9 0x030200 0 numa=-1 sub= vfs= width=16", {}) or ()
    assert (plain.subsystem, plain.numa, plain.virtual_functions, plain.gone) == (None, None, None, False)


PIECES = st.sampled_from(
    [
        "GPU 0: NVIDIA H200 (UUID: GPU-a)", "  MIG 1g.18gb Device 0: (UUID: MIG-1)", "GPU 00000000:02:00.0", "[N/A]",
        "        Virtualization Mode : VGPU", "License Status : Unlicensed (Restricted)", "\x1b[31m",
        "index, uuid, name",
        "Unable to determine the device handle for GPU", "0000:01:00.0 0x2335 0x030200 0 driver=", " numa=", "0xffff",
        "WARNING: infoROM is corrupted at gpu ", ", ", "\n", "\r\n", "\x00", "0", "GPU-00000000", "ERR!", "\ud7ff",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=20).map("".join)))
def test_no_text_makes_a_parser_fail(text: str) -> None:
    table = parse_query(text)
    functions = parse_pci(text, {}) or ()
    gpus = join_gpus(
        Sources(
            functions,
            table.rows,
            {"0000:02:00.0": parse_information(text)},
            parse_list(text),
            parse_full_query(text),
            unreachable(table.notes),
            corrupted_inforoms(table.notes),
        )
    )
    assert all(gpu.pci is not None or gpu.seen_by == ("nvidia-smi",) for gpu in gpus)
    assert smi_problem(0, table) is None or isinstance(smi_problem(0, table), str)


@pytest.mark.parametrize("line", ["a" * 10**6, " " * 10**6, "a, " * 400_000, "a " * 500_000, ":" * 10**6, "(" * 10**6])
def test_lines_without_end_cost_little(line: str) -> None:
    started = time.perf_counter()
    parse_query(line)
    parse_list(f"GPU 0: {line}\n  MIG {line}\n")
    parse_full_query(f"GPU 00000000:02:00.0\n    {line}\n")
    parse_pci(f"0000:01:00.0 0x2335 0x030200 0 x={line}", {})
    unreachable([f"device handle for GPU{line}"])
    parse_information(line)
    assert time.perf_counter() - started < 10
