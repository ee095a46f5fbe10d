"""The stages of an uninstall over a session: look at hosts and cluster, make the plan, run it."""

import asyncio
from typing import TYPE_CHECKING

from gpuwizard import flow
from gpuwizard.actions import Refusal
from gpuwizard.errors import GpuwizardError, RefusedError
from gpuwizard.events import Asker, Emit, StageChanged
from gpuwizard.facts.cluster import ClusterView
from gpuwizard.facts.history import HostHistory
from gpuwizard.facts.owned import Owned
from gpuwizard.plan.model import Plan
from gpuwizard.session import Session

if TYPE_CHECKING:
    from gpuwizard.remote.transport import Transport
    from gpuwizard.work.report import Report

__all__ = ["plan_uninstall", "run_uninstall"]


async def plan_uninstall(session: Session, emit: Emit) -> Plan:
    """Read the run folders of the hosts, which must be probed (connected) before, and what the cluster has of ours; the
    plan is kept as `session.plan`."""
    from gpuwizard.plan.uninstall import build_uninstall

    emit(StageChanged("plan", "started"))
    await flow.connect_cluster(session, emit)
    owned = await _look_at_cluster(session)
    names = list(session.transports)
    found = await asyncio.gather(*(_history(session.transports[name]) for name in names))
    session.plan = await asyncio.to_thread(
        build_uninstall,
        dict(zip(names, found, strict=True)),
        session.probes,
        session.answers,
        session.cluster_view,
        owned,
        session.unreachable,
    )
    emit(StageChanged("plan", "finished", f"{len(session.plan.actions)} actions"))
    return session.plan


async def run_uninstall(session: Session, emit: Emit, ask: Asker, resume: str | None = None) -> "Report":
    """Run `session.plan`, which `plan_uninstall` made. Every event also goes to the run's journal. `resume` is the
    run that was cut, whose plan it is. Raises RefusedError when there is no plan or the fleet may not be changed."""
    from gpuwizard.work.uninstall import uninstall

    plan = session.plan
    if plan is None:
        raise RefusedError("there is no plan to run", remedy="make a plan first")
    flow.may_change(session)
    with flow.open_journal(session, resume=resume) as journal:
        told = flow.both(emit, journal.emit)
        told(StageChanged("rollback", "started", plan.hash))
        session.report = await uninstall(
            plan,
            session.transports,
            session.cluster,
            session.resolved_answers,
            session.run_id or "",
            told,
            ask,
            session.clock,
            journal,
            resumed=resume is not None,
        )
        told(StageChanged("rollback", "finished"))
    return session.report


async def _look_at_cluster(session: Session) -> Owned:
    """What is ours in the cluster; without it the view says why."""
    from gpuwizard.kube.owned import find_owned

    if session.cluster is None:
        return Owned()
    try:
        session.cluster_view = await session.cluster.view(())
        return await find_owned(session.cluster)
    except GpuwizardError as error:
        session.cluster_view, session.cluster_problem = ClusterView(error=str(error)), error
        return Owned()


async def _history(transport: "Transport") -> HostHistory | Refusal:
    from gpuwizard.work.history import read_history

    try:
        return await read_history(transport)
    except GpuwizardError as error:
        return Refusal("history", error.what, error.remedy)
