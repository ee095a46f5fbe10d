"""The kubelet's work on pods: sandbox, image, container, restarts, deletion. Times are engine seconds."""

import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from gpuwizard.fleet.api_containers import Life, NotStarted, life_of, no_sandbox, pull_problem
from gpuwizard.fleet.api_events import Events
from gpuwizard.fleet.api_nodes import GPU, NodeState
from gpuwizard.fleet.api_pod_status import Stage, pod_status, rejected_status, terminated, waiting
from gpuwizard.fleet.api_scheduler import requested
from gpuwizard.fleet.api_status import Refused, absent
from gpuwizard.fleet.api_store import Store
from gpuwizard.kube.paths import kind_of

__all__ = ["Kubelets"]

Json = dict[str, Any]

_PULL_SECONDS = 3.0
_RETRY_SECONDS = 10.0
_LONGEST_BACKOFF = 300.0
_NEVER = "1970-01-01T00:00:00Z"


@dataclass(slots=True)
class _PodState:
    """What a kubelet remembers of one pod. `step` is what comes at `due`."""

    step: str = "admit"
    due: float = 0.0
    pulls: int = 0
    restarts: int = 0
    devices: tuple[str, ...] = ()
    last_state: Json = field(default_factory=dict)
    container_id: str = ""
    started: str = ""
    life: Life | None = None
    previous: str = ""
    backoff: float = _RETRY_SECONDS
    killed_at: float | None = None


