"""Nodes, pods and events of the cluster as they are at this moment: three watches that any number of waits share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

from gpuwizard.clock import Clock
from gpuwizard.errors import GpuwizardError
from gpuwizard.facts.cluster import NodeView
from gpuwizard.kube.cluster import Cluster
from gpuwizard.kube.views import node_view

__all__ = ["LiveView", "live_view"]

Json = Mapping[str, Any]
T = TypeVar("T")

_LOOK_EVERY = 5.0


class LiveView:
    """What the watches have said so far. `pods` are those of one namespace, by name; `events` by the name of the
    object that they are about; `lost` is set while the link is gone."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._news = asyncio.Event()
        self._failed: BaseException | None = None
        self.nodes: dict[str, NodeView] = {}
        self.pods: dict[str, Json] = {}
        self.events: dict[str, dict[str, Json]] = {}
        self.lost: GpuwizardError | None = None

    def events_of(self, name: str) -> tuple[Json, ...]:
        """Events about an object of that name."""
        return tuple(self.events.get(name, {}).values())

    async def until(self, look: Callable[[], T | None], limit: float) -> T | None:
        """Wait until `look` returns something; None after `limit` seconds of engine time. `look` is called at every
        change, and every few seconds. Raises the error that ended a watch for good."""
        deadline = self._clock.monotonic() + limit
        while True:
            if self._failed is not None:
                raise self._failed
            news = self._news
            found = look()
            if found is not None:
                return found
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return None
            await _first(news.wait(), self._clock.sleep(min(left, _LOOK_EVERY)))

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self, cluster: Cluster, kind: str, namespace: str) -> None:
        """Take in one kind until cancelled; an error ends all waits."""
        try:
            async with aclosing(cluster.watch(kind, namespace, on_lost=self._on_lost)) as changes:
                async for change, obj in changes:
                    self.lost = None
                    self._take(kind, obj, gone=change == "DELETED")
                    self._tell()
        except GpuwizardError as error:
            self._failed = error
            self._tell()

    def _on_lost(self, error: GpuwizardError) -> None:
        self.lost = error
        self._tell()

    def _take(self, kind: str, obj: Json, *, gone: bool) -> None:
        name = obj["metadata"]["name"]
        match kind:
            case "Node" if gone:
                self.nodes.pop(name, None)
            case "Node":
                self.nodes[name] = node_view(obj)
            case "Pod" if gone:
                self.pods.pop(name, None)
            case "Pod":
                self.pods[name] = obj
            case _ if not gone:
                about = str(obj.get("involvedObject", {}).get("name", ""))
                self.events.setdefault(about, {})[name] = obj
            case _:
                pass


@asynccontextmanager
async def live_view(cluster: Cluster, namespace: str, clock: Clock) -> AsyncIterator[LiveView]:
    """Watch all nodes, and the pods and events of `namespace`, while the block runs."""
    live = LiveView(clock)
    watched = (("Node", ""), ("Pod", namespace), ("Event", namespace))
    tasks = [asyncio.create_task(live.follow(cluster, kind, where), name=f"watch {kind}") for kind, where in watched]
    try:
        yield live
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _first(*waits: Any) -> None:
    """Wait for the first of several coroutines and end the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
