"""Becoming root, against a stand-in for sudo that talks as sudo 1.9 and as sudo-rs do."""

import asyncio
import os
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuwizard.errors import GpuwizardError, LoginError
from gpuwizard.events import SecretPrompt
from gpuwizard.remote.connect import connect
from gpuwizard.remote.local import LocalTransport
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.sudo import sudo_problem
from gpuwizard.remote.target import parse_targets
from gpuwizard.remote.transport import Payload, Script
from gpuwizard.secret import Secret
from tests.remote_peers import PASSWORD, Operator, Rules, ssh_server, target, with_password

ROOT_PASSWORD = f"root-{secrets.token_hex(8)}"
WHO = Script('main() { echo "as ${FAKE_ROOT-nobody}"; cat; }')

SUDO = r"""#!/bin/sh
say() { printf '%s\n' "$1" >&2; }
ps_list() { for d in /proc/[0-9]*; do tr '\0' ' ' <"$d/cmdline"; tr '\0' ' ' <"$d/environ"; done 2>/dev/null; }
prompt=
while [ $# -gt 0 ]; do
    case $1 in
    -p) prompt=$2; shift 2 ;;
    --) shift; break ;;
    -*) shift ;;
    esac
done
become() {
    ps_list >>"$FAKE_LOG.ps"
    FAKE_ROOT=root; export FAKE_ROOT
    exec "$@"
}
case $FAKE_SUDO in
open) become "$@" ;;
tty) say 'sudo: sorry, you must have a tty to run sudo'; exit 1 ;;
german) say 'sudo: Irgendetwas ist schiefgegangen'; exit 1 ;;
hang) exec sleep 60 ;;
esac
[ "$FAKE_SUDO" = lecture ] && say 'We trust you have received the usual lecture.'
tries=0
while [ $tries -lt 3 ]; do
    case $FAKE_SUDO in
    rs) printf '[sudo: %s] Password: ' "$prompt" >&2 ;;
    split) printf '%s' "${prompt%??????}" >&2; sleep 0.2; printf '%s' "${prompt#"${prompt%??????}"}" >&2 ;;
    *) printf '%s' "$prompt" >&2 ;;
    esac
    IFS= read -r given || { say 'sudo: no password was provided'; exit 1; }
    echo attempt >>"$FAKE_LOG"
    if [ "$given" = "$(cat "$FAKE_SECRET")" ]; then
        [ "$FAKE_SUDO" = stranger ] && { say 'alice is not in the sudoers file.'; exit 1; }
        [ "$FAKE_SUDO" = expired ] && { say 'sudo: PAM account management error: Token expired'; exit 1; }
        become "$@"
    fi
    say 'Sorry, try again.'
    tries=$((tries + 1))
done
say 'sudo: 3 incorrect password attempts'
exit 1
"""


