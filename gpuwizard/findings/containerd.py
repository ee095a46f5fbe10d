"""Rules about containerd's configuration, in every release and dialect."""

from gpuwizard.findings.rule import Rule

__all__ = ["RULES"]

RULES: tuple[Rule, ...] = ()
