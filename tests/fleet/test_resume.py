"""A laptop that is killed in the middle: what its hosts say decides how the run goes on, and nothing is done twice."""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from gpuwizard import flow
from gpuwizard.answers.model import Answers
from gpuwizard.errors import RefusedError
from gpuwizard.facts.cluster import ObjectKey
from gpuwizard.fleet import Fleet
from gpuwizard.journal import find_run, list_runs, plan_of
from gpuwizard.session import Session
from gpuwizard.unattended import Unattended
from gpuwizard.uninstalling import run_uninstall
from tests.fleet.test_cli_runs import Line

from .conftest import OpenFleet

SPEED = 30
HOST = """
[hosts.{name}]
distro = "debian-12"
gpus = ["T4"]
driver = "535.274.02"
toolkit = "1.18.0"
containerd = "1.7.24"
kubernetes = {{ flavour = "kubeadm", version = "v1.34.1" }}
"""
FLEET = f"speed = {SPEED}\n" + HOST.format(name="one") + HOST.format(name="two")
ANSWERS: dict[str, Any] = {"hosts": ["one", "two"], "validation": {"enabled": False}}
CONFIG = "etc/containerd/config.toml"


async def killed(
    fleet: Fleet,
    folder: Path,
    dies_at: str,
    rolls_back: str = "",
    *,
    uninstalls: bool = False,
    answers: dict[str, Any] = ANSWERS,
) -> None:
    """Apply (or roll back, or uninstall) from a process of its own that is killed at the event that says `dies_at`."""
    given = {
        "answers": answers,
        "state_dir": str(folder / "laptop"),
        "speed": SPEED,
        "hosts": list(fleet.targets),
        "endpoints": {name: asdict(e) for name, e in fleet.options.endpoints.items()},
        "kubeconfig": fleet.kubeconfig,
        "dies_at": dies_at,
        "rolls_back": rolls_back,
        "uninstalls": uninstalls,
    }
    file = folder / "given.json"
    file.write_text(json.dumps(given))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fleet.laptop", str(file), stderr=asyncio.subprocess.PIPE
    )
    _, err = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == -9, err.decode()


async def resumed(fleet: Fleet, folder: Path, answers: dict[str, Any] = ANSWERS) -> Session:
    session = Session(answers=Answers.model_validate(answers), state_dir=folder / "laptop")
    session.fleet, session.clock = fleet, fleet.clock
    session.set_hosts(fleet.targets)
    (run,) = list_runs(session.state_dir)
    assert run.cut
    await flow.probe(session, lambda _: None, Unattended())
    session.plan = plan_of(session.state_dir, run)
    await flow.connect_cluster(session, lambda _: None)
    try:
        await flow.run_plan(session, session.events.append, Unattended(), resume=run.id)
    finally:
        await flow.close(session)
    return session


@pytest.mark.parametrize(
    "dies_at", ["label gpuwizard.dev/gpu of one", "one: arm:", "one: health:", "two: replace:", "deleted DaemonSet"]
)
async def test_a_killed_uninstall_goes_on_where_its_hosts_are(
    fleet_of: OpenFleet, tmp_path: Path, dies_at: str
) -> None:
    async with fleet_of(FLEET) as fleet:
        before = {name: (tree(fleet, name) / CONFIG).read_bytes() for name in fleet.targets}
        await killed(fleet, tmp_path, "two: confirm:")
        await resumed(fleet, tmp_path)
        await killed(fleet, tmp_path, dies_at, uninstalls=True)
        cut = list_runs(tmp_path / "laptop")[0]
        assert (cut.kind, cut.cut) == ("uninstall", True)
        session = Session(answers=cut.answers, state_dir=tmp_path / "laptop", fleet=fleet, clock=fleet.clock)
        session.set_hosts(fleet.targets)
        await flow.probe(session, lambda _: None, Unattended())
        session.plan = plan_of(session.state_dir, cut)
        await flow.connect_cluster(session, lambda _: None)
        await run_uninstall(session, session.events.append, Unattended(), resume=cut.id)
        assert outcomes(session) == {"one": "confirmed", "two": "confirmed"}
        assert session.report is not None
        assert session.report.cluster_error is None
        for name in fleet.targets:
            assert (tree(fleet, name) / CONFIG).read_bytes() == before[name]
            log = (tree(fleet, name) / "var/lib/gpuwizard/runs" / cut.id / "log").read_text()
            assert log.count(" step restart ") == 1, log
            assert left_behind(fleet, name) == []
        assert session.cluster is not None
        assert all("gpuwizard.dev/gpu" not in node.labels for node in await session.cluster.nodes())
        assert await session.cluster.get(ObjectKey("apps/v1", "DaemonSet", "gpuwizard", "nvidia-device-plugin")) is None
        await flow.close(session)


