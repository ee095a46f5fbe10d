"""The ladder that proves it: handler known to the node, GPUs allocatable, a pod that sees a GPU.

Every rung has a time limit and ends with a reason; the pods are watched live, and taken away whatever happens
(`product.md`, validate; `kubernetes.md §6`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuwizard.answers.model import Answers
from gpuwizard.clean import clean_line
from gpuwizard.clock import Clock
from gpuwizard.errors import GpuwizardError, RefusedError
from gpuwizard.events import Emit, LogLine, Note, PodProgress, Rung, Waiting
from gpuwizard.facts.cluster import NodeView, ObjectKey
from gpuwizard.kube.cluster import Cluster
from gpuwizard.kube.views import event_time
from gpuwizard.steps.identity import MANAGED_BY, OWNER, RUNTIME_CLASS
from gpuwizard.work.likely import likely_of_api, likely_of_pod
from gpuwizard.work.live import LiveView, live_view
from gpuwizard.work.plugin_pod import plugin_log, plugin_reason
from gpuwizard.work.pods import VALIDATION, cause_of, pod_view, reason_of
from gpuwizard.work.validation_pod import GPU, RUN, namespace_manifest, pod_manifest, run_label

__all__ = ["RUNGS", "validate"]

Json = Mapping[str, Any]
RUNGS = ("runtime handler", "allocatable", "pod")

_HANDLER_LIMIT = 90.0
_ACCOUNT_LIMIT = 20.0
_CLEANUP_LIMIT = 20.0
_SAY_EVERY = 10.0


@dataclass(frozen=True, slots=True)
class _Passed:
    words: str = ""


@dataclass(frozen=True, slots=True)
class _Skipped:
    why: str


@dataclass(frozen=True, slots=True)
class _Failed:
    why: str


_Result = _Passed | _Skipped | _Failed


@dataclass(slots=True)
class _Ladder:
    """One host on its way up."""

    host: str
    node: str
    cluster: Cluster
    live: LiveView
    answers: Answers
    run_id: str
    emit: Emit
    clock: Clock
    gpus: int | None
    runtime_class: bool
    told: set[tuple[str, Any]] = field(default_factory=set)
    shown: tuple[str, str, str] = ("", "", "")

    @property
    def namespace(self) -> str:
        return self.answers.kubernetes.namespace

    @property
    def limit(self) -> float:
        return self.answers.validation.timeout


async def validate(
    cluster: Cluster,
    nodes: Mapping[str, str],
    answers: Answers,
    run_id: str,
    emit: Emit,
    clock: Clock,
    *,
    gpus: Mapping[str, int] | None = None,
) -> Mapping[str, str | None]:
    """Validate every host of `nodes` (host → node name) at the same time; returns host → None, or why it failed.

    `gpus` are the GPUs per host, where they are known: allocatable must then be exactly that many times the
    replicas. Raises UnreachableError, LoginError or RefusedError when the cluster cannot be used at all.
    """
    if not nodes:
        return {}
    namespace = answers.kubernetes.namespace
    created = False
    try:
        created = await _make_namespace(cluster, namespace)
        await _delete_pods(cluster, namespace, f"{RUN}!={run_label(run_id)}")
        by_class = not await _without_class(cluster, answers)
        async with live_view(cluster, namespace, clock) as live:
            ladders = [
                _Ladder(h, n, cluster, live, answers, run_id, emit, clock, (gpus or {}).get(h), by_class)
                for h, n in nodes.items()
            ]
            reasons = await asyncio.gather(*(_climb(ladder) for ladder in ladders))
        return dict(zip(nodes, reasons, strict=True))
    finally:
        await _surely(_clean_up(cluster, namespace, run_id, created, emit))


async def _make_namespace(cluster: Cluster, namespace: str) -> bool:
    """Create the namespace when it is missing; True when this run made it."""
    if await cluster.get(ObjectKey("v1", "Namespace", "", namespace)) is not None:
        return False
    await cluster.apply(namespace_manifest(namespace))
    return True


async def _without_class(cluster: Cluster, answers: Answers) -> bool:
    """Whether the pods go without a runtime class: none is wanted, none is there, and nvidia is the default."""
    if answers.install.runtime_class or answers.runtime.default_runtime != "nvidia":
        return False
    return await cluster.get(ObjectKey("node.k8s.io/v1", "RuntimeClass", "", RUNTIME_CLASS)) is None


async def _delete_pods(cluster: Cluster, namespace: str, run: str) -> None:
    """Delete validation pods of the runs that the selector names."""
    for pod in await cluster.list_pods(namespace, f"{MANAGED_BY}={OWNER},{VALIDATION}=true,{run}"):
        await cluster.delete(ObjectKey("v1", "Pod", namespace, pod["metadata"]["name"]))


async def _clean_up(cluster: Cluster, namespace: str, run_id: str, created: bool, emit: Emit) -> None:
    try:
        async with asyncio.timeout(_CLEANUP_LIMIT):
            await _delete_pods(cluster, namespace, f"{RUN}={run_label(run_id)}")
            if created:
                await cluster.delete(ObjectKey("v1", "Namespace", "", namespace))
    except (GpuwizardError, TimeoutError) as error:
        words = f"validation pods could not be deleted: {error}; the cluster ends them by itself, then: "
        command = f"kubectl -n {namespace} delete pods -l {RUN}={run_label(run_id)}"
        emit(Note("validate", words + command, "warning"))


async def _surely(work: Awaitable[None]) -> None:
    """Finish `work` also when this task is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def _climb(ladder: _Ladder) -> str | None:
    """All rungs of one host; those above a failed one are skipped."""
    steps = (_handler, _allocatable, _pod)
    failed: str | None = None
    for name, step in zip(RUNGS, steps, strict=True):
        if failed is not None:
            ladder.emit(Rung(ladder.host, name, "skipped", "an earlier rung failed"))
            continue
        failed = await _rung(ladder, name, step)
    return failed


