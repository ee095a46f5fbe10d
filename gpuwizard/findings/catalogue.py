"""The catalogue: every rule of every part. Ids never change their meaning."""

from gpuwizard.findings.driver import branch, build, fabric, kernel, next_boot, presence, smi, start, xid
from gpuwizard.findings.driver import nodes as device_nodes
from gpuwizard.findings.driver import packages as driver_packages
from gpuwizard.findings.gpu import age, health, inventory, memory, modes
from gpuwizard.findings.host import access, distribution, kinds, machine, network, space
from gpuwizard.findings.kubernetes import flavour, k0s, k3s, k3s_drop_ins, k3s_templates, microk8s, nodes, snap
from gpuwizard.findings.ready import HEALTHY
from gpuwizard.findings.rule import Rule
from gpuwizard.findings.runtimes import crio, dialects, docker, drop_ins, handlers, kubelet, service
from gpuwizard.findings.toolkit import cdi, cdi_upkeep, config, operator, operator_stages
from gpuwizard.findings.toolkit import packages as toolkit_packages

__all__ = ["RULES"]

RULES: tuple[Rule, ...] = (
    *inventory.RULES,
    *health.RULES,
    *memory.RULES,
    *modes.RULES,
    *age.RULES,
    *presence.RULES,
    *next_boot.RULES,
    *smi.RULES,
    *build.RULES,
    *kernel.RULES,
    *start.RULES,
    *branch.RULES,
    *device_nodes.RULES,
    *driver_packages.RULES,
    *fabric.RULES,
    *xid.RULES,
    *toolkit_packages.RULES,
    *config.RULES,
    *cdi.RULES,
    *cdi_upkeep.RULES,
    *operator.RULES,
    *operator_stages.RULES,
    *kubelet.RULES,
    *service.RULES,
    *dialects.RULES,
    *drop_ins.RULES,
    *handlers.RULES,
    *docker.RULES,
    *crio.RULES,
    *flavour.RULES,
    *nodes.RULES,
    *k3s.RULES,
    *k3s_templates.RULES,
    *k3s_drop_ins.RULES,
    *snap.RULES,
    *microk8s.RULES,
    *k0s.RULES,
    *distribution.RULES,
    *kinds.RULES,
    *access.RULES,
    *machine.RULES,
    *space.RULES,
    *network.RULES,
    HEALTHY,
)
