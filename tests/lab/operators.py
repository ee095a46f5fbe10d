"""An operator with a laptop, for tests that apply plans to lab hosts."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpuwizard.answers.model import Answers
from gpuwizard.clock import SystemClock
from gpuwizard.events import Event, HostProgress
from gpuwizard.journal import Journal, find_run, new_run_id
from gpuwizard.kube.cluster import Cluster
from gpuwizard.plan.build import build_plan
from gpuwizard.plan.model import Plan
from gpuwizard.remote.transport import Transport
from gpuwizard.secret import Secret
from gpuwizard.work.apply import apply_plan
from gpuwizard.work.probe import probe_host
from gpuwizard.work.report import Report
from gpuwizard.work.rollback import rollback


class Nobody:
    """Nobody is asked anything while a plan is applied."""

    async def choose(self, question: Any) -> str:
        raise AssertionError(f"unexpected question: {question}")

    async def secret(self, question: Any) -> Secret | None:
        raise AssertionError(f"unexpected question: {question}")


@dataclass
class Operator:
    """Somebody with a laptop: answers, a state directory, and what was told so far."""

    state: Path
    answers: Answers
    events: list[Event] = field(default_factory=list)
    clock: SystemClock = field(default_factory=SystemClock)
    cluster: Cluster | None = None

    async def plan(self, *transports: Transport, may_refuse: bool = False) -> Plan:
        probes = {t.name: await probe_host(t, sudo_password_known=True) for t in transports}
        plan = build_plan(probes, self.answers, None)
        assert may_refuse or not [h.refusals for h in plan.hosts if h.refusals]
        return plan

    async def apply(self, plan: Plan, *transports: Transport, run_id: str = "") -> Report:
        run_id = run_id or new_run_id(self.clock)
        with Journal.open(self.state, run_id, plan) as journal:
            return await apply_plan(
                plan,
                {t.name: t for t in transports},
                self.cluster,
                self.answers,
                run_id,
                self._both(journal),
                Nobody(),
                self.clock,
                journal,
            )

    async def roll_back(self, run_id: str, *transports: Transport) -> Report:
        new = new_run_id(self.clock)
        with Journal.open(self.state, new, rolls_back=run_id) as journal:
            return await rollback(
                find_run(self.state, run_id),
                {t.name: t for t in transports},
                self.cluster,
                self.answers,
                new,
                self._both(journal),
                Nobody(),
                self.clock,
                journal,
            )

    def _both(self, journal: Journal) -> Callable[[Event], None]:
        def emit(event: Event) -> None:
            self.events.append(event)
            journal.emit(event)

        return emit

    async def told(self, step: str, seconds: float = 60) -> None:
        """Wait until a host has told that it is at `step`."""
        async with asyncio.timeout(seconds):
            while not any(isinstance(e, HostProgress) and e.state == step for e in self.events):
                await asyncio.sleep(0.02)
