"""Cordons of a run: made with the run's id, written down before they are made, and lifted only where they are ours."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from gpuwizard.clean import clean_line
from gpuwizard.errors import GpuwizardError, LoginError, RefusedError, UnreachableError
from gpuwizard.events import HostOutcome, HostProgress, Note, Stage, Waiting
from gpuwizard.facts.cluster import ObjectKey
from gpuwizard.journal import CordonRecord
from gpuwizard.kube.cluster import Cluster
from gpuwizard.kube.problems import OutdatedError
from gpuwizard.run_record import OPEN, RunRecord
from gpuwizard.steps.identity import CORDONED_BY
from gpuwizard.work.drain import drain
from gpuwizard.work.likely import likely_of_api
from gpuwizard.work.shared_run import SharedRun

__all__ = ["clear_node", "lift", "lift_left", "still_cordoned", "with_cordons"]

Json = Mapping[str, Any]

_TRIES = 10  # a kubelet writes its node every now and then
_PATIENCE = 60.0  # seconds that a server may be away when a cordon is to be lifted: K3s restarts its own
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 5.0


def clear_node(run: SharedRun, host: str, node: str | None, stage: Stage = "apply") -> Callable[[], Awaitable[None]]:
    """What is done with a host's node before its restart, as the answers ask: nothing, a cordon, a drain.

    The function raises RefusedError with what stands in the way; nothing is changed on the host then.
    """
    mode = run.answers.rollout.drain

    async def clear() -> None:
        if mode == "no" or node is None:
            return
        if run.cluster is None:
            why = f"rollout.drain asks for a {mode} of node {node}, and the cluster is not connected"
            raise RefusedError(why, remedy='see to the way to the cluster, or set rollout.drain = "no"')
        try:
            await _cordon(run, run.cluster, host, node, stage)
            if mode == "drain":
                await drain(run, run.cluster, host, node, stage)
        except UnreachableError as error:
            raise RefusedError(f"node {node} was not cleared: {error.what}", remedy=error.remedy) from error

    return clear


async def _cordon(run: SharedRun, cluster: Cluster, host: str, node: str, stage: Stage) -> None:
    """Keep new pods off a node. One that somebody else has cordoned is left to them."""
    for _ in range(_TRIES):
        live = await _node(cluster, node)
        by = _cordoned_by(live)
        if live.get("spec", {}).get("unschedulable"):
            if by != run.run_id:
                whose = f"run {clean_line(by)}" if by else "somebody else"
                run.emit(Note(stage, f"node {node} was cordoned by {whose} before, and stays so", host=host))
                return
            run.journal.cordon(host, node)  # ours, of before the run was cut
        else:
            run.journal.cordon(host, node)
            change = _exactly(live, run.run_id, unschedulable=True)
            try:
                await cluster.patch_node(node, change, what=f"cordon node {node}")
            except OutdatedError:
                continue
        run.emit(HostProgress(host, stage, "cordon", f"node {node} takes no new pods until this host is done"))
        return
    raise RefusedError(f"node {node} was not cordoned: somebody else writes to it all the time", remedy="try again")


async def lift(run: SharedRun, host: str, *, changed: bool, insist: bool = False) -> None:
    """Lift the cordon of a host that has ended. One that may still change, or that is broken, keeps it.

    `changed`: its files may have been touched; `insist`: also where putting it back failed, because somebody has asked
    for the cordon to go (`resume`, `rollback`).
    """
    outcome = run.outcomes.get(host)
    ended = outcome is None or outcome.outcome not in OPEN
    broken = outcome is not None and outcome.outcome == "failed" and changed and not insist
    for cordon in run.journal.cordons():
        if cordon.host == host and ended and not broken:
            await _lift_one(run, cordon, run.run_id, outcome.stage if outcome else "apply")


async def lift_left(run: SharedRun, record: RunRecord | None = None, *, insist: bool = False) -> None:
    """At the end of a run: lift the cordons of hosts that an earlier process of it had begun and this one did not, and
    with `record` those of the run that is put back; on every host that is not in between."""
    hosts = sorted({cordon.host for cordon in run.journal.cordons()})
    await asyncio.gather(*(lift(run, host, changed=True, insist=insist) for host in hosts))
    if record is not None:
        await asyncio.gather(*(_lift_of(run, cordon, record.id) for cordon in record.cordons))


async def _lift_of(run: SharedRun, cordon: CordonRecord, run_id: str) -> None:
    """Lift a cordon of the run that is put back."""
    outcome = run.outcomes.get(cordon.host)
    is_open = outcome is not None and outcome.outcome in OPEN
    if is_open or not await _lift_one(run, cordon, run_id, "rollback"):
        run.cluster_error = run.cluster_error or still_cordoned(cordon.node, run_id)


async def _lift_one(run: SharedRun, cordon: CordonRecord, run_id: str, stage: Stage) -> bool:
    """Lift one cordon. False when it could not be: that is said, and it stays in the record."""
    began, pause = run.clock.monotonic(), _FIRST_PAUSE
    while True:
        try:
            lifted = await _uncordon(run.cluster, cordon.node, run_id)
            break
        except (RefusedError, LoginError) as error:
            why, last, likely = error.what, True, ""
        except GpuwizardError as error:
            likely = likely_of_api(error, control_plane=False)
            why, last = error.what, run.clock.monotonic() - began >= _PATIENCE
        if last:
            run.emit(Note(stage, f"the cordon of node {cordon.node} was not lifted: {why}", "error", cordon.host))
            return False
        what, elapsed = f"node {cordon.node} can be uncordoned", run.clock.monotonic() - began
        run.emit(Waiting(cordon.host, stage, what, why, elapsed, _PATIENCE, likely))
        await run.clock.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
    run.journal.lifted(cordon.node, run_id)
    if lifted:
        run.emit(HostProgress(cordon.host, stage, "uncordon", f"node {cordon.node} takes pods again"))
    return True


async def _uncordon(cluster: Cluster | None, node: str, run_id: str) -> bool:
    """Take the cordon of a run away. False when it is not there, or is not that run's."""
    if cluster is None:
        raise RefusedError("the cluster is not connected")
    for _ in range(_TRIES):
        live = await cluster.get(ObjectKey("v1", "Node", "", node))
        if live is None or _cordoned_by(live) != run_id:
            return False
        change = _exactly(live, None, unschedulable=None)
        try:
            await cluster.patch_node(node, change, what=f"uncordon node {node}")
        except OutdatedError:
            continue
        return True
    raise UnreachableError("somebody else writes to the node all the time")


