"""The simulated Kubernetes cluster: an API over HTTP whose nodes and pods follow what the simulated hosts really say.

Everything a node or pod reports is derived from `SimulatedNode.runtime()`; nothing is fixed per node. It binds to
127.0.0.1, and only a token made for this run opens it (`testing.md`, the fleet cannot touch the real machine).
"""

import asyncio
import logging
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from gpuwizard.clock import Clock
from gpuwizard.fleet.api_budgets import run_budgets
from gpuwizard.fleet.api_controllers import run_daemon_sets, sweep
from gpuwizard.fleet.api_events import Events
from gpuwizard.fleet.api_http import make_app
from gpuwizard.fleet.api_nodes import NodeState, report
from gpuwizard.fleet.api_pods import Kubelets
from gpuwizard.fleet.api_replicas import run_replica_sets
from gpuwizard.fleet.api_scheduler import schedule
from gpuwizard.fleet.api_store import Store
from gpuwizard.fleet.node import NodeRuntime, SimulatedNode
from gpuwizard.kube.paths import kind_of

__all__ = ["SimulatedCluster"]

Json = dict[str, Any]

_log = logging.getLogger(__name__)
_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
_TICK = 1.0  # engine seconds between two rounds of all kubelets and controllers
_PRUNE_EVERY = 60


class SimulatedCluster:
    """One cluster. `nodes` are the hosts that are in it, by node name.

    `state` is a JSON file that keeps the objects between runs. `version` is the API server's. `k3s_server`: a K3s
    server ships the runtime class nvidia with its own labels (`kubernetes.md §5`).
    """

    def __init__(
        self,
        nodes: Mapping[str, SimulatedNode],
        clock: Clock,
        *,
        state: Path | None = None,
        version: str = "v1.36.2",
        k3s_server: bool = False,
    ) -> None:
        self._clock = clock
        self._path = state
        self._version = version
        self._k3s_server = k3s_server
        self.store = Store(clock.now)
        if state is not None:
            self.store.load(state)
        self._events = Events(self.store, clock.now)
        self._kubelets = Kubelets(self.store, self._events)
        self._nodes = [NodeState(node, index) for index, node in enumerate(nodes.values())]
        self._tokens = {secrets.token_urlsafe(24): name for name in ("admin", "viewer")}
        self._runner: web.AppRunner | None = None
        self._loop: asyncio.Task[None] | None = None
        self._port = 0
        self._rounds = 0
        self._saved = 0

    async def start(self) -> Json:
        """Start answering; returns the kubeconfig as a dict. After `stop` it comes back at the same address."""
        self._furnish()
        await self._round()
        app = make_app(self.store, self._kubelets, self._tokens, self._version)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self._loop = asyncio.create_task(self._run(), name="simulated cluster")
        return self.kubeconfig()

    async def stop(self) -> None:
        """Stop answering and keep the objects; watches of clients break. Raises what went wrong in the simulation."""
        ended: BaseException | None = None
        if self._loop is not None:
            self._loop.cancel()
            (ended,) = await asyncio.gather(self._loop, return_exceptions=True)
            self._loop = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self._save()
        if isinstance(ended, Exception):
            raise ended

    def kubeconfig(self, user: str = "admin") -> Json:
        """A kubeconfig for ``admin``, or for ``viewer``, who may only read pods and events."""
        token = next(t for t, name in self._tokens.items() if name == user)
        server = f"http://127.0.0.1:{self._port}"
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fleet", "cluster": {"server": server}}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "fleet", "context": {"cluster": "fleet", "user": user}}],
            "current-context": "fleet",
        }

    def _furnish(self) -> None:
        """What every cluster has before anyone uses it."""
        for name in _NAMESPACES:
            if self.store.get("Namespace", "", name) is None:
                self.store.create(kind_of("Namespace"), "", {"metadata": {"name": name}}, "kube-apiserver")
        if not self._k3s_server:
            return
        for name in ("nvidia", "nvidia-experimental"):
            if self.store.get("RuntimeClass", "", name) is None:
                labels = {"objectset.rio.cattle.io/hash": secrets.token_hex(20)}
                annotations = {
                    "objectset.rio.cattle.io/owner-gvk": "k3s.cattle.io/v1, Kind=Addon",
                    "objectset.rio.cattle.io/owner-name": "runtimes",
                    "objectset.rio.cattle.io/owner-namespace": "kube-system",
                }
                shipped = {"metadata": {"name": name, "labels": labels, "annotations": annotations}, "handler": name}
                self.store.create(kind_of("RuntimeClass"), "", shipped, "deploy")

    async def _run(self) -> None:
        """Rounds until cancelled. A simulation that fails stops answering, rather than answer from a frozen state."""
        try:
            while True:
                await self._clock.sleep(_TICK)
                await self._round()
        except Exception:
            _log.exception("the simulated cluster failed")
            if self._runner is not None:
                await self._runner.cleanup()
            raise

    async def _round(self) -> None:
        """One round: what the hosts say, what kubelets and controllers make of it."""
        runtimes = await asyncio.gather(*(_runtime_of(state.node) for state in self._nodes))
        now, wall = self._clock.monotonic(), self._clock.now()
        for state, runtime in zip(self._nodes, runtimes, strict=True):
            state.runtime = runtime
            report(state, self.store, self._events, now, wall)
        run_daemon_sets(self.store, self._events)
        run_replica_sets(self.store, self._events)
        schedule(self.store, self._events)
        pods: dict[str, list[Json]] = {}
        for pod in self.store.list("Pod"):
            pods.setdefault(pod["spec"].get("nodeName", ""), []).append(pod)
        for state in self._nodes:
            self._kubelets.work(state, pods.get(state.name, ()), now)
        sweep(self.store)
        run_budgets(self.store, self._clock.now)
        self._rounds += 1
        if self._rounds % _PRUNE_EVERY == 0:
            self._kubelets.forget()
            self._events.prune()
            self._save()

    def _save(self) -> None:
        if self._path is not None and self._saved != self.store.version:
            self.store.save(self._path)
            self._saved = self.store.version


async def _runtime_of(node: SimulatedNode) -> NodeRuntime | None:
    try:
        return await node.runtime()
    except OSError:
        return None
