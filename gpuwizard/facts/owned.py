"""What of a cluster is gpuwizard's, as the API server said: the objects with our label, and what is beside them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Owned"]


@dataclass(frozen=True, slots=True)
class Owned:
    """`objects` carry our label. `others` are, for each of our namespaces, the objects in it that do not; None where
    that is not known."""

    objects: tuple[Mapping[str, Any], ...] = ()
    others: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
