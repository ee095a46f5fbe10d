"""A simulated host: its tree, its processes behind their walls, its units and its runtime."""

import asyncio
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpuwizard import __version__
from gpuwizard.clock import Clock
from gpuwizard.fleet.build import CONTROL, build, remove_tree
from gpuwizard.fleet.hardware import place
from gpuwizard.fleet.init import Init
from gpuwizard.fleet.kubefiles import containerd_version, unit_name
from gpuwizard.fleet.model import HostSpec
from gpuwizard.fleet.node import NodeRuntime
from gpuwizard.fleet.proc import ProcTable
from gpuwizard.fleet.processes import Child, HostProcesses, Keeper
from gpuwizard.fleet.programs import PROGRAMS
from gpuwizard.fleet.questions import Answer, Bell, Question
from gpuwizard.fleet.reach import public_parts
from gpuwizard.fleet.runtime import Runtime
from gpuwizard.fleet.sandbox import Walls
from gpuwizard.fleet.tree import Tree

__all__ = ["SimulatedHost", "describe_clock"]

_PATH = ("/usr/local/bin", "/usr/bin")


class SimulatedHost:
    """One host. Open it with `open`, which builds its tree or goes on where it was left.

    As a `SimulatedNode` it tells the simulated cluster what its runtime really says.
    """

    def __init__(self, spec: HostSpec, folder: Path, clock: Clock, walls: Walls, frozen: str | None) -> None:
        self.spec = spec
        self.clock = clock
        self.gpus = place(spec.name, spec.gpus)
        self.frozen = frozen
        self.powered = False
        self._folder = folder
        self._walls = walls
        self._owner = None if walls.uid is None or walls.gid is None else (walls.uid, walls.gid)
        self._on_power_off: list[Callable[[], None]] = []

    # --- opening and closing ---

    async def open(self, keeper: Keeper, time_line: str) -> None:
        """Build what is missing and bring the host up. `time_line` is the content of the clock file. Raises OSError."""
        self._keeper = keeper
        self.opened_at = self.clock.monotonic()
        fresh = await asyncio.to_thread(self._prepare)
        self.tree = Tree(Path(self._walls.tree), self._owner)
        self.tree.write(f"{CONTROL}/clock", time_line.encode(), 0o644)
        self._furnish()
        kept = None if fresh else self._kept()
        await self._power_on()
        if kept is not None and not kept["pending"]:
            self.init.resume(kept["units"])
            self.runtime.resume(kept["runtime"])
        else:
            if kept is not None:
                self._new_boot()
            self.runtime.before_toolkit = fresh and self.spec.kubernetes.started_before_toolkit
            await self.init.boot()
        # Whoever opens it after this process was killed finds a host that has lost its power.
        await asyncio.to_thread(self._state_file.write_text, self._state(pending=True), "utf-8")

    async def close(self) -> None:
        """End everything that runs on it and keep its state."""
        state = self._state(pending=self.init.pending)
        await self._power_off()
        self.tree.close()
        await asyncio.to_thread(self._state_file.write_text, state, "utf-8")

    def _state(self, *, pending: bool) -> str:
        """What is kept of it. `pending`: something was under way that only a running host remembers."""
        units, runtime = self.init.as_json(), self.runtime.as_json()
        return json.dumps({"pending": pending, "units": units, "runtime": runtime, "spec": _digest(self.spec)})

    async def reboot(self) -> None:
        """Cut its power and bring it up again: what ran is gone, what is enabled is started."""
        await self._power_off()
        await self._keeper.end_host(self.spec.name)
        self._new_boot()
        await self._power_on()
        await self.init.boot()

    def on_power_off(self, tell: Callable[[], None]) -> None:
        """Call `tell` whenever the host loses its power."""
        self._on_power_off.append(tell)

    @property
    def _state_file(self) -> Path:
        return self._folder.parent.parent / "state" / f"{self.spec.name}.json"

    def _prepare(self) -> bool:
        """Build the tree when there is none or it belongs to another description; true when it was built."""
        kept = self._kept()
        same = kept is not None and self._folder.is_dir() and kept["spec"] == _digest(self.spec)
        if same and (self._owner is None or self._folder.stat().st_uid == self._owner[0]):
            return False
        remove_tree(self._folder)
        self._state_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._state_file.unlink(missing_ok=True)
        self._folder.mkdir(mode=0o755, parents=True)
        if self._owner is not None:
            os.chown(self._folder, *self._owner)
        tree = Tree(self._folder, self._owner)
        try:
            build(tree, self.spec)
        finally:
            tree.close()
        return True

    def _kept(self) -> dict[str, Any] | None:
        try:
            kept: dict[str, Any] = json.loads(self._state_file.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return kept if {"pending", "units", "runtime", "spec"} <= kept.keys() else None

    def _furnish(self) -> None:
        """The small files by which the stand-ins know what they need."""
        sudo = self.spec.sudo
        free = 4096 if "disk-full" in self.spec.faults else 390_000_000
        notes = {
            "kernel": f"{self.spec.kernel} {self.spec.arch}",
            "sudo.kind": sudo.kind,
            "sudo.form": sudo.form,
            "sudo.hash": hashlib.sha256(sudo.password.encode()).hexdigest(),
            "free": str(free),
        }
        for name, text in notes.items():
            self.tree.write(f"{CONTROL}/{name}", f"{text}\n".encode())

    async def _power_on(self) -> None:
        processes = ProcTable(self.tree)
        unit = unit_name(self.spec) or "containerd.service"
        self.runtime = Runtime(self.spec, self.tree, self.clock, processes, unit, self._log)
        services = {unit: self.runtime} if containerd_version(self.spec) is not None else {}
        self.init = Init(self.tree, self.clock, services, self._run_as_root)
        self._bell = Bell(self.tree, self._answer, self._owner)
        self._processes: HostProcesses = await self._keeper.open_host(self.spec.name, self._walls)
        self.powered = True

    async def _power_off(self) -> None:
        self.powered = False
        for tell in self._on_power_off:
            tell()
        await self.init.close()
        await self._bell.close()
        self._processes.close()

    def _new_boot(self) -> None:
        for name in self.tree.names("/proc"):
            if name.isdigit() and name != "1":
                self.tree.remove_folder(f"/proc/{name}")
        self.tree.write("/proc/sys/kernel/random/boot_id", f"{uuid.uuid4()}\n".encode(), 0o444)

    def _log(self, unit: str, text: str) -> None:
        self.init.log(unit, text)

    # --- running things ---

    async def session(self, command: str | None, streams: tuple[int, int, int]) -> Child:
        """Run what a login asked for, as sshd would: with the login's shell. The streams are closed here.

        Raises OSError when the host is off.
        """
        text = command if command is not None else "exec sh"
        argv = [f"{self._walls.tree}/usr/bin/sh", "-c", text]
        reach = None
        if self.spec.sudo.kind in ("password", "none") and not text.startswith(("exec sudo ", "sudo ")):
            reach = await asyncio.to_thread(self._reach)
        return await self._spawn(argv, self.spec.login, streams, reach)

    async def _run_as_root(self, arguments: Sequence[str], hear: Callable[[str], None]) -> Child:
        """Run a command for PID 1."""
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        output, write_end = os.pipe()
        errors = os.dup(write_end)
        argv = [self._program(arguments[0]), *arguments[1:]]
        child = await self._spawn(argv, "root", (nothing, write_end, errors), None)
        _hear(output, hear)
        return child

    def _program(self, name: str) -> str:
        if name.startswith("/"):
            own = self.tree.own_path(name)
            return f"{self._walls.tree}{own}" if self.tree.exists(own) else name
        return next((f"{self._walls.tree}{d}/{name}" for d in _PATH if self.tree.exists(f"{d}/{name}")), name)

    async def _spawn(
        self,
        argv: Sequence[str],
        user: str,
        streams: tuple[int, int, int],
        reach: tuple[list[str], list[str]] | None,
    ) -> Child:
        root = self._walls.tree
        home = f"{root}/root" if user == "root" else f"{root}/home/{user}"
        env = {
            "PATH": ":".join(f"{root}{folder}" for folder in _PATH),
            "HOME": home,
            "USER": user,
            "LOGNAME": user,
            "SHELL": "/bin/sh",
            "TMPDIR": f"{root}/tmp",  # noqa: S108 - below the tree
            "GPUWIZARD_FLEET_ROOT": root,
            "GPUWIZARD_FLEET_USER": user,
        }
        return await self._processes.spawn(argv, env=env, cwd=home, streams=streams, reach=reach)

    def _reach(self) -> tuple[list[str], list[str]]:
        """What a login without root's rights may write and read: by the mode of each file and folder."""
        root = self._walls.tree
        write = [f"{root}/{p}" for p in ("tmp", "var/tmp", "run/lock", f"home/{self.spec.login}", ".fleet/bell")]
        write += [f"{root}{CONTROL}/questions", f"{root}{CONTROL}/answers"]
        _, read = public_parts(root)
        return write, read

    async def _answer(self, question: Question) -> Answer:
        program = PROGRAMS.get(question.program)
        if program is None:
            return Answer(err=f"{question.program}: not found\n", status=127)
        return await program(self, question)

    # --- as a node of the cluster ---

    @property
    def name(self) -> str:
        """The node's name: the host's."""
        return self.spec.name

    @property
    def labels(self) -> Mapping[str, str]:
        """What the kubelet registers the node with."""
        part = self.spec.kubernetes
        arch = "arm64" if self.spec.arch == "aarch64" else "amd64"
        labels = {"kubernetes.io/arch": arch, "kubernetes.io/os": "linux"}
        if part.flavour == "k3s":
            labels["node.kubernetes.io/instance-type"] = "k3s"
        if part.role in ("server", "control-plane"):
            labels["node-role.kubernetes.io/control-plane"] = "true" if part.flavour == "k3s" else ""
        return labels

    @property
    def kubelet_version(self) -> str:
        """As the description has it."""
        return self.spec.kubernetes.version

    async def runtime_state(self) -> NodeRuntime:
        """The runtime as the kubelet sees it now. Raises OSError when the host is off."""
        if not self.powered:
            raise ConnectionResetError("the host is powered off")
        verdict = self.runtime.verdict
        unit = self.init.unit(self.runtime.unit)
        handlers = {} if verdict is None else verdict.runtimes
        binary = handlers["nvidia"].options.get("BinaryName") if "nvidia" in handlers else None
        driver = self.spec.driver
        suffix = "-k3s1" if self.runtime.k3s else ""
        return NodeRuntime(
            service_active=unit is not None and unit.active == "active",
            cri="error" if verdict is None or verdict.cri is None else verdict.cri,
            cri_message="" if verdict is None else verdict.error or "",
            handlers=tuple(handlers),
            default_handler=None if verdict is None else verdict.default_runtime_name,
            runtime_version=f"containerd://{self.runtime.version}{suffix}",
            gpus=tuple((gpu.index, gpu.model.name, gpu.uuid) for gpu in self.gpus),
            driver_ok=driver is not None and driver.loaded is not None and driver.loaded == driver.userspace,
            toolkit_ok=self.tree.executable(str(binary or "/usr/bin/nvidia-container-runtime")),
        )


def describe_clock(speed: float, epoch: float, uptime: float) -> str:
    """The line from which the stand-ins of date and sleep compute the fleet's time."""
    return f"{int(epoch)} {int(uptime * 100)} {int(speed * 1000)}\n"


def _hear(descriptor: int, hear: Callable[[str], None]) -> None:
    """Hand each line that comes out of a pipe to `hear`, until its other end is closed."""
    loop = asyncio.get_running_loop()
    os.set_blocking(descriptor, False)
    rest = b""

    def read() -> None:
        nonlocal rest
        try:
            data = os.read(descriptor, 65536)
        except BlockingIOError:
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            hear(line.decode("utf-8", "replace"))
        if not data:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    loop.add_reader(descriptor, read)


def _digest(spec: HostSpec) -> str:
    """What a tree was built from; another digest means another tree."""
    text = repr(replace(spec, files=None))
    files = sorted(p for p in spec.files.rglob("*") if p.is_file()) if spec.files is not None else []
    files += sorted((Path(__file__).parent / "standins").glob("*.sh"))
    parts = [__version__.encode(), text.encode(), *(part for p in files for part in (p.name.encode(), p.read_bytes()))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
