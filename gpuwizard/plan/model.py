"""The plan as data: reviewed as this very object, saved as JSON, run as it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuwizard.actions import Action, Activation, ApplyObject, HostAction, Refusal
from gpuwizard.plan.blast import Blast

__all__ = ["UNINSTALL", "ClusterPlan", "HostPlan", "Plan", "TakeBack"]

UNINSTALL = "uninstall"
"""The strategy of every host of a plan that takes gpuwizard's changes back."""


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Earlier runs of a host that one guarded change takes back, the newest first, from the host's own copies. `aims`
    are (sha256 before, after, path) of the files in their order; the host refuses when it does not come to them."""

    runs: tuple[str, ...]
    aims: tuple[tuple[str, str, str], ...]
    activation: Activation | None = None


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What will be done on one host, in order. `reads` maps each path that the plan read to its sha256 or
    ``absent``; `versions` the versions it relied on; `boot_id` the boot it was seen in: apply refuses the host when
    one of them differs. `blast` says whom a restart meets; it is told, and part of no hash. `takes_back` is set in the
    plan of an uninstall alone: one guarded change after the other."""

    name: str
    strategy: str
    reason: str
    actions: tuple[HostAction, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    reads: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    boot_id: str | None = None
    node_name: str | None = None
    control_plane: bool = False
    blast: Blast | None = None
    takes_back: tuple[TakeBack, ...] = ()

    @property
    def changes(self) -> bool:
        """True when something is to be done here and nothing forbids it."""
        return bool(self.actions) and not self.refusals


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What will be done through the Kubernetes API. `notes` say what is left alone, and why."""

    actions: tuple[ApplyObject, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    server: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole plan. `hash` is over what will be done; `fingerprint` over what the plan read."""

    hosts: tuple[HostPlan, ...]
    cluster: ClusterPlan
    hash: str
    fingerprint: str

    @property
    def empty(self) -> bool:
        """Nothing is to be done anywhere (refusals or not)."""
        return not self.cluster.actions and not any(h.actions for h in self.hosts)

    @property
    def uninstalls(self) -> bool:
        """True for a plan that takes gpuwizard's changes back."""
        return any(host.strategy == UNINSTALL for host in self.hosts)

    @property
    def actions(self) -> tuple[Action, ...]:
        """All actions, hosts first."""
        return tuple(a for h in self.hosts for a in h.actions) + self.cluster.actions
