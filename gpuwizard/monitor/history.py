"""The last samples of every GPU, for the curves on the monitor screen."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from gpuwizard.monitor.model import Sample

__all__ = ["History"]

Key = tuple[str, str]


class History:
    """A ring of at most `length` samples per GPU; the oldest goes first."""

    def __init__(self, length: int = 300) -> None:
        if length < 1:
            raise ValueError("length must be at least 1")
        self._length = length
        self._rings: dict[Key, deque[Sample]] = {}

    def add(self, samples: Iterable[Sample]) -> None:
        """Append; a GPU that is new gets its own ring."""
        for sample in samples:
            self._rings.setdefault(sample.key, deque(maxlen=self._length)).append(sample)

    def __iter__(self) -> Iterator[Key]:
        """The GPUs in the order in which they were first seen."""
        return iter(tuple(self._rings))

    def __len__(self) -> int:
        return len(self._rings)

    def samples(self, key: Key) -> tuple[Sample, ...]:
        """All samples of one GPU, oldest first; empty for a GPU never seen."""
        return tuple(self._rings.get(key, ()))

    def latest(self, key: Key) -> Sample | None:
        """The newest sample of one GPU."""
        ring = self._rings.get(key)
        return ring[-1] if ring else None

    def series(self, key: Key, of: Callable[[Sample], float | None]) -> tuple[float | None, ...]:
        """One value of each sample, oldest first: ``series(key, lambda s: s.power_w)``. None stays None."""
        return tuple(of(sample) for sample in self._rings.get(key, ()))

    def forget(self, host: str) -> None:
        """Drop a host that is no longer watched."""
        for key in [key for key in self._rings if key[0] == host]:
            del self._rings[key]
