"""One host's node around the restart of its runtime: how it was before, and the wait until it is so again
(`safety.md`, one host, step 9)."""

from gpuwizard.events import Note, Stage
from gpuwizard.kube.cluster import Cluster
from gpuwizard.plan.model import HostPlan
from gpuwizard.run_nodes import NodeLook, last_look, write_look
from gpuwizard.work.health import control_plane_ready, node_settles
from gpuwizard.work.old_pods import OldPods, running_pods
from gpuwizard.work.shared_run import SharedRun

__all__ = ["NodeWatch"]


class NodeWatch:
    """`look` before anything is changed, `settle` after the restart. Where this process did not look, because it goes
    on with a run that was cut, the run's journal knows what the other one saw. `restarts` is False for a change that
    restarts nothing: its node is left alone."""

    def __init__(self, run: SharedRun, host: HostPlan, stage: Stage, *, restarts: bool) -> None:
        self._run = run
        self._host = host
        self._stage: Stage = stage
        self._restarts = restarts
        self._seen: NodeLook | None = None

    async def look(self) -> None:
        """See and write down how the node is. Raises RefusedError while the control plane cannot spare it,
        UnreachableError when the API server does not answer."""
        if (known := self._known()) is None:
            return
        cluster, name = known
        if self._host.control_plane:
            await control_plane_ready(cluster, name)
        node = await cluster.node(name)
        pods = await running_pods(cluster, name, self._host.name, self._run.emit, self._stage)
        self._seen = NodeLook(self._host.name, name, node is not None and node.ready is True, pods.uids)
        write_look(self._run.journal.folder, self._seen)

    async def settle(self, left: float) -> None:
        """Wait until the node is as well as it was. `left` are the seconds until the host reverts by itself. Raises
        GpuwizardError when it does not come to that."""
        if (known := self._known()) is None:
            return
        cluster, name = known
        seen = self._seen or last_look(self._run.journal.folder, self._host.name, name)
        if seen is None:
            self._warn("which pods ran before is not known: they are not watched")
            seen = NodeLook(self._host.name, name, ready=True)
        if not seen.ready:
            self._warn("the node was not Ready before; it is not waited for")
            return
        await node_settles(
            cluster,
            name,
            hold=self._run.answers.rollout.node_hold,
            left=left,
            host=self._host.name,
            emit=self._run.emit,
            clock=self._run.clock,
            stage=self._stage,
            control_plane=self._host.control_plane,
            pods=OldPods(name, seen.pods),
        )

    def _known(self) -> tuple[Cluster, str] | None:
        """The cluster and the node's name, where there is something to watch."""
        if self._run.cluster is None or self._host.node_name is None or not self._restarts:
            return None
        return self._run.cluster, self._host.node_name

    def _warn(self, what: str) -> None:
        self._run.emit(Note(self._stage, what, "warning", self._host.name))
