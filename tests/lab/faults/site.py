"""A host under a fault, the operators who change it, and what can be seen of it afterwards."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from gpuwizard.actions import WriteFile
from gpuwizard.answers.model import Answers
from gpuwizard.events import Event, HostOutcome, HostProgress
from gpuwizard.journal import Journal
from gpuwizard.plan.model import Plan
from gpuwizard.remote.connect import connect
from gpuwizard.remote.target import parse_targets
from gpuwizard.remote.transport import Transport
from gpuwizard.secret import Secret
from tests.lab.faults.api import Api
from tests.lab.faults.model import Cell, Moment
from tests.lab.harness.host import LabHost
from tests.lab.harness.lab import Lab
from tests.lab.operators import Nobody, Operator

__all__ = ["RUNS", "Site", "Tree", "look"]

RUNS = "/var/lib/gpuwizard/runs"
Tree: TypeAlias = dict[str, tuple[str, ...]]
"""Path to kind, mode, owner, group, link target and sha256 (for files)."""

_LOOK = r"""cd /etc && find containerd containerd.* ! -name filler -printf '%p\t%y\t%m\t%U\t%G\t%l\n' 2>/dev/null
echo; find containerd containerd.* -type f ! -name filler -exec sha256sum {} + 2>/dev/null; true"""


def look(host: LabHost) -> Tree:
    """Everything below the host's configuration folders."""
    names, _, sums = host.run(_LOOK).stdout.partition("\n\n")
    hashes = {path: sha for sha, _, path in (line.partition("  ") for line in sums.splitlines())}
    rows = (line.split("\t") for line in names.splitlines())
    return {f"/etc/{row[0]}": (*row[1:], hashes.get(row[0], "")) for row in rows if len(row) > 1}


class _Declines(Nobody):
    """Nobody knows a password."""

    async def secret(self, question: object) -> None:
        return None


class _Watched(Operator):
    """An operator whose events can be waited on while the laptop stands still."""

    on_event: Callable[[Event], None] = staticmethod(lambda _: None)

    def _both(self, journal: Journal) -> Callable[[Event], None]:
        inner = super()._both(journal)

        def emit(event: Event) -> None:
            inner(event)
            self.on_event(event)

        return emit


@dataclass
class Site:
    """One cell while it runs."""

    lab: Lab
    cell: Cell
    host: LabHost
    folder: Path
    tree: Tree = field(default_factory=dict)
    planned: Plan | None = None
    written: dict[str, bytes] = field(default_factory=dict)
    outcomes: list[HostOutcome] = field(default_factory=list)
    transports: list[Transport] = field(default_factory=list)
    struck: bool = False
    taken_back: bool = False
    said: str = ""
    api: Api | None = None
    notes: list[str] = field(default_factory=list)
    _strikes: list["asyncio.Task[None]"] = field(default_factory=list)

    def __post_init__(self) -> None:
        rollout = {"unit_hold": 1, "node_hold": 0, "confirm_timeout": 45} | dict(self.cell.fault.rollout)
        self.answers = Answers.model_validate({"kubernetes": {"manage": False}, "rollout": rollout})
        self.limit = float(rollout["confirm_timeout"])

    def operator(self, name: str = "laptop") -> _Watched:
        """Somebody with a laptop of their own, which watches for the fault's moment."""
        operator = _Watched(self.folder / name, self.answers, cluster=self.api.cluster if self.api else None)
        counted: dict[str, int] = {}

        def watch(event: Event) -> None:
            moment, strike = self.cell.fault.moment, self.cell.fault.strike
            if not isinstance(event, HostProgress) or moment is None or strike is None or self.struck:
                return
            counted[event.state] = counted.get(event.state, 0) + 1
            if (event.state, counted[event.state]) == (moment.step, moment.nth):
                self._strike(moment, strike)

        operator.on_event = watch
        return operator

    def _strike(self, moment: Moment, strike: Callable[["Site"], None]) -> None:
        self.struck = True
        if moment.at_once:
            strike(self)
        else:
            self._strikes.append(asyncio.create_task(self.strike_later(moment, strike)))

    async def strike_later(self, moment: Moment, strike: Callable[["Site"], None]) -> None:
        """Strike when the host is so far."""
        self.struck = True
        if moment.until:
            await asyncio.to_thread(self.host.wait_until, moment.until, timeout=40)
        await asyncio.sleep(moment.pause)
        await asyncio.to_thread(strike, self)

    def later(self, work: Callable[[], None]) -> None:
        """Do something in the background; the cell waits for it at its end."""
        self._strikes.append(asyncio.create_task(asyncio.to_thread(work)))

    def beside(self, work: Coroutine[None, None, None]) -> None:
        """Go on with something while the operator goes on; the cell waits for it at its end."""
        self._strikes.append(asyncio.create_task(work))

    async def struck_out(self) -> None:
        """Return when every strike is over."""
        while pending := [task for task in self._strikes if not task.done()]:
            await asyncio.wait(pending)
        for task in self._strikes:
            task.result()

    async def login(self, **options: object) -> Transport:
        """A login through our own `connect`."""
        user = str(options.pop("user", self.cell.fault.user))
        if user == "ops":
            options.setdefault("sudo_password", Secret(self.lab.passwords["ops"]))
        options.setdefault("connect_timeout", 40.0)  # other hosts boot meanwhile
        (target,) = parse_targets((self.host.name,))
        transport = await connect(target, self.lab.options(user=user, **options), _Declines())
        self.transports.append(transport)
        return transport

    async def plan(self, transport: Transport, *, may_refuse: bool = False) -> Plan:
        """The plan of this host, kept as what `applied` will be judged by."""
        plan = await self.operator("planner").plan(transport, may_refuse=may_refuse)
        if self.api is not None:
            plan = replace(plan, hosts=tuple(replace(h, node_name=self.api.node) for h in plan.hosts))
        self.planned = plan
        return plan

    def paths(self) -> list[str]:
        """What the plan writes, in its order."""
        assert self.planned is not None
        return [a.change.path for a in self.planned.hosts[0].actions if isinstance(a, WriteFile)]

    def write_foreign(self) -> None:
        """Somebody else appends to (or makes) the first file of the plan."""
        path = self.paths()[0]
        self.host.run(f"mkdir -p '{path.rpartition('/')[0]}'; echo '# by somebody else' >>'{path}'")
        self.written[self.resolved(path)] = self.host.read(path)

    def resolved(self, path: str) -> str:
        """The path behind its symlinks, as the host sees it."""
        return self.host.run(f"readlink -m '{path}'").stdout.strip()

    async def close(self) -> None:
        """End every connection."""
        for transport in self.transports:
            await transport.close()
        if self.api is not None:
            await self.api.close()