def tree(fleet: Fleet, name: str) -> Path:
    return fleet.state_dir / "hosts" / name


def outcomes(session: Session) -> dict[str, str]:
    assert session.report is not None
    return {name: outcome.outcome for name, outcome in session.report.outcomes.items()}


def left_behind(fleet: Fleet, name: str) -> list[str]:
    """Timers, boot units and marks of a revert."""
    root = tree(fleet, name)
    units = [u for u in fleet.hosts[name].init.units if u.startswith("gpuwizard-revert-")]
    found = [*root.glob("etc/systemd/system/**/gpuwizard-*"), *root.glob("var/lib/gpuwizard/runs/*/armed")]
    return [*units, *(str(path) for path in found)]


@pytest.mark.parametrize(
    "dies_at",
    [
        "one: lock:",
        "one: check:",
        "one: backup:",
        "one: judge:",
        "one: arm:",
        "one: replace:",
        "one: restart:",
        "one: health:",
        "one: node:",
        "one: confirm:",
        "one: confirmed",
        "applied ",
        "two: replace:",
    ],
)
async def test_a_killed_run_goes_on_where_its_hosts_are(fleet_of: OpenFleet, tmp_path: Path, dies_at: str) -> None:
    async with fleet_of(FLEET) as fleet:
        await killed(fleet, tmp_path, dies_at)
        session = await resumed(fleet, tmp_path)
        assert outcomes(session) == {"one": "confirmed", "two": "confirmed"}
        assert session.report is not None
        assert session.report.cluster_error is None
        for name in fleet.targets:
            assert b"nvidia-container-runtime" in (tree(fleet, name) / CONFIG).read_bytes()
            (record,) = (tree(fleet, name) / "var/lib/gpuwizard/runs").iterdir()
            assert (record / "state").read_text().startswith("confirmed ")
            log = (record / "log").read_text()
            assert log.count(" step restart ") == 1, log
            assert left_behind(fleet, name) == []
    (run,) = list_runs(tmp_path / "laptop")
    assert (run.cut, run.id) == (False, session.run_id)
    assert {host.outcome for host in run.hosts} == {"confirmed"}
    assert not (tmp_path / "laptop" / "runs" / run.id / "run.plan").exists()


@pytest.mark.parametrize("dies_at", ["one: arm:", "one: health:", "two: replace:"])
async def test_a_killed_rollback_goes_on_too(fleet_of: OpenFleet, tmp_path: Path, dies_at: str) -> None:
    async with fleet_of(FLEET) as fleet:
        before = {name: (tree(fleet, name) / CONFIG).read_bytes() for name in fleet.targets}
        await killed(fleet, tmp_path, "two: confirm:")
        applied = (await resumed(fleet, tmp_path)).run_id
        assert applied is not None
        await killed(fleet, tmp_path, dies_at, rolls_back=applied)
        cut, done = list_runs(tmp_path / "laptop")
        assert (cut.cut, cut.rolls_back, done.id) == (True, applied, applied)
        session = Session(answers=cut.answers, state_dir=tmp_path / "laptop", fleet=fleet, clock=fleet.clock)
        session.set_hosts(fleet.targets)
        await flow.probe(session, lambda _: None, Unattended())
        await flow.roll_back(session, done, lambda _: None, Unattended(), resume=cut.id)
        await flow.close(session)
        assert outcomes(session) == {"one": "confirmed", "two": "confirmed"}
        assert {name: (tree(fleet, name) / CONFIG).read_bytes() for name in fleet.targets} == before
        for name in fleet.targets:
            log = (tree(fleet, name) / "var/lib/gpuwizard/runs" / cut.id / "log").read_text()
            assert log.count(" step restart ") == 1, log
            assert left_behind(fleet, name) == []
        assert not find_run(tmp_path / "laptop", cut.id).cut


