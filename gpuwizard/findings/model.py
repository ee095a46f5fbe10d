"""A finding: what is right or wrong with a host, why, and what fixes it."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Severity"]

Severity = Literal["error", "warning", "info", "ok"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule's verdict on one host. `evidence` are the very lines; `fixable` says whether gpuwizard's plan
    mends it."""

    id: str
    severity: Severity
    title: str
    evidence: tuple[str, ...] = ()
    cause: str = ""
    remedy: str = ""
    fixable: bool = False
