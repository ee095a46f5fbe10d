"""Rules about what the GPU Operator and the device plugin do to a host."""

from gpuwizard.findings.rule import Rule

__all__ = ["RULES"]

RULES: tuple[Rule, ...] = ()
