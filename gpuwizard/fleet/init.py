"""PID 1 of a simulated host: units, their restarts, transient services and timers."""

import asyncio
import shlex
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gpuwizard.clock import Clock
from gpuwizard.fleet.processes import Child
from gpuwizard.fleet.tree import Tree

__all__ = ["Init", "Service", "StartFailed", "Unit"]

_FOLDERS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")
_WANTS = "/etc/systemd/system/multi-user.target.wants"
_RESTART_AFTER = 5.0  # engine seconds, RestartSec of all our units


class StartFailed(Exception):
    """The main process ended while it started; the text goes to the journal."""


class Service(Protocol):
    """What a unit's main process does, where no real process stands for it."""

    async def start(self, pid: int) -> None:
        """Come up as process `pid`. Raises StartFailed."""
        ...

    def stop(self) -> None:
        """Be gone."""
        ...


@dataclass(slots=True)
class Unit:
    """A unit that is or was active. `since` is real time (seconds since the epoch), `due` engine time."""

    name: str
    description: str = ""
    arguments: tuple[str, ...] = ()
    active: str = "inactive"
    sub: str = "dead"
    pid: int = 0
    restarts: int = 0
    result: str = "success"
    code: int = 0
    since: float = 0.0
    due: float | None = None
    transient: bool = False
    collect: bool = False
    child: Child | None = None
    task: "asyncio.Task[None] | None" = None
    attempt: "asyncio.Future[bool] | None" = None


Run = Callable[[Sequence[str], Callable[[str], None]], Awaitable[Child]]


