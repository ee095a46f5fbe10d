"""Rules about GPUs that are too old, or too new, for a driver branch (`hosts.md §3.6`)."""

import re
from collections.abc import Mapping

from gpuwizard.facts.gpu.pci import needs_proprietary_module
from gpuwizard.facts.model import Gpu, Probe
from gpuwizard.findings.gpu.words import each, places, shown_named
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus

__all__ = ["RULES", "is_before_turing", "unsupported"]

_LAST_BRANCH: Mapping[str, int] = {"fermi": 390, "kepler": 470, "maxwell": 580, "pascal": 580, "volta": 580}
_FIRST_BRANCH: Mapping[str, int] = {"turing": 410, "ampere": 450, "hopper": 515, "ada": 520, "blackwell": 570}
"""The first branch in which any GPU of the generation ran, so that an older one certainly runs none."""
_ENDED = ("fermi", "kepler")
_LEAVING = ("maxwell", "pascal", "volta")


def _branch(probe: Probe) -> int | None:
    """The branch of the driver that runs, else of the one that is installed. Jetsons count in another way."""
    driver = probe.facts.driver
    version = driver.loaded or driver.on_disk or driver.userspace
    match = re.match(r"(\d{3})\.", version or "")
    return int(match[1]) if match and probe.facts.os.kind == "host" else None


def unsupported(probe: Probe, gpu: Gpu) -> str | None:
    """Why the driver of this host cannot run that GPU, or None. A GPU that nvidia-smi lists is supported."""
    branch = _branch(probe)
    if branch is None or "nvidia-smi" in gpu.seen_by:
        return None
    last = _last_branch(gpu)
    if last is not None and branch > last:
        return f"branch {last} is the last one for {gpu.generation or 'GPUs before Turing'}, the driver is of {branch}"
    first = _FIRST_BRANCH.get(gpu.generation or "")
    if first is not None and branch < first:
        return f"branch {first} is the first one for {gpu.generation}, the driver is of {branch}"
    return None


def is_before_turing(gpu: Gpu) -> bool:
    """A GPU without GSP, which the open modules do not run (`hosts.md §2.3`)."""
    device = (gpu.pci_id or "").removeprefix("10de:")
    return re.fullmatch(r"[0-9a-f]{4}", device) is not None and needs_proprietary_module(device)


def _last_branch(gpu: Gpu) -> int | None:
    if gpu.generation is not None:
        return _LAST_BRANCH.get(gpu.generation)
    return 580 if is_before_turing(gpu) else None


def _unsupported(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    lines = [f"{shown_named(g)}: {why}" for g in installed_gpus(probe) if (why := unsupported(probe, g)) is not None]
    if not lines:
        return None
    versions = (("loaded module", driver.loaded), ("module on disk", driver.on_disk), ("library", driver.userspace))
    return Verdict(
        (*lines, *(f"{what}: {version}" for what, version in versions if version is not None)),
        about=places(gpu for gpu in installed_gpus(probe) if unsupported(probe, gpu) is not None),
    )


def _ended(probe: Probe) -> Verdict | None:
    def said(gpu: Gpu) -> str | None:
        old = gpu.generation in _ENDED
        return f"{gpu.generation}: last branch {_LAST_BRANCH[gpu.generation or '']}" if old else None

    return each(probe, said)


def _leaving(probe: Probe) -> Verdict | None:
    return each(probe, lambda gpu: f"{gpu.generation}: last branch 580" if gpu.generation in _LEAVING else None)


RULES = (
    Rule(
        "GW-GPU-024",
        "error",
        "the driver does not support this GPU",
        "The driver's branch was made for other generations: it is too new for an old GPU, or too old for a new one.",
        "Install a branch that knows the GPU and hold it there: 470 for Kepler, 580 with the proprietary modules for "
        "Maxwell, Pascal and Volta, 580 or later with the open modules for Blackwell. With the operator's driver set "
        "driver.version=580.x.",
        _unsupported,
        ("hosts.md §3.6", "kubernetes.md §1.14 #30"),
        effect="The driver leaves the GPU alone: nvidia-smi does not list it and Kubernetes does not offer it.",
        detected="The generation of the PCI id, the branch of the loaded or installed driver, and that nvidia-smi does "
        "not list the GPU.",
        messages=(
            "supported through the NVIDIA 470.xx Legacy drivers",
            "No devices were found",
        ),
        sources=("docs.nvidia.com/datacenter/tesla/drivers", "pciutils/pciids"),
        instead_of=(
            "GW-DRIVER-025",
            "GW-DRIVER-029",
            "GW-DRIVER-030",
            "GW-DRIVER-032",
            "GW-DRIVER-042",
            "GW-DRIVER-048",
            "GW-GPU-002",
        ),
    ),
    Rule(
        "GW-GPU-025",
        "warning",
        "no supported driver runs this GPU any more",
        "The last branch for Kepler was 470 and for Fermi 390; both have ended. CUDA 12 and later do not know them.",
        "Plan to replace the card. Until then hold the driver at its branch and use images of CUDA 11.",
        _ended,
        ("hosts.md §3.6",),
        effect="No security fixes; today's images, GPU Operator and device plugin do not run on it.",
        detected="The generation of the PCI id.",
        messages=(
            "forward compatibility was attempted on non supported HW",
            "no kernel image is available for execution",
        ),
        sources=("docs.nvidia.com/datacenter/tesla/drivers/cuda-toolkit-driver-and-architecture-matrix",),
    ),
    Rule(
        "GW-GPU-026",
        "info",
        "580 is the last driver branch for this GPU",
        "Maxwell, Pascal and Volta have no GSP: they need the proprietary modules, which ended with branch 580, and "
        "CUDA 12.",
        "Hold the driver at branch 580 (`apt-mark hold`, versionlock; driver.version=580.x in the GPU Operator). GPU "
        "Operator 26.7: set validator.cuda WITH_WORKLOAD=false, or use 26.3.3.",
        _leaving,
        ("hosts.md §3.6", "hosts.md §2.3", "kubernetes.md §1.14 #29", "kubernetes.md §1.14 #30"),
        effect="A driver from 590 on does not find the GPU, and images of CUDA 13 do not run on it.",
        detected="The generation of the PCI id.",
        messages=("named symbol not found", "CUDA-capable device(s) is/are busy or unavailable"),
        sources=("NVIDIA/gpu-operator#2842", "NVIDIA/open-gpu-kernel-modules README.md"),
    ),
)
