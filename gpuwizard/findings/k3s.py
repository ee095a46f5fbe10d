"""Rules about K3s and RKE2: templates, drop-ins, detection and default runtime."""

from gpuwizard.findings.rule import Rule

__all__ = ["RULES"]

RULES: tuple[Rule, ...] = ()
