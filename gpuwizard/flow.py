"""The stages in order, as functions over a session: both front ends call these, and nothing else of the engine."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gpuwizard.errors import GpuwizardError, RefusedError
from gpuwizard.events import Asker, Emit, Event, Note, StageChanged
from gpuwizard.facts.cluster import ClusterView
from gpuwizard.plan.model import Plan
from gpuwizard.probing import as_path, connect_options, probe
from gpuwizard.session import HostRecord, Session

if TYPE_CHECKING:
    from gpuwizard.journal import Journal, RunRecord
    from gpuwizard.monitor.model import Sample
    from gpuwizard.work.pods import PodView
    from gpuwizard.work.report import Report
    from gpuwizard.work.stale import Look

__all__ = [
    "both",
    "close",
    "connect_cluster",
    "connect_options",
    "make_plan",
    "may_change",
    "monitor",
    "open_journal",
    "probe",
    "roll_back",
    "run_plan",
    "run_validation",
    "save_answers",
    "validated_nodes",
]


RETRY = 5.0
"""Seconds between two attempts to reach a host that is being watched."""


async def connect_cluster(session: Session, emit: Emit) -> None:
    """Open the Kubernetes API when the answers want it managed; a failure is kept as `cluster_view.error`."""
    from gpuwizard.kube.cluster import open_cluster

    if not session.answers.kubernetes.manage:
        await _close_cluster(session)
        session.cluster_view = None
        return
    if session.cluster is not None:
        return
    session.cluster_problem = None
    try:
        if session.fleet is not None:
            session.cluster = await open_cluster(config=session.fleet.kubeconfig)
        else:
            chosen = session.answers.kubernetes
            session.cluster = await open_cluster(kubeconfig=as_path(chosen.kubeconfig), context=chosen.context)
    except GpuwizardError as error:
        session.cluster_view, session.cluster_problem = ClusterView(error=str(error)), error
        emit(Note("plan", str(error), "warning", data={"remedy": error.remedy}))


async def make_plan(session: Session, emit: Emit) -> Plan:
    """Look at the cluster's live objects and build the plan; it is kept as `session.plan`."""
    from gpuwizard.plan.build import build_plan
    from gpuwizard.steps import desired_objects

    emit(StageChanged("plan", "started"))
    await connect_cluster(session, emit)
    wanted = desired_objects(session.answers, session.probes)
    if session.cluster is not None:
        try:
            session.cluster_view = await session.cluster.view(wanted, budgets=session.answers.rollout.drain == "drain")
        except GpuwizardError as error:
            await _close_cluster(session)
            session.cluster_view, session.cluster_problem = ClusterView(error=str(error)), error
    session.plan = await asyncio.to_thread(
        build_plan, session.probes, session.answers, session.cluster_view, session.unreachable
    )
    emit(StageChanged("plan", "finished", f"{len(session.plan.actions)} actions"))
    return session.plan


def open_journal(session: Session, rolls_back: str | None = None, resume: str | None = None) -> "Journal":
    """Begin a run: a new run id and its folder under the state directory; or go on with the run `resume`."""
    from gpuwizard.journal import Journal, new_run_id

    if resume is not None:
        session.run_id = resume
        return Journal.resume(session.state_dir, resume, session.clock)
    session.run_id = new_run_id(session.clock)
    plan = None if rolls_back else session.plan
    return Journal.open(session.state_dir, session.run_id, plan, rolls_back=rolls_back)


async def run_plan(session: Session, emit: Emit, ask: Asker, resume: str | None = None) -> "Report":
    """Apply `session.plan`: canary first, then batches. Every event also goes to the run's journal. `resume` is the
    run that was cut, whose plan it is.

    Raises RefusedError when there is no plan or the fleet may not apply.
    """
    from gpuwizard.work.apply import apply_plan

    plan = session.plan
    if plan is None:
        raise RefusedError("there is no plan to apply", remedy="make a plan first")
    may_change(session)
    with open_journal(session, resume=resume) as journal:
        told = both(emit, journal.emit)
        told(StageChanged("apply", "started", plan.hash))
        session.report = await apply_plan(
            plan,
            session.transports,
            session.cluster,
            session.resolved_answers,
            session.run_id or "",
            told,
            ask,
            session.clock,
            journal,
            looks=_looks(session),
            resumed=resume is not None,
        )
        told(StageChanged("apply", "finished"))
    return session.report


async def roll_back(session: Session, run: "RunRecord", emit: Emit, ask: Asker, resume: str | None = None) -> "Report":
    """Put back what `run` changed, host by host, as a run of its own; the hosts must be probed (connected) before.
    `resume` is the rollback of it that was cut."""
    from gpuwizard.work.rollback import rollback

    may_change(session)
    await connect_cluster(session, emit)
    with open_journal(session, rolls_back=run.id, resume=resume) as journal:
        told = both(emit, journal.emit)
        told(StageChanged("rollback", "started", run.id))
        session.report = await rollback(
            run,
            session.transports,
            session.cluster,
            session.answers,
            session.run_id or "",
            told,
            ask,
            session.clock,
            journal,
            resumed=resume is not None,
        )
        told(StageChanged("rollback", "finished"))
    return session.report


