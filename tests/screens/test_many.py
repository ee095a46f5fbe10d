"""A thousand hosts: they come in, are filtered, searched and scrolled, and no key waits for it.

CPU time is measured, as in `test_speed.py`, so that a busy machine does not fail the test.
"""

import asyncio
import time
from collections.abc import Callable, Hashable
from pathlib import Path

import pytest
from textual import events

from gpuwizard.session import Session
from screens.app import GpuwizardApp
from screens.hosts import HostsScreen
from screens.widgets.rows import LazyRows
from tests.pace import slowness
from tests.screens import many
from tests.screens.driving import press, screen_text, settle
from tests.screens.test_speed import callbacks, longest

Make = Callable[..., GpuwizardApp]
COUNT = 1000
LIMIT = 0.1  # CPU seconds, on a quick machine


def limit(share: float = 1.0) -> float:
    """What that is on this machine at this moment."""
    return LIMIT * share * slowness()


@pytest.fixture(autouse=True)
def pace() -> None:
    """Look how fast the machine is before anything is measured, too."""
    slowness()


@pytest.fixture
def unseen(tmp_path: Path) -> Session:
    return many.session(COUNT, tmp_path)


@pytest.fixture
def seen(tmp_path: Path) -> Session:
    return many.session(COUNT, tmp_path, probed=True)


async def effect_of(app: GpuwizardApp, key: str, seen: Callable[[], Hashable]) -> float:
    """CPU seconds from a key to its effect, whatever else the application has to do meanwhile."""
    before, began = seen(), time.thread_time()
    asyncio.get_running_loop().call_soon(app.flush)  # the worst moment: just before all that came in is drawn
    event = events.Key(key, key if len(key) == 1 else None)
    event.set_sender(app)
    assert app._driver is not None
    app._driver.send_message(event)
    for _ in range(2000):
        await asyncio.sleep(0)
        if seen() != before:
            return time.thread_time() - began
    raise AssertionError(f"{key} had no effect:\n{screen_text(app)}")


async def test_the_first_fill(wizard: Make, seen: Session) -> None:
    spans = []
    for _ in range(2):
        app = wizard(seen)
        with callbacks() as spent:
            async with app.run_test(size=(140, 40)) as pilot:
                await settle(pilot)
                assert f"{COUNT} hosts" in screen_text(app)
        spans.append(max(spent))
    assert min(spans) < limit()


async def test_no_key_waits_while_a_thousand_hosts_come_in(wizard: Make, unseen: Session) -> None:
    app = wizard(unseen)
    async with app.run_test(size=(140, 40)) as pilot:
        await settle(pilot)
        app.busy = "probe"
        await press(pilot, "f4")
        table = app.screen.query_one(LazyRows)
        waits: list[float] = []
        keys = [*["down", "pagedown", "up", "pagedown", "pageup"] * 3, "slash", *"h200", "escape"]
        with callbacks() as spent:
            for number, happened in enumerate(many.look(unseen, list(unseen.hosts))):
                for event in happened:
                    app.emit(event)
                key = keys[number % len(keys)]
                if key in ("slash", "escape"):
                    await press(pilot, key)
                    continue
                waits.append(await effect_of(app, key, lambda: (table.key, app.places.get("hosts:filter"))))
        await settle(pilot)
        assert sorted(waits)[-3] < limit(0.5)
        assert max(waits) < limit()
        assert sorted(spent)[-3] < limit()
    assert all(record.state in ("ready", "failed") for record in unseen.hosts.values())


async def test_drawing_takes_a_small_part_of_the_time(
    wizard: Make, unseen: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[float] = []
    original = HostsScreen.draw_page

    def measured(self: HostsScreen) -> None:
        began = time.perf_counter()
        original(self)
        drawn.append(time.perf_counter() - began)

    monkeypatch.setattr(HostsScreen, "draw_page", measured)
    app = wizard(unseen)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.busy = "probe"
        drawn.clear()
        began = time.perf_counter()
        for happened in many.look(unseen, list(unseen.hosts), parallel=100):
            for event in happened:
                app.emit(event)
            await asyncio.sleep(0.02)
        took = time.perf_counter() - began
        assert 4 < len(drawn) <= took / 0.1 + took / 0.25 + 2, "events are drawn together"
        assert sum(drawn) < took / 3
        app.busy = ""
        app._settled()
        await settle(pilot)
        shown = screen_text(app)
    assert "10 no answer" in shown
    assert "24 error" in shown


async def test_the_findings_of_a_thousand_hosts(wizard: Make, seen: Session) -> None:
    app = wizard(seen)
    async with app.run_test(size=(140, 40)) as pilot:
        await settle(pilot)

        async def look_around() -> None:
            await press(pilot, "f3", "down", "down", "enter", "pagedown", "escape", "slash", *"gpu0082", "escape")
            await press(pilot, "f4", "end", "home", "slash", *"error", "enter", "escape", "f4", "f2")

        assert await longest(look_around) < limit(3), "it holds building two pages"
        await press(pilot, "f3")

        async def keys() -> None:
            await press(pilot, "down", "down", "up", "slash", *"gpu0082", "escape", "s", "S")

        assert await longest(keys) < limit()


async def test_one_host_of_a_thousand(wizard: Make, seen: Session) -> None:
    app = wizard(seen)
    async with app.run_test(size=(140, 40)) as pilot:
        await press(pilot, "enter")

        async def read() -> None:
            await press(pilot, "right", "right", "slash", *"cuda", "escape", "left", "f", "f", "pagedown")

        assert await longest(read) < limit()
