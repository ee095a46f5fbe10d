"""A host as a folder: the guard runs in it under a shell of choice, with stand-ins for systemd and containerd."""

import asyncio
import base64
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from gpuwizard.actions import Check, FileChange
from gpuwizard.errors import UnreachableError
from gpuwizard.remote.script import render
from gpuwizard.remote.transport import Completed, Script
from gpuwizard.secret import SecretBytes
from gpuwizard.work.guard_scripts import GuardedChange, prepare_payloads, prepare_words

T = TypeVar("T")
SHELLS = {"dash": "dash", "busybox": "busybox sh", "bash": "bash --posix"}
SPEED = 20
MAIN = "/etc/containerd/config.toml"
DROP_IN = "/etc/containerd/conf.d/99-gpuwizard-nvidia.toml"
PLAIN = b"""version = 2
# a comment that must survive
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"""
NVIDIA = b"""[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
  BinaryName = "/usr/bin/nvidia-container-runtime"
"""
IMPORTS = b'imports = ["/etc/containerd/conf.d/*.toml"]\n'
CHECK = Check(
    unit="containerd.service",
    handlers=("runc", "nvidia"),
    default_handler="runc",
    cri_socket="/run/containerd/containerd.sock",
    binary="/usr/bin/containerd",
    config_path=MAIN,
)
STANDINS = Path(__file__).parent / "data" / "guard_bin"
# As lock.sh calls it.
_PREPARE = 'main() { PAYLOADS=$PAYLOADS sh "$PAYLOADS/guard.sh" "$@"; }'


def missing_shells() -> list[str]:
    """Shells that this machine does not have."""
    return [name for name, command in SHELLS.items() if shutil.which(command.split()[0]) is None]


@dataclass
class Tree:
    """The folder `root` is the host's /. `shell` runs everything."""

    root: Path
    shell: str
    environment: dict[str, str] = field(default_factory=dict)

    def build(self) -> "Tree":
        """Make the tree: configuration, stand-ins, a bin folder with the shell under test."""
        for folder in (
            "etc/containerd",
            "etc/systemd/system",
            "tmp",
            "var/lib",
            "run",
            "proc/sys/kernel/random",
            "bin",
        ):
            (self.root / folder).mkdir(parents=True)
        (self.root / "proc/sys/kernel/random/boot_id").write_text("boot-1\n")
        self.path(MAIN).write_bytes(PLAIN)
        unit = self.root / "standin/units/containerd.service"
        unit.mkdir(parents=True)
        for name, value in (("active", "active"), ("pid", "1000"), ("restarts", "0")):
            (unit / name).write_text(value + "\n")
        (self.root / "standin/starts").write_text("0\n")
        (self.root / "standin/live").write_bytes(PLAIN)
        (self.root / "standin/epoch").write_text(str(time.time_ns()))
        for tool in STANDINS.iterdir():
            shutil.copy(tool, self.root / "bin" / tool.name)
        wrapper = self.root / "bin/sh"
        wrapper.write_text(f'#!/bin/sh\nexec {self.shell} "$@"\n')
        wrapper.chmod(0o755)
        return self

    def path(self, name: str) -> Path:
        """The file that the host calls `name`."""
        return self.root / name.lstrip("/")

    def run_folder(self, run_id: str = "run-1") -> Path:
        """The folder of a run on the host."""
        return self.path(f"/var/lib/gpuwizard/runs/{run_id}")

    def env(self) -> dict[str, str]:
        """The environment of every script of this host."""
        return {
            "PATH": f"{self.root}/bin:{os.environ['PATH']}",
            "GPUWIZARD_FLEET_ROOT": str(self.root),
            "STANDIN_SPEED": str(SPEED),
            "LC_ALL": "C",
            **self.environment,
        }

    def send(self, script: Script) -> subprocess.CompletedProcess[str]:
        """Run a script as the transport would: payloads in a folder of their own, then main."""
        payloads = self.root / "payloads"
        shutil.rmtree(payloads, ignore_errors=True)
        payloads.mkdir()
        for payload in script.payloads:
            (payloads / payload.name).write_bytes(payload.data)
        quoted = " ".join("'" + a.replace("'", "'\\''") + "'" for a in script.arguments)
        text = f'R=$GPUWIZARD_FLEET_ROOT PAYLOADS={payloads}\n{script.text}\nmain {quoted}\nexit "$?"\n'
        return subprocess.run(
            [self.root / "bin/sh"], input=text, capture_output=True, text=True, env=self.env(), timeout=60
        )

    def guard(self, role: str, *arguments: str, run_id: str = "run-1") -> subprocess.CompletedProcess[str]:
        """Call the guard in the run folder, as a person or PID 1 does."""
        command = [self.root / "bin/sh", self.run_folder(run_id) / "guard.sh", role, run_id, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=self.env(), timeout=60)

    def prepare(self, change: GuardedChange) -> subprocess.CompletedProcess[str]:
        """The first call of a run."""
        role, *arguments = prepare_words(change)
        words = (role, change.run_id, *arguments)
        return self.send(Script(_PREPARE, words, prepare_payloads(change)))

    def state(self, run_id: str = "run-1") -> str:
        """The word in the state file."""
        return (self.run_folder(run_id) / "state").read_text().split()[0]

    def wait_for(self, *words: str, run_id: str = "run-1") -> str:
        """Wait until the state is one of `words`; at most 20 s."""
        end = time.monotonic() + 20
        while (word := self.state(run_id)) not in words:
            assert time.monotonic() < end, f"{word}: {(self.run_folder(run_id) / 'log').read_text()}"
            time.sleep(0.02)
        return word

    def calls(self) -> list[str]:
        """What was asked of systemctl so far."""
        file = self.root / "standin/calls"
        return file.read_text().splitlines() if file.exists() else []


