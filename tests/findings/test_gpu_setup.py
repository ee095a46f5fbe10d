"""The rules about MIG, and about GPUs that are too old or too new for a driver: where they speak and where not."""

from collections.abc import Sequence

import pytest

from gpuwizard.facts.parse import parse_probe
from gpuwizard.findings import find
from tests.captured import ids, only
from tests.findings.test_gpu import MACHINES, a100, finding, gpu_ids
from tests.gpu_hosts import function, host, many


def mig(*modes: str, listing: str | None, driver: str = "580.95.05") -> bytes:
    rows, bus = a100(len(modes))
    for gpu, mode in zip(rows, modes, strict=True):
        gpu |= {"mig.mode.current": mode, "mig.mode.pending": mode}
    return host(rows, bus, listing=listing, driver=driver)


def listed(*profiles: Sequence[str]) -> str:
    lines = []
    for index, devices in enumerate(profiles):
        lines.append(f"GPU {index}: NVIDIA A100-SXM4-80GB (UUID: GPU-{index:08d}-aaaa-bbbb-cccc-dddddddddddd)")
        lines += [f"  MIG {p}  Device  {n}: (UUID: MIG-{index}{n})" for n, p in enumerate(devices)]
    return "\n".join(lines) + "\n"


def test_mig_without_devices() -> None:
    raw = mig("Enabled", "Disabled", listing=listed([], []))
    assert "lists no MIG device" in finding(raw, "GW-GPU-014", "error").evidence[0]
    assert "GW-GPU-014" not in ids(mig("Enabled", listing=listed(["7g.80gb"])))
    assert "GW-GPU-014" not in ids(mig("Enabled", listing=None))  # it was not listed: nothing is known


def test_different_mig_profiles() -> None:
    raw = mig("Enabled", "Enabled", listing=listed(["3g.40gb", "2g.20gb"], ["1g.10gb"] * 7))
    assert (
        "GPU 0 at 0000:04:00.0 (NVIDIA A100-SXM4-80GB): 3g.40gb, 2g.20gb" in finding(raw, "GW-GPU-015", "info").evidence
    )
    half = only(mig("Enabled", "Disabled", listing=listed(["7g.80gb"], [])), "GW-GPU-015")
    assert half.evidence[-1].endswith("MIG is off")
    assert gpu_ids(mig("Enabled", "Enabled", listing=listed(["1g.10gb"] * 7, ["1g.10gb"] * 7))) == []


@pytest.mark.parametrize(
    ("driver", "modes", "severity"),
    [
        ("570.124.06", ("Enabled", "Disabled"), "warning"),
        ("570.148.08", ("Enabled", "Disabled"), "warning"),
        ("570.158.01", ("Enabled", "Enabled"), "info"),
        ("570.86.15", ("Enabled", "Disabled"), None),
        ("570.172.08", ("Enabled", "Disabled"), None),
        ("580.95.05", ("Enabled", "Disabled"), None),
        ("570.133.20", ("Disabled", "Disabled"), None),
    ],
)
def test_drivers_that_cannot_mix_mig_and_whole_gpus(driver: str, modes: Sequence[str], severity: str | None) -> None:
    raw = mig(*modes, listing=listed(["7g.80gb"], ["7g.80gb"]), driver=driver)
    found = [f for f in find(parse_probe(raw)) if f.id == "GW-GPU-016"]
    assert [f.severity for f in found] == ([severity] if severity else [])
    assert all(f.evidence[0] == f"driver {driver}" for f in found)


@pytest.mark.parametrize(
    ("name", "device", "driver", "words"),
    [
        ("Tesla K80", "102d", "535.309.01", "branch 470 is the last one for kepler"),
        ("Tesla M60", "13f2", "595.91.07", "branch 580 is the last one for maxwell"),
        ("Tesla V100", "1db6", "595.91.07", "branch 580 is the last one for volta"),
        ("unknown and old", "1dff", "610.57.04", "branch 580 is the last one for GPUs before Turing"),
        ("B200", "2901", "550.163.01", "branch 570 is the first one for blackwell"),
    ],
)
def test_a_gpu_that_the_driver_does_not_know(name: str, device: str, driver: str, words: str) -> None:
    rows, bus = a100(1)
    raw = host(rows, bus + function("0000:5f:00.0", device, driver=None), driver=driver)
    found = finding(raw, "GW-GPU-024", "error")
    assert words in found.evidence[0]
    assert f"loaded module: {driver}" in found.evidence
    assert "GW-GPU-002" not in ids(raw)


@pytest.mark.parametrize(
    ("device", "driver"),
    [("1eb8", "610.57.04"), ("2901", "570.211.01")],
)
def test_a_gpu_that_the_driver_should_know(device: str, driver: str) -> None:
    rows, bus = a100(1)
    raw = host(rows, bus + function("0000:5f:00.0", device, driver=None), driver=driver)
    assert "GW-GPU-024" not in ids(raw)
    assert "GW-GPU-002" in ids(raw)  # why it does not work is not known


def test_nvidia_smi_lists_it_so_it_is_supported() -> None:
    assert "GW-GPU-024" not in ids(host(*many(1, "Tesla V100-SXM2-16GB", "1db1", "16384"), driver="595.91.07"))


def test_an_open_module_explains_that_an_old_gpu_is_missing() -> None:
    rows, bus = a100(1)
    raw = host(rows, bus + function("0000:5f:00.0", "1db6", driver=None))
    assert parse_probe(raw).facts.driver.flavour == "open"
    assert "GW-GPU-002" not in ids(raw)
    closed = raw.replace(
        b"NVIDIA UNIX Open Kernel Module for x86_64  580", b"NVIDIA UNIX x86_64 Kernel Module       580"
    )
    assert "GW-GPU-002" in ids(closed)


def test_generations_that_end() -> None:
    kepler = host(*many(1, "Tesla K80", "102d", "11441"), driver="470.256.02")
    assert finding(kepler, "GW-GPU-025", "warning").evidence[0].endswith("kepler: last branch 470")
    volta = MACHINES["V100 with 580"][0]
    assert finding(volta, "GW-GPU-026", "info").evidence[0].endswith("volta: last branch 580")
    assert {"GW-GPU-025", "GW-GPU-026"}.isdisjoint(ids(MACHINES["T4 with 470"][0]))
