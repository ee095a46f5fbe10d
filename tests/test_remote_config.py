"""The SSH configuration, jump hosts and proxies, against real servers on loopback."""

import asyncio
import logging
import sys
from pathlib import Path

import asyncssh
import pytest

from gpuwizard.errors import GpuwizardError, LoginError, UnreachableError, UsageError
from gpuwizard.remote.connect import connect
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.target import parse_targets
from gpuwizard.secret import Secret
from tests.remote_peers import HELLO, PASSWORD, Operator, Peer, Rules, known, ssh_server


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


def config(text: str) -> Path:
    path = Path("~/.ssh/config").expanduser()
    path.write_text(text)
    return path


def with_key(tmp_path: Path) -> asyncssh.SSHKey:
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(str(tmp_path / "key"))
    return key


async def hello(name: str, options: ConnectOptions, operator: Operator | None = None) -> None:
    transport = await connect(parse_targets([name])[0], options, operator or Operator())
    assert transport.name == parse_targets([name])[0].name
    assert (await transport.run(HELLO)).stdout == b"hello\n"
    await transport.close()


async def refusal(name: str, options: ConnectOptions, operator: Operator | None = None) -> GpuwizardError:
    with pytest.raises(GpuwizardError) as caught:
        await connect(parse_targets([name])[0], options, operator or Operator())
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(("cipher", "padded"), [("aes128-gcm@openssh.com", False), ("aes256-cbc", True)])
async def test_empty_packets_are_sent_where_a_cipher_needs_them(
    cipher: str, padded: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Seen from the server: only a cipher in CBC mode is protected by packets that are ignored."""
    config(f"Host *\n  Ciphers {cipher}\n")
    async with ssh_server(Rules(keys=[with_key(tmp_path)], ciphers=[cipher])) as peer:
        known(Path("~/.ssh/known_hosts").expanduser(), peer)
        asyncssh.set_debug_level(3)
        try:
            with caplog.at_level(logging.DEBUG, "asyncssh"):
                await hello(f"alice@127.0.0.1:{peer.port}", ConnectOptions(identity=tmp_path / "key"))
        finally:
            asyncssh.set_debug_level(1)
    received = [record.getMessage() for record in caplog.records if "Received MSG_" in record.getMessage()]
    assert any("MSG_CHANNEL_DATA" in message for message in received)
    assert any("MSG_IGNORE" in message for message in received) is padded


async def test_a_host_alias_names_address_port_user_key_and_known_hosts(tmp_path: Path) -> None:
    key = with_key(tmp_path)
    async with ssh_server(Rules(keys=[key])) as peer:
        known(tmp_path / "elsewhere", peer)
        config(
            f"Host gpu*\n  HostName 127.0.0.1\n  Port {peer.port}\n  User bob\n  IdentityFile {tmp_path}/key\n"
            f"  UserKnownHostsFile {tmp_path}/elsewhere\n  StrictHostKeyChecking no\n  ControlMaster auto\n"
            "  SendEnv LANG\n  SetEnv A=b\n  RemoteCommand echo no\n  RequestTTY force\n"
        )
        await hello("gpu1", ConnectOptions())
        await hello("carol@gpu1", ConnectOptions())
        await hello("gpu1", ConnectOptions(user="dave"))
        assert peer.logins == ["bob", "carol", "dave"]


async def test_a_host_key_alias(tmp_path: Path) -> None:
    key = with_key(tmp_path)
    async with ssh_server(Rules(keys=[key])) as peer:
        (tmp_path / "known").write_text(f"rack7 {peer.host_key.export_public_key().decode()}")
        config(
            f"Host gpu1\n  HostName 127.0.0.1\n  Port {peer.port}\n"
            f"  HostKeyAlias rack7\n  IdentityFile {tmp_path}/key\n"
        )
        await hello("gpu1", ConnectOptions(known_hosts=tmp_path / "known"))


@pytest.mark.parametrize(
    ("text", "line"),
    [("Host a\n  Port many\n", "line 2"), ("Host a\n\nMatch version 9\n", "line 3"), ("Host 'a\n", "line 1")],
)
async def test_a_malformed_configuration_names_file_and_line(text: str, line: str) -> None:
    path = config(text)
    error = await refusal("a", ConnectOptions())
    assert isinstance(error, UsageError)
    assert line in str(error)
    assert str(path) in str(error)
    assert "--ssh-config" in error.remedy


async def test_a_configuration_that_is_not_there() -> None:
    assert isinstance(await refusal("a", ConnectOptions(ssh_config=Path("/no/such/file"))), UsageError)


async def test_through_a_jump_host_of_the_configuration(tmp_path: Path) -> None:
    key = with_key(tmp_path)
    async with ssh_server(Rules(keys=[key])) as bastion, ssh_server(Rules(keys=[key])) as hidden:
        config(
            f"Host bastion\n  HostName 127.0.0.1\n  Port {bastion.port}\n  User jumper\n"
            f"Host gpu*\n  HostName 127.0.0.1\n  Port {hidden.port}\n  User bob\n  ProxyJump bastion\n"
            f"Host *\n  IdentityFile {tmp_path}/key\n"
        )
        options = ConnectOptions(known_hosts=known(tmp_path / "known", bastion, hidden))
        transports = [await connect(t, options, Operator()) for t in parse_targets(["gpu1", "gpu2", "gpu3"])]
        assert bastion.logins == ["jumper"]  # one connection for all hosts behind it
        assert hidden.logins == ["bob"] * 3
        assert bastion.forwarded == [("127.0.0.1", hidden.port)] * 3
        for transport in transports[:2]:
            await transport.close()
        assert (await transports[2].run(HELLO)).ok
        bastion.cut()
        with pytest.raises(UnreachableError):
            await transports[2].run(HELLO)
        await transports[2].reconnect()
        assert (await transports[2].run(HELLO)).ok
        assert bastion.logins == ["jumper"] * 2
        await transports[2].close()
        async with asyncio.timeout(5):
            for connection in bastion.connections:
                await connection.wait_closed()  # the last host behind it has closed the jump connection


async def test_two_jumps_as_an_option(tmp_path: Path) -> None:
    key = with_key(tmp_path)
    rules = Rules(keys=[key])
    async with ssh_server(rules) as one, ssh_server(rules) as two, ssh_server(rules) as three:
        options = ConnectOptions(
            known_hosts=known(tmp_path / "known", one, two, three),
            jump=f"a@127.0.0.1:{one.port},b@127.0.0.1:{two.port}",
            identity=tmp_path / "key",
            user="c",
        )
        await hello(f"127.0.0.1:{three.port}", options)
        assert (one.logins, two.logins, three.logins) == (["a"], ["b"], ["c"])
        assert one.forwarded == [("127.0.0.1", two.port)]
        assert two.forwarded == [("127.0.0.1", three.port)]


async def test_a_jump_host_asks_for_its_own_password(tmp_path: Path) -> None:
    async with ssh_server(Rules(password="jump-pw")) as bastion, ssh_server(Rules(password=PASSWORD)) as hidden:
        options = ConnectOptions(
            known_hosts=known(tmp_path / "known", bastion, hidden),
            jump=f"j@127.0.0.1:{bastion.port}",
            password=Secret(PASSWORD),
        )
        operator = Operator(secrets={"password": ["jump-pw"]})
        await hello(f"bob@127.0.0.1:{hidden.port}", options, operator)
        assert len(operator.asked) == 1
        assert bastion.attempts == ["password"]  # the password of the hosts was not given to it


async def test_a_jump_host_that_lets_nobody_in_is_tried_once(tmp_path: Path) -> None:
    from gpuwizard.remote.pool import connect_all

    async with ssh_server(Rules(password="other")) as bastion, ssh_server(Rules(password=PASSWORD)) as hidden:
        config(f"Host gpu*\n  HostName 127.0.0.1\n  Port {hidden.port}\n  ProxyJump j@127.0.0.1:{bastion.port}\n")
        options = ConnectOptions(known_hosts=known(tmp_path / "known", bastion, hidden), password=Secret(PASSWORD))
        operator = Operator(secrets={"password": ["guess"] * 9})
        errors: list[object] = []
        targets = parse_targets([f"gpu{i}" for i in range(6)])
        await connect_all(targets, options, operator, parallel=2, on_result=lambda t, r: errors.append(r))
        assert len(errors) == 6
        assert all(isinstance(e, LoginError) and "127.0.0.1" in e.where for e in errors)
        assert bastion.attempts == ["password"]
        assert hidden.attempts == []


async def test_a_jump_host_that_forwards_nothing(tmp_path: Path) -> None:
    key = with_key(tmp_path)
    async with ssh_server(Rules(keys=[key], may_forward=False)) as bastion:
        options = ConnectOptions(
            known_hosts=known(tmp_path / "known", bastion), jump=f"127.0.0.1:{bastion.port}", identity=tmp_path / "key"
        )
        error = await refusal("10.255.255.1", options)
        assert type(error) is UnreachableError
        assert "jump host" in str(error)


async def test_an_unknown_host_key_of_a_jump_host_is_refused_there(tmp_path: Path) -> None:
    key = with_key(tmp_path)
    async with ssh_server(Rules(keys=[key])) as bastion, ssh_server(Rules(keys=[key])) as hidden:
        options = ConnectOptions(
            known_hosts=known(tmp_path / "known", hidden), jump=f"127.0.0.1:{bastion.port}", identity=tmp_path / "key"
        )
        error = await refusal(f"127.0.0.1:{hidden.port}", options)
        assert bastion.host_key.get_fingerprint() in str(error)


async def test_every_host_through_a_bastion_that_matches_too(tmp_path: Path) -> None:
    """`Host *` with a ProxyJump also matches the bastion itself; it is then reached directly."""
    key = with_key(tmp_path)
    async with ssh_server(Rules(keys=[key])) as bastion, ssh_server(Rules(keys=[key])) as hidden:
        config(
            f"Host bastion\n  Port {bastion.port}\nHost gpu1\n  Port {hidden.port}\n"
            f"Host *\n  HostName 127.0.0.1\n  ProxyJump bastion\n  IdentityFile {tmp_path}/key\n"
        )
        await hello("gpu1", ConnectOptions(known_hosts=known(tmp_path / "known", bastion, hidden)))
        assert len(bastion.logins) == 1


async def test_jump_hosts_in_a_circle() -> None:
    config("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    error = await refusal("a", ConnectOptions(connect_timeout=5))
    assert isinstance(error, UsageError)
    assert "circle" in str(error)


async def test_a_proxy_command(tmp_path: Path) -> None:
    key = with_key(tmp_path)
    relay = tmp_path / "relay.py"
    relay.write_text(
        "import socket, sys, threading, os\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def up():\n"
        "    while d := os.read(0, 65536): s.sendall(d)\n"
        "    s.shutdown(1)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while d := s.recv(65536): os.write(1, d)\n"
    )
    async with ssh_server(Rules(keys=[key])) as peer:
        config(
            f"Host gpu1\n  HostName 127.0.0.1\n  Port {peer.port}\n  IdentityFile {tmp_path}/key\n"
            f"  ProxyCommand {sys.executable} {relay} %h %p\n"
        )
        await hello("gpu1", ConnectOptions(known_hosts=known(tmp_path / "known", peer)))


async def test_identities_only_and_an_agent_of_the_configuration(tmp_path: Path) -> None:
    key = with_key(tmp_path)
    other = asyncssh.generate_private_key("ssh-ed25519")
    other.write_private_key(str(Path("~/.ssh/id_ed25519").expanduser()))
    async with ssh_server(Rules(keys=[key])) as peer:
        config(
            f"Host gpu1\n  HostName 127.0.0.1\n  Port {peer.port}\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  IdentityFile {tmp_path}/key\n  CertificateFile {tmp_path}/none-cert.pub\n"
        )
        await hello("gpu1", ConnectOptions(known_hosts=known(tmp_path / "known", peer)))
        assert set(peer.attempts) == {"key good"}


async def test_algorithms_of_the_configuration_are_kept(tmp_path: Path) -> None:
    key = with_key(tmp_path)
    async with ssh_server(Rules(keys=[key])) as peer:
        config(
            f"Host gpu1\n  HostName 127.0.0.1\n  Port {peer.port}\n  IdentityFile {tmp_path}/key\n"
            "  KexAlgorithms ecdh-sha2-nistp384\n  Ciphers aes256-ctr\n  HostKeyAlgorithms ssh-ed25519\n"
        )
        options = ConnectOptions(known_hosts=known(tmp_path / "known", peer))
        transport = await connect(parse_targets(["gpu1"])[0], options, Operator())
        assert chosen(peer) == ("aes256-ctr", "aes256-ctr")
        await transport.close()
        config(f"Host gpu1\n  HostName 127.0.0.1\n  Port {peer.port}\n  IdentityFile {tmp_path}/key\n")
        transport = await connect(parse_targets(["gpu1"])[0], options, Operator())
        assert chosen(peer) == ("aes128-gcm@openssh.com", "aes128-gcm@openssh.com")
        await transport.close()


def chosen(peer: Peer) -> tuple[str, str]:
    last = peer.connections[-1]
    return last.get_extra_info("send_cipher"), last.get_extra_info("recv_cipher")
