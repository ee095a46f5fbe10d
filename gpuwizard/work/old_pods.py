"""The pods that ran on a node before its runtime was restarted: do they still run (`safety.md`, one host, step 9)?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpuwizard.clean import clean_line
from gpuwizard.clock import Clock
from gpuwizard.errors import GpuwizardError, RefusedError
from gpuwizard.events import Emit, Note, Stage, Waiting
from gpuwizard.kube.cluster import Cluster
from gpuwizard.kube.views import condition
from gpuwizard.redact import redact_text
from gpuwizard.work.likely import likely_of_api, likely_of_pod, said_by_api
from gpuwizard.work.pods import reason_of

__all__ = ["OldPods", "running_pods", "still_run"]

Json = Mapping[str, Any]
_POLL = 2.0
_LIMIT = 120.0  # seconds for probes of readiness; the node is Ready already
_RESERVE = 10.0  # seconds kept for the confirmation itself
_NAMED = 3


@dataclass(frozen=True, slots=True)
class OldPods:
    """Who ran on `node`, by uid. A pod that is deleted meanwhile is its owner's business."""

    node: str = ""
    uids: frozenset[str] = frozenset()


async def running_pods(cluster: Cluster, node: str, host: str, emit: Emit, stage: Stage = "apply") -> OldPods:
    """The pods of a node that run and are ready. A user who may not list them is told that nobody watches them."""
    try:
        pods = await _pods(cluster, node)
    except RefusedError as error:
        emit(Note(stage, f"its pods are not watched: {error.what}", "warning", host))
        return OldPods(node)
    return OldPods(node, frozenset(_uid(pod) for pod in pods if _runs(pod) and not _ends(pod)))


async def still_run(
    cluster: Cluster,
    old: OldPods,
    *,
    left: float,
    host: str,
    emit: Emit,
    clock: Clock,
    stage: Stage = "apply",
    control_plane: bool = False,
) -> None:
    """Wait until every pod that ran before runs again, or is gone. `left` are the seconds until the host reverts by
    itself. Raises GpuwizardError that names those that do not."""
    if not old.uids:
        return
    began = clock.monotonic()
    limit = max(min(left - _RESERVE, _LIMIT), 1.0)
    while True:
        remedy = ""
        try:
            broken = [p for p in await _pods(cluster, old.node) if _uid(p) in old.uids and not (_runs(p) or _ends(p))]
            last = _words(broken)
            likely = likely_of_pod(last)
        except GpuwizardError as error:
            broken, last, remedy = None, said_by_api(error), error.remedy
            likely = likely_of_api(error, control_plane=control_plane)
        if broken is not None and not broken:
            return
        now = clock.monotonic()
        if now - began >= limit:
            what = "what ran before does not run any more" if broken else "whether what ran before runs is not known"
            raise GpuwizardError(f"{what}: {last}", where=host, remedy=remedy)
        emit(Waiting(host, stage, "the pods that ran before run again", last, now - began, limit, likely))
        await clock.sleep(_POLL)


async def _pods(cluster: Cluster, node: str) -> Sequence[Json]:
    return await cluster.list_pods("", field_selector=f"spec.nodeName={node}")


def _uid(pod: Json) -> str:
    return str(pod["metadata"].get("uid") or "")


def _runs(pod: Json) -> bool:
    return pod.get("status", {}).get("phase") == "Running" and (condition(pod, "Ready") or {}).get("status") == "True"


def _ends(pod: Json) -> bool:
    """It has done its work, or somebody deletes it."""
    return "deletionTimestamp" in pod["metadata"] or pod.get("status", {}).get("phase") == "Succeeded"


def _words(pods: Sequence[Json]) -> str:
    """``default/web-1 (CrashLoopBackOff: …), …``, not all of many."""
    named = []
    for pod in sorted(pods, key=lambda p: (p["metadata"].get("namespace", ""), p["metadata"]["name"]))[:_NAMED]:
        meta = pod["metadata"]
        why = reason_of(pod) or str(pod.get("status", {}).get("phase") or "not ready")
        named.append(f"{clean_line(meta.get('namespace', ''))}/{clean_line(meta['name'])} ({redact_text(why)})")
    more = f" and {len(pods) - _NAMED} more" if len(pods) > _NAMED else ""
    return ", ".join(named) + more
