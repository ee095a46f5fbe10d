"""Samples out of what metrics.sh prints: numbers where there are numbers, None where the GPU does not say."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwizard.monitor.history import History
from gpuwizard.monitor.model import Sample, sample_json
from gpuwizard.monitor.parse import parse_sample, throttle_reasons

H200 = (Path(__file__).parent / "data" / "monitor" / "h200.txt").read_text().splitlines()
NOW = datetime(2026, 11, 20, 23, 25, tzinfo=UTC)


def one(row: str, *more: str) -> Sample:
    (sample,) = parse_sample("spark", NOW, ["status 0", f"gpu {row}", *more]).samples
    return sample


def test_h200() -> None:
    reading = parse_sample("a", NOW, H200)
    assert reading.problem is None
    (sample,) = reading.samples
    assert (sample.index, sample.name, sample.pci) == (0, "NVIDIA H200", "0000:00:06.0")
    assert (sample.utilization_pct, sample.temperature_c, sample.power_w) == (0.0, 37.0, 115.91)
    assert (sample.memory_used_bytes, sample.memory_total_bytes) == (0, 143771 * 1024**2)
    assert (sample.power_limit_w, sample.sm_clock_mhz, sample.throttle) == (700.0, 480.0, ("idle",))
    assert (sample.processes, sample.unified_memory, sample.alarms) == ((), False, ())


def test_json_has_the_contracts_shape() -> None:
    document = sample_json(parse_sample("a", NOW, H200).samples[0])
    assert list(document)[:4] == ["schema", "time", "host", "gpu"]
    assert document["time"] == "2026-11-20T23:25:00.000Z"
    assert json.loads(json.dumps(document))["processes"] == []


def test_gb10_shows_the_hosts_memory_and_says_so() -> None:
    row = "0, GPU-b, 0000000F:01:00.0, 12, [N/A], [N/A], 41, 11.80, [N/A], 2418, 0x0000000000000004, NVIDIA GB10"
    sample = one(row, "memory 125829120 104857600")
    assert sample.unified_memory
    assert (sample.memory_total_bytes, sample.memory_used_bytes) == (125829120 * 1024, 20971520 * 1024)
    assert (sample.utilization_pct, sample.power_w, sample.power_limit_w) == (12.0, 11.8, None)
    blind = one(row)
    assert (blind.memory_total_bytes, blind.memory_used_bytes, blind.unified_memory) == (None, None, True)


def test_missing_memory_elsewhere_stays_missing() -> None:
    row = "0, GPU-c, 0000:01:00.0, [N/A], [N/A], [N/A], N/A, [Not Supported], , ERR!, [N/A], NVIDIA X"
    sample = one(row, "memory 1000 500")
    values = (
        sample.utilization_pct,
        sample.memory_used_bytes,
        sample.memory_total_bytes,
        sample.temperature_c,
        sample.power_w,
        sample.power_limit_w,
        sample.sm_clock_mhz,
        sample.throttle,
        sample.processes,
    )
    assert values == (None,) * 9
    assert sample.faults == ("ERR!",)
    assert sample_json(sample)["utilization_pct"] is None


def test_mig_has_no_utilization() -> None:
    row = "0, GPU-m, 0000:01:00.0, [N/A], 512, 81559, 40, 120.1, 700.00, 1980, 0x0, NVIDIA H100 80GB HBM3"
    sample = one(row)
    assert (sample.utilization_pct, sample.memory_used_bytes, sample.throttle) == (None, 512 * 1024**2, ())


def test_processes_with_commas_in_their_names() -> None:
    row = "0, GPU-p, 0000:01:00.0, 1, 2, 3, 4, 5, 6, 7, 0x0, X"
    lines = (
        "processes",
        "process GPU-p, 123, 512, a, b,c",
        "process GPU-p, 124, [N/A], /usr/bin/x",
        "process GPU-q, 1, 2, y",
    )
    sample = one(row, *lines)
    assert sample.processes is not None
    assert [(p.pid, p.name, p.memory_bytes) for p in sample.processes] == [
        (123, "a, b,c", 512 * 1024**2),
        (124, "/usr/bin/x", None),
    ]


def test_a_lost_gpu_leaves_the_others() -> None:
    reading = parse_sample(
        "a",
        NOW,
        [
            "status 0",
            "gpu 0, GPU-a, 0000:01:00.0, 1, 2, 3, 4, 5, 6, 7, 0x40, X",
            "gpu Unable to determine the device handle for GPU3: 0000:5F:00.0: Unknown Error",
            "gpu 4, GPU-e, 0000:06:00.0, 1, 2, 3, [GPU requires reset], 5, 6, 7, 0x200, X",
        ],
    )
    assert [s.index for s in reading.samples] == [0, 4]
    assert "GPU3" in (reading.problem or "")
    assert reading.samples[0].alarms == ("hw-thermal",)
    assert reading.samples[1].faults == ("GPU requires reset",)
    assert reading.samples[1].throttle == ("0x200",)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["status 127"], "not installed"),
        (["status 124"], "no answer in time"),
        (["status 9", "gpu NVIDIA-SMI has failed because it couldn't communicate"], "couldn't communicate"),
        ([], "could not be read"),
    ],
)
def test_problems(lines: list[str], words: str) -> None:
    reading = parse_sample("a", NOW, lines)
    assert reading.samples == ()
    assert words in (reading.problem or "")


def test_throttle_bits() -> None:
    assert throttle_reasons("0x0000000000000044") == ("sw-power-cap", "hw-thermal")
    assert throttle_reasons("Active") is None
    assert throttle_reasons("[N/A]") is None


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(st.text(max_size=80), st.text(max_size=80).map("gpu {}".format), st.sampled_from(H200)), max_size=8
    )
)
def test_garbage(lines: list[str]) -> None:
    for sample in parse_sample("a", NOW, lines).samples:
        json.dumps(sample_json(sample), allow_nan=False)


def test_history_keeps_the_newest() -> None:
    history = History(3)
    for n in range(5):
        history.add([Sample("a", NOW, 0, "GPU-a", power_w=float(n)), Sample("a", NOW, 1, None, power_w=None)])
    assert list(history) == [("a", "GPU-a"), ("a", "#1")]
    assert history.series(("a", "GPU-a"), lambda s: s.power_w) == (2.0, 3.0, 4.0)
    assert history.series(("a", "#1"), lambda s: s.power_w) == (None, None, None)
    latest = history.latest(("a", "GPU-a"))
    assert latest is not None
    assert latest.power_w == 4.0
    history.forget("a")
    assert (len(history), history.latest(("a", "GPU-a")), history.samples(("x", "y"))) == (0, None, ())
    with pytest.raises(ValueError, match="at least 1"):
        History(0)
