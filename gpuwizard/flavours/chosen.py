"""Which of a host's runtimes is meant: the kubelet's, and without a kubelet the one that people run containers with."""

from gpuwizard.facts.model import HostFacts, RuntimeFacts
from gpuwizard.flavours import containerd

__all__ = ["runtime_of"]


def runtime_of(facts: HostFacts) -> RuntimeFacts | None:
    """The kubelet's runtime. On a host without Kubernetes Docker comes before CRI-O, and both before containerd:
    where Docker is, containerd is its servant, and its package's file has CRI switched off (`runtimes.md §1.3`)."""
    if facts.kubelet_runtime is None and facts.kubernetes.flavour == "none":
        for kind in ("docker", "crio"):
            found = [r for r in facts.runtimes if r.kind == kind]
            found = [r for r in found if r.running] or found
            if len(found) == 1:
                return found[0]
    return containerd.chosen_runtime(facts)
