"""The one finding that says that all is well."""

from gpuwizard.facts.driver.smi import problem_kind
from gpuwizard.facts.model import Gpu, HostFacts, Probe, RuntimeFacts
from gpuwizard.findings.rule import NVIDIA_HANDLERS, Rule, Verdict, installed_gpus, shown_gpu, shown_runtime

__all__ = ["HEALTHY"]

_WHOLE = ("everything", "the rest of the host")
"""What is unseen of a probe that did not come to its end."""

_NOT_THE_HOST = ("container", "bottlerocket")
"""What was seen there is a container's and not the host's."""


def _works(gpu: Gpu) -> bool:
    """nvidia-smi lists it and reports nothing bad; what was not seen to work does not count as working."""
    unknown_slices = gpu.mig == "Enabled" and gpu.mig_instances is None
    return "nvidia-smi" in gpu.seen_by and gpu.fault is None and not gpu.denied and not unknown_slices


def _on_the_bus(facts: HostFacts, gpus: list[Gpu]) -> bool:
    """Bus and nvidia-smi agree, and the module is loaded. Under WSL and on a Jetson the bus does not have them."""
    if facts.os.kind in ("wsl1", "wsl2", "jetson"):
        return True
    return facts.driver.loaded is not None and all("pci" in gpu.seen_by for gpu in gpus)


def _serves(runtime: RuntimeFacts) -> bool:
    """The runtime runs and does what the kubelet asks of it, by its own word."""
    if not runtime.running or runtime.effective_error is not None or runtime.refused:
        return False
    return runtime.cri == "ok" if runtime.kind == "containerd" else True


def _healthy(probe: Probe) -> Verdict | None:
    """Used by `find` alone, when nothing else is wrong. Says nothing as long as one essential thing is not known."""
    runtime, driver = probe.facts.kubelet_runtime, probe.facts.driver
    gpus = [gpu for gpu in installed_gpus(probe) if not gpu.excluded]
    if runtime is None or not gpus or not all(map(_works, gpus)):
        return None
    if (driver.loaded or driver.userspace) is None or probe.facts.os.kind in _NOT_THE_HOST:
        return None
    if driver.problem is not None and problem_kind(driver.problem, driver.problem_code) != "inforom":
        return None  # a corrupted infoROM is a warning beside good values, with exit status 14 or 0
    if not _on_the_bus(probe.facts, gpus) or not _serves(runtime) or probe.facts.kubernetes.active is not True:
        return None
    handler = next((name for name in NVIDIA_HANDLERS if name in runtime.handlers), None)
    if handler is None or handler in runtime.missing_binaries or any(u.what in _WHOLE for u in probe.facts.unseen):
        return None
    if probe.facts.toolkit.runtime_path is None:
        return None
    return Verdict(
        (
            *(shown_gpu(gpu) for gpu in gpus),
            f"driver {driver.loaded or driver.userspace}",
            f"toolkit {probe.facts.toolkit.version or probe.facts.toolkit.runtime_path}",
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
    ("hosts.md §0 rule 5",),
    effect="GPU pods run on this host.",
    detected="nvidia-smi lists every GPU of the bus with good values, the driver's version is known, and the runtime "
    "of the kubelet, which runs and answers, has a handler for NVIDIA whose program is there. It is not said as "
    "long as one of these is not known.",
    sources=("NVIDIA/nvidia-container-toolkit",),
)
