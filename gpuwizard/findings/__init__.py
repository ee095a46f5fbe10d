"""What is right and wrong with a host: rules over facts.

The rules are loaded when the first of them is asked for: that takes as long as to log in to ten hosts, and can be done
while the hosts work.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpuwizard.findings.catalogue import RULES
    from gpuwizard.findings.judge import explain, find
    from gpuwizard.findings.model import Finding, Severity
    from gpuwizard.findings.rule import Rule

__all__ = ["RULES", "Finding", "Rule", "Severity", "explain", "find"]


_HOMES = {
    "RULES": "catalogue",
    "explain": "judge",
    "find": "judge",
    "Finding": "model",
    "Severity": "model",
    "Rule": "rule",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
