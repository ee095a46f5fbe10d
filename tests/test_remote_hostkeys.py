"""Host keys: strict, ask, accept-new; a changed key is refused whatever the policy."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import asyncssh
import pytest

from gpuwizard.errors import LoginError, UnreachableError
from gpuwizard.events import Choice
from gpuwizard.remote.connect import connect
from gpuwizard.remote.hostkeys import KnownHosts, append_host_key
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.secret import Secret
from tests.remote_peers import HELLO, PASSWORD, Operator, Peer, Rules, ssh_server, target


def options(path: Path, policy: str, **more: object) -> ConnectOptions:
    settings = {"known_hosts": path, "host_keys": policy, "password": Secret(PASSWORD), "ssh_config": Path("/dev/null")}
    return ConnectOptions(**{**settings, **more})  # type: ignore[arg-type]


async def login(peer: Peer, chosen: ConnectOptions, operator: Operator | None = None) -> None:
    transport = await connect(target(peer), chosen, operator or Operator())
    assert (await transport.run(HELLO)).ok
    await transport.close()


async def test_strict_refuses_an_unknown_key_and_shows_it(tmp_path: Path) -> None:
    async with ssh_server(Rules(password=PASSWORD)) as peer:
        with pytest.raises(LoginError, match="host key is not known") as caught:
            await login(peer, options(tmp_path / "known", "strict"))
        assert peer.host_key.get_fingerprint() in str(caught.value)
        assert "--host-keys" in caught.value.remedy
        assert peer.attempts == []
        assert not (tmp_path / "known").exists()


@pytest.mark.parametrize(("answer", "saved"), [("accept", False), ("accept-and-save", True)])
async def test_ask_shows_the_fingerprint_and_does_as_told(answer: str, saved: bool, tmp_path: Path) -> None:
    path = tmp_path / "new" / "known"
    async with ssh_server(Rules(password=PASSWORD)) as peer:
        operator = Operator(choices={"host-key": answer})
        await login(peer, options(path, "ask"), operator)
        (question,) = operator.asked
        assert isinstance(question, Choice)
        assert peer.host_key.get_fingerprint() in question.body
        assert question.default == "refuse"
        assert {value for value, _ in question.options} == {"accept", "accept-and-save", "refuse"}
        assert path.exists() is saved
        if saved:
            assert path.stat().st_mode & 0o777 == 0o600
            await login(peer, options(path, "strict"))


async def test_ask_that_is_refused(tmp_path: Path) -> None:
    async with ssh_server(Rules(password=PASSWORD)) as peer:
        with pytest.raises(LoginError, match="host key was refused"):
            await login(peer, options(tmp_path / "known", "ask"))
        assert peer.attempts == []


async def test_accept_new_saves_a_hashed_line_once(tmp_path: Path) -> None:
    path = tmp_path / "known"
    path.write_text("# mine\nother.example ssh-ed25519 nonsense")
    async with ssh_server(Rules(password=PASSWORD)) as peer:
        chosen = options(path, "accept-new")
        await login(peer, chosen)
        await login(peer, chosen)
        await login(peer, options(path, "accept-new"))
        lines = path.read_text().splitlines()
        assert lines[:2] == ["# mine", "other.example ssh-ed25519 nonsense"]
        (line,) = lines[2:]
        assert line.startswith("|1|")
        assert "127.0.0.1" not in line
        if shutil.which("ssh-keygen"):
            found = subprocess.run(
                ["ssh-keygen", "-F", f"[127.0.0.1]:{peer.port}", "-f", str(path)], capture_output=True, check=False
            )
            assert found.returncode == 0


@pytest.mark.parametrize("policy", ["strict", "ask", "accept-new"])
@pytest.mark.parametrize("hashed", [False, True])
async def test_a_changed_key_is_always_refused_with_both_fingerprints(
    policy: str, hashed: bool, tmp_path: Path
) -> None:
    path = tmp_path / "known"
    old = asyncssh.generate_private_key("ssh-ed25519")
    async with ssh_server(Rules(password=PASSWORD)) as peer:
        if hashed:
            append_host_key(path, "127.0.0.1", peer.port, old)
        else:
            path.write_text(f"[127.0.0.1]:{peer.port} {old.export_public_key().decode()}")
        before = path.read_bytes()
        operator = Operator(choices={"host-key": "accept-and-save"})
        with pytest.raises(LoginError, match="CHANGED") as caught:
            await login(peer, options(path, policy), operator)
        assert old.get_fingerprint() in str(caught.value)
        assert peer.host_key.get_fingerprint() in str(caught.value)
        assert "ssh-keygen -R" in caught.value.remedy
        assert operator.asked == []
        assert peer.attempts == []
        assert path.read_bytes() == before


async def test_a_new_kind_of_key_is_a_changed_key_too(tmp_path: Path) -> None:
    """The host had an ECDSA key and now has only an Ed25519 one."""
    path = tmp_path / "known"
    old = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    async with ssh_server(Rules(password=PASSWORD)) as peer:
        append_host_key(path, "127.0.0.1", peer.port, old)
        with pytest.raises(LoginError, match="CHANGED"):
            await login(peer, options(path, "accept-new"))


async def test_of_several_keys_the_known_kind_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "known"
    known = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    both = [asyncssh.generate_private_key("ssh-ed25519"), known]
    server = await asyncssh.create_server(asyncssh.SSHServer, "127.0.0.1", 0, server_host_keys=both)
    async with server:
        peer = Peer(server.get_port(), known)
        append_host_key(path, "127.0.0.1", peer.port, known)
        with pytest.raises(LoginError, match="was not let in"):  # the host key was good; nobody may log in
            await login(peer, options(path, "strict"))


async def test_a_key_is_saved_only_when_the_host_has_proven_it(tmp_path: Path) -> None:
    """A refused login is proof enough of the key; a server that only shows somebody's key is not."""
    async with ssh_server(Rules(password="other")) as peer:
        with pytest.raises(LoginError, match="not let in"):
            await login(peer, options(tmp_path / "known", "accept-new"))
        assert (tmp_path / "known").exists()
    shown, held = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    pair = asyncssh.load_keypairs([held])[0]
    pair.public_data = shown.public_data
    server = await asyncssh.create_server(asyncssh.SSHServer, "127.0.0.1", 0, server_host_keys=[pair])
    async with server:
        with pytest.raises(UnreachableError):
            await login(Peer(server.get_port(), shown), options(tmp_path / "liar", "accept-new"))
    assert not (tmp_path / "liar").exists()


