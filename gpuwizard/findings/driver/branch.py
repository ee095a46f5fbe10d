"""Rules about the driver's branch: its end of life, its kind, the CUDA and the GPUs that it is too old for."""

from datetime import UTC, date, datetime

from gpuwizard.facts.model import Probe
from gpuwizard.findings.driver.branches import BRANCHES, CUDA_FLOORS, branch_of, ended, older
from gpuwizard.findings.driver.words import applies, is_before_turing
from gpuwizard.findings.gpu import age
from gpuwizard.findings.gpu.words import places, shown_named
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus

__all__ = ["RULES"]

_FIRST_DRIVERS = {
    "10de:2901": ("HGX B200", "570.133.20"),
    "10de:2bb5": ("RTX PRO 6000 Blackwell Server Edition", "575.57.08"),
    "10de:2e12": ("GB10", "580"),
}
"""PCI id → what it is and the first driver that NVIDIA names for it (`kubernetes.md §8`)."""


def _today() -> date:
    return datetime.now(UTC).date()


def _version(probe: Probe) -> str | None:
    """The driver that runs or would run, on a host of which it is the ordinary one."""
    driver = probe.facts.driver
    return (driver.loaded or driver.on_disk) if applies(probe) else None


def _ended(probe: Probe) -> Verdict | None:
    version = _version(probe)
    number = branch_of(version)
    over = ended(number, _today()) if number is not None else None
    if over is None:
        return None
    if over == "long ago":
        return Verdict((f"driver {version}: branch {number}, whose support has ended",))
    return Verdict((f"driver {version}: branch {number} ({over.kind}), support ended {over.end:%Y-%m}",))


def _new_feature(probe: Probe) -> Verdict | None:
    version = _version(probe)
    number = branch_of(version)
    branch = BRANCHES.get(number or 0)
    if branch is None or branch.kind != "new feature" or ended(branch.number, _today()) is not None:
        return None
    until = f", supported until {branch.end:%Y-%m} at the latest" if branch.end else ""
    return Verdict((f"driver {version}: branch {number} (new feature branch){until}",))


def _cuda(probe: Probe) -> Verdict | None:
    version = _version(probe)
    lacking = [(major, floor) for major, floor in CUDA_FLOORS if older(version, floor)]
    if not lacking:
        return None
    lines = tuple(f"driver {version}: CUDA {major} needs at least {floor}" for major, floor in lacking)
    if all(is_before_turing(gpu) for gpu in installed_gpus(probe)):
        if len(lacking) == 1:
            return None  # these GPUs never run CUDA 13, whatever the driver
        return Verdict(lines[1:], remedy=_OLD_GPUS)
    return Verdict(lines)


_OLD_GPUS = "Install the newest driver of branch 580 with the proprietary modules. CUDA 13 does not run on these GPUs."


def _too_old(probe: Probe) -> Verdict | None:
    version = _version(probe)
    found = []
    for gpu in installed_gpus(probe):
        name, first = _FIRST_DRIVERS.get(gpu.pci_id or "", (None, None))
        if first is not None and older(version, first) and age.unsupported(probe, gpu) is None:
            found.append((gpu, f"{shown_named(gpu)}: {name} needs at least {first}, the driver is {version}"))
    if not found:
        return None
    seen = all("nvidia-smi" in gpu.seen_by for gpu, _ in found)
    about = places(gpu for gpu, _ in found)
    return Verdict(tuple(line for _, line in found), severity="info" if seen else None, about=about)


RULES = (
    Rule(
        "GW-DRIVER-045",
        "info",
        "the driver's branch has ended",
        "NVIDIA supports a branch for one year (new feature and production) or three (long-term support). After that "
        "there are no fixes, not even for security.",
        "Plan an upgrade: branch 580 (long-term support, until 2028) or 595 (production). Pre-Turing GPUs stay on 580.",
        _ended,
        ("hosts.md §3.7", "kubernetes.md §8"),
        effect="Known holes stay open, and new kernels, CUDA releases and GPU Operators are not tested with it.",
        detected="The branch of the loaded driver and the dates that NVIDIA published by August 2026.",
        messages=("End of Life",),
        sources=("docs.nvidia.com/datacenter/tesla/drivers/releases.json", "endoflife.date nvidia-driver"),
    ),
    Rule(
        "GW-DRIVER-046",
        "info",
        "a new feature branch of the driver",
        "New feature branches are for trying what is new and are supported for a short time only.",
        "Nothing urgent. For servers take 580 (long-term support) or 595 (production).",
        _new_feature,
        ("hosts.md §3.7",),
        effect="Its support ends early, and upgrades have to follow often.",
        detected="The branch of the loaded driver.",
        messages=("New Feature Branch",),
        sources=("docs.nvidia.com/datacenter/tesla/drivers/releases.json",),
    ),
    Rule(
        "GW-DRIVER-047",
        "info",
        "the driver is too old for newer CUDA images",
        "A program built with CUDA 13 needs driver 580.65.06 or later, one built with CUDA 12 needs 525.60.13.",
        "Upgrade the driver, or use images of an older CUDA. The compatibility package (cuda-compat) helps on "
        "datacentre GPUs only. An older GPU Operator brings a validator of an older CUDA.",
        _cuda,
        ("hosts.md §3.8", "kubernetes.md §1.14 #27", "kubernetes.md §8"),
        effect="Such images fail at their start; nvidia-smi works all the same.",
        detected="The loaded driver's version against NVIDIA's table of minimum versions.",
        messages=(
            "CUDA driver version is insufficient for CUDA runtime version",
            "forward compatibility was attempted on non supported HW",
            "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0",
        ),
        sources=("docs.nvidia.com/deploy/cuda-compatibility", "NVIDIA/gpu-operator#277", "NVIDIA/gpu-operator#389"),
    ),
    Rule(
        "GW-DRIVER-048",
        "warning",
        "the driver is older than the first one for this GPU",
        "NVIDIA names a first driver for this product, and the installed one is older.",
        "Install that driver or a later one of branch 580 or 595, with the open modules.",
        _too_old,
        ("kubernetes.md §8", "hosts.md §3.6"),
        effect="The GPU does not start, or parts of it do not work (NVLink, power, utilisation).",
        detected="The PCI id, and the version of the driver. A remark only where nvidia-smi lists the GPU.",
        messages=("No devices were found",),
        sources=("NVIDIA/cloud-native-docs gpu-operator/platform-support.rst",),
        instead_of=("GW-DRIVER-025", "GW-DRIVER-032", "GW-DRIVER-042"),
    ),
)
