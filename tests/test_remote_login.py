"""Every way in, against real SSH servers on loopback."""

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from gpuwizard.errors import GpuwizardError, LoginError, RefusedError, UnreachableError, UsageError
from gpuwizard.events import SecretPrompt
from gpuwizard.remote.connect import connect
from gpuwizard.remote.options import ConnectOptions, Endpoint
from gpuwizard.remote.target import HostTarget, parse_targets
from gpuwizard.secret import Secret
from tests.remote_peers import (
    HELLO,
    PASSWORD,
    USER,
    Operator,
    Rules,
    known,
    relay_to,
    ssh_server,
    target,
    with_password,
)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No key, agent or configuration of the person who runs the tests."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


async def says_hello(where: HostTarget, options: ConnectOptions, operator: Operator | None = None) -> Operator:
    operator = operator or Operator()
    transport = await connect(where, options, operator)
    try:
        assert transport.alive
        assert (await transport.run(HELLO)).stdout == b"hello\n"
    finally:
        await transport.close()
    assert not transport.alive
    return operator


async def fails(where: HostTarget, options: ConnectOptions, operator: Operator | None = None) -> GpuwizardError:
    with pytest.raises(GpuwizardError) as caught:
        await connect(where, options, operator or Operator())
    assert caught.value.remedy
    assert PASSWORD not in f"{caught.value} {caught.value!r} {caught.value.__dict__}"
    return caught.value


def write_key(path: Path, passphrase: str | None = None) -> asyncssh.SSHKey:
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(str(path), passphrase=passphrase, rounds=50)
    key.write_public_key(f"{path}.pub")
    path.chmod(0o600)
    return key


async def test_a_password_given_at_the_start(tmp_path: Path) -> None:
    async with ssh_server(Rules(password=PASSWORD)) as peer:
        operator = await says_hello(target(peer), with_password(tmp_path, peer))
        assert operator.asked == []
        assert peer.logins == [USER]


async def test_a_password_that_is_asked_for(tmp_path: Path) -> None:
    async with ssh_server(Rules(password=PASSWORD)) as peer:
        options = with_password(tmp_path, peer, password=None)
        operator = await says_hello(target(peer), options, Operator(secrets={"password": [PASSWORD]}))
        assert [q.id for q in operator.asked] == ["password"]


async def test_a_wrong_password_is_one_attempt(tmp_path: Path) -> None:
    async with ssh_server(Rules(password="other")) as peer:
        operator = Operator(secrets={"password": ["second", "third"]})
        error = await fails(target(peer), with_password(tmp_path, peer), operator)
        assert isinstance(error, LoginError)
        assert "password" in str(error)
        assert "-k" not in error.remedy
        assert peer.attempts == ["password"]
        assert operator.asked == []


async def test_no_password_and_no_key_says_what_to_do(tmp_path: Path) -> None:
    async with ssh_server(Rules(password=PASSWORD)) as peer:
        error = await fails(target(peer), with_password(tmp_path, peer, password=None))
        assert "--identity" in error.remedy
        assert "-k" in error.remedy
        assert peer.attempts == []


async def test_a_key_file(tmp_path: Path) -> None:
    key = write_key(tmp_path / "key")
    async with ssh_server(Rules(keys=[key])) as peer:
        await says_hello(target(peer), with_password(tmp_path, peer, password=None, identity=tmp_path / "key"))
        assert peer.attempts[-1] == "key good"


async def test_the_default_key_of_the_home_directory(tmp_path: Path) -> None:
    key = write_key(Path("~/.ssh/id_ed25519").expanduser())
    async with ssh_server(Rules(keys=[key])) as peer:
        await says_hello(target(peer), with_password(tmp_path, peer, password=None))


async def test_an_encrypted_key_asks_its_passphrase_once_a_run(tmp_path: Path) -> None:
    key = write_key(tmp_path / "key", passphrase="open sesame")
    async with ssh_server(Rules(keys=[key])) as peer:
        options = with_password(tmp_path, peer, password=None, identity=tmp_path / "key")
        operator = Operator(secrets={"passphrase": ["wrong", "open sesame"]})
        await says_hello(target(peer), options, operator)
        await says_hello(target(peer), options, operator)
        assert [q.id for q in operator.asked] == ["passphrase", "passphrase"]


async def test_a_passphrase_that_nobody_gives_is_a_refused_login(tmp_path: Path) -> None:
    key = write_key(tmp_path / "key", passphrase="open sesame")
    async with ssh_server(Rules(keys=[key])) as peer:
        error = await fails(target(peer), with_password(tmp_path, peer, password=None, identity=tmp_path / "key"))
        assert isinstance(error, LoginError)


