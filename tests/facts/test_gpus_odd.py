"""Hosts on which bus and nvidia-smi do not tell the same: handed-over, lost and excluded GPUs, noise, odd addresses."""

import pytest

from gpuwizard.facts.model import Gpu, HostFacts
from gpuwizard.facts.parse import parse_probe
from tests.gpu_hosts import bus_of, function, host, many, row

MIB = 1024 * 1024


def facts(raw: bytes) -> HostFacts:
    return parse_probe(raw).facts


def only_gpu(raw: bytes) -> Gpu:
    (gpu,) = facts(raw).gpus
    return gpu


def healthy(gpu: Gpu) -> None:
    assert (gpu.fault, gpu.fault_fields, gpu.denied, gpu.inforom_corrupted) == (None, (), (), None)
    assert gpu.seen_by == ("pci", "nvidia-smi")
    assert gpu.bound_driver == "nvidia"


def test_passed_through_virtual_and_display_functions() -> None:
    rows, bus = many(1, "NVIDIA L4", "27b8", "23034")
    others = (
        function("0000:41:00.0", "26b9", driver="vfio-pci")
        + function("0000:41:00.1", "22ba", "040300", driver="vfio-pci")
        + function("0009:01:00.0", "2342", driver="nvgrace_gpu_vfio_pci")
        + function("0000:43:00.4", "2235", vf=1, driver="nvidia")
        + function("0000:43:00.5", "2235", vf=1, driver="vfio-pci")
        + function("0000:44:00.0", "22a3", "068000", driver="vfio-pci")
        + function("0000:45:00.0", "1fb0", "038000", driver=None)
    )
    probe = facts(host(rows, bus + others))
    assert [gpu.pci for gpu in probe.gpus] == ["0000:04:00.0"]
    assert [(d.pci, d.kind) for d in probe.other_devices] == [
        ("0000:41:00.0", "passed-through"),
        ("0000:43:00.4", "virtual-function"),
        ("0000:43:00.5", "virtual-function"),
        ("0000:44:00.0", "passed-through"),
        ("0000:45:00.0", "display"),
        ("0009:01:00.0", "passed-through"),
    ]
    assert probe.other_devices[0].name == "NVIDIA L40S"
    assert probe.nvswitches == 0


def test_a_display_controller_that_nvidia_smi_runs_is_a_gpu() -> None:
    rows, bus = many(1, "NVIDIA T1000", "1fb0", "4096")
    probe = facts(host(rows, bus.replace("0x030200", "0x038000")))
    assert probe.other_devices == ()
    assert probe.gpus[0].seen_by == ("pci", "nvidia-smi")


def test_a_host_of_virtual_gpus() -> None:
    rows, bus = many(1, "NVIDIA A40", "2235", "46068")
    gpu = only_gpu(host(rows, bus.replace("nvidia\n", "nvidia vfs=16\n")))
    assert (gpu.virtualization, gpu.virtual_functions) == ("host-vgpu", 16)
    old = only_gpu(host(rows, bus.replace("nvidia\n", "nvidia mdev=1\n")))
    assert (old.virtualization, old.virtual_functions) == ("host-vgpu", None)
    assert only_gpu(host(rows, bus.replace("nvidia\n", "nvidia vfs=0\n"))).virtualization is None


def test_a_gpu_that_fell_off_the_bus() -> None:
    rows, bus = many(1, "NVIDIA L40S", "26b9", "46068")
    gone = "0000:5f:00.0 0x26b9 0x030200 0 driver=nvidia width=63\n"
    assert facts(host(rows, bus + gone)).gpus[1].fault == "fallen off the bus"
    ones = "0000:5f:00.0 0xffff 0xffffff 0 vendor=0xffff driver=nvidia\n"
    lost = facts(host(rows, bus + ones)).gpus[1]
    assert (lost.pci, lost.pci_id, lost.fault, lost.seen_by) == ("0000:5f:00.0", None, "fallen off the bus", ("pci",))
    half = "0000:5f:00.0 0x26b9 - 0 driver=nvidia\n"  # the class could not be read: the id tells
    assert facts(host(rows, bus + half)).gpus[1].name == "NVIDIA L40S"
    assert len(facts(host(rows, bus + "0000:5f:00.0 0x22ba - 0\n")).gpus) == 1
    well = bus.replace("nvidia\n", "nvidia width=63\n")  # nvidia-smi has its values: it is there
    assert only_gpu(host(rows, well)).fault is None


