"""How many pods run on each host's node, by which the canary is chosen."""

from collections import Counter
from collections.abc import Sequence

from gpuwizard.errors import GpuwizardError
from gpuwizard.events import Note
from gpuwizard.plan.model import HostPlan
from gpuwizard.work.shared_run import SharedRun

__all__ = ["load_of"]


async def load_of(run: SharedRun, hosts: Sequence[HostPlan]) -> dict[str, int]:
    """Pods that run on each host's node; nothing when there is no choice or the cluster does not say."""
    if run.cluster is None or not run.answers.rollout.canary or len(hosts) < 2:
        return {}
    try:
        pods = await run.cluster.list_pods("", field_selector="status.phase=Running")
    except GpuwizardError as error:
        run.emit(Note("apply", f"the load of the nodes is not known: {error.what}", "warning"))
        return {}
    counted = Counter(str(p.get("spec", {}).get("nodeName", "")) for p in pods)
    return {h.name: counted[h.node_name or ""] for h in hosts}