def change_of(*files: FileChange, run_id: str = "run-1", **values: object) -> GuardedChange:
    """A guarded change of containerd with short holds."""
    return GuardedChange(
        **{  # type: ignore[arg-type]
            "run_id": run_id,
            "by": "tester@laptop",
            "files": files,
            "unit": "containerd.service",
            "check": CHECK,
            "timeout": 200,
            "limit": 60,
            "hold": 3,
            **values,
        }
    )


def edit(path: str, before: bytes | None, after: bytes | None) -> FileChange:
    """A file change from bytes."""
    return FileChange(
        path, None if before is None else SecretBytes(before), None if after is None else SecretBytes(after)
    )


def dump_in(output: str, which: str) -> bytes:
    """The configuration dump that prepare printed."""
    lines = [line.split(" ", 1)[1] for line in output.splitlines() if line.startswith(f"@dump-{which} ")]
    return base64.b64decode("".join(lines))


class TreeTransport:
    """A `Transport` to a tree: the very bytes that go over the wire, run by the tree's shell. `cut()` takes the link
    away without a word, `mend()` lets `reconnect` succeed again."""

    def __init__(self, tree: Tree, name: str = "node1") -> None:
        self.tree = tree
        self._name = name
        self._cut = asyncio.Event()
        self._away = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def alive(self) -> bool:
        return not self._cut.is_set()

    def cut(self) -> None:
        """Lose the link; scripts that hang on it die."""
        self._away = True
        self._cut.set()

    def mend(self) -> None:
        """The network is back; the link has to be opened again."""
        self._away = False

    async def reconnect(self) -> None:
        if self._away:
            raise UnreachableError("no answer", where=self._name)
        self._cut = asyncio.Event()

    async def close(self) -> None:
        self.cut()

    async def run(
        self,
        script: Script,
        *,
        root: bool = False,
        timeout: float = 60.0,
        on_line: Callable[[str], None] | None = None,
        on_data: Callable[[bytes], None] | None = None,
    ) -> Completed:
        process = await self.start(script, root=root)
        process.process.stdin.close()
        lines = []
        try:
            async with asyncio.timeout(timeout), aclosing(process.lines()) as heard:
                async for line in heard:
                    lines.append(line)
                    if on_line is not None:
                        on_line(line)
                    if on_data is not None:
                        on_data(line.encode() + b"\n")
            status = await process.wait()
        finally:
            await process.close()
        if status is None:
            raise UnreachableError("the link was lost", where=self._name)
        return Completed(status, "\n".join([*lines, ""]).encode(), b"")

    async def start(self, script: Script, *, root: bool = False) -> "TreeProcess":
        if self._cut.is_set():
            raise UnreachableError("the link was lost", where=self._name)
        token = secrets.token_hex(8)
        process = await asyncio.create_subprocess_exec(
            self.tree.root / "bin/sh",
            "-s",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self.tree.env(),
            limit=2**22,
        )
        assert process.stdin is not None
        process.stdin.write(render(script, token, lines=True))
        await process.stdin.drain()
        return TreeProcess(process, token, self._cut)


class TreeProcess:
    """A script that runs in a tree (`RemoteProcess`)."""

    def __init__(self, process: asyncio.subprocess.Process, token: str, cut: asyncio.Event) -> None:
        self.process = process
        self._token = token
        self._cut = cut

    @property
    def stderr(self) -> str:
        return ""

    async def lines(self) -> AsyncGenerator[str, None]:
        assert self.process.stdout is not None
        while True:
            line = await self._unless_cut(self.process.stdout.readline())
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip("\n")
            if text != self._token:
                yield text

    async def write_line(self, text: str) -> None:
        assert self.process.stdin is not None
        if self._cut.is_set() or self.process.returncode is not None:
            raise UnreachableError("the link is gone")
        self.process.stdin.write(text.encode() + b"\n")

    async def wait(self) -> int | None:
        return await self._unless_cut(self.process.wait())

    async def close(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        self.process._transport.close()  # type: ignore[attr-defined]

    async def _unless_cut(self, work: Coroutine[None, None, T]) -> T | None:
        done, cut = asyncio.ensure_future(work), asyncio.ensure_future(self._cut.wait())
        try:
            await asyncio.wait({done, cut}, return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                return done.result()
            return None
        finally:
            done.cancel()
            cut.cancel()
            await asyncio.gather(done, cut, return_exceptions=True)


WITH_IMPORTS = IMPORTS + PLAIN


def two_files() -> tuple[object, ...]:
    return edit(DROP_IN, None, NVIDIA), edit(MAIN, PLAIN, WITH_IMPORTS)


def started(tree: Tree, *files: object, **values: object) -> None:
    """Prepare, arm and begin a change; each must be accepted."""
    done = tree.prepare(change_of(*files, **values))  # type: ignore[arg-type]
    assert done.returncode == 0, done.stdout + done.stderr
    for role in ("arm", "begin"):
        done = tree.guard(role)
        assert done.returncode == 0, done.stdout + done.stderr


def leftovers(tree: Tree) -> list[str]:
    """What an ended run must not leave: armed marks, boot units, temporary files. The state file says that it is over
    before the last of them is gone, so that a crash in between is mended; hence a moment of patience."""
    end = time.monotonic() + 5
    while True:
        found = [str(p) for p in (tree.root / "etc").rglob("*gpuwizard*") if "99-gpuwizard-nvidia" not in p.name]
        found += [str(p) for p in tree.run_folder().glob("armed")]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.02)
