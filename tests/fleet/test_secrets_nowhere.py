"""Planted secrets on their way through every command: no output, log, journal, process or traceback shows one.

The hosts are simulated and reached as real ones are: by an SSH configuration, a key, known hosts, a kubeconfig and a
sudo password. The one exception is the plan of a run that was cut, which holds the bytes of files (mode 0600), and is
gone when the run has ended.
"""

import asyncio
import contextlib
import json
import os
import pty
import secrets
import signal
import stat
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from gpuwizard.fleet import Fleet, open_fleet
from tests.secrets_hunt import Sampler, found_in, found_in_files

FLEET = """
speed = 10
[hosts.one]
distro = "debian-12"
gpus = ["T4"]
driver = "535.274.02"
toolkit = "1.18.0"
containerd = "1.7.24"
sudo = {{ kind = "password", form = "{form}", password = "{password}" }}
kubernetes = {{ flavour = "kubeadm", version = "v1.34.1" }}
[hosts.two]
distro = "ubuntu-24.04"
gpus = ["L40S"]
driver = "580.95.05"
toolkit = "1.18.0"
sudo = {{ kind = "password", form = "{form}", password = "{password}" }}
kubernetes = {{ flavour = "k3s", role = "agent", version = "v1.34.1+k3s1", started_before_toolkit = true }}
"""
CRI = 'plugins."io.containerd.grpc.v1.cri"'
CONTAINERD = f"""version = 2
# a comment that must survive
[{CRI}.containerd]
  default_runtime_name = "runc"
[{CRI}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[{CRI}.containerd.runtimes.runc.options]
  SystemdCgroup = true
[{CRI}.registry.configs."registry.example".auth]
  username = "robot"
  password = "@registry@"
[{CRI}.registry.mirrors."mirror.example"]
  endpoint = ["https://robot:@mirror@@mirror.example/v2"]
"""
REGISTRIES = "configs:\n  registry.example:\n    auth:\n      username: robot\n      password: @registry@\n"
PROXY = '[Service]\nEnvironment="HTTPS_PROXY=http://robot:@proxy@@proxy.example:3128"\n'
ANSWERS = """
[connection]
user = "ops"
{connection}
[rollout]
unit_hold = 1
node_hold = 0
[validation]
enabled = false
"""
HOST = "Host {name}\n  HostName {address}\n  Port {port}\n  HostKeyAlias {name}\n"


