"""What a containerd makes of its configuration files, computed before anything is touched (`runtimes.md §1`)."""

from gpuwizard.containerd.compare import compare, losses
from gpuwizard.containerd.effective import effective
from gpuwizard.containerd.model import Effective
from gpuwizard.containerd.release import Release

__all__ = ["Effective", "Release", "compare", "effective", "losses"]