async def test_a_named_key_that_is_none(tmp_path: Path) -> None:
    async with ssh_server(Rules(keys=[asyncssh.generate_private_key("ssh-ed25519")])) as peer:
        error = await fails(target(peer), with_password(tmp_path, peer, identity=tmp_path / "missing"))
        assert isinstance(error, UsageError)
        (tmp_path / "text").write_text("this is no key")
        error = await fails(target(peer), with_password(tmp_path, peer, identity=tmp_path / "text"))
        assert isinstance(error, UsageError)
        assert str(tmp_path / "text") in str(error)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real ssh-agent."""
    if shutil.which("ssh-agent") is None or shutil.which("ssh-add") is None:
        pytest.skip("ssh-agent is not installed here")
    path = str(tmp_path / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", path)
    while subprocess.run(["ssh-add", "-l"], capture_output=True, check=False).returncode == 2:
        assert process.poll() is None
    yield path
    process.terminate()
    process.wait()


def add_to_agent(path: Path, passphrase: str | None = None) -> asyncssh.SSHKey:
    key = write_key(path)
    subprocess.run(["ssh-add", "-q", str(path)], check=True, capture_output=True)
    if passphrase:
        key.write_private_key(str(path), passphrase=passphrase, rounds=50)
    return key


async def test_an_agent(agent: str, tmp_path: Path) -> None:
    key = add_to_agent(tmp_path / "a")
    async with ssh_server(Rules(keys=[key])) as peer:
        await says_hello(target(peer), with_password(tmp_path, peer, password=None))
        error = await fails(target(peer), with_password(tmp_path, peer, password=None, use_agent=False))
        assert isinstance(error, LoginError)


async def test_a_named_encrypted_key_that_the_agent_holds_asks_nothing(agent: str, tmp_path: Path) -> None:
    for n in range(3):
        add_to_agent(tmp_path / f"other{n}")
    key = add_to_agent(tmp_path / "key", passphrase="open sesame")
    async with ssh_server(Rules(keys=[key])) as peer:
        options = with_password(tmp_path, peer, password=None, identity=tmp_path / "key")
        operator = await says_hello(target(peer), options)
        assert operator.asked == []
        assert set(peer.attempts) == {"key good"}  # none of the agent's other keys was offered


async def test_two_prompts_in_one_challenge_and_a_one_time_code(tmp_path: Path) -> None:
    challenge = ("Login", "Two factors\x1b[31m", "", [("Password: ", False), ("Verification code: ", True)])
    rules = Rules(challenges=[(challenge, [PASSWORD, "123456"])])
    async with ssh_server(rules) as peer:
        operator = await says_hello(
            target(peer), with_password(tmp_path, peer), Operator(secrets={"challenge": ["123456"]})
        )
        (question,) = operator.asked
        assert isinstance(question, SecretPrompt)
        assert "Verification code" in question.title
        assert "Two factors" in question.body
        assert "\x1b" not in question.body
        assert question.echo


async def test_challenges_in_turn_ask_the_operator_for_everything_unknown(tmp_path: Path) -> None:
    rules = Rules(
        challenges=[
            (("", "", "", [("Password: ", False)]), [PASSWORD]),
            (("", "Touch your token", "", []), []),
            (("", "", "", [("One-time password: ", False)]), ["999"]),
        ]
    )
    async with ssh_server(rules) as peer:
        operator = Operator(secrets={"password": [PASSWORD], "challenge": ["999"]})
        await says_hello(target(peer), with_password(tmp_path, peer, password=None), operator)
        assert [q.id for q in operator.asked] == ["password", "challenge"]


async def test_a_wrong_answer_to_a_challenge_is_not_tried_as_a_password(tmp_path: Path) -> None:
    rules = Rules(password="other", challenges=[(("", "", "", [("Password: ", False)]), ["other"])])
    async with ssh_server(rules) as peer:
        await fails(target(peer), with_password(tmp_path, peer), Operator(secrets={"password": ["second"]}))
        assert peer.attempts == ["keyboard-interactive"]


async def test_time_that_a_person_takes_does_not_count(tmp_path: Path) -> None:
    import time

    async with ssh_server(Rules(password=PASSWORD)) as peer:
        options = with_password(tmp_path, peer, password=None, connect_timeout=1.0)
        slow = Operator(secrets={"password": [PASSWORD]}, before_answer=lambda: time.sleep(1.3))
        await says_hello(target(peer), options, slow)


async def test_a_typed_password_is_kept_for_reconnecting_and_nowhere_else(tmp_path: Path) -> None:
    async with ssh_server(Rules(password=PASSWORD)) as peer:
        options = with_password(tmp_path, peer, password=None)
        operator = Operator(secrets={"password": [PASSWORD]})
        transport = await connect(target(peer), options, operator)
        peer.cut()
        with pytest.raises(UnreachableError):
            await transport.run(HELLO)
        assert not transport.alive
        await transport.reconnect()
        assert transport.alive
        assert (await transport.run(HELLO)).ok
        assert len(operator.asked) == 1
        assert len(peer.logins) == 2
        assert PASSWORD not in f"{transport!r} {options!r} {options.shared!r} {transport.__dict__!r}"
        await transport.close()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


async def test_nobody_listens(tmp_path: Path) -> None:
    (where,) = parse_targets([f"127.0.0.1:{free_port()}"])
    error = await fails(where, ConnectOptions(connect_timeout=5))
    assert type(error) is UnreachableError
    assert "refuses" in str(error)
    assert error.exit_code == 4


async def test_a_name_that_does_not_resolve() -> None:
    (where,) = parse_targets(["no-such-host.invalid"])
    error = await fails(where, ConnectOptions(connect_timeout=10))
    assert "resolved" in str(error)


async def test_a_server_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (where,) = parse_targets([f"127.0.0.1:{silent.getsockname()[1]}"])
        error = await fails(where, ConnectOptions(connect_timeout=0.5))
    assert type(error) is UnreachableError
    assert "no SSH answer within 0.5 s" in str(error)


@pytest.mark.parametrize(
    ("greeting", "expected"),
    [
        (b"SSH-1.5-old\r\n", "does not speak SSH as we know it"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "closed during login"),
        (b"", "closed during login"),
    ],
)
async def test_a_server_that_is_no_sshd(greeting: bytes, expected: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(greeting)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        (where,) = parse_targets([f"127.0.0.1:{server.sockets[0].getsockname()[1]}"])
        error = await fails(where, ConnectOptions(connect_timeout=5))
    assert isinstance(error, UnreachableError)
    assert expected in str(error)


async def test_an_endpoint_needs_nothing_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poisoned configuration, known_hosts and agent are all in place, and none is touched."""
    ssh = Path("~/.ssh").expanduser()
    (ssh / "config").write_text(f"Host *\n  ProxyCommand touch {tmp_path}/escaped\n  User evil\nBroken 'quote\n")
    (ssh / "known_hosts").write_text("@revoked * ssh-ed25519 AAAA\n")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "no-agent"))
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with ssh_server(Rules(keys=[key])) as peer:
        public = peer.host_key.export_public_key().decode()
        endpoint = Endpoint("127.0.0.1", peer.port, "gpu", key.export_private_key().decode(), public)
        options = ConnectOptions(isolated=True, endpoints={"node1": endpoint})
        await says_hello(parse_targets(["root@node1"])[0], options)
        assert peer.logins == ["gpu"]
        assert "PRIVATE KEY" not in repr(options)
        for name in ("gpu1", "local"):
            assert isinstance(await fails(parse_targets([name])[0], options), RefusedError)
        other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
        wrong = Endpoint("127.0.0.1", peer.port, "gpu", key.export_private_key().decode(), other)
        error = await fails(parse_targets(["node1"])[0], ConnectOptions(isolated=True, endpoints={"node1": wrong}))
        assert "CHANGED" in str(error)
    assert not (tmp_path / "escaped").exists()
    assert sorted(p.name for p in ssh.iterdir()) == ["config", "known_hosts"]


