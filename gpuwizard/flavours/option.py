"""A strategy as it is offered for one host, and what a module of this package offers."""

from dataclasses import dataclass
from typing import Protocol

from gpuwizard.actions import HostPlanned
from gpuwizard.answers.model import Answers, Strategy
from gpuwizard.facts.model import Probe
from gpuwizard.flavours.refusals import announced_changes, host_refusals, outcome_refusals, refused

__all__ = [
    "STRATEGIES",
    "Flavour",
    "StrategyOption",
    "announced_changes",
    "host_refusals",
    "outcome_refusals",
    "refused",
]


@dataclass(frozen=True, slots=True)
class StrategyOption:
    """One strategy on one host: whether it can be taken, why (not), and whether ``auto`` takes it."""

    value: Strategy
    enabled: bool
    reason: str
    recommended: bool = False


class Flavour(Protocol):
    """What a module of this package offers: it knows how one kind of host keeps its runtime's configuration."""

    def offer(self, probe: Probe) -> tuple[StrategyOption, ...]:
        """The strategies that this flavour has a word on, for this host; exactly one that is enabled is recommended.
        Those it does not name do not exist here."""
        ...

    def plan(self, name: str, probe: Probe, answers: Answers, chosen: StrategyOption) -> HostPlanned:
        """What makes the answers true on host `name` with the `chosen` strategy: an empty change when they are."""
        ...


STRATEGIES: tuple[Strategy, ...] = ("k3s-native", "k3s-template", "drop-in", "in-place")
"""Every strategy that changes something, in the order in which they are offered."""
