"""Which Kubernetes a host runs, in which role, and by which socket its kubelet reaches the runtime.

The evidence for each flavour: `hosts.md §7.1`.
"""

from dataclasses import replace

from gpuwizard.facts.kubernetes.inputs import Found, KubernetesInputs
from gpuwizard.facts.kubernetes.others import container_facts, k0s_facts, kubelet_facts, microshift_facts
from gpuwizard.facts.kubernetes.presence import Level, choose, levels
from gpuwizard.facts.kubernetes.rancher import rancher_facts
from gpuwizard.facts.kubernetes.settings import k3s_settings
from gpuwizard.facts.kubernetes.snaps import k8s_snap_facts, microk8s_facts
from gpuwizard.facts.model import KubernetesFacts, KubernetesFlavour

__all__ = ["KubernetesInputs", "k3s_settings", "kubernetes_facts"]


def kubernetes_facts(inputs: KubernetesInputs) -> Found:
    """The flavour and the kubelet's CRI socket (None: unknown, empty: there is no kubelet).

    Several flavours can be installed: the one that runs wins. Where two run the flavour is ``unknown``, so that
    nothing is done on a guess; `others` then names all of them.
    """
    present = levels(inputs)
    chosen = choose(present, inputs)
    others = tuple(name for name, level in present.items() if name != chosen and level > Level.LEFTOVER)
    if chosen == "unknown":
        others = others or tuple(present)
    facts, endpoint = _facts(chosen, inputs, present)
    return replace(facts, others=others), endpoint


def _facts(chosen: KubernetesFlavour, inputs: KubernetesInputs, present: dict[KubernetesFlavour, Level]) -> Found:
    match chosen:
        case "k3s" | "rke2":
            return rancher_facts(inputs, chosen)
        case "kubeadm" | "openshift":
            return kubelet_facts(inputs, chosen)
        case "kind" | "minikube":
            in_container = present[chosen] == Level.TRYING and bool(inputs.nested)
            return container_facts(inputs, chosen) if in_container else kubelet_facts(inputs, chosen)
        case "k8s-snap":
            return k8s_snap_facts(inputs)
        case "microk8s":
            return microk8s_facts(inputs)
        case "k0s":
            return k0s_facts(inputs)
        case "microshift":
            return microshift_facts(inputs)
        case "none":
            return KubernetesFacts("none", node_containers=()), ""
        case _:
            return KubernetesFacts("unknown"), None