@dataclass
class Site:
    """A fleet, the files with which a laptop reaches it, and what must show nowhere."""

    fleet: Fleet
    folder: Path
    secrets: dict[str, str]
    sampler: Sampler
    said: list[bytes] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.folder / "laptop"

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: os.environ[k] for k in ("PATH", "PYTHONPATH", "LANG") if k in os.environ}
        return {**kept, "HOME": str(self.folder / "home"), "GPUWIZARD_STATE_DIR": str(self.state)}

    def flags(self, *, log: bool = True) -> list[str]:
        files = {"--ssh-config": "ssh_config", "--identity": "key", "--known-hosts": "known_hosts"}
        words = [part for flag, name in files.items() for part in (flag, str(self.folder / name))]
        words += ["--kubeconfig", str(self.folder / "kubeconfig")]
        return [*words, *(["--log-file", str(self.folder / "log"), "-v"] if log else [])]

    def answers(self, connection: str = "") -> list[str]:
        (self.folder / "site.toml").write_text(ANSWERS.format(connection=connection))
        return ["--answers", str(self.folder / "site.toml")]

    async def run(self, *words: str, dies_at: str = "", program: tuple[str, ...] = (), plain: bool = False) -> int:
        """Run gpuwizard with the sudo password in its environment; `plain` without. What it says is kept."""
        given = {} if plain else {"GPUWIZARD_SUDO_PASSWORD": self.secrets["sudo password"]}
        process = await asyncio.create_subprocess_exec(
            sys.executable, *(program or ("-m", "gpuwizard")), *words, *self.flags(),
            env={**self.environment, **given}, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=2**24,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        errors = asyncio.create_task(process.stderr.read())
        async for line in process.stdout:
            self.sampler.settled.add(process.pid)
            self.said.append(line)
            if dies_at and dies_at in line.decode():
                process.send_signal(signal.SIGKILL)
                break
        self.said += [await process.stdout.read(), await errors]
        return await process.wait()

    def check(self) -> None:
        """No secret in what was said, logged, written down, or shown by the system."""
        assert found_in(b"".join(self.said), self.secrets) == []
        assert found_in((self.folder / "log").read_bytes(), self.secrets) == []
        assert found_in_files(self.state, self.secrets) == []
        assert self.sampler.hits == set()
        assert self.sampler.looks > 5

    def on_the_hosts(self) -> list[str]:
        """What of the laptop's own secrets lies on a host; the backups there hold the host's, as they must."""
        ours = {k: v for k, v in self.secrets.items() if k in ("sudo password", "client key", "bearer token")}
        return found_in_files(self.fleet.state_dir / "hosts", ours)


@contextlib.asynccontextmanager
async def site(folder: Path, form: str = "classic") -> AsyncIterator[Site]:
    planted = {name: f"q7{secrets.token_urlsafe(18)}" for name in ("sudo password", "registry", "mirror", "proxy")}
    fleet_folder = folder / "small"
    files = {
        "one/etc/containerd/config.toml": CONTAINERD,
        "one/etc/systemd/system/containerd.service.d/http-proxy.conf": PROXY,
        "two/etc/rancher/k3s/registries.yaml": REGISTRIES,
    }
    for name, text in files.items():
        path = fleet_folder / "hosts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for kind in ("registry", "mirror", "proxy"):
            text = text.replace(f"@{kind}@", planted[kind])
        path.write_text(text)
    (fleet_folder / "fleet.toml").write_text(FLEET.format(form=form, password=planted["sudo password"]))
    async with open_fleet(str(fleet_folder), state_dir=folder / "fleets") as fleet:
        key = write_login(fleet, folder)
        token = fleet.kubeconfig["users"][0]["user"]["token"]
        planted |= {"client key": key.splitlines()[3], "bearer token": token}
        with Sampler(planted) as sampler:
            yield Site(fleet, folder, planted, sampler)


def write_login(fleet: Fleet, folder: Path) -> str:
    """The files of a laptop that reaches these hosts; returns the private key."""
    config, known = "", ""
    key = ""
    for name, endpoint in fleet.options.endpoints.items():
        config += HOST.format(name=name, address=endpoint.address, port=endpoint.port)
        known += f"{name} {endpoint.host_key}\n"
        key = endpoint.client_key
    (folder / "home").mkdir()
    for name, text in (
        ("ssh_config", config), ("known_hosts", known), ("key", key), ("kubeconfig", yaml.safe_dump(fleet.kubeconfig))
    ):  # fmt: skip
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    return key


def run_of(state: Path) -> tuple[str, Path]:
    newest = max((state / "runs").iterdir(), key=lambda p: p.stat().st_mtime_ns)
    return newest.name, newest


async def test_every_command_keeps_every_secret(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        answers = here.answers()
        assert await here.run("check", "one", "two", *answers) in (0, 1)
        assert await here.run("check", "one", "two", "--facts", "--json", *answers) in (0, 1)
        assert await here.run("plan", "one", "two", *answers, "--json") == 2
        saved = tmp_path / "saved.plan"
        assert await here.run("plan", "one", "two", *answers, "--out", str(saved)) == 2
        assert stat.S_IMODE(saved.stat().st_mode) == 0o600
        assert found_in(saved.read_bytes(), here.secrets) == ["registry", "mirror"], "it holds the bytes of files"
        assert await here.run("apply", str(saved), "--yes", "--json") == 0, b"".join(here.said)[-2000:]
        run, folder = run_of(here.state)
        assert not (folder / "run.plan").exists()
        assert await here.run("rollback", run, "--yes", "--json") == 0, b"".join(here.said)[-2000:]
        assert await here.run("rollback") == 0
        here.check()
        assert here.on_the_hosts() == []
        said = b"".join(here.said).decode()
        assert "confirmed" in said
        assert "redacted" in said, "the registry's login was seen, and hidden"
        assert "guard.sh" in here.sampler.seen, "the hosts' processes were looked at too"


async def test_a_run_that_is_cut_keeps_its_plan_to_its_owner_and_only_until_it_ends(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        answers = here.answers()
        assert await here.run("one", "two", *answers, dies_at="one: health:") == -9
        run, folder = run_of(here.state)
        plan = folder / "run.plan"
        assert stat.S_IMODE(plan.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        held = found_in(plan.read_bytes(), here.secrets)
        assert held == ["registry", "mirror"], "bytes of files, and nothing of the laptop's own"
        plan.rename(tmp_path / "aside")
        here.check()
        (tmp_path / "aside").rename(plan)
        code = await here.run("resume", run, "--yes", *answers)
        assert code in (0, 1), b"".join(here.said)[-3000:]
        assert not plan.exists()
        here.check()
        assert here.on_the_hosts() == []


async def test_a_password_that_a_command_prints_is_in_no_process(tmp_path: Path) -> None:
    async with site(tmp_path, form="sudo-rs") as here:
        vault = tmp_path / "vault"
        vault.write_text(here.secrets["sudo password"] + "\n")
        answers = here.answers(f'sudo_password_command = "cat {vault}"')
        assert await here.run("plan", "one", "two", *answers, plain=True) == 2, b"".join(here.said)[-2000:]
        here.check()


async def test_a_password_that_is_typed_is_not_echoed(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        words = [sys.executable, "-m", "gpuwizard", "plan", "one", *here.answers(), *here.flags(), "-K"]
        here.said.append(await asyncio.to_thread(typed, words, here.environment, here.secrets["sudo password"]))
        assert b"sudo password: " in here.said[0]
        assert b"99-gpuwizard" in here.said[0] or b"nvidia-container-runtime" in here.said[0], "it got in"
        here.check()


def typed(words: list[str], environment: dict[str, str], password: str) -> bytes:
    """Run a program in a terminal of its own and type the password when it asks; returns all that was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(words[0], words, environment)
    said, answered = b"", False
    with contextlib.suppress(OSError):  # Linux: the terminal of a program that has ended
        while piece := os.read(terminal, 65536):
            said += piece
            if not answered and b"sudo password: " in said:
                answered = True
                os.write(terminal, password.encode() + b"\n")
    os.close(terminal)
    os.waitpid(pid, 0)
    return said


SPOILT = """
import importlib
import sys
from gpuwizard.cli import main
from gpuwizard.secret import known_secrets

TEXT = open(sys.argv[1]).read()
module, name = sys.argv[2].rsplit(".", 1)

def boom(*words, **more):
    assert known_secrets(), "there is a password to be told"
    raise RuntimeError(f"this happened: {words} {more} {known_secrets()} {TEXT}")

setattr(importlib.import_module(module), name, boom)
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.parametrize(
    "place",
    ["gpuwizard.work.guard.prepare_payloads", "gpuwizard.plan.build.build_plan", "gpuwizard.work.apply.nothing_lost"],
)
async def test_an_error_in_gpuwizard_itself_tells_no_secret_either(tmp_path: Path, place: str) -> None:
    """Its words hold all that a careless message could hold: the password, the bytes of a file, a line of a host."""
    async with site(tmp_path) as here:
        assert await here.run("one", *here.answers(), program=spoilt(here, place)) == 1
        said = b"".join(here.said).decode()
        assert "Traceback" in said
        assert '  File "' in said
        assert "an error in gpuwizard itself: RuntimeError: this happened" in said
        here.check()


async def test_an_error_in_what_reads_the_link_tells_no_secret(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        assert await here.run("one", *here.answers(), program=spoilt(here, "gpuwizard.work.guard.event_of")) == 1
        here.check()


def spoilt(here: Site, place: str) -> tuple[str, ...]:
    """gpuwizard with a function that fails and says all that it could know."""
    program = here.folder / "spoilt.py"
    program.write_text(SPOILT)
    return str(program), str(here.fleet.state_dir / "hosts/one/etc/containerd/config.toml"), place


async def test_a_secret_in_the_answers_shows_in_no_traceback(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        answers = here.answers(f'sudo_password = "{here.secrets["sudo password"]}"')
        assert await here.run("check", "one", *answers, plain=True) == 64
        said = b"".join(here.said).decode()
        assert "Traceback" in said
        assert found_in(said, here.secrets) == []


async def test_the_password_is_gone_from_the_memory_that_others_see(tmp_path: Path) -> None:
    program = (
        "import os; from gpuwizard.cli import main; main(['--version-of-nothing']);"
        "print(open('/proc/self/environ', 'rb').read().count(b'hunter2secret')); print(dict(os.environ))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env={**os.environ, "GPUWIZARD_SUDO_PASSWORD": "hunter2secret"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert out.splitlines()[0] == b"0", err
    assert b"hunter2secret" not in out + err
    assert json.dumps(str(out)).count("GPUWIZARD_SUDO_PASSWORD") == 0