async def _rung(ladder: _Ladder, name: str, step: Callable[[_Ladder], Awaitable[_Result]]) -> str | None:
    started = ladder.clock.monotonic()
    ladder.emit(Rung(ladder.host, name, "running"))
    try:
        result = await step(ladder)
    except GpuwizardError as error:
        result = _Failed(clean_line(error.what))
    seconds = ladder.clock.monotonic() - started
    match result:
        case _Passed(words):
            ladder.emit(Rung(ladder.host, name, "passed", words, seconds))
            return None
        case _Skipped(why):
            ladder.emit(Rung(ladder.host, name, "skipped", why, seconds))
            return None
        case _Failed(why):
            ladder.emit(Rung(ladder.host, name, "failed", why, seconds))
            cause = cause_of(why)
            if cause is not None:
                ladder.emit(Note("validate", cause, "warning", ladder.host))
            return why


async def _wait(ladder: _Ladder, condition: str, look: Callable[[], _Result | str], limit: float) -> _Result | None:
    """Wait until `look` gives a result; while it gives words, say them. None: the limit has passed."""
    started = ladder.clock.monotonic()
    said = ("", float("-inf"))

    def seen() -> _Result | None:
        nonlocal said
        found = look()
        if not isinstance(found, str):
            return found
        likely = likely_of_pod(found)
        if ladder.live.lost is not None:
            likely = likely_of_api(ladder.live.lost, control_plane=False)
            found = clean_line(f"{found}; the link to the API server is lost: {ladder.live.lost.what}")
        now = ladder.clock.monotonic()
        if found != said[0] or now - said[1] >= _SAY_EVERY:
            said = (found, now)
            ladder.emit(Waiting(ladder.host, "validate", condition, found, now - started, limit, likely))
        return None

    return await ladder.live.until(seen, limit)


async def _handler(ladder: _Ladder) -> _Result:
    """The node is Ready, and its runtime offers nvidia where it says what it offers (containerd 2)."""
    last = ""

    def look() -> _Result | str:
        nonlocal last
        node = ladder.live.nodes.get(ladder.node)
        if node is None:
            last = f"the cluster has no node {ladder.node}" if ladder.live.nodes else "no node was seen yet"
        elif node.ready is not True:
            state = "NotReady" if node.ready is False else "in an unknown state"
            last = clean_line(f"node {node.name} is {state}: {node.ready_message}")
        elif not node.runtime_handlers:
            return _Skipped(f"{node.runtime_version or 'this runtime'} does not tell its handlers; the pod will show")
        elif RUNTIME_CLASS in node.runtime_handlers or not ladder.runtime_class:
            return _Passed(", ".join(h for h in node.runtime_handlers if h))
        else:
            offered = ", ".join(h for h in node.runtime_handlers if h)
            last = f"the runtime of node {node.name} offers {offered}, but no handler {RUNTIME_CLASS}"
        return last

    limit = min(ladder.limit, _HANDLER_LIMIT)
    return await _wait(ladder, "the node is Ready and knows the handler nvidia", look, limit) or _Failed(last)