async def test_a_key_of_another_port_is_not_a_changed_key(tmp_path: Path) -> None:
    path = tmp_path / "known"
    append_host_key(path, "127.0.0.1", 22, asyncssh.generate_private_key("ssh-ed25519"))
    async with ssh_server(Rules(password=PASSWORD)) as peer:
        with pytest.raises(LoginError, match="is not known"):
            await login(peer, options(path, "strict"))
        await login(peer, options(path, "accept-new"))


async def test_a_host_certificate_of_a_known_authority(tmp_path: Path) -> None:
    path = tmp_path / "known"
    authority = asyncssh.generate_private_key("ssh-ed25519")
    key = asyncssh.generate_private_key("ssh-ed25519")
    for principal, good in (("127.0.0.1", True), ("elsewhere", False)):
        certificate = authority.generate_host_certificate(key, "host", principals=[principal])
        server = await asyncssh.create_server(asyncssh.SSHServer, "127.0.0.1", 0, server_host_keys=[(key, certificate)])
        async with server:
            peer = Peer(server.get_port(), key)
            path.write_text(f"@cert-authority * {authority.export_public_key().decode()}")
            with pytest.raises(LoginError, match="was not let in" if good else "principal"):
                await login(peer, options(path, "strict"))


async def test_a_revoked_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "known"
    async with ssh_server(Rules(password=PASSWORD)) as peer:
        path.write_text(f"{peer.known_line()}@revoked * {peer.host_key.export_public_key().decode()}")
        with pytest.raises(LoginError, match="revoked"):
            await login(peer, options(path, "accept-new"))
        assert peer.attempts == []


async def test_two_hosts_saved_at_once_are_both_there(tmp_path: Path) -> None:
    path = tmp_path / "known"
    keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(20)]
    await asyncio.gather(*(asyncio.to_thread(append_host_key, path, f"host{i}", 22, key) for i, key in enumerate(keys)))
    found = KnownHosts.read([path])
    assert len(path.read_text().splitlines()) == 20
    for i, key in enumerate(keys):
        assert [k.public_data for k in found.recorded(f"host{i}", 22)] == [key.public_data]


def test_forms_of_known_hosts_lines() -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    text = key.export_public_key().decode().strip()
    found = KnownHosts(
        [f"junk\n\n# x\n@what a b\nplain,1.2.3.4 {text}\n*.wild,!no.wild {text}\n[ported]:2222 {text}\n"]
    )
    for host, port, there in (
        ("plain", 22, True),
        ("PLAIN", 22, True),
        ("1.2.3.4", 22, True),
        ("a.wild", 22, True),
        ("no.wild", 22, False),
        ("ported", 2222, True),
        ("ported", 22, False),
        ("plain", 2222, True),  # as ssh: the entry without a port serves when there is none with it
    ):
        assert bool(found.keys(host, port)[0]) is there, (host, port)
    assert not found.recorded("plain", 2222)