class Kubelets:
    """The pod workers of all nodes, and the logs of their containers."""

    def __init__(self, store: Store, events: Events) -> None:
        self._store = store
        self._events = events
        self._pods: dict[str, _PodState] = {}
        self._device_ids: dict[str, tuple[str, ...]] = {}

    def log(self, namespace: str, pod: str, tail: int | None, *, previous: bool) -> str:
        """The log of a pod's container, as the API gives it."""
        obj = self._store.get("Pod", namespace, pod)
        if obj is None:
            raise absent(kind_of("Pod"), pod)
        state = self._pods.get(obj["metadata"]["uid"])
        text = (state.previous if previous else state.life.log if state.life else None) if state else None
        if text is None or (not text and previous):
            name = obj["spec"]["containers"][0]["name"]
            if previous:
                why = f'previous terminated container "{name}" in pod "{pod}" not found'
            else:
                why = f'container "{name}" in pod "{pod}" is waiting to start: ContainerCreating'
            raise Refused(400, "BadRequest", why)
        lines = text.splitlines(keepends=True)
        return "".join(lines if tail is None else lines[len(lines) - min(tail, len(lines)) :])

    def work(self, node: NodeState, pods: Sequence[Json], now: float) -> None:
        """One round of a node's kubelet over `pods`, those bound to it, then what its device plugin announces."""
        if node.works:
            for pod in pods:
                self._work_on(pod, node, now)
        self._announce(node, pods)

    def forget(self) -> None:
        """Drop what is remembered of pods that are gone."""
        alive = {p["metadata"]["uid"] for p in self._store.list("Pod")}
        for uid in [u for u in self._pods if u not in alive]:
            del self._pods[uid]

    def _work_on(self, pod: Json, node: NodeState, now: float) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self._pods:
            self._pods[uid] = self._adopted(pod, node, now)
        state = self._pods[uid]
        if "deletionTimestamp" in pod["metadata"]:
            self._end(pod, state, node, now)
            return
        if state.due > now or pod["status"]["phase"] in ("Succeeded", "Failed"):
            return
        match state.step:
            case "admit":
                self._admit(pod, state, node, now)
            case "sandbox":
                self._sandbox(pod, state, node, now)
            case "pull":
                self._pull(pod, state, node, now)
            case "start":
                self._start(pod, state, node, now)
            case "running" if state.life is not None and state.life.exit_code is not None:
                self._exited(pod, state, node, now)
            case "restart":
                state.step = "start"
                self._start(pod, state, node, now)
            case _:
                pass

    def _adopted(self, pod: Json, node: NodeState, now: float) -> _PodState:
        """A pod seen for the first time; after a restart of the simulation it may run already."""
        statuses = pod["status"].get("containerStatuses") or ()
        if not statuses or "running" not in statuses[0]["state"]:
            return _PodState(due=now)
        first = statuses[0]
        allocated = first.get("allocatedResourcesStatus") or ()
        devices = tuple(r["resourceID"] for a in allocated for r in a["resources"])
        state = _PodState("running", now, restarts=first["restartCount"], devices=devices)
        state.container_id = first.get("containerID", "")
        state.started = first["state"]["running"]["startedAt"]
        outcome = self._outcome(pod, state, node)
        state.life = outcome if isinstance(outcome, Life) else Life()
        return state

    def _admit(self, pod: Json, state: _PodState, node: NodeState, now: float) -> None:
        wanted = requested(pod)
        if wanted:
            free = self._free_devices(node)
            if len(free) < wanted:
                message = (
                    f"Allocate failed due to requested number of devices unavailable for {GPU}. "
                    f"Requested: {wanted}, Available: {len(free)}, which is unexpected"
                )
                status = rejected_status("UnexpectedAdmissionError", message, self._store.now())
                self._store.replace({**pod, "status": status})
                self._events.kubelet(node.name, pod, "Warning", "UnexpectedAdmissionError", message)
                return
            state.devices = tuple(free[:wanted])
        state.started = self._store.now()
        self._show(pod, state, node, waiting("ContainerCreating"), sandbox=False)
        state.step, state.due = "sandbox", now + 0.5

    def _free_devices(self, node: NodeState) -> list[str]:
        taken = {
            device
            for pod in self._store.list("Pod")
            if pod["spec"].get("nodeName") == node.name and pod["status"]["phase"] in ("Pending", "Running")
            for device in (self._pods.get(pod["metadata"]["uid"]) or _PodState()).devices
        }
        return [d for d in self._device_ids.get(node.name, ()) if d not in taken]

    def _sandbox(self, pod: Json, state: _PodState, node: NodeState, now: float) -> None:
        volume = self._missing_volume(pod)
        if volume is not None:
            self._events.kubelet(node.name, pod, "Warning", "FailedMount", volume)
            state.due = now + _RETRY_SECONDS
            return
        runtime = node.runtime
        assert runtime is not None
        problem = no_sandbox(runtime, self._handler(pod, node), secrets.token_hex(32))
        if problem is not None:
            text = f"Failed to create pod sandbox: {problem}"
            self._events.kubelet(node.name, pod, "Warning", "FailedCreatePodSandBox", text)
            state.due = now + _RETRY_SECONDS
            return
        self._show(pod, state, node, waiting("ContainerCreating"), sandbox=True)
        state.step, state.due = "pull", now + 0.5
        image = pod["spec"]["containers"][0]["image"]
        if image in node.images and pod["spec"]["containers"][0]["imagePullPolicy"] != "Always":
            text = f'Container image "{image}" already present on machine and can be accessed by the pod'
            self._event(pod, node, "Normal", "Pulled", text)
            state.step = "start"
            return
        self._event(pod, node, "Normal", "Pulling", f'Pulling image "{image}"')
        state.due = now + _PULL_SECONDS

    def _missing_volume(self, pod: Json) -> str | None:
        for volume in pod["spec"].get("volumes") or ():
            source = volume.get("configMap")
            if source is None or source.get("optional"):
                continue
            if self._store.get("ConfigMap", pod["metadata"]["namespace"], source["name"]) is None:
                return (
                    f'MountVolume.SetUp failed for volume "{volume["name"]}" : configmap "{source["name"]}" not found'
                )
        return None

    def _handler(self, pod: Json, node: NodeState) -> str:
        name = pod["spec"].get("runtimeClassName")
        runtime_class = self._store.get("RuntimeClass", "", name) if name else None
        if runtime_class is not None:
            return str(runtime_class["handler"])
        return (node.runtime.default_handler if node.runtime else None) or "runc"

    def _pull(self, pod: Json, state: _PodState, node: NodeState, now: float) -> None:
        container = pod["spec"]["containers"][0]
        image = container["image"]
        problem = pull_problem(image)
        if container["imagePullPolicy"] == "Never":
            problem = f'Container image "{image}" is not present with pull policy of Never'
        if problem is None:
            node.images.add(image)
            seconds = "3.012s (3.012s including waiting). Image size: 29537281 bytes."
            self._event(pod, node, "Normal", "Pulled", f'Successfully pulled image "{image}" in {seconds}')
            state.step = "start"
            self._start(pod, state, node, now)
            return
        state.pulls += 1
        state.due = now + _RETRY_SECONDS * min(2 ** (state.pulls - 1), 30)
        if container["imagePullPolicy"] == "Never":
            self._event(pod, node, "Warning", "ErrImageNeverPull", problem)
            self._event(pod, node, "Warning", "Failed", "Error: ErrImageNeverPull")
            self._show(pod, state, node, waiting("ErrImageNeverPull", problem), sandbox=True)
            return
        self._event(pod, node, "Warning", "Failed", f'Failed to pull image "{image}": {problem}')
        if state.pulls == 1:
            self._event(pod, node, "Warning", "Failed", "Error: ErrImagePull")
            self._show(pod, state, node, waiting("ErrImagePull", problem), sandbox=True)
            return
        self._event(pod, node, "Normal", "BackOff", f'Back-off pulling image "{image}"')
        self._event(pod, node, "Warning", "Failed", "Error: ImagePullBackOff")
        text = f'Back-off pulling image "{image}": ErrImagePull: {problem}'
        self._show(pod, state, node, waiting("ImagePullBackOff", text), sandbox=True)

    def _outcome(self, pod: Json, state: _PodState, node: NodeState) -> Life | NotStarted:
        assert node.runtime is not None
        container = pod["spec"]["containers"][0]
        return life_of(container, self._handler(pod, node), node.runtime, state.devices, self._config(pod, container))

    def _config(self, pod: Json, container: Json) -> str | None:
        """The text of the file that CONFIG_FILE or --config-file names, when it lies in a mounted ConfigMap."""
        environment = {e["name"]: str(e.get("value", "")) for e in container.get("env") or ()}
        path = environment.get("CONFIG_FILE", "")
        words = [str(w) for w in (*(container.get("command") or ()), *(container.get("args") or ()))]
        for word, following in pairwise([*words, ""]):
            if word.startswith("--config-file"):
                path = word.partition("=")[2] or following
        volumes = {v["name"]: v for v in pod["spec"].get("volumes") or ()}
        for mount in container.get("volumeMounts") or ():
            source = volumes.get(mount["name"], {}).get("configMap")
            if source is None or not path.startswith(mount["mountPath"]):
                continue
            found = self._store.get("ConfigMap", pod["metadata"]["namespace"], source["name"])
            shown = path.removeprefix(mount["mountPath"]).strip("/") or mount.get("subPath", "")
            keys = {i["path"]: i["key"] for i in source.get("items") or ()}
            return ((found or {}).get("data") or {}).get(keys.get(shown, shown))
        return None

    def _start(self, pod: Json, state: _PodState, node: NodeState, now: float) -> None:
        outcome = self._outcome(pod, state, node)
        state.container_id = f"containerd://{secrets.token_hex(32)}"
        self._event(pod, node, "Normal", "Created", "Container created")
        if isinstance(outcome, NotStarted):
            self._event(pod, node, "Warning", "Failed", f"Error: {outcome.message}")
            stamp = self._store.now()
            ended = terminated(128, "StartError", _NEVER, stamp, state.container_id, outcome.message)
            state.life = Life("", 128)
            self._over(pod, state, node, now, ended, 128)
            return
        state.life, state.started = outcome, self._store.now()
        self._event(pod, node, "Normal", "Started", "Container started")
        self._show(pod, state, node, {"running": {"startedAt": state.started}}, sandbox=True, phase="Running")
        state.step, state.due = "running", now + outcome.seconds

    def _exited(self, pod: Json, state: _PodState, node: NodeState, now: float) -> None:
        assert state.life is not None
        assert state.life.exit_code is not None
        code = state.life.exit_code
        word = "Completed" if code == 0 else "Error"
        ended = terminated(code, word, state.started, self._store.now(), state.container_id)
        self._over(pod, state, node, now, ended, code)

    def _over(self, pod: Json, state: _PodState, node: NodeState, now: float, ended: Json, code: int) -> None:
        """The container has ended: the pod with it, or it is started again after a pause."""
        policy = pod["spec"]["restartPolicy"]
        if policy == "Never" or (policy == "OnFailure" and code == 0):
            self._show(pod, state, node, ended, sandbox=True, phase="Succeeded" if code == 0 else "Failed")
            return
        name, meta = pod["spec"]["containers"][0]["name"], pod["metadata"]
        shown = f"{meta['name']}_{meta['namespace']}({meta['uid']})"
        state.last_state, state.previous = ended, state.life.log if state.life else ""
        seconds = int(state.backoff)
        text = f"back-off {_duration(seconds)} restarting failed container={name} pod={shown}"
        self._show(pod, state, node, waiting("CrashLoopBackOff", text), sandbox=True, phase="Running")
        message = f"Back-off restarting failed container {name} in pod {shown}"
        self._event(pod, node, "Warning", "BackOff", message)
        state.restarts += 1
        state.step, state.due = "restart", now + state.backoff
        state.backoff = min(state.backoff * 2, _LONGEST_BACKOFF)

    def _end(self, pod: Json, state: _PodState, node: NodeState, now: float) -> None:
        """A deleted pod goes when the runtime can stop it; one that ignores SIGTERM when its grace is over."""
        if not node.cri_ok:
            return
        if state.killed_at is None:
            stubborn = state.step == "running" and state.life is not None and state.life.stubborn
            state.killed_at = now + (pod["metadata"].get("deletionGracePeriodSeconds", 30) if stubborn else 0)
        if now < state.killed_at:
            return
        if state.step == "running":
            self._event(pod, node, "Normal", "Killing", f"Stopping container {pod['spec']['containers'][0]['name']}")
        self._store.remove(pod)
        self._pods.pop(pod["metadata"]["uid"], None)

    def _show(
        self, pod: Json, state: _PodState, node: NodeState, shown: Json, *, sandbox: bool, phase: Any = "Pending"
    ) -> None:
        live = self._store.get("Pod", pod["metadata"]["namespace"], pod["metadata"]["name"])
        if live is None:
            return
        created = "running" in shown or "terminated" in shown or bool(state.last_state)
        stage = Stage(
            phase=phase,
            state=shown,
            sandbox=sandbox,
            last_state=state.last_state,
            restarts=state.restarts,
            devices=state.devices,
            address=node.address,
            pod_address=f"10.244.{node.index}.{zlib.crc32(pod['metadata']['uid'].encode()) % 250 + 2}",
            started=state.started,
            container_id=state.container_id if created else "",
        )
        self._store.replace({**live, "status": pod_status(live, stage, self._store.now())})

    def _event(self, pod: Json, node: NodeState, kind: str, reason: str, message: str) -> None:
        name = pod["spec"]["containers"][0]["name"]
        self._events.kubelet(node.name, pod, kind, reason, message, container=name)

    def _announce(self, node: NodeState, pods: Sequence[Json]) -> None:
        """What the device plugin of this node, if it runs, has registered with the kubelet."""
        devices: tuple[str, ...] | None = None
        for pod in pods:
            state = self._pods.get(pod["metadata"]["uid"])
            if state is None or state.step != "running" or "deletionTimestamp" in pod["metadata"]:
                continue
            if state.life is not None and state.life.devices is not None:
                devices = state.life.devices
        node.plugin_running = bool(devices)
        self._device_ids[node.name] = devices or ()
        if devices:
            node.plugin_devices = len(devices)


def _duration(seconds: int) -> str:
    """Go's notation: ``10s``, ``1m20s``, ``5m0s``."""
    return f"{seconds}s" if seconds < 60 else f"{seconds // 60}m{seconds % 60}s"
