"""The whole wizard by keyboard on the simulated fleet: real logins, real scripts, a real Kubernetes API."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from gpuwizard.answers.toml import read_answers
from gpuwizard.fleet import open_fleet
from gpuwizard.flow import close
from gpuwizard.session import Session
from screens.app import GpuwizardApp
from screens.widgets.lines import Lines
from screens.widgets.rows import Rows
from tests.screens.driving import page_of, press, screen_text, settle

LIMIT = 90.0


@asynccontextmanager
async def simulated(tmp_path: Path) -> AsyncIterator[Session]:
    """A session over the built-in fleet, as `gpuwizard demo` makes it."""
    async with open_fleet("mixed", state_dir=tmp_path / "fleets", fresh=True) as fleet:
        session = Session(fleet=fleet, clock=fleet.clock, state_dir=fleet.state_dir)
        session.set_hosts(fleet.targets)
        try:
            yield session
        finally:
            await close(session)


async def idle(pilot: Pilot[Any], app: GpuwizardApp) -> None:
    """Wait until the engine has finished what it does."""
    deadline = time.monotonic() + LIMIT
    await pilot.pause()
    while app.busy:
        assert time.monotonic() < deadline, screen_text(app)
        await asyncio.gather(*(w.wait() for w in app.workers if w.group in ("probe", "plan", "apply")))
        await pilot.pause()
    await settle(pilot)


@pytest.mark.timeout(240)
async def test_from_hosts_to_monitor_by_keyboard(tmp_path: Path) -> None:
    async with simulated(tmp_path) as session:
        app = GpuwizardApp(session)
        async with app.run_test(size=(80, 24)) as pilot:
            await press(pilot, "f3")
            await idle(pilot, app)
            shown = screen_text(app)
            assert "ops was not let in" in shown
            assert "plan mends" in shown
            await press(pilot, "f3", "f3", "f3")
            await idle(pilot, app)
            assert page_of(app) == "review"
            assert session.plan is not None
            rows = app.screen.query_one(Rows)
            while rows.key != "kube-c17":
                await press(pilot, "down")
            assert "+" in app.screen.query_one(Lines).plain
            answers = tmp_path / "site.toml"
            await press(pilot, "f9", "ctrl+u", *str(answers), "enter")
            await settle(pilot)
            assert read_answers(answers) == session.answers
            if session.fleet is not None and session.fleet.can_apply is not None:
                pytest.skip(f"the fleet cannot be walled in here: {session.fleet.can_apply}")
            await press(pilot, "f8", "tab", "enter")
            assert page_of(app) == "apply"
            await idle(pilot, app)
            shown = screen_text(app)
            assert "6 confirmed" in shown
            assert "proof: 6 of 6 hosts passed" in shown
            assert app.exit_code() == 1, "two hosts could not be changed"
            await press(pilot, "f3")
            assert page_of(app) == "monitor"
            deadline = time.monotonic() + LIMIT
            while len(app.samples.history) < 11:
                assert time.monotonic() < deadline
                await pilot.pause(0.1)
            app.page_screens()[-1].draw()
            await settle(pilot)
            assert "11 GPUs" in screen_text(app)
            assert "shared" in screen_text(app)
            await press(pilot, "f2", "f2", "f5")
            await idle(pilot, app)
            assert session.plan is not None
            assert session.plan.empty, "the second plan changes nothing"
            assert "nothing to change" in screen_text(app)
            await press(pilot, "f10")
        assert app.return_value == 1


@pytest.mark.timeout(240)
async def test_stop_puts_back_what_is_in_flight(tmp_path: Path) -> None:
    async with simulated(tmp_path) as session:
        if session.fleet is not None and session.fleet.can_apply is not None:
            pytest.skip(f"the fleet cannot be walled in here: {session.fleet.can_apply}")
        app = GpuwizardApp(session)
        async with app.run_test(size=(80, 24)) as pilot:
            await press(pilot, "f3")
            await idle(pilot, app)
            await press(pilot, "f3", "f3", "f3")
            await idle(pilot, app)
            await press(pilot, "f8", "tab", "enter")
            deadline = time.monotonic() + LIMIT
            while not any(run.waiting for run in app.progress.hosts.values()):
                assert time.monotonic() < deadline, screen_text(app)
                await pilot.pause(0.05)
            await press(pilot, "f10")
            assert "A run is going on" in screen_text(app)
            await press(pilot, "2", "enter")
            while app.busy:
                assert time.monotonic() < deadline, screen_text(app)
                await pilot.pause(0.05)
            await settle(pilot)
            shown = screen_text(app)
            # On a loaded machine the host may be at its confirmation by the time that the keys are taken.
            too_late = any("▶ confirm: confirming" in run.lines for run in app.progress.hosts.values())
            assert "rolled-back" in shown or ("confirmed" in shown and too_late)
            await press(pilot, "f10")
        assert app.return_value == 130


@pytest.mark.timeout(120)
async def test_the_monitor_alone(tmp_path: Path) -> None:
    async with simulated(tmp_path) as session:
        app = GpuwizardApp(session, start="monitor")
        async with app.run_test(size=(80, 24)) as pilot:
            deadline = time.monotonic() + LIMIT
            while len(app.samples.history) < 11:
                assert time.monotonic() < deadline, screen_text(app)
                await pilot.pause(0.1)
            app.page_screens()[-1].draw()
            await settle(pilot)
            assert "11 GPUs" in screen_text(app)
            assert "Next" not in screen_text(app)
            await press(pilot, "f10")
        assert app.return_value == 0
