"""Logins and sudo on real hosts: OpenSSH, PAM, sudo and sudo-rs as Debian ships them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from gpuwizard.errors import LoginError, UnreachableError
from gpuwizard.events import Choice, SecretPrompt
from gpuwizard.remote.connect import connect
from gpuwizard.remote.pool import connect_all
from gpuwizard.remote.target import parse_targets
from gpuwizard.remote.transport import Payload, Script, Transport
from gpuwizard.secret import Secret
from tests.lab.harness.host import LabHost
from tests.lab.harness.lab import Lab

Login = Callable[..., Awaitable[Transport]]
WHO = Script('main() { id -un; id -u; echo "$LC_ALL"; }')


class Answers:
    """An operator who answers secrets by id and keeps the questions."""

    def __init__(self, **secrets: str | Callable[[], str]) -> None:
        self.secrets = secrets
        self.asked: list[SecretPrompt] = []

    async def choose(self, question: Choice) -> str:
        return question.default

    async def secret(self, question: SecretPrompt) -> Secret | None:
        self.asked.append(question)
        answer = self.secrets.get(question.id)
        if answer is None:
            return None
        return Secret(answer if isinstance(answer, str) else answer())


async def who(transport: Transport, *, root: bool = False) -> tuple[str, int]:
    done = await transport.run(WHO, root=root)
    assert done.ok, done
    name, uid, locale = done.stdout.decode().split()
    assert locale == "C"
    assert done.stderr == b""
    return name, int(uid)


@pytest.mark.parametrize("user", ["root", "admin", "ops", "guest"])
async def test_by_key(login: Login, each_containerd: LabHost, user: str) -> None:
    assert (await who(await login(each_containerd, user=user)))[0] == user


async def test_by_agent(login: Login, lab_agent: str, trixie: LabHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", lab_agent)
    options: Mapping[str, Any] = {"identity": None, "use_agent": True, "ssh_config": _without_identity(trixie)}
    assert (await who(await login(trixie, **options)))[0] == "admin"
    with pytest.raises(LoginError):
        await login(trixie, **{**options, "use_agent": False})


def _without_identity(host: LabHost) -> Any:
    path = host.key.parent / "config-agent"
    path.write_text(f"Host {host.name}\n  HostName {host.address}\n")
    return path


async def test_by_password(lab: Lab, login: Login, each_containerd: LabHost) -> None:
    password = Secret(lab.passwords["typist"])
    transport = await login(each_containerd, user="typist", identity=None, password=password)
    assert (await who(transport))[0] == "typist"
    assert (await who(await login(each_containerd, user="typist", ask=Answers(password=password.reveal()))))[
        0
    ] == "typist"


async def test_a_wrong_password_is_one_attempt(login: Login, fresh_host: Callable[..., LabHost]) -> None:
    host = fresh_host("trixie", gpu=False, kubeadm=False)
    with pytest.raises(LoginError) as caught:
        await login(host, user="typist", identity=None, password=Secret("not-it"))
    assert "not-it" not in f"{caught.value!r} {caught.value.remedy}"
    journal = host.run("journalctl --no-pager -u ssh.service -t sshd -t sshd-session").stdout
    assert journal.count("Failed password") + journal.count("authentication failure;") >= 1
    assert journal.count("Failed password") <= 1


async def test_by_two_factors_through_pam(lab: Lab, login: Login, trixie: LabHost) -> None:
    operator = Answers(password=lab.passwords["twofactor"], challenge=lab.one_time_code)
    transport = await login(trixie, user="twofactor", identity=None, ask=operator)
    assert (await who(transport))[0] == "twofactor"
    assert [q.id for q in operator.asked] == ["password", "challenge"]
    assert "erification" in operator.asked[1].title


async def test_through_a_jump_host(lab: Lab, login: Login) -> None:
    hidden = lab.host("hidden")
    transport = await login(hidden)
    done = await transport.run(Script("main() { hostname; }"))
    assert done.stdout == b"hidden\n"


async def test_sudo_without_a_password(login: Login, each_containerd: LabHost) -> None:
    transport = await login(each_containerd)
    assert await who(transport, root=True) == ("root", 0)
    assert (await who(transport))[0] == "admin"


async def test_root_needs_no_sudo(login: Login, trixie: LabHost) -> None:
    assert await who(await login(trixie, user="root"), root=True) == ("root", 0)


async def test_sudo_with_a_password(lab: Lab, login: Login, each_containerd: LabHost) -> None:
    password = lab.passwords["ops"]
    transport = await login(each_containerd, user="ops", sudo_password=Secret(password))
    assert await who(transport, root=True) == ("root", 0)
    operator = Answers(sudo=password)
    transport = await login(each_containerd, user="ops", ask=operator)
    blob = bytes(range(256)) * 500
    done = await transport.run(Script('main() { cat "$PAYLOADS/p"; }', payloads=(Payload("p", blob),)), root=True)
    assert done.stdout == blob
    running = await transport.start(Script('main() { read -r x; echo "$(id -un) $x"; }'), root=True)
    await running.write_line("hi")
    assert [line async for line in running.lines()] == ["root hi"]
    assert len(operator.asked) == 1


async def test_the_password_is_in_no_process_list_and_no_journal(lab: Lab, login: Login, trixie: LabHost) -> None:
    password = lab.passwords["ops"]
    transport = await login(trixie, user="ops", sudo_password=Secret(password))
    running = await transport.start(Script("main() { echo up; read -r x; }"), root=True)
    assert await anext(running.lines()) == "up"
    seen = trixie.run("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'").stdout
    assert "sudo" in seen
    assert password not in seen
    await running.close()
    assert password not in trixie.run("journalctl --no-pager").stdout


async def test_a_wrong_sudo_password_is_one_attempt(login: Login, trixie: LabHost) -> None:
    before = trixie.run("date +%s").stdout.strip()
    transport = await login(trixie, user="ops", sudo_password=Secret("not-it"), ask=Answers())
    with pytest.raises(LoginError, match="refused the password of ops"):
        await transport.run(WHO, root=True)
    await transport.close()
    said = trixie.run(f"journalctl --no-pager --since=@{before} -t sudo").stdout
    assert said.count("authentication failure") <= 1
    assert "not-it" not in said


async def test_who_may_not_become_root(lab: Lab, login: Login, each_containerd: LabHost) -> None:
    transport = await login(each_containerd, user="guest", sudo_password=Secret(lab.passwords["guest"]), ask=Answers())
    with pytest.raises(LoginError) as caught:
        await transport.run(WHO, root=True)
    assert caught.value.remedy


async def test_requiretty(login: Login, fresh_host: Callable[..., LabHost]) -> None:
    rule = {"/etc/sudoers.d/zz-tty": b"Defaults requiretty\n"}
    transport = await login(fresh_host("bookworm", gpu=False, kubeadm=False, files=rule))
    with pytest.raises(LoginError, match="terminal") as caught:
        await transport.run(WHO, root=True)
    assert "!requiretty" in caught.value.remedy


@pytest.mark.parametrize("user", ["admin", "ops"])
async def test_sudo_rs(lab: Lab, login: Login, user: str) -> None:
    host = lab.host("sudo-rs")
    operator = Answers(sudo=lab.passwords[user]) if user == "ops" else None
    transport = await login(host, user=user, ask=operator)
    assert await who(transport, root=True) == ("root", 0)
    assert await who(transport, root=True) == ("root", 0)


async def test_sudo_rs_refuses(lab: Lab, login: Login) -> None:
    host = lab.host("sudo-rs")
    with pytest.raises(LoginError, match="refused the password of ops"):
        await (await login(host, user="ops", sudo_password=Secret("not-it"), ask=Answers())).run(WHO, root=True)
    guest = await login(host, user="guest", sudo_password=Secret(lab.passwords["guest"]), ask=Answers())
    with pytest.raises(LoginError) as caught:
        await guest.run(WHO, root=True)
    assert caught.value.remedy


async def test_a_cable_that_is_pulled_is_noticed_and_the_link_comes_back(login: Login, trixie: LabHost) -> None:
    transport = await login(trixie)
    running = await transport.start(Script("main() { echo up; read -r x; }"))
    lines = running.lines()
    assert await anext(lines) == "up"
    with trixie.link_cut():
        async with asyncio.timeout(25):
            assert [line async for line in lines] == []
        assert await running.wait() is None
        assert not transport.alive
        with pytest.raises(UnreachableError):
            await transport.run(WHO)
    async with asyncio.timeout(60):
        while not transport.alive:
            try:
                await transport.reconnect()
            except UnreachableError:
                await asyncio.sleep(0.5)
    assert (await who(transport))[0] == "admin"


async def test_logins_that_are_dropped_in_the_middle(login: Login, trixie: LabHost) -> None:
    transport = await login(trixie)
    task = asyncio.create_task(transport.run(Script("main() { echo up; sleep 30; }")))
    await asyncio.sleep(0.5)
    await asyncio.to_thread(trixie.drop_logins)
    with pytest.raises(UnreachableError):
        await task
    await transport.reconnect()
    assert (await who(transport))[0] == "admin"


async def test_all_hosts_at_once(lab: Lab) -> None:
    names = ("bookworm", "trixie", "sid", "hidden", "sudo-rs")
    for name in names:
        lab.host(name)
    results: dict[str, Any] = {}
    await connect_all(
        parse_targets(names), lab.options(), Answers(), parallel=30, on_result=lambda t, r: results.update({t.name: r})
    )
    try:
        assert not [r for r in results.values() if isinstance(r, Exception)]
        assert await asyncio.gather(*(who(t, root=True) for t in results.values())) == [("root", 0)] * len(names)
    finally:
        for transport in results.values():
            await transport.close()


async def test_an_unknown_and_a_changed_host_key(lab: Lab, trixie: LabHost, sid: LabHost, tmp_path: Any) -> None:
    (target,) = parse_targets(["trixie"])
    known = tmp_path / "known"
    with pytest.raises(LoginError, match="not known"):
        await connect(target, lab.options(known_hosts=known), Answers())
    transport = await connect(target, lab.options(known_hosts=known, host_keys="accept-new"), Answers())
    await transport.close()
    transport = await connect(target, lab.options(known_hosts=known), Answers())
    await transport.close()
    known.write_text(f"{trixie.address} {sid.host_key}\n")
    with pytest.raises(LoginError, match="CHANGED"):
        await connect(target, lab.options(known_hosts=known, host_keys="accept-new"), Answers())