async def test_what_nobody_confirmed_in_time_is_not_tried_again_and_the_rest_goes_on(
    fleet_of: OpenFleet, tmp_path: Path
) -> None:
    async with fleet_of(FLEET) as fleet:
        before = await asyncio.to_thread((tree(fleet, "one") / CONFIG).read_bytes)
        await killed(fleet, tmp_path, "one: node:")
        (record,) = (tree(fleet, "one") / "var/lib/gpuwizard/runs").iterdir()
        async with asyncio.timeout(60):
            while not (record / "state").read_text().startswith("reverted "):
                await asyncio.sleep(0.5)
        session = await resumed(fleet, tmp_path)
        assert outcomes(session) == {"one": "rolled-back", "two": "confirmed"}
        assert session.report is not None
        assert session.report.outcomes["one"].reason == "it was not confirmed within 300 s"
        assert (tree(fleet, "one") / CONFIG).read_bytes() == before
        assert left_behind(fleet, "one") == []


async def test_a_host_that_was_changed_meanwhile_is_refused_and_one_that_is_away_is_unconfirmed(
    fleet_of: OpenFleet, tmp_path: Path
) -> None:
    async with fleet_of(FLEET) as fleet:
        await killed(fleet, tmp_path, "one: confirmed")
        file = tree(fleet, "two") / CONFIG
        mine = file.read_bytes() + b"# an admin was here\n"
        file.write_bytes(mine)
        server = fleet.servers["one"]
        await server.close()
        session = await resumed(fleet, tmp_path)
        assert outcomes(session) == {"one": "unconfirmed", "two": "unchanged"}
        (run,) = list_runs(tmp_path / "laptop")
        assert run.cut  # and can go on, once the host is back
        fleet.options.endpoints["one"] = await server.open()  # type: ignore[index]
        session = await resumed(fleet, tmp_path)
        assert outcomes(session) == {"one": "confirmed", "two": "refused"}
        assert session.report is not None
        assert session.report.outcomes["two"].reason.startswith("stale plan: /etc/containerd/config.toml was ")
        assert file.read_bytes() == mine


async def test_a_run_that_is_still_at_work_is_left_to_it(fleet_of: OpenFleet, tmp_path: Path) -> None:
    async with fleet_of(FLEET) as fleet:
        await killed(fleet, tmp_path, "one: arm:")
        (run,) = list_runs(tmp_path / "laptop")
        session = Session(state_dir=tmp_path / "laptop", clock=fleet.clock)
        with flow.open_journal(session, resume=run.id):
            assert find_run(session.state_dir, run.id).running
            with pytest.raises(RefusedError, match=f"run {run.id} is still at work"):
                flow.open_journal(session, resume=run.id)


def test_the_command_goes_on_with_the_newest_run_that_was_cut(tmp_path: Path) -> None:
    """With `--simulate` the hosts live in the process: killing it is a power cut for them, too."""
    line = Line(tmp_path)
    assert line("resume", "--yes")[:2] == (0, "no run was cut: there is nothing to go on with\n")
    line("check", "kube-c17")
    configuration = line.hosts / "kube-c17" / CONFIG
    before = configuration.read_bytes()
    with line.start("--answers", str(line.answers), "kube-c17", "kube-c21") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for text in process.stdout:
            if "kube-c17: health:" in text:
                process.kill()
                break
        process.stdout.read()
    assert configuration.read_bytes() != before
    code, out, err = line("resume")
    assert code == 64
    assert "there is nobody to ask whether to go on (this goes on with run 2" in err
    code, out, err = line("resume", "--yes")
    assert code == 1, err
    assert "✗ kube-c17: rolled-back: the host was restarted before the change was confirmed" in out
    assert "✗ kube-c21: refused: stale plan: the boot was " in out
    assert configuration.read_bytes() == before
    run = line("rollback")[1].split()[0]
    code, out, _ = line("resume", run, "--yes")
    assert code == 0
    assert out.startswith(f"run {run} has ended (2")
