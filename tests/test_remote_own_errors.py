"""An error of ours while a host speaks comes out as itself: it is no lost link, and the link stays usable."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpuwizard.cli import main
from gpuwizard.remote import exchange as exchange_module
from gpuwizard.remote.connect import connect
from gpuwizard.remote.exchange import Exchange, Gate
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.target import parse_targets
from gpuwizard.remote.transport import Script, Transport
from gpuwizard.work import probe as probe_module
from tests.remote_peers import HELLO, PASSWORD, Operator, Rules, ssh_server, target, with_password

TALK = Script("main() { echo one; echo two; sleep 20; echo three; }")


@pytest.fixture(params=["ssh", "local"])
async def transport(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Transport]:
    """Both transports promise the same."""
    if request.param == "local":
        local = await connect(parse_targets(["local"])[0], ConnectOptions(), Operator())
        yield local
        await local.close()
        return
    async with ssh_server(Rules(password=PASSWORD)) as peer:
        opened = await connect(target(peer), with_password(tmp_path, peer), Operator())
        yield opened
        await opened.close()


class Bug(Exception):
    """What only a mistake raises."""


def buggy(said: object) -> None:
    """A listener that cannot stand the second thing it hears."""
    if b"two" in (said if isinstance(said, bytes) else str(said).encode()):
        raise Bug("in the listener")


@pytest.mark.parametrize("listener", ["on_line", "on_data"])
async def test_an_error_in_a_listener_is_raised_at_once_and_as_it_is(transport: Transport, listener: str) -> None:
    async with asyncio.timeout(10):
        with pytest.raises(Bug, match="in the listener") as caught:
            await transport.run(TALK, **{listener: buggy})  # type: ignore[arg-type]
    assert any(entry.name == "buggy" for entry in caught.traceback)
    assert transport.alive
    assert (await transport.run(HELLO)).ok


async def test_an_error_at_the_unfinished_last_line(transport: Transport) -> None:
    with pytest.raises(Bug):
        await transport.run(Script("main() { printf two; }"), on_line=buggy)
    assert transport.alive
    assert (await transport.run(HELLO)).ok


async def test_an_error_in_reading_lines_of_a_script_that_goes_on(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await transport.start(Script("main() { echo one; read -r x; echo two; read -r x; }"))
    try:
        lines = process.lines()
        assert await anext(lines) == "one"
        monkeypatch.setattr(exchange_module, "clean", buggy)
        await process.write_line("go on")
        async with asyncio.timeout(10):
            with pytest.raises(Bug):
                await anext(lines)
            with pytest.raises(Bug):
                await process.wait()
            with pytest.raises(Bug):
                await process.write_line("more")
    finally:
        monkeypatch.undo()
        await process.close()
    assert transport.alive
    assert (await transport.run(HELLO)).ok


def test_an_error_behind_the_mark_of_root() -> None:
    """The last of the sudo dialogue and the first line may come in one piece."""
    exchange = Exchange("begin", gate=Gate("prompt", "open"), on_line=buggy)
    exchange.received(b"open\nbegin\none\ntwo\nthree\n", error=False)
    with pytest.raises(Bug):
        exchange.raise_broken()
    assert exchange.over.is_set()
    exchange.received(b"two\n", error=False)  # nothing is taken any more, and nothing raised at the wire
    exchange.finished(0, link_lost=False)
    assert exchange.stdout == b"one\ntwo\nthree\n"


@pytest.mark.parametrize(("flags", "shown"), [([], False), (["-v"], True)])
def test_the_command_line_says_that_the_error_is_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str], shown: bool
) -> None:
    monkeypatch.setenv("GPUWIZARD_STATE_DIR", str(tmp_path))

    def take(self: object, data: bytes) -> None:
        raise Bug("cannot take it")

    monkeypatch.setattr(probe_module._Arrived, "take", take)
    assert main(["check", *flags, "local"]) == 1
    said = capsys.readouterr().err
    assert "an error in gpuwizard itself: Bug: cannot take it" in said
    assert ("Traceback" in said and ", in take" in said) == shown
    assert "lost" not in said
