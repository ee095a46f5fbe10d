"""Rules about a driver that is loaded and could not start a GPU, as the kernel log tells it."""

import re

from gpuwizard.facts.model import Gpu, Probe
from gpuwizard.findings.driver.words import (
    LogLine,
    applies,
    is_before_turing,
    logged,
    not_loaded,
    shown_log,
    unseen_gpus,
    wants_open_module,
)
from gpuwizard.findings.gpu import age
from gpuwizard.findings.gpu.words import places, shown_named
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus

__all__ = ["RULES", "explained", "failed_by_log", "wrong_module"]

_ADDRESS = re.compile(r"[0-9A-Fa-f]{4}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}")
_NO_WINDOW = r"BAR\d is 0M|I/O region assigned to your NVIDIA device is invalid|not enough room for BAR"
_NO_FIRMWARE = (
    r"Direct firmware load for nvidia/[0-9.]+/gsp\S* failed|RmFetchGspRmImages|No firmware image found"
    r"|cannot find GSP firmware"
)
_NO_POWER = r"does not have the necessary power cables connected"
_FAILED = r"RmInitAdapter failed|rm_init_adapter failed|probe with driver nvidia failed|nvidia: probe of \S+ failed"
_OPEN_ONLY = r"not supported by open nvidia\.ko|required GPU System Processor"
_NOT_STARTED = ("GW-DRIVER-025", "GW-DRIVER-032", "GW-DRIVER-042", "GW-DRIVER-043", "GW-GPU-002")
"""What else is true where a GPU does not start."""
_PROPRIETARY_ONLY = r"requires? use of the NVIDIA open kernel modules"


def _dead(probe: Probe) -> tuple[Gpu, ...]:
    """GPUs on the bus that do not answer, on a host whose module is loaded."""
    if not applies(probe) or probe.facts.driver.loaded is None:
        return ()
    return tuple(gpu for gpu in unseen_gpus(probe) if gpu.excluded is not True)


def _about(lines: tuple[LogLine, ...], gpus: tuple[Gpu, ...]) -> tuple[LogLine, ...]:
    """Those lines that name one of the GPUs, or no address at all."""
    places = [gpu.pci.rpartition(".")[0] for gpu in gpus if gpu.pci]
    return tuple(
        line
        for line in lines
        if any(place in line.text.lower() for place in places) or _ADDRESS.search(line.text) is None
    )


def _said(probe: Probe, pattern: str) -> tuple[LogLine, ...]:
    """What the log says of GPUs that do not answer."""
    dead = _dead(probe)
    return _about(tuple(logged(probe, pattern)), dead) if dead else ()


def _no_window(probe: Probe) -> Verdict | None:
    lines = _said(probe, _NO_WINDOW)
    return Verdict(shown_log(lines), about=places(_dead(probe))) if lines else None


def _no_firmware(probe: Probe) -> Verdict | None:
    lines = _said(probe, _NO_FIRMWARE)
    loaded = probe.facts.driver.loaded
    return Verdict((*shown_log(lines), f"loaded module: {loaded}"), about=places(_dead(probe))) if lines else None


