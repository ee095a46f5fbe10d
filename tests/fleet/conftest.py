"""Small fleets for tests: described in the test, kept in its own folder."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from gpuwizard.events import Choice, SecretPrompt
from gpuwizard.fleet import Fleet, open_fleet
from gpuwizard.remote.connect import connect
from gpuwizard.remote.target import parse_targets
from gpuwizard.remote.transport import Completed, Script, Transport

OpenFleet = Callable[..., AbstractAsyncContextManager[Fleet]]


class NoAnswers:
    """An operator who must not be asked."""

    async def choose(self, choice: Choice) -> str:
        raise AssertionError(f"asked {choice}")

    async def secret(self, prompt: SecretPrompt) -> None:
        raise AssertionError(f"asked {prompt}")


async def log_in(fleet: Fleet, name: str) -> Transport:
    return await connect(parse_targets([name])[0], fleet.options, NoAnswers())  # type: ignore[arg-type]


async def run_on(transport: Transport, text: str, *, root: bool = False) -> Completed:
    return await transport.run(Script(f"main() {{\n{text}\n}}\n"), root=root, timeout=30)


async def said(transport: Transport, text: str, *, root: bool = False) -> str:
    """What a script printed; it must succeed."""
    done = await run_on(transport, text, root=root)
    assert done.status == 0, (done.stdout, done.stderr)
    return done.stdout.decode()


@pytest.fixture
def fleet_of(tmp_path: Path) -> OpenFleet:
    """Open a fleet from TOML text; opened again with the same text it goes on where it was left."""

    @asynccontextmanager
    async def opened(text: str, **options: bool) -> AsyncIterator[Fleet]:
        spec = tmp_path / "small.toml"
        spec.write_text(text)
        async with open_fleet(str(spec), state_dir=tmp_path / "state", **options) as fleet:
            yield fleet

    return opened