def test_an_excluded_gpu() -> None:
    rows, bus = many(2, "NVIDIA A10", "2236", "23028")
    info = {
        "0000:08:00.0": "Model: \t\t Unknown\nGPU UUID: \t GPU-????????-????-????-????-????????????\n"
        "Bus Location: \t 0000:08:00.0\nGPU Excluded:\t Yes\n"
    }
    shown, hidden = facts(host(rows[:1], bus, information=info)).gpus
    assert (shown.excluded, hidden.excluded) == (None, True)
    assert (hidden.name, hidden.uuid, hidden.fault) == ("NVIDIA A10", None, None)


def test_rows_find_their_place_by_uuid_where_the_address_is_garbled() -> None:
    rows, bus = many(2, "NVIDIA A10", "2236", "23028")
    rows[0]["pci.bus_id"] = rows[1]["pci.bus_id"] = "[Unknown Error]"
    info = {a: f"Model: NVIDIA A10\nGPU UUID: {r['uuid']}\n" for a, r in zip(bus_of(2), rows[::-1], strict=True)}
    first, second = facts(host(rows, bus, information=info)).gpus
    assert (first.pci, first.index, second.pci, second.index) == ("0000:04:00.0", 1, "0000:08:00.0", 0)


def test_a_gpu_listed_twice_counts_once() -> None:
    rows, bus = many(1, "NVIDIA A10", "2236", "23028")
    assert len(facts(host([*rows, *rows], bus)).gpus) == 1


def test_domains_of_every_length() -> None:
    far = row(0, "NVIDIA H200", "00010000:01:00.0", "2335", "143771")
    azure = row(1, "NVIDIA H100 NVL", "00002C5A:00:00.0", "2321", "95830")
    bus = function("10000:01:00.0", "2335") + function("2c5a:00:00.0", "2321")
    gpus = facts(host([far, azure], bus)).gpus
    assert [gpu.pci for gpu in gpus] == ["2c5a:00:00.0", "10000:01:00.0"]
    for gpu in gpus:
        healthy(gpu)


@pytest.mark.parametrize(
    "noise",
    [
        "ERROR: ld.so: object '/usr/lib/libfoo.so' from LD_PRELOAD cannot be preloaded: ignored.\n",
        "Lade Module …\n",
        "\x1b[31mmodule load cuda\x1b[0m\n",
        "\x00\x01\x02 binary \xff\n",
    ],
)
def test_noise_beside_good_rows_is_no_problem(noise: str) -> None:
    rows, bus = many(2, "NVIDIA A10", "2236", "23028")
    probe = facts(host(rows, bus, said=noise))
    assert probe.driver.problem is None
    assert len(probe.gpus) == 2
    for gpu in probe.gpus:
        healthy(gpu)


def test_colours_and_carriage_returns() -> None:
    rows, bus = many(1, "NVIDIA A10", "2236", "23028")
    uuid = rows[0]["uuid"]
    rows[0] |= {"uuid": f"\x1b[4m{uuid}\x1b[0m", "clocks_throttle_reasons.active": "0x0000000000000000\r"}
    gpu = only_gpu(host(rows, bus))
    assert (gpu.uuid, gpu.throttle) == (uuid, ())


def test_drivers_without_a_header_and_with_units() -> None:
    text = "0, GPU-a, NVIDIA A10, 00000000:04:00.0, 0x223610DE, 580.95.05, 23028 MiB, [N/A], Enabled\r\n"
    gpu = only_gpu(host([], function("0000:04:00.0", "2236"), said=text))
    assert (gpu.name, gpu.memory_bytes, gpu.persistence) == ("NVIDIA A10", 23028 * MIB, True)
