"""Many logins at once, against real servers on loopback."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from gpuwizard.errors import GpuwizardError, LoginError, UnreachableError
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.pool import connect_all
from gpuwizard.remote.shared import LOGINS_AT_ONCE
from gpuwizard.remote.target import HostTarget, parse_targets
from gpuwizard.remote.transport import Transport
from tests.remote_peers import PASSWORD, Operator, Rules, ssh_server, with_password

Result = Transport | GpuwizardError


def names(tmp_path: Path, port: int, count: int, extra: str = "") -> tuple[HostTarget, ...]:
    (tmp_path / "config").write_text(f"{extra}Host n*\n  HostName 127.0.0.1\n  Port {port}\n  User alice\n")
    return parse_targets([f"n{i}" for i in range(count)])


async def close(results: dict[str, Result]) -> None:
    for result in results.values():
        if not isinstance(result, GpuwizardError):
            await result.close()


async def test_results_come_one_by_one_and_never_too_many_logins_at_once(tmp_path: Path) -> None:
    async with ssh_server(Rules(password=PASSWORD, slow=0.05)) as peer:
        results: dict[str, Result] = {}
        targets = names(tmp_path, peer.port, 30)
        options = with_password(tmp_path, peer, ssh_config=tmp_path / "config", connect_timeout=30.0)
        await connect_all(targets, options, Operator(), parallel=30, on_result=lambda t, r: results.update({t.name: r}))
        assert sorted(results) == sorted(t.name for t in targets)
        assert not any(isinstance(r, GpuwizardError) for r in results.values())
        assert 2 <= peer.most_logins_at_once <= LOGINS_AT_ONCE
        await close(results)


async def test_parallel_is_a_limit(tmp_path: Path) -> None:
    async with ssh_server(Rules(password=PASSWORD, slow=0.05)) as peer:
        results: dict[str, Result] = {}
        options = with_password(tmp_path, peer, ssh_config=tmp_path / "config")
        targets = names(tmp_path, peer.port, 6)
        await connect_all(targets, options, Operator(), parallel=2, on_result=lambda t, r: results.update({t.name: r}))
        assert peer.most_logins_at_once == 2
        await close(results)


async def test_a_bad_host_does_not_keep_the_others(tmp_path: Path) -> None:
    async with ssh_server(Rules(password=PASSWORD)) as peer:
        targets = (*names(tmp_path, peer.port, 3), *parse_targets(["127.0.0.1:1", "missing.invalid", "local"]))
        results: dict[str, Result] = {}
        options = with_password(tmp_path, peer, ssh_config=tmp_path / "config")
        await connect_all(targets, options, Operator(), parallel=9, on_result=lambda t, r: results.update({t.name: r}))
        bad = {name for name, r in results.items() if isinstance(r, GpuwizardError)}
        assert bad == {"127.0.0.1", "missing.invalid"}
        await close(results)


async def test_a_failed_login_is_not_repeated(tmp_path: Path) -> None:
    async with ssh_server(Rules(password="other")) as peer:
        results: dict[str, Result] = {}
        options = with_password(tmp_path, peer, ssh_config=tmp_path / "config")
        targets = names(tmp_path, peer.port, 4)
        await connect_all(targets, options, Operator(), parallel=4, on_result=lambda t, r: results.update({t.name: r}))
        assert all(isinstance(r, LoginError) for r in results.values())
        assert len(peer.attempts) == 4


async def test_cancelling_leaves_nothing_open(tmp_path: Path) -> None:
    async with ssh_server(Rules(password=PASSWORD)) as peer:
        started = asyncio.Event()
        operator = Operator(secrets={"password": [PASSWORD] * 9}, before_answer=started.set)
        results: dict[str, Result] = {}
        options = with_password(tmp_path, peer, password=None, ssh_config=tmp_path / "config")
        task = asyncio.create_task(
            connect_all(
                names(tmp_path, peer.port, 5),
                options,
                operator,
                parallel=1,
                on_result=lambda t, r: results.update({t.name: r}),
            )
        )
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await close(results)
        async with asyncio.timeout(5):
            for connection in peer.connections:
                await connection.wait_closed()


async def test_no_hosts_is_nothing_to_do() -> None:
    await connect_all((), ConnectOptions(), Operator(), parallel=3, on_result=lambda t, r: None)


async def test_a_jump_host_with_many_behind_it(tmp_path: Path) -> None:
    async with (
        ssh_server(Rules(password=PASSWORD)) as bastion,
        ssh_server(Rules(password=PASSWORD, slow=0.05)) as hidden,
    ):
        extra = f"Host b\n  HostName 127.0.0.1\n  Port {bastion.port}\n  User j\nHost n*\n  ProxyJump b\n"
        results: dict[str, Result] = {}
        options = with_password(tmp_path, bastion, hidden, ssh_config=tmp_path / "config", connect_timeout=30.0)
        operator = Operator(secrets={"password": [PASSWORD]})
        targets = names(tmp_path, hidden.port, 20, extra)
        await connect_all(targets, options, operator, parallel=20, on_result=lambda t, r: results.update({t.name: r}))
        assert not [r for r in results.values() if isinstance(r, GpuwizardError)]
        assert bastion.logins == ["j"]
        assert hidden.most_logins_at_once <= LOGINS_AT_ONCE
        with contextlib.suppress(UnreachableError):
            await close(results)
