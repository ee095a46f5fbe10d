"""The rules about GPUs: each on a machine where it must speak, and where it must not."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from gpuwizard.facts.model import KubernetesFacts, OsFacts, Probe
from gpuwizard.facts.parse import parse_probe
from gpuwizard.findings.gpu.inventory import RULES
from gpuwizard.findings.model import Finding
from gpuwizard.findings.ready import HEALTHY
from gpuwizard.findings.rule import evaluate
from tests.captured import CAPTURE, changed, edit, ids, only, ready, without
from tests.gpu_hosts import function, host, many, row

XID_79 = "NVRM: Xid (PCI:0000:08:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


def a100(count: int = 2, **cells: str) -> tuple[list[dict[str, str]], str]:
    return many(count, "NVIDIA A100-SXM4-80GB", "20b2", "81920", mig__mode__current="Disabled", **cells)


def with_log(probe: Probe | bytes, *lines: str) -> Probe:
    probe = parse_probe(probe) if isinstance(probe, bytes) else probe
    return changed(probe, driver=replace(probe.facts.driver, log=lines))


def first(**cells: str) -> bytes:
    """Two A100; the first one has these cells."""
    rows, bus = a100()
    rows[0] |= {column.replace("__", "."): text for column, text in cells.items()}
    return host(rows, bus)


def gpu_ids(probe: Probe | bytes) -> list[str]:
    return [rule_id for rule_id in ids(probe) if rule_id.startswith("GW-GPU-")]


def finding(probe: Probe | bytes, rule_id: str, severity: str) -> Finding:
    found = only(probe, rule_id)
    assert found.severity == severity
    return found


MACHINES: Mapping[str, tuple[bytes, Sequence[str]]] = {
    "8 × A100 with NVSwitches": (
        host(a100(8)[0], a100(8)[1] + function("0000:c0:00.0", "1af1", "068000", driver="nvidia-nvswitch")),
        (),
    ),
    "T4 with 470": (host(*many(1, "Tesla T4", "1eb8", "15109"), driver="470.256.02"), ()),
    "P100 with 535": (
        host(*many(1, "Tesla P100-PCIE-16GB", "15f8", "16384", remapped_rows__pending="[N/A]"), driver="535.309.01"),
        ("GW-GPU-026",),
    ),
    "L40S with 550": (host(*many(2, "NVIDIA L40S", "26b9", "46068"), driver="550.163.01"), ()),
    "V100 with 580": (host(*many(4, "Tesla V100-SXM2-16GB", "1db1", "16384"), driver="580.178.04"), ("GW-GPU-026",)),
    "B200 with 595": (host(*many(8, "NVIDIA B200", "2901", "183359"), driver="595.91.07"), ()),
    "H200 with 610": (host(*many(8, "NVIDIA H200", "2335", "143771"), driver="610.57.04"), ()),
    "24 × A16": (host(*many(24, "NVIDIA A16", "25b6", "15356"), driver="570.86.15"), ()),
    "RTX 4090": (
        host(*many(1, "NVIDIA GeForce RTX 4090", "2684", "24564", ecc__mode__current="[N/A]", pstate="P8")),
        (),
    ),
    "GB10": (
        host(
            [row(0, "NVIDIA GB10", "0000000F:01:00.0", "2e12", "[N/A]", addressing_mode="ATS")],
            function("000f:01:00.0", "2e12", "030000"),
        ),
        ("GW-GPU-003", "GW-GPU-027"),
    ),
}


@pytest.mark.parametrize("name", MACHINES)
def test_nothing_is_wrong_with_a_healthy_machine(name: str) -> None:
    raw, known = MACHINES[name]
    assert gpu_ids(raw) == list(known)


def test_nothing_is_wrong_with_the_captured_host() -> None:
    assert gpu_ids(CAPTURE) == []
    assert gpu_ids(b"") == []


def test_no_gpu() -> None:
    raw = host([], "", said="No devices were found\n", status=6)
    assert finding(raw, "GW-GPU-001", "info").evidence == ("no PCI function of vendor 10de with a display class",)
    passed = host([], function("0000:41:00.0", "26b9", driver="vfio-pci"), said="No devices were found\n", status=6)
    assert "0000:41:00.0 NVIDIA L40S: passed through, bound to vfio-pci" in only(passed, "GW-GPU-001").evidence
    blind = edit("unseen", "PCI devices|there is no /sys/bus/pci/devices\n", probe=without("pci", probe=raw))
    assert "GW-GPU-001" not in ids(blind)
    assert "GW-GPU-001" not in ids(changed(parse_probe(raw), os=OsFacts("ubuntu", kind="wsl2")))


def test_the_bus_and_nvidia_smi_differ_for_no_known_reason() -> None:
    rows, bus = a100(3)
    found = finding(host(rows[:2], bus), "GW-GPU-002", "error")
    assert found.evidence[0] == "PCI shows 3 GPUs, nvidia-smi 2"
    assert found.evidence[1].startswith("0000:0c:00.0, NVIDIA A100-SXM4-80GB, bound to nvidia: seen by pci alone")
    assert "GW-GPU-002" not in ids(host(rows, bus))
    inside = changed(parse_probe(host(rows[:2], bus)), os=OsFacts("ubuntu", kind="container"))
    assert "GW-GPU-002" not in ids(inside)  # a container has the host's bus, and the GPUs that it was given


def test_a_missing_gpu_that_is_explained_counts_once() -> None:
    rows, bus = a100(2)
    lost = host(rows[:1], bus, said="Unable to determine the device handle for GPU1: 0000:08:00.0: Unknown Error\n")
    assert gpu_ids(lost) == ["GW-GPU-004"]
    info = {"0000:08:00.0": "Model: NVIDIA A100-SXM4-80GB\nGPU Excluded: Yes\n"}
    assert gpu_ids(host(rows[:1], bus, information=info)) == ["GW-GPU-006"]
    nouveau = bus.replace(
        "0000:08:00.0 0x20b2 0x030200 0 driver=nvidia", "0000:08:00.0 0x20b2 0x030200 0 driver=nouveau"
    )
    assert gpu_ids(host(rows[:1], nouveau)) == []
    assert gpu_ids(with_log(host(rows[:1], bus), XID_79)) == ["GW-GPU-004"]


def test_gpu_and_cpu_share_one_memory() -> None:
    raw, _ = MACHINES["GB10"]
    assert "shared with the CPU; the host has" in finding(raw, "GW-GPU-003", "info").evidence[0]
    orin = row(0, "Orin (nvgpu)", "N/A", "0000", "[N/A]", uuid="54d0709b-1111-2222-3333-444444444444")
    jetson = changed(parse_probe(host([orin], "", driver="540.4.0")), os=OsFacts("ubuntu", kind="jetson"))
    assert gpu_ids(jetson) == ["GW-GPU-003", "GW-GPU-027"]
    assert "GW-GPU-003" not in ids(host(*many(1, "NVIDIA GH200 480GB", "2342", "97871", addressing_mode="ATS")))


def test_old_plugins_and_shared_memory() -> None:
    probe = parse_probe(MACHINES["GB10"][0])
    assert finding(probe, "GW-GPU-027", "info")
    assert "GW-GPU-027" not in ids(changed(probe, kubernetes=KubernetesFacts("none")))


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("Unable to determine the device handle for GPU1: 0000:08:00.0: Unknown Error\n", 0),
        ("Unable to determine the device handle for GPU0000:08:00.0: Unknown Error\n", 0),
        ("Unable to determine the device handle for GPU 0000:08:00.0: GPU is lost.  Reboot the system\n", 15),
    ],
)
def test_a_lost_gpu(said: str, status: int) -> None:
    rows, bus = a100(3)
    del rows[1]
    found = finding(host(rows, bus, said=said, status=status), "GW-GPU-004", "error")
    assert len(found.evidence) == 1
    assert "0000:08:00.0 (NVIDIA A100-SXM4-80GB)" in found.evidence[0]
    assert "GPU 0 " not in found.evidence[0]


def test_a_gpu_that_fell_off_the_bus() -> None:
    rows, bus = a100(2)
    gone = bus.replace("0000:08:00.0 0x20b2 0x030200 0 driver=nvidia", "0000:08:00.0 0x20b2 0x030200 0 width=63")
    assert "reads as ones" in only(host(rows[:1], gone), "GW-GPU-004").evidence[0]
    assert "GW-GPU-004" not in ids(host(rows, gone))  # nvidia-smi has its values
    cells = host([rows[0], rows[1] | {"temperature.gpu": "[GPU is lost]"}], bus)
    assert "nvidia-smi: GPU is lost" in only(cells, "GW-GPU-004").evidence[0]
    logged = only(with_log(host(rows[:1], bus), XID_79), "GW-GPU-004")
    assert logged.evidence == (f"GPU at 0000:08:00.0 (NVIDIA A100-SXM4-80GB): kernel log: {XID_79}",)
    vanished = only(with_log(host(rows[:1], bus.splitlines(keepends=True)[0]), XID_79), "GW-GPU-004")
    assert "no longer on the bus" in vanished.evidence[0]


def test_an_xid_79_that_is_over() -> None:
    """The GPU is back since: it is no longer lost."""
    probe = with_log(host(*a100(2)), XID_79)
    assert gpu_ids(probe) == []
    handed_over = function("0000:08:00.0", "20b2", driver="vfio-pci")
    rows, bus = a100(1)
    assert gpu_ids(with_log(host(rows, bus + handed_over), XID_79)) == ["GW-GPU-018"]


def test_a_gpu_that_needs_a_reset() -> None:
    raw = first(temperature__gpu="[GPU requires reset]", pstate="[GPU requires reset]")
    assert "pstate, temperature.gpu: GPU requires reset" in finding(raw, "GW-GPU-005", "error").evidence[0]
    assert gpu_ids(raw) == ["GW-GPU-005"]
    assert "GW-GPU-005" not in ids(first(temperature__gpu="[N/A]"))


def test_an_excluded_gpu() -> None:
    rows, bus = a100(2)
    info = {"0000:08:00.0": "Model: NVIDIA A100-SXM4-80GB\nGPU Excluded:\t {}\n"}
    yes = {a: text.format("Yes") for a, text in info.items()}
    assert "GPU Excluded: Yes" in finding(host(rows[:1], bus, information=yes), "GW-GPU-006", "info").evidence[0]
    assert "GW-GPU-006" not in ids(host(rows, bus, information={a: t.format("No") for a, t in info.items()}))


def test_errors_in_place_of_values() -> None:
    many_cells = first(temperature__gpu="ERR!", pstate="ERR!")
    assert "pstate, temperature.gpu: ERR!" in finding(many_cells, "GW-GPU-007", "error").evidence[0]
    finding(first(temperature__gpu="[Unknown Error]"), "GW-GPU-007", "warning")
    assert gpu_ids(first(fabric__status="Unknown Error", fabric__state="[Unknown Error]")) == []
    assert gpu_ids(first(compute_cap="[Function Not Found]", pstate="[Not Found]")) == []


def test_a_corrupted_inforom() -> None:
    rows, bus = a100(2)
    warned = host(rows, bus, said="WARNING: infoROM is corrupted at gpu 0000:08:00.0\n", status=14)
    assert "GPU 1 at 0000:08:00.0" in finding(warned, "GW-GPU-008", "warning").evidence[0]
    assert "status 14" in only(host(rows, bus, status=14), "GW-GPU-008").evidence[0]
    assert "GW-GPU-008" not in ids(host(rows, bus))


@pytest.mark.parametrize(
    ("cells", "rule_id", "severity", "line"),
    [
        ({"ecc.errors.uncorrected.volatile.total": "3"}, "GW-GPU-009", "warning", "volatile.total = 3"),
        ({"remapped_rows.failure": "Yes"}, "GW-GPU-010", "error", "remapped_rows.failure = Yes"),
        ({"remapped_rows.pending": "Yes"}, "GW-GPU-011", "warning", "remapped_rows.pending = Yes"),
        ({"retired_pages.pending": "Yes"}, "GW-GPU-011", "warning", "retired_pages.pending = Yes"),
        ({"compute_mode": "Prohibited"}, "GW-GPU-022", "error", "compute_mode = Prohibited"),
        ({"compute_mode": "Exclusive_Process"}, "GW-GPU-023", "info", "compute_mode = Exclusive_Process"),
        ({"mig.mode.pending": "Enabled"}, "GW-GPU-013", "warning", "current = Disabled, mig.mode.pending = Enabled"),
        ({"mig.mode.current": "[Insufficient Permissions]"}, "GW-GPU-029", "warning", "mig.mode.current: Insufficient"),
    ],
)
def test_what_one_column_says(cells: Mapping[str, str], rule_id: str, severity: str, line: str) -> None:
    raw = first(**{column.replace(".", "__"): text for column, text in cells.items()})
    assert gpu_ids(raw) == [rule_id]
    found = finding(raw, rule_id, severity)
    assert len(found.evidence) == 1
    assert found.evidence[0].startswith("GPU 0 at 0000:04:00.0 (NVIDIA A100-SXM4-80GB): ")
    assert line in found.evidence[0]
    for column in cells:
        assert gpu_ids(first(**{column.replace(".", "__"): "[N/A]"})) == []


@pytest.mark.parametrize(
    ("action", "severity", "step"),
    [
        ("Reset", "error", "--gpu-reset"),
        ("GPU Reset", "error", "--gpu-reset"),
        ("Drain and Reset", "error", "--gpu-reset"),
        ("Reboot", "error", "reboot it"),
        ("Node Reboot", "error", "reboot it"),
        ("Recover IMEX Domain", "error", "nvidia-imex"),
        ("Drain P2P", "warning", "talk to each other"),
        ("Something New", "error", "debug guidelines"),
    ],
)
def test_the_driver_asks_for_a_recovery(action: str, severity: str, step: str) -> None:
    found = finding(first(gpu_recovery_action=action), "GW-GPU-012", severity)
    assert f"gpu_recovery_action = {action}" in found.evidence[0]
    assert step in found.remedy


@pytest.mark.parametrize("action", ["None", "N/A", "[N/A]", "[Not Supported]", ""])
def test_the_driver_asks_for_nothing(action: str) -> None:
    assert gpu_ids(first(gpu_recovery_action=action)) == []


def vgpu(status: str, mode: str = "VGPU") -> bytes:
    full = (
        f"GPU 00000000:04:00.0\n    GPU Virtualization Mode\n        Virtualization Mode : {mode}\n"
        f"    vGPU Software Licensed Product\n        License Status : {status}\n"
    )
    return host(*many(1, "NVIDIA A40-48Q", "2235", "49140"), full=full)


@pytest.mark.parametrize(
    ("status", "severity"),
    [("Unlicensed (Restricted)", "error"), ("Unlicensed (Unrestricted)", "warning"), ("Unlicensed", "warning")],
)
def test_a_virtual_gpu_without_licence(status: str, severity: str) -> None:
    assert finding(vgpu(status), "GW-GPU-017", severity).evidence[0].endswith(f"License Status: {status}")
    assert gpu_ids(vgpu(status, "Pass-Through")) == []


def test_a_virtual_gpu_with_a_licence() -> None:
    assert gpu_ids(vgpu("Licensed (Expiry: 2027-1-31 11:32:22 GMT)")) == []
    assert gpu_ids(vgpu("N/A")) == []


def test_devices_that_are_no_gpu_of_this_host() -> None:
    rows, bus = a100(1)
    others = (
        function("0000:41:00.0", "26b9", driver="vfio-pci")
        + "".join(function(f"0000:43:{n:02x}.0", "2235", vf=1) for n in range(10))
        + function("0000:45:00.0", "1fb0", "038000", driver=None)
    )
    raw = host(rows, bus + others)
    assert gpu_ids(raw) == ["GW-GPU-018", "GW-GPU-019", "GW-GPU-020"]
    assert only(raw, "GW-GPU-018").evidence == ("0000:41:00.0 NVIDIA L40S: passed through, bound to vfio-pci",)
    assert only(raw, "GW-GPU-019").evidence[-1] == "and 2 more virtual functions"
    assert "class 0380" in only(raw, "GW-GPU-020").evidence[0]
    assert gpu_ids(host(rows, bus)) == []


def test_a_host_of_virtual_gpus() -> None:
    rows, bus = many(1, "NVIDIA A40", "2235", "46068")
    raw = host(rows, bus.replace("nvidia\n", "nvidia vfs=16\n"))
    assert "16 virtual functions" in finding(raw, "GW-GPU-019", "info").evidence[0]
    assert gpu_ids(host(rows, bus.replace("nvidia\n", "nvidia vfs=0\n"))) == []


@pytest.mark.parametrize(
    ("bits", "severity", "words"),
    [
        ("0x0000000000000040", "warning", "hw-thermal, 91 °C"),
        ("0x0000000000000088", "warning", "hw-slowdown, hw-power-brake, 91 °C"),
        ("0x0000000000000008", "info", "hw-slowdown, 91 °C"),
    ],
)
def test_a_gpu_slowed_down_by_its_hardware(bits: str, severity: str, words: str) -> None:
    raw = first(clocks_throttle_reasons__active=bits, temperature__gpu="91")
    assert finding(raw, "GW-GPU-021", severity).evidence[0].endswith(words)


@pytest.mark.parametrize(
    "bits", ["0x0", "0x0000000000000001", "0x0000000000000005", "0x0000000000000124", "[N/A]", "x"]
)
def test_what_slows_a_gpu_down_in_every_day(bits: str) -> None:
    assert gpu_ids(first(clocks_throttle_reasons__active=bits)) == []


def test_errors_in_the_kernel_log() -> None:
    telling = "[ 812.5] NVRM: Xid (PCI:0000:04:00): 62, pid=4711, name=python, 2d5c(38a8) 00000000 00000000"
    found = finding(with_log(CAPTURE, telling), "GW-GPU-028", "warning")
    assert found.evidence == (telling,)
    of_programs = [f"NVRM: Xid (PCI:0000:04:00): {n}, pid=1, name=python, x" for n in (13, 31, 43, 45, 68, 109)]
    assert gpu_ids(with_log(CAPTURE, *of_programs, "NVRM: loading NVIDIA UNIX Open Kernel Module")) == []
    known = [f"NVRM: Xid (PCI:0000:04:00): {n}, x" for n in (48, 63, 64, 74, 94, 95, 119, 120)]
    assert gpu_ids(with_log(CAPTURE, *known)) == []  # rules about the driver speak of those
    flood = [f"{telling} {n}" for n in range(50)]
    assert only(with_log(CAPTURE, *flood), "GW-GPU-028").evidence[-1] == "and 44 more lines"


def test_different_models() -> None:
    rows, bus = a100(1)
    other = row(1, "NVIDIA L4", "00000000:5F:00.0", "27b8", "23034")
    raw = host([*rows, other], bus + function("0000:5f:00.0", "27b8"))
    assert finding(raw, "GW-GPU-030", "info").evidence == ("1 × NVIDIA A100-SXM4-80GB", "1 × NVIDIA L4")
    display = row(1, "NVIDIA DGX Display", "00000000:5F:00.0", "1fb0", "3906")
    assert gpu_ids(host([*rows, display], bus + function("0000:5f:00.0", "1fb0"))) == []


def test_the_host_is_not_called_ready_while_a_gpu_is_in_doubt() -> None:
    probe = ready()
    (gpu,) = probe.facts.gpus
    assert evaluate(HEALTHY, probe)
    for doubt in (
        replace(gpu, seen_by=("pci",)),
        replace(gpu, fault="Unknown Error", fault_fields=("temperature.gpu",)),
        replace(gpu, denied=("mig.mode.current",)),
        replace(gpu, excluded=True),
    ):
        assert evaluate(HEALTHY, changed(probe, gpus=(doubt,))) is None
    for driver in (
        replace(probe.facts.driver, loaded=None, userspace=None),
        replace(probe.facts.driver, problem="nvidia-smi gave no answer in time", problem_code=124),
    ):
        assert evaluate(HEALTHY, changed(probe, driver=driver)) is None
    warned = replace(probe.facts.driver, problem="WARNING: infoROM is corrupted", problem_code=14)
    hidden = replace(gpu, pci="0000:5f:00.0", seen_by=("pci",), excluded=True)
    assert evaluate(HEALTHY, changed(probe, driver=warned, gpus=(gpu, hidden)))


def test_every_rule_about_gpus_tells_its_story() -> None:
    for rule in RULES:
        assert rule.effect
        assert rule.detected
        assert rule.sources
        assert rule.messages
        assert rule.covers
