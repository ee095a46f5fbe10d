"""The one finding that says that all is well."""

from gpuwizard.facts.model import Probe
from gpuwizard.findings.rule import NVIDIA_HANDLERS, Rule, Verdict, installed_gpus, shown_gpu, shown_runtime

__all__ = ["HEALTHY"]


def _healthy(probe: Probe) -> Verdict | None:
    """Used by `find` alone, when nothing else is wrong."""
    runtime = probe.facts.kubelet_runtime
    if runtime is None or not installed_gpus(probe):
        return None
    handler = next((name for name in NVIDIA_HANDLERS if name in runtime.handlers), None)
    if handler is None:
        return None
    driver = probe.facts.driver
    return Verdict(
        (
            *(shown_gpu(gpu) for gpu in installed_gpus(probe)),
            f"driver {driver.loaded or driver.userspace or 'unknown'}",
            f"toolkit {probe.facts.toolkit.version or probe.facts.toolkit.runtime_path or 'unknown'}",
            f"{shown_runtime(runtime)}: handler {handler}",
        )
    )


HEALTHY = Rule(
    "GW-OK-001",
    "ok",
    "the host is ready for GPU pods",
    "Driver, toolkit and runtime fit together.",
    "Nothing to do.",
    _healthy,
)
