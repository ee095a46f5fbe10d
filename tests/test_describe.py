"""Every event has a line of words and a JSON object."""

import json
from datetime import UTC, datetime
from typing import get_args

import pytest

from gpuwizard.describe import describe, event_json
from gpuwizard.events import (
    Event,
    HostOutcome,
    HostProgress,
    LogLine,
    Note,
    PodProgress,
    Rung,
    StageChanged,
    Waiting,
)

NOW = datetime(2026, 11, 21, 1, 2, 3, 456789, tzinfo=UTC)
CASES: tuple[tuple[Event, str, str], ...] = (
    (StageChanged("probe", "started", "3 hosts"), "probe started: 3 hosts", "stage"),
    (HostProgress("a", "apply", "arm", "it reverts in 300 s", 5, 10), "a: arm: it reverts in 300 s", "progress"),
    (HostProgress("a", "probe", "ready"), "a: ready", "progress"),
    (LogLine("a", "apply", "level=error"), "a: level=error", "log"),
    (LogLine(None, "apply", "text"), "text", "log"),
    (
        Waiting("a", "apply", "k3s.service is up", "activating", 12.4, 60),
        "a: waiting until k3s.service is up (activating; 12 of 60 s)",
        "waiting",
    ),
    (
        PodProgress("a", "gpuwizard", "check-a", "Pending", "FailedCreatePodSandBox", "no runtime for nvidia"),
        "a: pod gpuwizard/check-a Pending (FailedCreatePodSandBox: no runtime for nvidia)",
        "pod",
    ),
    (Rung("a", "pod", "failed", "no GPU", 31.2), "a: pod FAILED after 31 s: no GPU", "rung"),
    (Rung("a", "allocatable", "passed"), "a: allocatable passed", "rung"),
    (HostOutcome("a", "confirmed"), "a: confirmed", "outcome"),
    (
        HostOutcome("a", "unconfirmed", "no answer", reverts_at=NOW),
        "a: unconfirmed: no answer (reverts at 01:02:03 UTC)",
        "outcome",
    ),
    (Note("apply", "all well"), "all well", "note"),
    (Note("apply", "careful", "warning", "a"), "a: warning: careful", "note"),
)


@pytest.mark.parametrize(("event", "line", "kind"), CASES)
def test_words_and_json(event: Event, line: str, kind: str) -> None:
    assert describe(event) == line
    data = event_json(event, NOW)
    assert list(data) == ["schema", "time", "host", "stage", "kind", "message", "data"]
    assert (data["schema"], data["time"]) == ("gpuwizard.event/1", "2026-11-21T01:02:03.456Z")
    assert (data["host"], data["kind"]) == (event.host, kind)
    assert line.endswith(data["message"])
    json.dumps(data)


def test_every_kind_of_event_has_a_case() -> None:
    assert {type(event) for event, _, _ in CASES} == set(get_args(Event))


def test_the_quiet_reader_is_spared_logs_and_waits() -> None:
    for event, line, kind in CASES:
        assert describe(event, verbose=False) == ("" if kind in ("log", "waiting") else line)


def test_times_in_the_data_are_rfc_3339() -> None:
    data = event_json(HostOutcome("a", "reverting", reverts_at=NOW), NOW)["data"]
    assert data["reverts_at"] == "2026-11-21T01:02:03.456Z"
    assert event_json(HostOutcome("a", "confirmed"), NOW)["data"]["reverts_at"] is None
