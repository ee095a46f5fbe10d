"""Rules about Docker and CRI-O."""

from gpuwizard.findings.rule import Rule

__all__ = ["RULES"]

RULES: tuple[Rule, ...] = ()
