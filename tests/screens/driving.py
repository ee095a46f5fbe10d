"""Driving an application as an operator does, and reading its screen."""

from typing import Any

from textual.app import App
from textual.pilot import Pilot

from screens.app import GpuwizardApp
from tests.screens import sessions

SHORT = ("topics", "draft", "save")


def screen_text(app: App[Any]) -> str:
    """What the terminal shows, without colours."""
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips()) + "\n"


async def settle(pilot: Pilot[Any]) -> None:
    """Wait until the page is built, its options are worked out and everything is drawn."""
    await pilot.pause()
    short = [w for w in pilot.app.workers if w.group in SHORT and not w.is_finished]
    if short:  # an empty list would stand for all workers, and some of them wait for us
        await pilot.app.workers.wait_for_complete(short)
    await pilot.pause()
    await pilot.pause()


async def press(pilot: Pilot[Any], *keys: str) -> None:
    """Keys one after another; after each that is no letter, all that follows from it."""
    for key in keys:
        await pilot.press(key)
        if len(key) > 1:
            await settle(pilot)
    await settle(pilot)


def page_of(app: GpuwizardApp) -> str:
    """The id of the page on screen."""
    return app.page_screens()[-1].PAGE


async def show_run(app: GpuwizardApp, pilot: Pilot[Any]) -> None:
    """Put a run in the middle on screen, as the engine's events would."""
    await press(pilot, "f3", "f3", "f3")
    assert app.session.plan is not None
    app.progress.begin(app.session.plan)
    app.busy, app.applied = "apply", app.session.plan
    app.go_forward("review")
    await settle(pilot)
    for event in sessions.run_events():
        app.emit(event)
    app.flush()
    await settle(pilot)


def show_samples(app: GpuwizardApp) -> None:
    """Twenty rounds of measurements, and the pods."""
    for _ in range(20):
        for host, found in sessions.samples(app.session.clock.now()).items():
            app.samples.take(host, found)
    app.samples.take_pods(sessions.PODS)