@pytest.fixture
def fake_sudo(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """An environment whose `sudo` behaves in the way that is named."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "sudo"
    program.write_text(SUDO)
    program.chmod(0o755)
    (tmp_path / "secret").write_text(ROOT_PASSWORD)

    def environment(behaviour: str) -> dict[str, str]:
        return {
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "FAKE_SUDO": behaviour,
            "FAKE_LOG": str(tmp_path / "log"),
            "FAKE_SECRET": str(tmp_path / "secret"),
        }

    return environment


def attempts(tmp_path: Path) -> int:
    log = tmp_path / "log"
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.parametrize("behaviour", ["classic", "rs", "lecture", "split", "open"])
async def test_the_ways_sudo_talks(behaviour: str, fake_sudo: Callable[[str], dict[str, str]], tmp_path: Path) -> None:
    async with ssh_server(Rules(password=PASSWORD, environment=fake_sudo(behaviour))) as peer:
        options = with_password(tmp_path, peer, sudo_password=Secret(ROOT_PASSWORD))
        transport = await connect(target(peer), options, Operator())
        for _ in range(2):
            done = await transport.run(WHO, root=True)
            assert (done.status, done.stdout, done.stderr) == (0, b"as root\n", b"")
        assert (await transport.run(WHO)).stdout == b"as nobody\n"
        running = await transport.start(Script('main() { read -r a; echo "$FAKE_ROOT $a"; }'), root=True)
        await running.write_line("hi")
        assert [line async for line in running.lines()] == ["root hi"]
        assert await running.wait() == 0
        await transport.close()
    assert attempts(tmp_path) == (0 if behaviour == "open" else 3)
    assert ROOT_PASSWORD not in (tmp_path / "log.ps").read_text()


async def test_the_password_is_asked_once_for_all_hosts(
    fake_sudo: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    async with ssh_server(Rules(password=PASSWORD, environment=fake_sudo("classic"))) as peer:
        options = with_password(tmp_path, peer)
        operator = Operator(secrets={"sudo": [ROOT_PASSWORD]})
        (tmp_path / "config").write_text(f"Host n*\n  HostName 127.0.0.1\n  Port {peer.port}\n  User alice\n")
        names = parse_targets([f"n{i}" for i in range(5)])
        options = with_password(tmp_path, peer, ssh_config=tmp_path / "config")
        transports = [await connect(name, options, operator) for name in names]
        done = await asyncio.gather(*(t.run(WHO, root=True) for t in transports))
        assert {d.stdout for d in done} == {b"as root\n"}
        assert [q.id for q in operator.asked] == ["sudo"]
        for transport in transports:
            await transport.close()


async def test_a_typing_error_costs_one_failed_login_and_one_more_question(
    fake_sudo: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    async with ssh_server(Rules(password=PASSWORD, environment=fake_sudo("rs"))) as peer:
        (tmp_path / "config").write_text(f"Host n*\n  HostName 127.0.0.1\n  Port {peer.port}\n  User alice\n")
        options = with_password(tmp_path, peer, ssh_config=tmp_path / "config")
        operator = Operator(secrets={"sudo": ["tpyo", ROOT_PASSWORD]})
        transports = [await connect(name, options, operator) for name in parse_targets(["n1", "n2", "n3"])]
        done = await asyncio.gather(*(t.run(WHO, root=True) for t in transports))
        assert {d.stdout for d in done} == {b"as root\n"}
        assert len(operator.asked) == 2
        assert "not accepted" in operator.asked[1].body
        assert attempts(tmp_path) == 4
        for transport in transports:
            await transport.close()


async def test_a_wrong_password_stops_at_the_second_prompt(
    fake_sudo: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    async with ssh_server(Rules(password=PASSWORD, environment=fake_sudo("classic"))) as peer:
        options = with_password(tmp_path, peer, sudo_password=Secret("wrong-one"))
        transport = await connect(target(peer), options, Operator())
        with pytest.raises(LoginError, match="refused the password of alice") as caught:
            await transport.run(WHO, root=True)
        assert caught.value.remedy
        assert "wrong-one" not in f"{caught.value!r}{caught.value.__dict__}"
        assert attempts(tmp_path) == 1
        assert transport.alive
        await transport.close()


async def test_only_the_first_line_of_a_password_is_sent(
    fake_sudo: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    """What follows a newline would be read by root's shell as a command."""
    async with ssh_server(Rules(password=PASSWORD, environment=fake_sudo("classic"))) as peer:
        secret = Secret(f"{ROOT_PASSWORD}\n: >{tmp_path}/ran\n")
        transport = await connect(target(peer), with_password(tmp_path, peer, sudo_password=secret), Operator())
        assert (await transport.run(WHO, root=True)).stdout == b"as root\n"
        assert not (tmp_path / "ran").exists()
        await transport.close()


async def test_another_password_on_one_host_leaves_the_others_alone(
    fake_sudo: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    (tmp_path / "other").write_text("its own")
    first = Rules(password=PASSWORD, environment=fake_sudo("classic"))
    second = Rules(password=PASSWORD, environment=fake_sudo("classic") | {"FAKE_SECRET": str(tmp_path / "other")})
    async with ssh_server(first) as a, ssh_server(second) as b:
        options = with_password(tmp_path, a, b, sudo_password=Secret(ROOT_PASSWORD))
        operator = Operator(secrets={"sudo": ["its own"]})
        here = await connect(target(a), options, operator)
        (tmp_path / "config").write_text(f"Host odd\n  HostName 127.0.0.1\n  Port {b.port}\n  User alice\n")
        there = await connect(
            parse_targets(["odd"])[0],
            with_password(
                tmp_path,
                a,
                b,
                sudo_password=Secret(ROOT_PASSWORD),
                ssh_config=tmp_path / "config",
                shared=options.shared,
            ),
            operator,
        )
        for transport in (here, there, here, there):
            assert (await transport.run(WHO, root=True)).stdout == b"as root\n"
        (question,) = operator.asked
        assert isinstance(question, SecretPrompt)
        assert question.host == "odd"
        await here.close()
        await there.close()


@pytest.mark.parametrize(
    ("behaviour", "what", "remedy"),
    [
        ("tty", "demands a terminal", "!requiretty"),
        ("stranger", "may not become root", "sudoers"),
        ("expired", "expired", "by hand"),
        ("german", "Irgendetwas", "sudo true"),
    ],
)
async def test_why_sudo_refuses(
    behaviour: str, what: str, remedy: str, fake_sudo: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    async with ssh_server(Rules(password=PASSWORD, environment=fake_sudo(behaviour))) as peer:
        options = with_password(tmp_path, peer, sudo_password=Secret(ROOT_PASSWORD))
        transport = await connect(target(peer), options, Operator())
        with pytest.raises(LoginError, match=what) as caught:
            await transport.run(WHO, root=True)
        assert remedy in caught.value.remedy
        assert caught.value.where == "127.0.0.1"
        with pytest.raises(LoginError, match=what):
            await transport.start(WHO, root=True)
        await transport.close()


async def test_nobody_gives_a_password(fake_sudo: Callable[[str], dict[str, str]], tmp_path: Path) -> None:
    async with ssh_server(Rules(password=PASSWORD, environment=fake_sudo("classic"))) as peer:
        transport = await connect(target(peer), with_password(tmp_path, peer), Operator())
        with pytest.raises(LoginError, match="wants the password") as caught:
            await transport.run(WHO, root=True)
        assert "-K" in caught.value.remedy
        await transport.close()


async def test_a_host_without_sudo(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("sh", "cat"):
        (tmp_path / "bin" / name).symlink_to(f"/bin/{name}")
    rules = Rules(password=PASSWORD, environment={"PATH": str(tmp_path / "bin")})
    async with ssh_server(rules) as peer:
        transport = await connect(target(peer), with_password(tmp_path, peer), Operator())
        with pytest.raises(LoginError, match="there is no sudo"):
            await transport.run(WHO, root=True)
        await transport.close()


async def test_a_sudo_that_hangs_is_given_up(fake_sudo: Callable[[str], dict[str, str]], tmp_path: Path) -> None:
    async with ssh_server(Rules(password=PASSWORD, environment=fake_sudo("hang"))) as peer:
        transport = await connect(target(peer), with_password(tmp_path, peer), Operator())
        with pytest.raises(GpuwizardError, match=r"no end after 0\.5 s"):
            await transport.run(WHO, root=True, timeout=0.5)
        assert (await transport.run(WHO)).ok
        await transport.close()


async def test_a_login_shell_that_traces_does_not_draw_the_password(
    fake_sudo: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    """`set -x` prints the command, and with it the token, before sudo has asked anything."""
    rules = Rules(password=PASSWORD, environment=fake_sudo("open"), shell=("/bin/sh", "-x", "-c"))
    async with ssh_server(rules) as peer:
        options = with_password(tmp_path, peer, sudo_password=Secret(ROOT_PASSWORD))
        transport = await connect(target(peer), options, Operator())
        done = await transport.run(WHO, root=True)
        assert (done.stdout, done.stderr) == (b"as root\n", b"")
        rules.environment["FAKE_SUDO"] = "classic"
        assert (await transport.run(WHO, root=True)).stdout == b"as root\n"
        assert attempts(tmp_path) == 1
        await transport.close()


async def test_on_this_machine_the_dialogue_is_the_same(
    fake_sudo: Callable[[str], dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in fake_sudo("rs").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    local = LocalTransport(ConnectOptions(), Operator(secrets={"sudo": [ROOT_PASSWORD]}))
    script = Script('main() { echo "$FAKE_ROOT"; cat "$PAYLOADS/x"; }', payloads=(Payload("x", b"y" * 70000),))
    done = await local.run(script, root=True)
    assert done.stdout == b"root\n" + b"y" * 70000
    assert (await local.run(Script("main() { return 3; }"), root=True)).status == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sorry, user alice is not allowed to execute '/bin/sh' as root on h.", "may not become root"),
        ("alice is not in the sudoers file.\nThis incident has been reported.", "may not become root"),
        ("sudo: Authentication failed, try again.", "refused the password"),
        ("sudo: PAM account management error: Permission denied", "expired"),
        ("sh: 1: exec: sudo: not found", "no sudo"),
        ("bash: line 1: sudo: command not found", "no sudo"),
        ("", "exit status 1"),
    ],
)
def test_messages_of_both_sudos(text: str, expected: str) -> None:
    error = sudo_problem(text, 1, host="h", user="alice")
    assert expected in str(error)
    assert error.remedy