async def _allocatable(ladder: _Ladder) -> _Result:
    """The node announces as many nvidia.com/gpu as it should."""
    sharing = ladder.answers.sharing
    replicas = sharing.replicas if sharing.mode == "time-slicing" else 1
    ours = ladder.answers.install.device_plugin
    wanted = ladder.gpus * replicas if ladder.gpus is not None and ours else None
    last = ""

    def look() -> _Result | str:
        nonlocal last
        node = ladder.live.nodes.get(ladder.node)
        have = _count(node)
        if not ours and have is None:
            return _Skipped("gpuwizard installs no device plugin, and no other one announces GPUs here")
        enough = have == wanted if wanted is not None else bool(have) and (not ours or (have or 0) % replicas == 0)
        if enough:
            return _Passed(f"{have} {GPU}")
        shown = "no" if have is None else str(have)
        last = f"the node has {shown} {GPU} allocatable" + (f", not {wanted}" if wanted is not None else "")
        if ours:
            last = f"{last}; {plugin_reason(ladder.live, ladder.node)}"
        return last

    result = await _wait(ladder, f"the node announces {wanted or 'its'} {GPU}", look, ladder.limit)
    if result is not None:
        return result
    log = await plugin_log(ladder.cluster, ladder.live, ladder.namespace, ladder.node)
    for line in log:
        ladder.emit(LogLine(ladder.host, "validate", line))
    return _Failed(clean_line(f"{last}; its log: {' / '.join(log)}" if log else last))


def _count(node: NodeView | None) -> int | None:
    text = node.allocatable.get(GPU) if node is not None else None
    return int(text) if text is not None and text.isdigit() else None


async def _pod(ladder: _Ladder) -> _Result:
    """A pod on this node runs nvidia-smi and sees a GPU."""
    node = ladder.live.nodes.get(ladder.node)
    if node is None:
        return _Failed(f"the cluster has no node {ladder.node}")
    chosen = ladder.answers.validation
    manifest = pod_manifest(
        node, ladder.namespace, chosen.image, ladder.run_id, chosen.timeout, runtime_class=ladder.runtime_class
    )
    name = await _create(ladder, manifest)
    last = "the pod was created"
    seen = False

    def look() -> _Result | str:
        nonlocal last, seen
        pod = ladder.live.pods.get(name)
        if pod is None:
            return _Failed(f"pod {name} was deleted by somebody else") if seen else last
        seen = True
        events = ladder.live.events_of(name)
        _tell_events(ladder, events)
        last = _tell_pod(ladder, pod, events) or last
        match pod.get("status", {}).get("phase"):
            case "Succeeded":
                return _Passed()
            case "Failed":
                return _Failed(last)
            case _:
                return last

    result = await _wait(ladder, f"pod {name} ends", look, ladder.limit)
    log = await _tell_log(ladder, name) if isinstance(result, _Passed | _Failed) else ()
    await ladder.cluster.delete(ObjectKey("v1", "Pod", ladder.namespace, name))
    return _judged(result, log, last, ladder.limit)


def _judged(result: _Result | None, log: tuple[str, ...], last: str, limit: float) -> _Result:
    match result:
        case None:
            return _Failed(f"the pod did not end within {limit:.0f} s; last: {last}")
        case _Passed():
            gpus = [line for line in log if line.startswith("GPU ")]
            if gpus:
                return _Passed("; ".join(gpus))
            return _Failed("the pod ended well, but nvidia-smi listed no GPU")
        case _Failed(why):
            return _Failed(clean_line(f"{why}; its log: {log[-1]}" if log else why))
        case _Skipped():
            return result


async def _create(ladder: _Ladder, manifest: Json) -> str:
    """Create the pod. A namespace that is new has no service account for a moment: then it is tried again."""
    deadline = ladder.clock.monotonic() + _ACCOUNT_LIMIT
    while True:
        try:
            created = await ladder.cluster.create_pod(manifest)
        except RefusedError as error:
            new = "serviceaccount" in error.what and "not found" in error.what
            if not new or ladder.clock.monotonic() >= deadline:
                raise
            await ladder.clock.sleep(1.0)
        else:
            return str(created["metadata"]["name"])


def _tell_events(ladder: _Ladder, events: tuple[Json, ...]) -> None:
    """Emit each event once, and again when it was repeated."""
    for event in sorted(events, key=event_time):
        key = (event["metadata"]["name"], event.get("count"))
        if key not in ladder.told:
            ladder.told.add(key)
            text = clean_line(f"{event.get('reason')}: {event.get('message')}")
            ladder.emit(LogLine(ladder.host, "validate", text))


def _tell_pod(ladder: _Ladder, pod: Json, events: tuple[Json, ...]) -> str:
    """Emit the pod's progress when it changed; returns its reason, or its phase."""
    view = pod_view(pod, events)
    now = (view.phase, view.reason, view.message)
    if now != ladder.shown:
        ladder.shown = now
        ladder.emit(PodProgress(ladder.host, view.namespace, view.name, *now))
    return reason_of(pod, events) or f"the pod is {view.phase}"


async def _tell_log(ladder: _Ladder, name: str) -> tuple[str, ...]:
    """Emit the pod's log and return its lines; a pod whose container never started has none."""
    try:
        text = await ladder.cluster.pod_log(ladder.namespace, name, 50)
    except RefusedError:
        return ()
    lines = tuple(line.rstrip() for line in text.splitlines() if line.strip())
    for line in lines:
        ladder.emit(LogLine(ladder.host, "validate", line))
    return lines
