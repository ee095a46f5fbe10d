"""The main job on the simulated fleet: wizard and unattended run are one engine, a second run changes nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuwizard import flow
from gpuwizard.fleet import open_fleet
from gpuwizard.session import Session
from screens.app import GpuwizardApp

BAD = {"locked", "no-driver"}


@pytest.fixture
def gpuwizard(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line with a state directory of its own, poisoned HOME and no terminal."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "config").write_text("Host *\n  HostName poisoned.invalid\n  ProxyCommand touch poisoned\n")
    (home / ".kube").mkdir()
    (home / ".kube" / "config").write_text("this: is: no: kubeconfig")
    environment = {
        **os.environ,
        "HOME": str(home),
        "KUBECONFIG": str(home / "poison"),
        "HTTP_PROXY": "http://127.0.0.1:1",
        "SSH_AUTH_SOCK": str(home / "no-agent"),
        "GPUWIZARD_STATE_DIR": str(tmp_path / "state"),
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gpuwizard", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            timeout=100,
        )

    return run


def test_the_example_runs_and_a_second_run_changes_nothing(
    gpuwizard: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    answers = tmp_path / "site.toml"
    answers.write_text(gpuwizard("answers", "example").stdout)
    first = gpuwizard("--simulate", "mixed", "--answers", str(answers))
    assert first.returncode == 1, first.stderr
    result = first.stdout[first.stdout.index("result:") :]
    ended = {line.split(":")[0].split()[-1]: line for line in result.splitlines() if line.startswith("  ")}
    assert {name for name, line in ended.items() if "✗" in line} == BAD
    for name in set(ended) - BAD:
        assert "confirmed · validation: passed" in ended[name]

    second = gpuwizard("--simulate", "mixed", "--answers", str(answers), "--json")
    assert second.returncode == 1
    events = [json.loads(line) for line in second.stdout.splitlines()]
    assert all(next(iter(e)) == "schema" and e["schema"] == "gpuwizard.event/1" for e in events)
    assert not [e for e in events if e["stage"] == "apply"]
    third = gpuwizard("--simulate", "mixed", "--answers", str(answers))
    assert "nothing to change" in third.stdout
    assert gpuwizard("rollback", "--simulate", "mixed").stdout.count("\n") == 1
    assert not list(tmp_path.rglob("poisoned"))


def test_rollback_gives_back_the_exact_bytes(
    gpuwizard: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    hosts = tmp_path / "state" / "fleets" / "mixed" / "hosts"

    def configuration() -> dict[str, tuple[bytes, int, int]]:
        found = [p for host in ("kube-c17", "kube-c21") for p in (hosts / host / "etc").rglob("*") if p.is_file()]
        return {str(p): (p.read_bytes(), p.stat().st_mode, p.stat().st_uid) for p in found}

    assert gpuwizard("plan", "--simulate", "mixed").returncode == 1
    before = configuration()
    assert gpuwizard("--simulate", "mixed", "--answers", os.devnull).returncode == 1
    assert configuration() != before
    run = gpuwizard("rollback", "--simulate", "mixed").stdout.split()[0]
    undone = gpuwizard("rollback", run, "--simulate", "mixed", "--yes")
    assert undone.returncode == 0, undone.stdout + undone.stderr
    assert configuration() == before


async def wait_until(condition: Callable[[], bool], pilot: object) -> None:
    for _ in range(600):
        await pilot.pause(0.05)  # type: ignore[attr-defined]
        if condition():
            return
    raise AssertionError("it did not happen within 30 s")


async def test_the_wizard_and_the_unattended_run_make_the_same_plan(
    gpuwizard: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    saved = tmp_path / "wizard.toml"
    async with open_fleet("mixed", state_dir=tmp_path / "state" / "fleets") as fleet:
        session = Session(clock=fleet.clock, state_dir=fleet.state_dir, fleet=fleet, interactive=True)
        session.set_hosts(fleet.targets)
        app = GpuwizardApp(session)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("f3")
            await wait_until(lambda: all(r.state in ("ready", "failed") for r in session.hosts.values()), pilot)
            await wait_until(lambda: not app.busy, pilot)
            await pilot.press("f3")
            await pilot.press("f3")
            session.update(sharing=session.answers.sharing.model_copy(update={"mode": "time-slicing", "replicas": 4}))
            await pilot.press("f3")
            await wait_until(lambda: session.plan is not None and not app.busy, pilot)
            assert session.plan is not None
            shown = session.plan.hash
            flow.save_answers(session, saved)
        await flow.close(session)

    planned = gpuwizard("plan", "--simulate", "mixed", "--answers", str(saved), "--json")
    assert json.loads(planned.stdout)["hash"] == shown
    run = gpuwizard("--simulate", "mixed", "--answers", str(saved), "--dry-run")
    assert f"plan {shown[:16]}: " in run.stdout
    assert "replicas: 4" in run.stdout
