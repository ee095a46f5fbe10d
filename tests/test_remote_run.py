"""Running scripts: noise, limits, time, a link that dies. Against real servers on loopback and on this machine."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpuwizard.errors import GpuwizardError, LoginError, UnreachableError
from gpuwizard.remote import exchange as exchange_module
from gpuwizard.remote.connect import connect
from gpuwizard.remote.exchange import Exchange, Gate
from gpuwizard.remote.local import LocalTransport
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.target import parse_targets
from gpuwizard.remote.transport import Payload, Script, Transport
from tests.remote_peers import HELLO, PASSWORD, Operator, Peer, Rules, relay_to, ssh_server, target, with_password


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


async def test_streams_status_and_lines(transport: Transport) -> None:
    seen: list[str] = []
    script = Script(
        "main() { echo out; printf '\\033[31mred\\033[0m\\r\\n'; echo err >&2; printf 'no newline'; return 4; }"
    )
    done = await transport.run(script, on_line=seen.append)
    assert done.status == 4
    assert not done.ok
    assert done.stdout == b"out\n\x1b[31mred\x1b[0m\r\nno newline"
    assert done.stderr == b"err\n"
    assert seen == ["out", "red", "no newline"]


async def test_output_comes_raw_and_in_pieces_while_the_script_runs(transport: Transport) -> None:
    """Bytes as they are, from after the noise of the login on; the first piece is there before the script ends."""
    seen = bytearray()
    first = asyncio.Event()

    def take(data: bytes) -> None:
        seen.extend(data)
        first.set()

    run = asyncio.create_task(
        transport.run(Script("main() { printf '\\377\\r\\n\\001'; sleep 0.3; echo end; }"), on_data=take)
    )
    await first.wait()
    assert not run.done()
    assert bytes(seen) == b"\xff\r\n\x01"
    assert (await run).stdout == bytes(seen) == b"\xff\r\n\x01end\n"


async def test_main_cannot_read_its_own_script(transport: Transport) -> None:
    done = await transport.run(Script('main() { read -r x; echo "got <$x>"; }'))
    assert done.stdout == b"got <>\n"


async def test_a_large_payload_and_large_output(transport: Transport) -> None:
    data = bytes(range(256)) * 4096
    done = await transport.run(Script('main() { cat "$PAYLOADS/p"; }', payloads=(Payload("p", data),)))
    assert done.stdout == data


async def test_a_script_that_does_not_end(transport: Transport) -> None:
    with pytest.raises(GpuwizardError, match=r"no end after 0\.4 s") as caught:
        await transport.run(Script("main() { sleep 30; }"), timeout=0.4)
    assert type(caught.value) is GpuwizardError
    assert transport.alive
    assert (await transport.run(HELLO)).ok


async def test_a_script_that_says_too_much(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "STDOUT_LIMIT", 100_000)
    with pytest.raises(GpuwizardError, match="said more than"):
        await transport.run(Script("main() { while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaa; done; }"), timeout=20)
    assert (await transport.run(HELLO)).ok


async def test_errors_are_kept_to_their_tail(transport: Transport) -> None:
    done = await transport.run(Script("main() { yes error | head -n 100000 >&2; echo last >&2; }"))
    assert len(done.stderr) <= exchange_module.STDERR_LIMIT
    assert done.stderr.endswith(b"last\n")


async def test_a_child_that_keeps_the_output_open_delays_nothing_for_long() -> None:
    local = await connect(parse_targets(["local"])[0], ConnectOptions(), Operator())
    async with asyncio.timeout(10):
        done = await local.run(Script("main() { echo started; sleep 12 & }"))
    assert done.stdout == b"started\n"
    assert done.status == 0


async def test_a_script_with_an_error_runs_nothing(transport: Transport, tmp_path: Path) -> None:
    with pytest.raises(LoginError, match="runs no script"):
        await transport.run(Script(f": >{tmp_path}/ran\nmain() {{ if; }}"))
    assert not (tmp_path / "ran").exists()


async def test_a_script_that_goes_on(transport: Transport) -> None:
    script = Script(
        'main() { echo ready; while read -r line; do echo "got $line"; [ "$line" = end ] && return 6; done; return 7; }'
    )
    running = await transport.start(script)
    lines = running.lines()
    assert await anext(lines) == "ready"
    await running.write_line("one")
    assert await anext(lines) == "got one"
    await running.write_line("end")
    assert [line async for line in lines] == ["got end"]
    assert await running.wait() == 6
    with pytest.raises(UnreachableError):
        await running.write_line("late")
    with pytest.raises(ValueError, match="one line"):
        await running.write_line("two\nlines")


async def test_closing_ends_the_input_of_the_script(transport: Transport, tmp_path: Path) -> None:
    script = Script('main() { echo ready; read -r x || : >"$1"; }', (str(tmp_path / "ended"),))
    running = await transport.start(script)
    assert await anext(running.lines()) == "ready"
    await running.close()
    if not isinstance(transport, LocalTransport):
        return  # the test's server kills what is left when a channel closes; tests/lab asks a real sshd
    async with asyncio.timeout(10):
        while not (tmp_path / "ended").exists():
            await asyncio.sleep(0.02)


async def test_lines_that_nobody_reads_do_not_fill_the_memory(transport: Transport) -> None:
    running = await transport.start(Script("main() { yes a-line-of-text | head -n 400000; }"))
    count = 0
    async for _ in running.lines():
        count += 1
    assert count == 400_000
    assert await running.wait() == 0


async def test_a_cancelled_run_leaves_the_link_usable(transport: Transport) -> None:
    task = asyncio.create_task(transport.run(Script("main() { sleep 30; }")))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await transport.run(HELLO)).ok


async def test_many_scripts_over_one_link(transport: Transport) -> None:
    done = await asyncio.gather(*(transport.run(Script('main() { echo "$1"; }', (str(i),))) for i in range(8)))
    assert [d.stdout for d in done] == [f"{i}\n".encode() for i in range(8)]


SHELLS = {
    "noisy": ("/bin/sh", "-c", 'echo "Welcome!"; echo "motd" >&2; printf "no newline"; eval "$0"'),
    "long": ("/bin/sh", "-c", 'yes Welcome | head -n 100000; eval "$0"'),
    "fish": ("fish", "-c"),
    "csh": ("csh", "-c"),
    "tcsh": ("tcsh", "-c"),
    "zsh": ("zsh", "-c"),
    "bash": ("bash", "-c"),
    "busybox": ("busybox", "sh", "-c"),
}


@pytest.mark.parametrize("shell", sorted(SHELLS))
async def test_login_shells(shell: str, tmp_path: Path) -> None:
    command = SHELLS[shell]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{shell} is not installed here")
    async with ssh_server(Rules(password=PASSWORD, shell=command)) as peer:
        transport = await connect(target(peer), with_password(tmp_path, peer), Operator())
        seen: list[str] = []
        done = await transport.run(Script("main() { echo clean; echo err >&2; }"), on_line=seen.append)
        assert (done.stdout, done.stderr, seen) == (b"clean\n", b"err\n", ["clean"])
        await transport.close()


async def test_a_login_shell_that_runs_nothing(tmp_path: Path) -> None:
    shell = ("/bin/sh", "-c", "echo 'This account is currently not available.'; exit 1")
    async with ssh_server(Rules(password=PASSWORD, shell=shell)) as peer:
        transport = await connect(target(peer), with_password(tmp_path, peer), Operator())
        with pytest.raises(LoginError, match="not available") as caught:
            await transport.run(HELLO)
        assert "login shell" in caught.value.remedy
        await transport.close()


async def cut_while_running(peer: Peer, transport: Transport) -> None:
    seen = asyncio.Event()
    task = asyncio.create_task(
        transport.run(Script("main() { echo begun; sleep 30; }"), on_line=lambda line: seen.set())
    )
    await seen.wait()
    peer.cut()
    with pytest.raises(UnreachableError, match="link was lost") as caught:
        await task
    assert caught.value.exit_code == 4


async def test_a_link_cut_in_the_middle_and_opened_again(tmp_path: Path) -> None:
    async with ssh_server(Rules(password=PASSWORD)) as peer:
        transport = await connect(target(peer), with_password(tmp_path, peer), Operator())
        running = await transport.start(Script("main() { echo up; read -r x; }"))
        lines = running.lines()
        assert await anext(lines) == "up"
        await cut_while_running(peer, transport)
        assert not transport.alive
        assert [line async for line in lines] == []
        assert await running.wait() is None
        with pytest.raises(UnreachableError):
            await running.write_line("x")
        with pytest.raises(UnreachableError):
            await transport.run(HELLO)
        await asyncio.gather(transport.reconnect(), transport.reconnect())
        assert (await transport.run(HELLO)).ok
        assert len(peer.logins) == 2
        await transport.close()


async def test_a_link_that_falls_silent_is_noticed(tmp_path: Path) -> None:
    """No error ever comes; only the keepalive tells, after about 15 s."""
    async with ssh_server(Rules(password=PASSWORD)) as peer, relay_to(peer) as relay:
        peer.port = relay.port
        transport = await connect(target(peer), with_password(tmp_path, peer), Operator())
        assert (await transport.run(HELLO)).ok
        relay.silent = True
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(UnreachableError, match="link was lost"):
            await transport.run(HELLO, timeout=40)
        assert 5 < loop.time() - started < 20
        assert not transport.alive
        await transport.close()


def test_an_exchange_finds_its_marks_however_the_bytes_are_cut() -> None:
    stream = b"motd\nTOKEN-no\n[sudo: TOKEN-p] Password: "
    after = b"lecture\nMARK-o\nSTART-s\nout\n"
    for size in (1, 2, 3, 7, 100):
        exchange = Exchange("START-s", gate=Gate("TOKEN-p", "MARK-o"))
        for at in range(0, len(stream), size):
            exchange.received(stream[at : at + size], error=True)
        for at in range(0, len(after), size):
            exchange.received(after[at : at + size], error=False)
        signals = [exchange.signals.get_nowait() for _ in range(exchange.signals.qsize())]
        assert signals == ["prompt", "open", "begun"]
        assert bytes(exchange.stdout) == b"out\n"
