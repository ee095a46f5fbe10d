"""What must hold before a host is confirmed, judged from here: staged configuration, node, control plane."""

import re
import tomllib
from collections.abc import Iterable
from functools import lru_cache

from gpuwizard.actions import EffectiveChange
from gpuwizard.clean import clean_line
from gpuwizard.clock import Clock
from gpuwizard.containerd import Effective, effective, losses
from gpuwizard.errors import GpuwizardError, RefusedError
from gpuwizard.events import Emit, Stage, Waiting
from gpuwizard.facts.cluster import NodeView
from gpuwizard.kube.cluster import Cluster
from gpuwizard.plan.blast import CONTROL_PLANE
from gpuwizard.redact import redact_text, redact_value
from gpuwizard.work.guard_lines import progress
from gpuwizard.work.likely import likely_of_api, likely_of_node, said_by_api
from gpuwizard.work.old_pods import OldPods, still_run

__all__ = ["control_plane_ready", "node_settles", "nothing_lost"]

_MAIN = "/config.toml"
_IMPORTS = re.compile(rb"(?ms)^[ \t]*imports[ \t]*=[ \t]*\[.*?\][ \t]*$")
_POLL = 1.0
_PATIENCE = 30.0  # seconds that a node may be NotReady although the answers want a shorter hold
_NO_PODS = OldPods()
_RESERVE = 10.0  # seconds kept for the confirmation itself


def nothing_lost(before: bytes | None, after: bytes | None, version: str, announced: Iterable[EffectiveChange]) -> None:
    """Refuse a staged configuration that loses what the plan did not announce (`runtimes.md §10` step 6).

    Both are dumps of the host's own containerd of that `version`. Raises RefusedError that names each loss.
    """
    if after is None:
        return
    new = _read(after, version)
    if not new.usable:
        raise RefusedError(
            f"the staged configuration would not work: {new.error or new.cri}", remedy="nothing was changed"
        )
    if before is None:
        return
    lost = losses(_read(before, version), new, announced)
    if lost:
        shown = ", ".join(
            f"{c.key} ({redact_value(c.key, c.before or '')} → {redact_value(c.key, c.after or 'gone')})"
            for c in lost[:5]
        )
        raise RefusedError(
            f"the staged configuration would lose what the plan did not announce: {redact_text(clean_line(shown))}",
            remedy="nothing was changed; look at the host's configuration and plan again",
        )


@lru_cache(maxsize=64)
def _read(dump: bytes, version: str) -> Effective:
    """Many hosts of a cluster print the same."""
    # A dump is already merged: what it says of imports has been read, and must not be looked for again.
    text = _IMPORTS.sub(b"", dump)
    try:
        tomllib.loads(text.decode("utf-8", "surrogateescape"))
    except tomllib.TOMLDecodeError as error:
        raise RefusedError(f"the host's own dump cannot be read: {clean_line(str(error))}") from error
    return effective({_MAIN: text}, _MAIN, version)


async def node_settles(
    cluster: Cluster,
    node: str,
    *,
    hold: float,
    left: float,
    host: str,
    emit: Emit,
    clock: Clock,
    stage: Stage = "apply",
    control_plane: bool = False,
    pods: OldPods = _NO_PODS,
) -> None:
    """Wait until `node` was Ready for `hold` seconds without a break and its heartbeat moved on meanwhile; then until
    the `pods` that ran before run again.

    A runtime with a broken CRI shows as NotReady only 24 to 28 s after its restart (`safety.md` point 9), so one look
    proves nothing; a node that is NotReady for as long as the hold will not mend by itself. `left` are the seconds
    until the host reverts by itself. An API server that is away meanwhile (a K3s server, `control_plane`, restarts
    it), or that refuses what it allowed before the restart, is waited for: a starting one does both.
    Raises GpuwizardError with the last reason, and what mends it, when it does not settle.
    """
    emit(progress(host, stage, "node"))
    began = clock.monotonic()
    limit = max(left - _RESERVE, 1.0)
    ready_since: float | None = None
    away_since: float | None = None
    first_beat: object = None
    while True:
        now, remedy = clock.monotonic(), ""
        try:
            view = await cluster.node(node)
            last, likely = _words(view), likely_of_node(view)
        except GpuwizardError as error:
            view, last, remedy = None, said_by_api(error), error.remedy
            likely = likely_of_api(error, control_plane=control_plane)
        if view is not None and first_beat is None:
            first_beat = view.heartbeat
        beating = view is not None and view.heartbeat is not None and view.heartbeat != first_beat
        ready_since = (now if ready_since is None else ready_since) if view is not None and view.ready else None
        if ready_since is not None and now - ready_since >= hold and beating:
            break
        if ready_since is not None and not beating:
            last = "Ready, but no heartbeat newer than the restart yet"
            likely = likely_of_node(view, beating=False)
        away_since = (now if away_since is None else away_since) if view is not None and not view.ready else None
        if now - began >= limit or (away_since is not None and now - away_since >= max(hold, _PATIENCE)):
            raise GpuwizardError(f"node {node} did not settle: {last}", where=host, remedy=remedy)
        held, needed = (now - ready_since, hold) if ready_since is not None else (now - began, limit)
        if held >= needed:  # only the heartbeat is missing
            held, needed = now - began, limit
        emit(Waiting(host, stage, f"node {node} stays Ready for {hold:g} s", last, held, needed, likely))
        await clock.sleep(_POLL)
    left -= clock.monotonic() - began
    await still_run(
        cluster, pods, left=left, host=host, emit=emit, clock=clock, stage=stage, control_plane=control_plane
    )


def _words(view: NodeView | None) -> str:
    if view is None:
        return "the node is not in the cluster"
    if view.ready:
        return "Ready"
    reason = ": ".join(part for part in (view.ready_reason, view.ready_message) if part)
    return f"NotReady ({clean_line(reason, 200)})" if reason else "NotReady"


async def control_plane_ready(cluster: Cluster, node: str) -> None:
    """Before a control-plane node is restarted: the API server is ready and all other such nodes are Ready.

    Raises RefusedError that names what is not.
    """
    if not await cluster.ready():
        raise RefusedError("the API server does not call itself ready", remedy="repair the control plane first")
    others = [n for n in await cluster.nodes() if n.name != node and any(k in n.labels for k in CONTROL_PLANE)]
    away = [n.name for n in others if not n.ready]
    if away:
        raise RefusedError(
            f"other control-plane nodes are not Ready: {', '.join(away)}", remedy="repair the control plane first"
        )
