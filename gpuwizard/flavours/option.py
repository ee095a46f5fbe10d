"""A strategy as it is offered for one host, and the refusals that all flavours share."""

from dataclasses import dataclass
from typing import Protocol

from gpuwizard.actions import EffectiveChange, HostPlanned, Refusal
from gpuwizard.answers.model import Answers, Strategy
from gpuwizard.clean import clean_line
from gpuwizard.containerd import Effective, losses
from gpuwizard.facts.model import Probe
from gpuwizard.flavours.handler import NAME, is_right, wanted_handler
from gpuwizard.redact import redact_value

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


def refused(strategy: str, *refusals: Refusal) -> HostPlanned:
    """The answer for a host that is not changed because of `refusals`."""
    return HostPlanned(strategy, refusals[0].why, refusals=refusals)


def host_refusals(probe: Probe) -> tuple[Refusal, ...]:
    """Why nothing may be changed on this host whatever its flavour; empty when it is in order.

    Only what is known to be wrong refuses, except that driver, toolkit and files must be known to be there.
    """
    facts = probe.facts
    found: list[Refusal] = []
    if facts.os.immutable or facts.os.kind in ("wsl1", "wsl2") or facts.os.family in ("talos", "flatcar", "nixos"):
        system = facts.os.pretty_name or facts.os.id or facts.os.kind
        found.append(
            Refusal(
                "immutable-os",
                f"{system} does not keep changes to its files",
                "configure it the way its vendor describes: a machine configuration, an extension, an image",
            )
        )
    if not probe.readable:
        found.append(
            Refusal(
                "no-root",
                f"root is needed to read and change the runtime's files: {facts.privilege.reason or 'no sudo'}",
                "log in as root, allow sudo, or give the sudo password (-K)",
            )
        )
    if facts.driver.problem:
        found.append(
            Refusal(
                "no-driver",
                f"the NVIDIA driver does not work: {clean_line(facts.driver.problem)}",
                "repair the driver first; `gpuwizard check` says what is wrong with it",
            )
        )
    elif facts.driver.loaded is None:
        found.append(Refusal("no-driver", "no NVIDIA driver is loaded", "install the driver, reboot, and plan again"))
    if facts.toolkit.runtime_path is None:
        found.append(
            Refusal(
                "no-toolkit",
                "nvidia-container-runtime is not installed",
                "install the package nvidia-container-toolkit, then plan again",
            )
        )
    return tuple(found)


def announced_changes(changes: tuple[EffectiveChange, ...], default: str | None) -> tuple[EffectiveChange, ...]:
    """What of `changes` the plan is there for: handler nvidia, and the default handler where one is asked for."""
    own = (f"handler {NAME}", f"handler {NAME}.")
    wanted = ("default handler",) if default is not None else ()
    return tuple(c for c in changes if c.key == own[0] or c.key.startswith(own[1]) or c.key in wanted)


def outcome_refusals(
    before: Effective, after: Effective, runtime_path: str, default: str | None, announced: tuple[EffectiveChange, ...]
) -> tuple[Refusal, ...]:
    """Why the planned outcome must not be: the daemon or CRI broken, the handler missing or wrong, another default
    handler than planned, or something lost that the plan does not announce (`safety.md`, step 4)."""
    if not after.usable:
        return (Refusal("would-break", f"the change would break the runtime: {after.error or after.cri}"),)
    found: list[Refusal] = []
    if not is_right(after.runtimes.get(NAME), wanted_handler(before, runtime_path)):
        found.append(
            Refusal(
                "no-effect",
                "another file of this host overrides handler nvidia: the change would not arrive",
                f"look at {', '.join(after.files)}, remove what contradicts, and plan again",
            )
        )
    if default is not None and after.default_runtime_name != default:
        found.append(Refusal("no-effect", f"the default handler would stay {after.default_runtime_name}"))
    lost = losses(before, after, announced)
    if lost:
        words = ", ".join(
            f"{c.key} ({redact_value(c.key, c.before or '')} → {redact_value(c.key, c.after or 'gone')})" for c in lost
        )
        found.append(Refusal("would-lose", f"the change would lose {words}"))
    return tuple(found)
