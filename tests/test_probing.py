"""A look at hosts tells what it does: the steps of the probe, turns, times, and what is broken off."""

import asyncio
import re
from pathlib import Path

import pytest

from assets import asset
from gpuwizard import flow
from gpuwizard.errors import GpuwizardError
from gpuwizard.events import Event, HostProgress
from gpuwizard.facts.parse import parse_probe
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.pool import connect_all
from gpuwizard.remote.target import parse_targets
from gpuwizard.remote.transport import Transport
from gpuwizard.session import Session
from gpuwizard.unattended import Unattended
from gpuwizard.work.probe import STEPS, _Arrived
from tests.captured import CAPTURE


def test_the_probe_says_its_steps_in_their_order() -> None:
    script = asset("remote/probe.sh").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\s+step ([a-z-]+)$", script, re.MULTILINE)) == STEPS


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_steps_are_heard_in_pieces_of_any_size(size: int) -> None:
    raw = b"@@ begin 0 0\n\n" + b"".join(
        f"@@ step:{step} 0 0\n\n@@ noise 0 40\n{'x' * 40}\n".encode() for step in STEPS
    )
    heard: list[str] = []
    arrived = _Arrived(heard.append)
    for at in range(0, len(raw), size):
        arrived.take(raw[at : at + size])
    assert bytes(arrived.raw) == raw
    assert list(dict.fromkeys(heard)) == (list(STEPS) if size < 100 else [STEPS[-1]])


@pytest.mark.parametrize(
    "raw", [b"\n@@ step:nosuchstep 0 0\n", b"\n@@ step:", b"\n@@ step:\xff\xfe 0 0\n", b"@@ step:gpus"]
)
def test_what_is_no_step_is_not_heard(raw: bytes) -> None:
    heard: list[str] = []
    _Arrived(heard.append).take(raw)
    assert heard == []


def test_steps_are_no_facts() -> None:
    steps = b"".join(f"@@ step:{step} 0 0\n\n".encode() for step in STEPS)
    at = CAPTURE.index(b"@@ ", 3)
    with_steps = parse_probe(CAPTURE[:at] + steps + CAPTURE[at:])
    assert with_steps == parse_probe(CAPTURE)
    cut = parse_probe(CAPTURE[: CAPTURE.index(b"@@ end ")] + b"@@ step:files 0 0\n\n")
    assert "step" not in cut.facts.unseen[-1].why


async def test_a_host_begins_when_it_is_its_turn(tmp_path: Path) -> None:
    said: list[str] = []
    targets = parse_targets(["127.0.0.1:1", "127.0.0.2:1", "127.0.0.3:1"])
    options = ConnectOptions(ssh_config=tmp_path / "none", known_hosts=tmp_path / "none", connect_timeout=5)

    def ended(target: object, result: Transport | GpuwizardError) -> None:
        assert isinstance(result, GpuwizardError)
        said.append("ended")

    (tmp_path / "none").write_text("")
    await connect_all(
        targets, options, Unattended(), parallel=1, on_result=ended, on_start=lambda target: said.append(target.name)
    )
    assert said == ["127.0.0.1", "ended", "127.0.0.2", "ended", "127.0.0.3", "ended"]


async def test_records_tell_turns_and_times(tmp_path: Path) -> None:
    session = Session()
    session.set_hosts(["127.0.0.1:1", "local"])
    (tmp_path / "none").write_text("")
    session.login = ConnectOptions(ssh_config=tmp_path / "none", known_hosts=tmp_path / "none", connect_timeout=5)
    session.watched = True
    states: dict[str, list[str]] = {}
    steps: list[str | None] = []

    def emit(event: Event) -> None:
        if isinstance(event, HostProgress):
            states.setdefault(event.host, []).append(event.state)
            steps.append(session.hosts["local"].step)

    await flow.probe(session, emit, Unattended())
    assert states == {"127.0.0.1": ["connecting", "failed"], "local": ["connecting", "probing", "ready"]}
    record = session.hosts["local"]
    assert record.step == STEPS[-1], "the last thing it looked at"
    assert session.probe_began is not None
    assert session.probe_ended is not None
    assert session.probe_began <= (record.began or 0) <= record.since <= session.probe_ended
    assert record.elapsed(0.0) == record.since - (record.began or 0)
    assert session.hosts["127.0.0.1"].elapsed(0.0) is not None
    assert record.seconds is not None


async def test_hosts_of_a_look_that_is_broken_off_wait_again(tmp_path: Path) -> None:
    session = Session()
    session.set_hosts(["127.0.0.1:1", "127.0.0.2:1", "local"])
    (tmp_path / "none").write_text("")
    session.login = ConnectOptions(ssh_config=tmp_path / "none", known_hosts=tmp_path / "none")
    begun = asyncio.Event()
    task = asyncio.create_task(flow.probe(session, lambda _: begun.set(), Unattended()))
    await begun.wait()
    assert {record.state for record in session.hosts.values()} <= {"queued", "connecting"}
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert {record.state for record in session.hosts.values()} == {"waiting"}
    assert session.probe_ended is not None
