"""Rules about how far the GPU Operator's validator got on a host: driver, toolkit, CUDA, device plugin."""

from gpuwizard.facts.model import Probe
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus

__all__ = ["RULES"]

_FOLDER = "/run/nvidia/validations"
_STAGES = ("driver-ready", "toolkit-ready", "cuda-ready", "plugin-ready")
_VIRTUAL = ("vfio-pci-ready", "vgpu-manager-ready", "host-vgpu-manager-ready", "vgpu-devices-ready", "cc-manager-ready")


def _stuck_at(probe: Probe, stage: str) -> Verdict | None:
    """The first stage without its status file, on a node whose GPUs are for containers."""
    operator = probe.facts.operator
    names = operator.validations
    if not names or not installed_gpus(probe) or any(name in names for name in _VIRTUAL):
        return None
    if operator.workload not in (None, "container") or probe.facts.kubernetes.active is False:
        return None
    missing = next((name for name in _STAGES if name not in names), None)
    if missing != stage:
        return None
    there = ", ".join(name for name in names if name != "workload-type") or "no status file"
    return Verdict((f"{_FOLDER}: {there}", f"no {stage}"))


def _driver(probe: Probe) -> Verdict | None:
    return _stuck_at(probe, "driver-ready")


def _toolkit(probe: Probe) -> Verdict | None:
    return _stuck_at(probe, "toolkit-ready")


def _cuda(probe: Probe) -> Verdict | None:
    return _stuck_at(probe, "cuda-ready")


def _plugin(probe: Probe) -> Verdict | None:
    return _stuck_at(probe, "plugin-ready")


_EFFECT = "The operator's further pods wait, and the node offers no nvidia.com/gpu that was tested."
_DETECTED = "The status files that the validator writes, one after another; in the first minutes they are yet to come."

RULES: tuple[Rule, ...] = (
    Rule(
        "GW-OPERATOR-005",
        "warning",
        "the operator has not found a working driver",
        "The validator runs nvidia-smi on the host or in the driver container and makes links in /dev/char; that did "
        "not succeed, or not yet.",
        "Read `kubectl -n gpu-operator logs ds/nvidia-operator-validator -c driver-validation` and the driver pod's "
        "log. A host without nvidia_uvm, WSL and LXC want validator.driver.env DISABLE_DEV_CHAR_SYMLINK_CREATION=true.",
        _driver,
        ("kubernetes.md §1.14 #1", "kubernetes.md §1.14 #20", "kubernetes.md §1.10"),
        effect=_EFFECT,
        detected=_DETECTED,
        messages=(
            "waiting for the driver validations to be ready...",
            "failed to create symlinks under /dev/char",
            "failed to determine major: invalid device node",
            "failed to load module nvidia-uvm",
            "nvidia driver modules are not yet loaded, invoking runc directly",
        ),
        sources=("NVIDIA/gpu-operator cmd/nvidia-validator/main.go", "NVIDIA/gpu-operator#539"),
    ),
    Rule(
        "GW-OPERATOR-006",
        "warning",
        "the operator has not found a working toolkit",
        "The validator runs in a pod of runtime class nvidia and asks nvidia-smi there; that did not succeed, or not "
        "yet.",
        "Look at the other findings of runtime and toolkit first; then at the events of the nvidia-operator-validator "
        "pod and the log of nvidia-container-toolkit-daemonset.",
        _toolkit,
        ("kubernetes.md §1.14 #2", "kubernetes.md §1.10"),
        effect=_EFFECT,
        detected=_DETECTED,
        messages=('no runtime for "nvidia" is configured', "toolkit is not ready"),
        sources=("NVIDIA/gpu-operator cmd/nvidia-validator/main.go", "NVIDIA/gpu-operator#432"),
    ),
    Rule(
        "GW-OPERATOR-007",
        "warning",
        "the operator's CUDA test has not passed",
        "The validator adds two vectors on a GPU; that did not succeed, or not yet.",
        "Read `kubectl -n gpu-operator logs -l app=nvidia-cuda-validator --all-containers`. An old driver, a GPU "
        "before Turing with operator 26.7, or a missing fabric manager are the usual reasons.",
        _cuda,
        ("kubernetes.md §1.14 #27", "kubernetes.md §1.14 #29", "kubernetes.md §1.10"),
        effect=_EFFECT,
        detected=_DETECTED,
        messages=("CUDA driver version is insufficient for CUDA runtime version", "named symbol not found"),
        sources=("NVIDIA/gpu-operator cmd/nvidia-validator/main.go", "NVIDIA/gpu-operator#277"),
    ),
    Rule(
        "GW-OPERATOR-008",
        "warning",
        "the operator has not seen the device plugin's GPUs",
        "The validator waits for nvidia.com/gpu among the node's resources; they did not appear, or not yet.",
        "Read the log of nvidia-device-plugin-daemonset on this node.",
        _plugin,
        ("kubernetes.md §1.10",),
        effect=_EFFECT,
        detected=_DETECTED,
        messages=("GPU resources are not discovered by the node",),
        sources=("NVIDIA/gpu-operator cmd/nvidia-validator/main.go",),
    ),
)
