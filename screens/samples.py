"""What the monitor knows: the last samples of every GPU with a short history, and gpuwizard's pods."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpuwizard.clock import Clock
from gpuwizard.monitor.history import History
from gpuwizard.monitor.model import Sample

if TYPE_CHECKING:
    from gpuwizard.work.pods import PodView

__all__ = ["STALE_AFTER", "Samples"]

STALE_AFTER = 10.0


@dataclass(slots=True)
class Samples:
    """Written by the engine, read by the monitor screen once a second. `heard` is when a host last answered."""

    clock: Clock
    history: History = field(default_factory=lambda: History(120))
    heard: dict[str, float] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    pods: "tuple[PodView, ...]" = ()
    trouble: str = ""

    def take(self, host: str, samples: tuple[Sample, ...]) -> None:
        """One round of samples of one host."""
        self.heard[host] = self.clock.monotonic()
        self.trouble = ""
        self.history.add(samples)

    def take_trouble(self, host: str, words: str) -> None:
        """A host that was measured does not answer any more."""
        self.trouble = f"{host}: {words}"

    def take_pods(self, pods: "tuple[PodView, ...]") -> None:
        """The pods as they are now."""
        self.pods = pods

    def age(self, host: str) -> float | None:
        """Seconds since the host last answered; None when it never did."""
        heard = self.heard.get(host)
        return None if heard is None else self.clock.monotonic() - heard

    def stale(self, host: str) -> bool:
        """True when the numbers shown are old: a lost link must not look like an idle GPU."""
        age = self.age(host)
        return age is not None and age > STALE_AFTER