@dataclass(slots=True)
class Init:
    """The units of one host. `run` starts a command as root there and hands its output lines to a callback."""

    tree: Tree
    clock: Clock
    services: Mapping[str, Service]
    run: Run
    units: dict[str, Unit] = field(default_factory=dict)
    journal: "deque[tuple[str, str]]" = field(default_factory=lambda: deque(maxlen=2000))
    reloads: int = 0
    _pid: int = 1000

    # --- what there is ---

    def fragment(self, name: str) -> str | None:
        """The unit file; None when there is none."""
        return next((f"{folder}/{name}" for folder in _FOLDERS if self.tree.exists(f"{folder}/{name}")), None)

    def keys(self, name: str) -> dict[str, str]:
        """The settings of the unit file, the last of each."""
        path = self.fragment(name)
        lines = (line.partition("=") for line in self.tree.text(path).splitlines()) if path else ()
        return {key.strip(): value.strip() for key, equals, value in lines if equals}

    def enabled(self, name: str) -> str:
        """``enabled``, ``disabled``, ``static``, ``transient``, or empty when there is no such unit."""
        unit = self.units.get(name)
        if unit is not None and unit.transient:
            return "transient"
        if self.fragment(name) is None:
            return ""
        if self.tree.link_target(f"{_WANTS}/{name}") is not None:
            return "enabled"
        return "disabled" if "WantedBy" in self.keys(name) else "static"

    def unit(self, name: str) -> Unit | None:
        """The unit, loaded from its file where it was never used; None when there is none."""
        found = self.units.get(name)
        if found is None and self.fragment(name) is not None:
            keys = self.keys(name)
            found = self.units[name] = Unit(
                name, keys.get("Description", name), tuple(shlex.split(keys.get("ExecStart", "")))
            )
        return found

    def log(self, name: str, text: str) -> None:
        """Write lines to the journal."""
        self.journal.extend((name, line) for line in text.splitlines())

    # --- what can be done ---

    async def start(self, unit: Unit, *, wait: bool = True) -> bool:
        """Start it when it is not up; false when the first attempt failed."""
        if unit.active == "active":
            return True
        if unit.task is None or unit.task.done() or unit.sub == "auto-restart":
            self._cancel(unit)
            self._begin(unit)
        return await asyncio.shield(unit.attempt) if wait and unit.attempt is not None else True

    def stop(self, unit: Unit) -> None:
        """Stop it: a service's process, or a timer."""
        self._cancel(unit)
        service = self.services.get(unit.name)
        if unit.pid and service is not None:
            service.stop()
        if unit.child is not None:
            unit.child.kill()
            unit.child = None
        unit.active, unit.sub, unit.pid, unit.due, unit.result = "inactive", "dead", 0, None, "success"
        if unit.transient:
            self.units.pop(unit.name, None)

    async def restart(self, unit: Unit, *, wait: bool = True) -> bool:
        """Stop and start; false when the first attempt failed. The count of restarts begins anew, as in systemd."""
        keep = unit.transient
        self.stop(unit)
        if keep:
            self.units[unit.name] = unit
        unit.restarts = 0
        return await self.start(unit, wait=wait)

    def reset_failed(self, unit: Unit) -> None:
        """Forget a failure."""
        unit.restarts = 0
        if unit.active == "failed":
            unit.active, unit.sub, unit.result, unit.code = "inactive", "dead", "success", 0
            if unit.transient:
                self.units.pop(unit.name, None)

    def enable(self, name: str) -> str | None:
        """Link the unit into its target; the path of the unit file, None when it cannot be enabled."""
        path = self.fragment(name)
        if path is None or "WantedBy" not in self.keys(name):
            return None
        self.tree.link(f"{_WANTS}/{name}", path)
        return path

    def disable(self, name: str) -> bool:
        """Take the link away; false when there was none."""
        return self.tree.remove(f"{_WANTS}/{name}")

    def run_transient(
        self, name: str, arguments: Sequence[str], description: str, *, collect: bool, delay: float | None = None
    ) -> bool:
        """Start a command as a transient service, now or after `delay` engine seconds; false when the name is taken."""
        timer = f"{name}.timer"
        if f"{name}.service" in self.units or timer in self.units:
            return False
        service = Unit(f"{name}.service", description, tuple(arguments), transient=True, collect=collect)
        if delay is None:
            self.units[service.name] = service
            self._begin(service)
            return True
        due = self.clock.monotonic() + delay
        unit = self.units[timer] = Unit(timer, description, (), "active", "waiting", transient=True, due=due)
        unit.since = time.time()
        unit.task = asyncio.create_task(self._elapse(unit, service))
        return True

    async def boot(self) -> None:
        """Start what is enabled: one-shot units first, then the services, as our own units order themselves."""
        names = [n for n in self.tree.names(_WANTS) if self.fragment(n) is not None]
        one_shots = [n for n in names if self.keys(n).get("Type") == "oneshot"]
        for name in [*one_shots, *(n for n in names if n not in one_shots)]:
            condition = self.keys(name).get("ConditionPathExists")
            unit = self.unit(name)
            if unit is None or (condition and not self.tree.exists(self.tree.own_path(condition))):
                continue
            await self.start(unit)

    async def close(self) -> None:
        """End everything without any of it being told."""
        tasks = [unit.task for unit in self.units.values() if unit.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- how it goes ---

    def _cancel(self, unit: Unit) -> None:
        if unit.task is not None and unit.task is not asyncio.current_task():
            unit.task.cancel()
        unit.task = None
        if unit.attempt is not None and not unit.attempt.done():
            unit.attempt.set_result(False)

    def _begin(self, unit: Unit) -> None:
        unit.attempt = asyncio.get_running_loop().create_future()
        service = self.services.get(unit.name)
        one_shot = unit.transient or self.keys(unit.name).get("Type") == "oneshot"
        if service is None and not one_shot:
            service = _Idle()
        unit.active, unit.sub, unit.since = "activating", "start", time.time()
        drive = self._run_command(unit) if service is None else self._run_service(unit, service)
        unit.task = asyncio.create_task(_told(unit, drive))

    async def _run_service(self, unit: Unit, service: Service) -> None:
        while True:
            self._pid += 7
            unit.active, unit.sub, unit.pid, unit.since = "activating", "start", self._pid, time.time()
            self.log(unit.name, f"Starting {unit.name} - {unit.description}...")
            try:
                await service.start(unit.pid)
            except StartFailed as failure:
                service.stop()
                unit.pid, unit.sub, unit.result, unit.code = 0, "auto-restart", "exit-code", 1
                self.log(unit.name, f"{failure}\n{unit.name}: Main process exited, code=exited, status=1/FAILURE")
                _settle(unit, False)
                await self.clock.sleep(_RESTART_AFTER)
                unit.restarts += 1
                self.log(unit.name, f"{unit.name}: Scheduled restart job, restart counter is at {unit.restarts}.")
                continue
            unit.active, unit.sub, unit.result, unit.code, unit.since = "active", "running", "success", 0, time.time()
            self.log(unit.name, f"Started {unit.name} - {unit.description}.")
            _settle(unit, True)
            return

    async def _run_command(self, unit: Unit) -> None:
        one_shot = not unit.transient
        unit.child = await self.run(unit.arguments, lambda line: self.log(unit.name, line))
        unit.pid = unit.child.pid
        if not one_shot:
            unit.active, unit.sub = "active", "running"
            _settle(unit, True)
        status = await unit.child.wait()
        unit.child, unit.pid, unit.code = None, 0, status or 0
        if status == 0:
            unit.active, unit.sub = "inactive", "dead"
        else:
            unit.active, unit.sub, unit.result = "failed", "failed", "exit-code" if (status or 0) > 0 else "signal"
        _settle(unit, status == 0)
        if unit.transient and (unit.collect or status == 0):
            self.units.pop(unit.name, None)

    async def _elapse(self, timer: Unit, service: Unit) -> None:
        assert timer.due is not None
        await self.clock.sleep(max(timer.due - self.clock.monotonic(), 0.0))
        self.units.pop(timer.name, None)
        self.units[service.name] = service
        self._begin(service)

    # --- over the fleet's own end ---

    @property
    def pending(self) -> bool:
        """Something is going on that would be cut if the host lost its power now."""
        return any(u.transient or (u.child is not None) for u in self.units.values())

    def as_json(self) -> dict[str, Any]:
        """What is worth keeping of units that are up."""
        return {
            u.name: {"pid": u.pid, "restarts": u.restarts, "since": u.since}
            for u in self.units.values()
            if u.active == "active" and not u.transient
        }

    def resume(self, kept: Mapping[str, Any]) -> None:
        """Take units as they were when the fleet was closed."""
        for name, values in kept.items():
            unit = self.unit(name)
            if unit is not None:
                unit.active, unit.sub = "active", "running"
                unit.pid, unit.restarts, unit.since = values["pid"], values["restarts"], values["since"]
                self._pid = max(self._pid, unit.pid)


class _Idle:
    """A service that only has to be there."""

    async def start(self, pid: int) -> None:
        del pid

    def stop(self) -> None:
        return


def _settle(unit: Unit, ok: bool) -> None:
    if unit.attempt is not None and not unit.attempt.done():
        unit.attempt.set_result(ok)


async def _told(unit: Unit, drive: Coroutine[Any, Any, None]) -> None:
    """Let whoever waits for the unit know when the simulation itself fails."""
    try:
        await drive
    except Exception as error:
        if unit.attempt is not None and not unit.attempt.done():
            unit.attempt.set_exception(error)
        raise