def _looks(session: Session) -> "dict[str, Look]":
    from gpuwizard.work.stale import Look

    records = session.hosts.values()
    return {r.name: Look(r.probe, r.since - (r.seconds or 0.0)) for r in records if r.probe is not None}


def may_change(session: Session) -> None:
    """Raise RefusedError when the simulated hosts could not be kept away from this machine."""
    if session.fleet is not None and session.fleet.can_apply is not None:
        raise RefusedError(
            "the simulated fleet cannot be kept away from this machine",
            where=session.fleet.can_apply,
            remedy="use a Linux kernel with Landlock (5.13 or newer) or macOS; probing and planning work here",
        )


def both(first: Emit, second: Emit) -> Emit:
    """Tell every event to both."""

    def emit(event: Event) -> None:
        first(event)
        second(event)

    return emit


async def run_validation(session: Session, emit: Emit) -> None:
    """Prove it with pods on every GPU host that is in order; results land in `session.validation`."""
    from gpuwizard.work.validate import validate

    if session.cluster is None or not session.answers.validation.enabled:
        session.validation = {}
        return
    emit(StageChanged("validate", "started"))
    nodes = validated_nodes(session)
    session.validation = await validate(
        session.cluster,
        nodes,
        session.answers,
        session.run_id or "check",
        emit,
        session.clock,
        gpus={host: len(session.probes[host].facts.gpus) for host in nodes},
    )
    failed = sorted(host for host, reason in session.validation.items() if reason is not None)
    emit(StageChanged("validate", "finished", f"failed on {', '.join(failed)}" if failed else "all passed"))


def validated_nodes(session: Session) -> dict[str, str]:
    """Hosts with GPUs and their node names: those that were confirmed and those where nothing is to be done."""
    nodes = {}
    outcomes = session.report.outcomes if session.report else {}
    for planned in session.plan.hosts if session.plan else ():
        outcome = outcomes.get(planned.name)
        confirmed = outcome is not None and outcome.outcome == "confirmed"
        in_order = confirmed or not (planned.actions or planned.refusals)
        probed = session.probes.get(planned.name)
        if in_order and planned.node_name and probed and probed.facts.gpus and planned.strategy != "none":
            nodes[planned.name] = planned.node_name
    return nodes


async def monitor(
    session: Session,
    on_samples: "Callable[[str, tuple[Sample, ...]], None]",
    on_pods: "Callable[[tuple[PodView, ...]], None]",
    interval: float = 2.0,
    on_trouble: Callable[[str, str], None] = lambda host, words: None,
) -> None:
    """Watch GPUs of all connected hosts over the open connections, and gpuwizard's pods, until cancelled.

    Hosts and a cluster that come later are taken in. A host whose link dies is tried again until it is back, and
    disturbs no other; `on_trouble` gets the host and what happened.
    """
    from gpuwizard.work.pods import watch_pods

    watched: set[str] = set()
    pods = False
    async with asyncio.TaskGroup() as group:
        while True:
            for name, record in session.hosts.items():
                if name not in watched and record.transport is not None and record.probe and record.probe.facts.gpus:
                    watched.add(name)
                    group.create_task(_watch(session, record, interval, on_samples, on_trouble), name=f"watch {name}")
            if session.cluster is not None and not pods:
                pods = True
                group.create_task(watch_pods(session.cluster, session.answers.kubernetes.namespace, on_pods))
            await session.clock.sleep(interval)


async def _watch(
    session: Session,
    record: HostRecord,
    interval: float,
    on_samples: "Callable[[str, tuple[Sample, ...]], None]",
    on_trouble: Callable[[str, str], None],
) -> None:
    """Measure one host for as long as the session has a way to it, over a new connection when the old one died."""
    from gpuwizard.monitor.collect import watch_host

    while record.transport is not None:
        try:
            if not record.transport.alive:
                await record.transport.reconnect()
            await watch_host(record.transport, interval, on_samples, session.clock)
        except GpuwizardError as error:
            on_trouble(record.name, str(error))
            await session.clock.sleep(RETRY)


def save_answers(session: Session, path: Path) -> None:
    """Write the answers file that reproduces this run; comments of an existing file survive.

    Raises UsageError when the path cannot be written.
    """
    from gpuwizard.answers.toml import write_answers

    write_answers(session.answers, path)
    session.answers_path = path


async def _close_cluster(session: Session) -> None:
    cluster, session.cluster = session.cluster, None
    if cluster is not None:
        await cluster.close()


async def close(session: Session) -> None:
    """Close every connection."""
    await _close_cluster(session)
    transports = [r.transport for r in session.hosts.values() if r.transport is not None]
    for record in session.hosts.values():
        record.transport = None
    await asyncio.gather(*(t.close() for t in transports), return_exceptions=True)
