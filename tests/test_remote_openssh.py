"""Against OpenSSH's own sshd, started by the test as this user on a loopback port."""

import asyncio
import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpuwizard.errors import GpuwizardError, LoginError
from gpuwizard.remote.connect import connect
from gpuwizard.remote.exchange import Exchange
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.pool import connect_all
from gpuwizard.remote.script import render
from gpuwizard.remote.ssh import SshTransport
from gpuwizard.remote.sudo import PLAIN_COMMAND
from gpuwizard.remote.target import parse_targets
from gpuwizard.remote.transport import Payload, Script, Transport
from tests.remote_peers import HELLO, Operator

SSHD = "/usr/sbin/sshd"


@dataclass
class Sshd:
    """A running sshd and the files to reach it with."""

    folder: Path
    port: int

    def options(self, **changes: object) -> ConnectOptions:
        settings: dict[str, object] = {
            "identity": self.folder / "key",
            "known_hosts": self.folder / "known",
            "ssh_config": self.folder / "config",
            "user": getpass.getuser(),
            "connect_timeout": 30.0,
        }
        return ConnectOptions(**{**settings, **changes})  # type: ignore[arg-type]

    async def login(self, **changes: object) -> Transport:
        return await connect(parse_targets(["h1"])[0], self.options(**changes), Operator())

    def force(self, command: str) -> None:
        """What the key runs instead of what is asked for: how a noisy or a wrong login shell looks."""
        key = (self.folder / "key.pub").read_text()
        (self.folder / "authorized").write_text(f'command="{command}" {key}' if command else key)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """One sshd for this file."""
    if not Path(SSHD).exists() or shutil.which("ssh-keygen") is None:
        pytest.skip("OpenSSH's server is not installed here")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("host", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"PermitRootLogin yes\nPasswordAuthentication no\nAuthorizedKeysFile {folder}/authorized\n"
        "MaxStartups 10:100:10\nPrintMotd no\n"
    )
    (folder / "config").write_text(f"Host h*\n  HostName 127.0.0.1\n  Port {port}\n")
    public = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known").write_text(f"[127.0.0.1]:{port} {public}\n")
    sshd = Sshd(folder, port)
    sshd.force("")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    try:
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", port)) == 0:
                    break
        yield sshd
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def sshd(running: Sshd) -> Iterator[Sshd]:
    yield running
    running.force("")


async def test_a_key_logs_in(sshd: Sshd) -> None:
    transport = await sshd.login()
    done = await transport.run(
        Script('main() { id -un; cat "$PAYLOADS/p" | wc -c; }', payloads=(Payload("p", b"x" * 300_000),))
    )
    assert done.stdout.split() == [getpass.getuser().encode(), b"300000"]
    assert done.stderr == b""
    await transport.close()


async def test_a_noisy_login_is_not_part_of_the_output(sshd: Sshd) -> None:
    sshd.force("echo Welcome; echo motd >&2; printf none; eval $SSH_ORIGINAL_COMMAND")
    transport = await sshd.login()
    done = await transport.run(Script("main() { echo clean; echo err >&2; return 2; }"))
    assert (done.status, done.stdout, done.stderr) == (2, b"clean\n", b"err\n")
    running = await transport.start(Script('main() { read -r x; echo "<$x>"; }'))
    await running.write_line("line")
    assert [line async for line in running.lines()] == ["<line>"]
    await transport.close()


async def test_a_key_that_may_only_run_something_else(sshd: Sshd) -> None:
    sshd.force("echo backups only; exit 1")
    transport = await sshd.login()
    with pytest.raises(LoginError, match="backups only"):
        await transport.run(HELLO)
    await transport.close()


async def test_a_child_that_keeps_the_channel_open_delays_nothing_for_long(sshd: Sshd) -> None:
    transport = await sshd.login()
    async with asyncio.timeout(10):
        done = await transport.run(Script("main() { echo started; sleep 12 & return 3; }"))
    assert (done.status, done.stdout) == (3, b"started\n")
    await transport.close()


async def test_a_script_that_takes_too_long_ends_with_its_channel(sshd: Sshd, tmp_path: Path) -> None:
    """sshd takes no signals for root's sessions; without its channel the script ends when it next says something."""
    script = Script('main() { echo $$ >"$1"; while sleep 0.2; do echo tick; done; }', (str(tmp_path / "pid"),))
    transport = await sshd.login()
    with pytest.raises(GpuwizardError, match="no end"):
        await transport.run(script, timeout=0.7)
    pid = int((tmp_path / "pid").read_text())
    async with asyncio.timeout(10):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.05)
    assert (await transport.run(HELLO)).ok
    await transport.close()


async def test_a_killed_script_tells_its_signal(sshd: Sshd) -> None:
    transport = await sshd.login()
    assert (await transport.run(Script("main() { kill -9 $$; }"))).status == 137
    await transport.close()


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
async def test_a_transfer_cut_on_the_way_runs_nothing(sshd: Sshd, share: float, tmp_path: Path) -> None:
    transport = await sshd.login()
    assert isinstance(transport, SshTransport)
    script = Script('main() { : >"$1"; }', (str(tmp_path / "ran"),), (Payload("p", os.urandom(200_000)),))
    text = render(script, "gpuwizard_cut_token")
    exchange = Exchange("gpuwizard_cut_token")
    wire = await transport._open(PLAIN_COMMAND, exchange)
    wire.write(text[: int(len(text) * share)])
    wire.write_eof()
    await exchange.ended.wait()
    assert exchange.status != 0
    assert not exchange.begun
    assert not (tmp_path / "ran").exists()
    await transport.close()


async def test_more_hosts_than_sshd_takes_new_logins(sshd: Sshd) -> None:
    """MaxStartups drops every unfinished login beyond ten here: none is lost."""
    results: list[object] = []
    targets = parse_targets([f"h{i}" for i in range(16)])
    await connect_all(targets, sshd.options(), Operator(), parallel=16, on_result=lambda t, r: results.append(r))
    assert all(isinstance(r, SshTransport) for r in results), results
    for transport in results:
        assert isinstance(transport, SshTransport)
        await transport.close()


async def test_a_refused_key_says_what_to_do(sshd: Sshd) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(sshd.folder / "other")], check=True)
    try:
        with pytest.raises(LoginError, match="tried: key") as caught:
            await sshd.login(identity=sshd.folder / "other")
        assert "--user" in caught.value.remedy
    finally:
        for path in sshd.folder.glob("other*"):
            path.unlink()
