"""Which containerd it is: the facts know releases, too, so the class lives with them."""

from gpuwizard.facts.runtimes.release import Release

__all__ = ["Release"]
