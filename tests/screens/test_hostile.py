"""A fleet whose every text is hostile: nothing is parsed, nothing is executed, nothing reaches the terminal raw."""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import OptionList

from gpuwizard.errors import LoginError
from gpuwizard.events import Choice, SecretPrompt
from gpuwizard.secret import Secret
from gpuwizard.session import Session
from screens.app import GpuwizardApp
from tests.screens import sessions
from tests.screens.driving import page_of, press, screen_text, settle, show_run

EVIL = sessions.hostile_text()
RAW = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
KEPT = {"severity", "kind", "flavour", "sudo", "role", "family", "cri", "state", "phase", "stage", "outcome", "name"}
KEPT |= {"host", "level", "verb", "strategy", "unit", "namespace", "hash", "api_version", "mode", "version"}


def poisoned(value: Any, name: str = "") -> Any:
    """The same data with every free text replaced by a hostile one."""
    if name in KEPT or isinstance(value, Secret):
        return value
    match value:
        case str():
            return EVIL
        case tuple():
            return tuple(poisoned(item, name) for item in value)
        case Mapping():
            return {key: poisoned(item, name) for key, item in value.items()}
        case _ if is_dataclass(value) and not isinstance(value, type) and type(value).__name__ != "SecretBytes":
            return replace(value, **{f.name: poisoned(getattr(value, f.name), f.name) for f in fields(value)})
    return value


@pytest.fixture
def hostile(tmp_path: Path) -> Session:
    made = sessions.planned(sessions.session(state_dir=tmp_path))
    for record in made.hosts.values():
        if record.probe is None:
            record.error = LoginError(EVIL, where=EVIL, remedy=EVIL)
            continue
        facts = poisoned(record.probe.facts)
        facts = replace(facts, gpus=tuple(replace(g, name=EVIL, uuid=EVIL) for g in facts.gpus), components=(EVIL,))
        record.probe = replace(record.probe, facts=facts)
        record.findings = tuple(poisoned(f) for f in record.findings)
    made.plan = poisoned(made.plan)
    return made


def assert_harmless(app: GpuwizardApp) -> None:
    shown = screen_text(app)
    assert not RAW.search(shown.replace("\n", ""))
    for strip in app.screen._compositor.render_strips():
        for segment in strip:
            meta = segment.style.meta if segment.style else {}
            assert "@click" not in meta, "host text became a clickable action"


async def test_the_whole_wizard_on_hostile_hosts(
    wizard: Callable[..., GpuwizardApp], size: tuple[int, int], hostile: Session
) -> None:
    app = wizard(hostile)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        assert_harmless(app)
        await press(pilot, "slash", *"evil", "enter", "n", "enter")
        assert_harmless(app)
        await press(pilot, "f", "right", "slash", *"long", "enter", "n")
        assert_harmless(app)
        await press(pilot, "escape", "escape", "escape", "f3")
        for _ in range(6):
            assert_harmless(app)
            await press(pilot, "down")
        await press(pilot, "f4")
        for _ in hostile.hosts:
            await press(pilot, "down")
            assert_harmless(app)
        await press(pilot, "f6")
        assert_harmless(app)
        await press(pilot, "escape", "f3")
        for _ in range(8):
            await press(pilot, "down")
            assert_harmless(app)
        await press(pilot, "f3")
        assert page_of(app) == "review"
        assert "[@click=app.quit]see[/]" in screen_text(app)
        for _ in range(9):
            await press(pilot, "down")
            assert_harmless(app)
        await press(pilot, "f8")
        assert_harmless(app)
        await press(pilot, "escape")


async def test_a_run_with_hostile_output(
    wizard: Callable[..., GpuwizardApp], size: tuple[int, int], hostile: Session
) -> None:
    app = wizard(hostile)
    async with app.run_test(size=size) as pilot:
        await show_run(app, pilot)
        for event in sessions.run_events():
            app.emit(poisoned(event))
        app.flush()
        await settle(pilot)
        assert_harmless(app)
        for host, found in sessions.samples(app.session.clock.now()).items():
            app.samples.take(host, tuple(replace(s, name=EVIL, uuid=EVIL, faults=(EVIL,)) for s in found))
        app.samples.take_pods(tuple(poisoned(pod) for pod in sessions.PODS))
        await app.switch_mode("monitor")
        await settle(pilot)
        assert_harmless(app)


async def test_hostile_questions(wizard: Callable[..., GpuwizardApp], size: tuple[int, int]) -> None:
    app = wizard()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        answers: list[object] = []

        async def ask() -> None:
            options = (("no", EVIL), ("yes", EVIL))
            answers.append(await app.choose(Choice("host-key", EVIL, EVIL, options, "no", EVIL)))
            answers.append(await app.secret(SecretPrompt("challenge", EVIL, EVIL, EVIL)))

        app.run_worker(ask(), group="asking")
        await settle(pilot)
        assert_harmless(app)
        assert app.screen.query_one(OptionList).option_count == 2
        await press(pilot, "escape")
        assert_harmless(app)
        await press(pilot, "escape")
        assert answers == ["no", None]