def _no_power(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    lines = _said(probe, _NO_POWER)
    if driver.problem_kind == "power" and driver.loaded is not None and applies(probe):
        return Verdict((f"nvidia-smi: {driver.problem}", *shown_log(lines)), about=places(_dead(probe)))
    return Verdict(shown_log(lines), about=places(_dead(probe))) if lines else None


def _open_on_old(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    flavour = driver.flavour if driver.loaded else driver.disk_flavour
    if not applies(probe) or not (driver.loaded or not_loaded(probe)):
        return None
    old = [gpu for gpu in installed_gpus(probe) if is_before_turing(gpu) and "nvidia-smi" not in gpu.seen_by]
    lines = tuple(logged(probe, _OPEN_ONLY))
    if not old or flavour == "proprietary" or (flavour is None and not lines):
        return None
    shown = tuple(f"{shown_named(gpu)}: {gpu.generation or 'older than Turing'}" for gpu in old)
    version = driver.loaded or driver.on_disk or "unknown"
    return Verdict((*shown, f"open kernel module {version}", *shown_log(lines)), about=places(old))


def _proprietary_on_new(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    flavour = driver.flavour if driver.loaded else driver.disk_flavour
    if not applies(probe) or flavour != "proprietary" or not (driver.loaded or not_loaded(probe)):
        return None
    new = [gpu for gpu in installed_gpus(probe) if wants_open_module(gpu) and "nvidia-smi" not in gpu.seen_by]
    if not new or all(age.unsupported(probe, gpu) is not None for gpu in new):
        return None
    shown = tuple(shown_named(gpu) for gpu in new)
    version = driver.loaded or driver.on_disk or "unknown"
    return Verdict(
        (*shown, f"proprietary kernel module {version}", *shown_log(logged(probe, _PROPRIETARY_ONLY))),
        about=places(new),
    )


def wrong_module(probe: Probe) -> bool:
    """The module on disk or in the kernel is not made for a GPU of this host."""
    if _open_on_old(probe) is not None or _proprietary_on_new(probe) is not None:
        return True
    return any(age.unsupported(probe, gpu) is not None for gpu in installed_gpus(probe))


def explained(probe: Probe) -> bool:
    """A more exact rule says why GPUs do not start."""
    if wrong_module(probe) or any(check(probe) is not None for check in (_no_window, _no_firmware, _no_power)):
        return True
    dead = _dead(probe)
    return bool(dead) and all(gpu.fault for gpu in dead)


def failed_by_log(probe: Probe) -> bool:
    """The kernel log says that a GPU was tried and did not start."""
    return bool(_said(probe, _FAILED))


def _not_started(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    lines = _said(probe, _FAILED)
    nothing = driver.problem_kind == "no-devices" and applies(probe) and driver.loaded is not None
    if (not lines and not nothing) or explained(probe):
        return None
    said = (f"nvidia-smi: {driver.problem}",) if nothing else ()
    dead = _dead(probe)
    return Verdict((*said, *shown_log(lines), *(shown_named(gpu) for gpu in dead[:8])), about=places(dead))


RULES = (
    Rule(
        "GW-DRIVER-025",
        "error",
        "the driver could not start a GPU",
        "The module is loaded and the initialisation of the GPU failed: its firmware, its memory windows, its power, "
        "or the card itself.",
        "Read `dmesg | grep -E 'NVRM|Xid'` for the address. Power the machine off and on (a warm reboot is not "
        "enough), look for `Above 4G decoding` and the latest firmware of the board, try a newer driver, then another "
        "slot.",
        _not_started,
        ("hosts.md §3.2 #7", "hosts.md §3.3"),
        effect="The GPU is not usable; nvidia-smi does not list it.",
        detected="`RmInitAdapter failed!` in the kernel log for a GPU that nvidia-smi does not list, or `No devices "
        "were found` while the module is loaded.",
        messages=(
            "NVRM: GPU 0000:01:00.0: RmInitAdapter failed! (0x62:0xffff:2501)",
            "NVRM: rm_init_adapter failed, device minor number 0",
            "No devices were found",
        ),
        sources=("NVIDIA/open-gpu-kernel-modules#789", "NVIDIA/open-gpu-kernel-modules#862"),
        instead_of=_NOT_STARTED[1:],
    ),
    Rule(
        "GW-DRIVER-026",
        "error",
        "the GPU got no memory window from the firmware",
        "The machine's firmware, or the hypervisor, did not map the GPU's memory (its BARs).",
        "Switch on `Above 4G decoding` (and Resizable BAR) in the firmware setup; try the kernel argument "
        "`pci=realloc`. In a virtual machine give it a larger 64-bit MMIO window.",
        _no_window,
        ("hosts.md §3.2 #7",),
        effect="The driver leaves the GPU alone: nvidia-smi does not list it.",
        detected="`BAR1 is 0M` in the kernel log for a GPU that nvidia-smi does not list.",
        messages=(
            "NVRM: This PCI I/O region assigned to your NVIDIA device is invalid:",
            "NVRM: BAR1 is 0M @ 0x0 (PCI:0000:01:00.0)",
        ),
        sources=("NVIDIA/open-gpu-kernel-modules kernel-open/nvidia/nv-pci.c",),
        instead_of=_NOT_STARTED,
    ),
    Rule(
        "GW-DRIVER-027",
        "error",
        "the GPU's firmware files are missing",
        "From Turing on the driver needs the GSP firmware of exactly its own version below /lib/firmware/nvidia, and "
        "did not find it when it was loaded.",
        "Install the firmware package of the loaded version (nvidia-firmware-…, firmware-nvidia-gsp, "
        "nvidia-kmod-common), rebuild the initramfs if the module is in it, and reboot.",
        _no_firmware,
        ("hosts.md §3.2 #7",),
        effect="The driver cannot start the GPU: nvidia-smi does not list it.",
        detected="The kernel log says that gsp_*.bin could not be loaded, for GPUs that nvidia-smi does not list.",
        messages=(
            "Direct firmware load for nvidia/580.95.05/gsp_ga10x.bin failed with error -2",
            "NVRM: RmFetchGspRmImages: No firmware image found",
        ),
        sources=("NVIDIA/open-gpu-kernel-modules README.md", "download.nvidia.com GSP firmware chapter"),
        instead_of=_NOT_STARTED,
    ),
    Rule(
        "GW-DRIVER-028",
        "error",
        "a GPU lacks its external power",
        "The power cables of the card are not connected, or the supply does not deliver.",
        "Power the machine off, seat the cables, check the supply and the power limit of the slot.",
        _no_power,
        ("hosts.md §3.3",),
        effect="The GPU does not start, or runs far below its speed.",
        detected="nvidia-smi's exit status 8, or the kernel log's line about power cables.",
        messages=(
            "Failed to initialize NVML: Insufficient External Power",
            "GPU does not have the necessary power cables connected",
        ),
        sources=("nvidia-smi(1)",),
        instead_of=_NOT_STARTED,
    ),
    Rule(
        "GW-DRIVER-029",
        "error",
        "the open module does not run this GPU",
        "Maxwell, Pascal and Volta have no GPU System Processor (GSP), and the open kernel modules need it.",
        "Install the proprietary modules of branch 580, which is the last one for this GPU. With the GPU Operator's "
        "driver set driver.kernelModuleType=proprietary and driver.version=580.x.",
        _open_on_old,
        ("hosts.md §3.2 #6", "kubernetes.md §1.14 #56", "hosts.md §3.6"),
        effect="The driver leaves the GPU alone: nvidia-smi does not list it.",
        detected="The flavour of the module, the PCI id of the GPU (below 1e00), and that nvidia-smi does not list it.",
        messages=(
            "NVRM: installed in this system is not supported by open nvidia.ko because it does not include the "
            "required GPU System Processor (GSP)",
        ),
        sources=(
            "NVIDIA/open-gpu-kernel-modules src/nvidia/arch/nvalloc/unix/src/osapi.c",
            "negativo17/nvidia-driver#158",
        ),
        instead_of=_NOT_STARTED,
    ),
    Rule(
        "GW-DRIVER-030",
        "error",
        "this GPU needs the open kernel module",
        "Blackwell and Grace Hopper run with the open kernel modules only, and the proprietary one is installed.",
        "Install the open flavour of the same branch: nvidia-open, nvidia-driver-580-server-open, "
        "`dnf module switch-to nvidia-driver:580-open`. With the GPU Operator's driver leave "
        "driver.kernelModuleType=auto.",
        _proprietary_on_new,
        ("hosts.md §3.6", "kubernetes.md §8"),
        effect="The driver leaves the GPU alone: nvidia-smi does not list it.",
        detected="The flavour of the module, the generation of the PCI id, and that nvidia-smi does not list the GPU.",
        messages=("requires use of the NVIDIA open kernel modules", "No devices were found"),
        sources=("NVIDIA/cloud-native-docs gpu-operator/platform-support.rst", "NVIDIA/open-gpu-kernel-modules"),
        instead_of=_NOT_STARTED,
    ),
)
