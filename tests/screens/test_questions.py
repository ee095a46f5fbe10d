"""What the engine asks comes as one question at a time; Escape is the answer that is safe."""

import asyncio
from collections.abc import Callable
from typing import Any

from syrupy.assertion import SnapshotAssertion
from textual.pilot import Pilot

from gpuwizard.errors import GpuwizardError
from gpuwizard.events import Choice, SecretPrompt
from gpuwizard.secret import Secret
from screens.app import GpuwizardApp
from screens.questions import error_screen
from tests.screens.driving import page_of, press, screen_text, settle

Make = Callable[..., GpuwizardApp]
HOST_KEY = Choice(
    "host-key",
    "Unknown host key",
    "gpu1 shows an ED25519 key that is not known here:\nSHA256:n0Rm6oq3Xo0b1c8lq6n5m4k3j2h1g0f9e8d7c6b5a4\n"
    "Compare it with the host before you accept it.",
    (("refuse", "Refuse"), ("accept", "Accept for this run"), ("save", "Accept and keep in known_hosts")),
    "refuse",
    "gpu1",
)
SUDO = SecretPrompt("sudo", "sudo password", "It is tried on every host whose sudo asks for one.", "gpu1")


async def ask(pilot: Pilot[Any], app: GpuwizardApp, *questions: Choice | SecretPrompt) -> list[object]:
    """Ask from a worker, as the engine does; the answers arrive in the list."""
    answers: list[object] = []

    async def one(question: Choice | SecretPrompt) -> None:
        if isinstance(question, Choice):
            answers.append(await app.choose(question))
        else:
            answers.append(await app.secret(question))

    async def all_at_once() -> None:
        async with asyncio.TaskGroup() as group:
            for question in questions:
                group.create_task(one(question))

    app.run_worker(all_at_once(), group="asking")
    await settle(pilot)
    return answers


async def test_an_unknown_host_key(wizard: Make, size: tuple[int, int], screen: SnapshotAssertion) -> None:
    app = wizard()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        answers = await ask(pilot, app, HOST_KEY)
        assert screen_text(app) == screen
        await press(pilot, "down", "enter")
        assert answers == ["accept"]


async def test_escape_refuses_and_a_number_moves_to_an_answer(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        answers = await ask(pilot, app, HOST_KEY)
        await press(pilot, "escape")
        answers += await ask(pilot, app, HOST_KEY)
        await press(pilot, "3", "enter")
        await settle(pilot)
    assert answers[0] == "refuse"


async def test_a_click_answers(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        answers = await ask(pilot, app, HOST_KEY)
        await pilot.click("#answers", offset=(4, 2))
        await settle(pilot)
        assert answers == ["save"]


async def test_a_secret_is_not_shown_and_kept_nowhere(
    wizard: Make, size: tuple[int, int], screen: SnapshotAssertion
) -> None:
    app = wizard()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        answers = await ask(pilot, app, SUDO)
        await press(pilot, *"hunter2")
        assert screen_text(app) == screen
        await press(pilot, "enter")
        assert answers == [Secret("hunter2")]
        assert "hunter2" not in repr(app.session) + repr(app.places) + repr(list(app.workers))


async def test_one_question_at_a_time(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        answers = await ask(pilot, app, HOST_KEY, SUDO)
        assert "Unknown host key" in screen_text(app)
        assert "sudo password" not in screen_text(app)
        await press(pilot, "escape")
        assert "sudo password" in screen_text(app)
        await press(pilot, "escape")
        assert answers == ["refuse", None]
        assert page_of(app) == "hosts"


async def test_an_error_says_what_where_and_what_to_do(
    wizard: Make, size: tuple[int, int], screen: SnapshotAssertion
) -> None:
    app = wizard()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        error = GpuwizardError("the cluster refused it", where="https://10.0.0.1:6443", remedy="ask for the right")
        app.push_screen(error_screen(error))
        await settle(pilot)
        assert screen_text(app) == screen


async def test_help_is_about_the_page(wizard: Make, size: tuple[int, int], screen: SnapshotAssertion) -> None:
    app = wizard()
    async with app.run_test(size=size) as pilot:
        await press(pilot, "f3", "question_mark")
        assert screen_text(app) == screen
