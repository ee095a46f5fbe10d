"""What a host is, as data: the facts of `cli.md`. `None` means "not known", never "no"."""

from gpuwizard.facts.model.driver import DkmsState, DriverFacts, KernelModule, ServiceState
from gpuwizard.facts.model.gpu import Gpu, MigDevice, PciDevice, VgpuLicense
from gpuwizard.facts.model.kubernetes import (
    KubernetesFacts,
    KubernetesFlavour,
    KubernetesService,
    Template,
    TemplateProblem,
    TemplateProblemKind,
)
from gpuwizard.facts.model.probe import HostFacts, HostFile, Probe, Unseen
from gpuwizard.facts.model.runtime import ConfigWarning, Handler, RuntimeFacts
from gpuwizard.facts.model.system import Family, HostState, KernelFacts, MountSpace, OsFacts, PrivilegeFacts, Reach
from gpuwizard.facts.model.toolkit import CdiSpec, OperatorFacts, ToolkitFacts

__all__ = [
    "CdiSpec",
    "ConfigWarning",
    "DkmsState",
    "DriverFacts",
    "Family",
    "Gpu",
    "Handler",
    "HostFacts",
    "HostFile",
    "HostState",
    "KernelFacts",
    "KernelModule",
    "KubernetesFacts",
    "KubernetesFlavour",
    "KubernetesService",
    "MigDevice",
    "MountSpace",
    "OperatorFacts",
    "OsFacts",
    "PciDevice",
    "PrivilegeFacts",
    "Probe",
    "Reach",
    "RuntimeFacts",
    "ServiceState",
    "Template",
    "TemplateProblem",
    "TemplateProblemKind",
    "ToolkitFacts",
    "Unseen",
    "VgpuLicense",
]