def still_cordoned(node: str, run_id: str) -> str:
    """What a person needs who finds a node cordoned by a run that is over."""
    return (
        f"node {node} is still cordoned by run {run_id}: `gpuwizard resume {run_id}` lifts it, by hand "
        f"`kubectl uncordon {node}` and `kubectl annotate node {node} {CORDONED_BY}-`"
    )


def with_cordons(run: SharedRun, outcomes: Mapping[str, HostOutcome]) -> dict[str, HostOutcome]:
    """The outcomes, each with the cordon that is left on its node; the cluster is then not as it should be."""
    told = dict(outcomes)
    for cordon in run.journal.cordons():
        words = still_cordoned(cordon.node, run.run_id)
        run.cluster_error = run.cluster_error or f"node {cordon.node} is still cordoned"
        outcome = told.get(cordon.host)
        if outcome is not None:
            told[cordon.host] = replace(outcome, reason="; ".join(part for part in (outcome.reason, words) if part))
    return told


async def _node(cluster: Cluster, node: str) -> Json:
    live = await cluster.get(ObjectKey("v1", "Node", "", node))
    if live is None:
        raise RefusedError(f"the cluster has no node {node}", remedy="plan again")
    return live


def _cordoned_by(node: Json) -> str:
    return str((node["metadata"].get("annotations") or {}).get(CORDONED_BY, ""))


def _exactly(live: Json, run_id: str | None, *, unschedulable: bool | None) -> Json:
    """The change of a cordon for the node as it was seen, and for no other version of it; None removes."""
    version = live["metadata"]["resourceVersion"]
    meta = {"resourceVersion": version, "annotations": {CORDONED_BY: run_id}}
    return {"metadata": meta, "spec": {"unschedulable": unschedulable}}