async def test_a_secret_is_in_no_error_even_deep_down(tmp_path: Path) -> None:
    import traceback

    async with ssh_server(Rules(password="other")) as peer:
        options = with_password(tmp_path, peer, sudo_password=Secret(PASSWORD))
        with pytest.raises(LoginError) as caught:
            await connect(target(peer), options, Operator())
        assert PASSWORD not in "".join(traceback.format_exception(caught.value))
        assert PASSWORD not in repr(options)
    assert PASSWORD not in str(os.environ)


async def test_known_hosts_that_cannot_be_read(tmp_path: Path) -> None:
    async with ssh_server(Rules(password=PASSWORD)) as peer:
        known(tmp_path / "known_hosts", peer)
        options = ConnectOptions(known_hosts=tmp_path, password=Secret(PASSWORD))
        assert "known hosts cannot be read" in str(await fails(target(peer), options))


async def test_a_connection_that_is_dropped_before_a_word_is_tried_again(tmp_path: Path) -> None:
    """sshd drops new connections at random while many log in (MaxStartups); that was no login attempt."""
    async with ssh_server(Rules(password=PASSWORD)) as peer, relay_to(peer) as relay:
        relay.refuse = 2
        where = parse_targets([f"{USER}@127.0.0.1:{relay.port}"])[0]
        options = with_password(tmp_path)
        (tmp_path / "known_hosts").write_text(peer.known_line().replace(str(peer.port), str(relay.port)))
        await says_hello(where, options)
        assert relay.refuse == 0
        assert peer.logins == [USER]
