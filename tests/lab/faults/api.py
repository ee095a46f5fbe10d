"""An API server for a cell: the fleet's stand-in, which can go away and refuse as one that is only just starting."""

import asyncio

from gpuwizard.clock import SystemClock
from gpuwizard.fleet.api import SimulatedCluster
from gpuwizard.kube.cluster import Cluster, open_cluster
from tests.kube_servers import Host, runtime

__all__ = ["Api"]


class Api:
    """A server with one node, which is Ready all the time. `cluster` is the operator's way to it."""

    node = "node1"
    cluster: Cluster

    def __init__(self) -> None:
        self._server = SimulatedCluster({self.node: Host(self.node, runtime())}, SystemClock())

    @classmethod
    async def open(cls) -> "Api":
        """A server that answers."""
        api = cls()
        config = await api._server.start()
        api.cluster = await open_cluster(config=config)
        return api

    async def away(self, seconds: float) -> None:
        """It is stopped, and comes back at the same address."""
        await self._server.stop()
        await asyncio.sleep(seconds)
        await self._server.start()

    async def starting(self, seconds: float) -> None:
        """It restarts as a single K3s server does: away, then its keys are not loaded (401), then its roles (403)."""
        users = self._server._tokens
        known = dict(users)
        await self.away(seconds / 3)
        users.clear()
        await asyncio.sleep(seconds / 3)
        users.update(dict.fromkeys(known, "viewer"))
        await asyncio.sleep(seconds / 3)
        users.update(known)

    async def forbidding(self) -> None:
        """From now on the operator's user may not see nodes."""
        self._server._tokens.update(dict.fromkeys(self._server._tokens, "viewer"))

    async def close(self) -> None:
        """End both sides."""
        await self.cluster.close()
        await self._server.stop()
