"""Hosts of a plan that get the very same change, or the same refusal, as one: so that a person reads it once."""

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from gpuwizard.actions import HostAction, LabelNode, Refusal, Restart, WriteFile
from gpuwizard.plan.blast import blast_words
from gpuwizard.plan.impact import impact
from gpuwizard.plan.model import HostPlan, Plan

__all__ = ["HostGroup", "group_hosts"]

_SOME_HOST = "‹host›"


@dataclass(frozen=True, slots=True)
class HostGroup:
    """Hosts, in the plan's order, that read alike.

    Equal are the strategy with its reason, the files before and after, the activation, and what the runtime sees of
    it. The labels of their nodes and the pods there are each host's own and divide no group.
    """

    hosts: tuple[HostPlan, ...]

    @property
    def first(self) -> HostPlan:
        """The host that stands for all."""
        return self.hosts[0]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the hosts."""
        return tuple(host.name for host in self.hosts)

    @property
    def actions(self) -> tuple[HostAction, ...]:
        """What is done on every host, without the labels."""
        return tuple(action for action in self.first.actions if not isinstance(action, LabelNode))

    @property
    def labels(self) -> tuple[LabelNode, ...]:
        """The labels of all their nodes."""
        return tuple(action for host in self.hosts for action in host.actions if isinstance(action, LabelNode))

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Why they are not changed; where a refusal names its host, it names none here."""
        alike = all(host.refusals == self.first.refusals for host in self.hosts)
        return self.first.refusals if alike else _masked_refusals(self.first)

    @property
    def control_plane(self) -> bool:
        """True when one of them serves the Kubernetes API."""
        return any(host.control_plane for host in self.hosts)

    @property
    def impact(self) -> tuple[str, ...]:
        """Sentences on what restarts, what becomes of the pods, and who they are."""
        told = impact(self.actions, control_plane=self.control_plane)
        return (*told, *blast_words(host.blast for host in self.hosts))


def group_hosts(plan: Plan) -> tuple[HostGroup, ...]:
    """The hosts of `plan` in groups, each where its first host stands in the plan."""
    found: dict[Hashable, list[HostPlan]] = {}
    for host in plan.hosts:
        found.setdefault(_likeness(host), []).append(host)
    return tuple(HostGroup(tuple(hosts)) for hosts in found.values())


def _likeness(host: HostPlan) -> Hashable:
    if host.refusals:
        return "refused", _masked_refusals(host)
    actions = tuple(_deed(action) for action in host.actions if not isinstance(action, LabelNode))
    labels = bool(host.actions) and not actions
    return host.strategy, host.reason, actions, labels


def _deed(action: WriteFile | Restart) -> Hashable:
    """The action without its id, which names the host; notes count as well, since they are read."""
    words = tuple((c.key, c.before, c.after, c.note) for c in action.effective)
    return replace(action, id=""), words


def _masked_refusals(host: HostPlan) -> tuple[Refusal, ...]:
    names = {name for name in (host.name, host.node_name) if name}
    return tuple(
        Refusal(refusal.id, _masked(refusal.why, names), _masked(refusal.remedy, names), refusal.detail)
        for refusal in host.refusals
    )


def _masked(text: str, names: Sequence[str] | set[str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", _SOME_HOST, text)
    return text
