"""Rules about nvidia-smi's failures, each with its own cause (`hosts.md §3.3`)."""

from collections.abc import Callable
from dataclasses import replace

from gpuwizard.facts.driver.smi import problem_kind
from gpuwizard.facts.model import DriverFacts, Probe
from gpuwizard.facts.model.driver import SmiProblem
from gpuwizard.findings.driver import start
from gpuwizard.findings.driver.words import (
    applies,
    foreign,
    logged,
    mismatched,
    not_loaded,
    shown_log,
)
from gpuwizard.findings.gpu.words import places
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus

__all__ = ["RULES", "kind_of"]

_FAULTS = r"NVRM: (Xid|GPU)|fallen off the bus|RmInitAdapter|rm_init_adapter"


def kind_of(driver: DriverFacts) -> SmiProblem | None:
    """Which failure of nvidia-smi that is."""
    return driver.problem_kind or problem_kind(driver.problem, driver.problem_code)


def _relevant(probe: Probe) -> bool:
    """nvidia-smi failed on a host (or in a container) with a GPU whose module is loaded, and no other rule about the
    module says why."""
    driver = probe.facts.driver
    if driver.problem is None or mismatched(driver) or not_loaded(probe) or foreign(probe):
        return False
    return applies(probe) or probe.facts.os.kind != "host"


def _said(driver: DriverFacts) -> str:
    status = "" if driver.problem_code is None else f" (exit status {driver.problem_code})"
    return f"nvidia-smi: {driver.problem}{status}"


def _on(kind: SmiProblem, pattern: str | None = None) -> Callable[[Probe], Verdict | None]:
    """The check for one kind of failure, with lines of the kernel log in which `pattern` is found."""

    def check(probe: Probe) -> Verdict | None:
        driver = probe.facts.driver
        if driver.problem is None or kind_of(driver) != kind or not _relevant(probe):
            return None
        lines = shown_log(logged(probe, pattern)) if pattern is not None else ()
        return Verdict((_said(driver), *lines))

    return check


def _library(probe: Probe) -> Verdict | None:
    verdict = _on("library-missing")(probe)
    if verdict is None:
        return None
    driver = probe.facts.driver
    loaded = (f"loaded module: {driver.loaded}",) if driver.loaded else ()
    files = tuple(f"libnvidia-ml.so.{version} is on the host" for version in driver.libraries)
    return Verdict((*verdict.evidence, *loaded, *files))


def _nodes_missing(probe: Probe) -> tuple[str, ...]:
    """The device nodes that the driver's GPUs should have and have not."""
    driver = probe.facts.driver
    nodes = driver.device_nodes
    if nodes is None or driver.loaded is None:
        return ()
    numbered = sum(name.removeprefix("nvidia").isdecimal() for name in nodes)
    held = sum(gpu.bound_driver == "nvidia" for gpu in installed_gpus(probe))
    missing = [] if "nvidiactl" in nodes else ["/dev/nvidiactl is missing"]
    if numbered < held:
        missing.append(f"{numbered} nodes /dev/nvidiaN for {held} GPUs")
    return tuple(missing)


def _no_nodes(probe: Probe) -> Verdict | None:
    kinds = ("not-loaded", "no-devices", "permission", "unknown-error")
    if kind_of(probe.facts.driver) not in kinds or not _relevant(probe):
        return None
    missing = _nodes_missing(probe)
    if not missing or start.failed_by_log(probe):
        return None
    return Verdict((_said(probe.facts.driver), *missing), about=places(installed_gpus(probe)))


def _no_answer(probe: Probe) -> Verdict | None:
    verdict = _on("not-loaded", _FAULTS)(probe)
    if verdict is None or _no_nodes(probe) is not None or start.explained(probe):
        return None
    loaded = probe.facts.driver.loaded
    return Verdict((*verdict.evidence, f"loaded module: {loaded or 'unknown'}"))


def _denied(probe: Probe) -> Verdict | None:
    verdict = _on("permission")(probe)
    if verdict is None or _no_nodes(probe) is not None:
        return None
    if probe.readable:
        return replace(verdict, about=frozenset(("the root user",)))
    return Verdict(
        verdict.evidence,
        severity="warning",
        about=frozenset(("the login user",)),
        cause="The login user may not open /dev/nvidia*. The probe ran without root, so whether root can is not known.",
    )


def _unsupported(probe: Probe) -> Verdict | None:
    verdict = _on("unsupported")(probe)
    return None if verdict is None or start.explained(probe) else verdict


def _rest(probe: Probe) -> Verdict | None:
    """What no other rule is about; trouble with single GPUs is told by the rules about GPUs."""
    driver = probe.facts.driver
    if driver.problem is None or kind_of(driver) not in ("other", "field", "device") or not _relevant(probe):
        return None
    if kind_of(driver) == "device" and any(gpu.fault for gpu in probe.facts.gpus):
        return None
    soft = driver.problem_code is None and "WARNING" in driver.problem
    return Verdict((_said(driver),), severity="warning" if soft else None)


_MAN = ("nvidia-smi(1)", "NVIDIA/go-nvml nvml.h")
_REST = Rule(
    "GW-DRIVER-006",
    "error",
    "nvidia-smi reports a problem",
    "The driver is loaded, but at least one GPU does not work as it should.",
    "Read `dmesg | grep -E 'NVRM|Xid'`; a GPU that is lost or needs a reset comes back after a reboot.",
    _rest,
    ("hosts.md §3.3",),
    effect="What asks the driver through NVML fails as nvidia-smi does: device plugin, DCGM, monitoring.",
    detected="nvidia-smi ended with an error or wrote a complaint that no other rule is about.",
    messages=("Unable to determine the device handle for GPU", "is not a valid field to query."),
    sources=_MAN,
)
_LIBRARY_AND_MODULE = (
    Rule(
        "GW-DRIVER-031",
        "error",
        "nvidia-smi does not find the driver's library",
        "The module is loaded, and the loader does not find libnvidia-ml.so.1: the package of the library is missing, "
        "or its folder is not in the loader's cache.",
        "Install the library's package of the loaded version (libnvidia-compute-…, nvidia-driver-cuda-libs, "
        "libnvidia-ml1) or run `ldconfig`; then `ldconfig -p | grep libnvidia-ml`. With the operator's driver "
        "container set the toolkit's `root`.",
        _library,
        ("hosts.md §3.3", "kubernetes.md §1.14 #25"),
        effect="Neither nvidia-smi nor the container toolkit can use the driver; GPU containers do not start.",
        detected="nvidia-smi's text, or its exit status 12.",
        messages=(
            "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.",
            "nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open shared "
            "object file",
        ),
        sources=("nvidia-smi(1)", "NVIDIA/libnvidia-container"),
    ),
    Rule(
        "GW-DRIVER-032",
        "error",
        "the module is loaded and does not answer",
        "nvidia-smi cannot talk to the driver although its module is loaded: the module did not start any GPU, or it "
        "is being unloaded.",
        "Read `dmesg | grep -E 'NVRM|Xid'`. Drain the node and reboot it; power it off and on when that does not help.",
        _no_answer,
        ("hosts.md §3.3",),
        effect="No GPU can be used.",
        detected="nvidia-smi's text or its exit status 9, with /proc/driver/nvidia/version there and the device nodes "
        "in place.",
        messages=("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",),
        sources=_MAN,
    ),
    Rule(
        "GW-DRIVER-033",
        "error",
        "device nodes of the driver are missing",
        "The files /dev/nvidiactl and /dev/nvidia0, /dev/nvidia1, … through which programs reach the driver are not "
        "there: no udev rule made them, nvidia-modprobe is missing, or this is a container that got none.",
        "As root: `nvidia-modprobe -c 0 -u` and `nvidia-smi`, which make them; enable nvidia-persistenced so that "
        "they are there after each boot. On a host that cannot make links below /dev/char set "
        "DISABLE_DEV_CHAR_SYMLINK_CREATION=true in validator.driver.env of the GPU Operator.",
        _no_nodes,
        ("kubernetes.md §1.14 #20", "hosts.md §3.3"),
        effect="nvidia-smi and CUDA fail; containers get no devices.",
        detected="nvidia-smi fails, and /dev has no nvidiactl or fewer nvidiaN than GPUs are bound to the driver.",
        messages=(
            "failed to determine major: invalid device node",
            "failed to create symlinks under /dev/char",
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
        ),
        sources=("NVIDIA/gpu-operator#430", "NVIDIA/gpu-operator#569", "nvidia-modprobe(1)"),
        instead_of=("GW-DRIVER-025", "GW-DRIVER-043"),
    ),
    Rule(
        "GW-DRIVER-034",
        "error",
        "nvidia-smi is not allowed to use the driver",
        "The kernel or the container's device rules refuse access to /dev/nvidia*, even for root.",
        "Look at the modes of /dev/nvidia* and at NVreg_DeviceFileMode in modprobe.d; in a container at its device "
        "rules and its SELinux label.",
        _denied,
        ("hosts.md §3.3", "hosts.md §6.6"),
        effect="Programs of that user (or in that container) see no GPU.",
        detected="nvidia-smi's text, or its exit status 4.",
        messages=(
            "Failed to initialize NVML: Insufficient Permissions",
            "No devices were found. Please make sure /dev/nvidia* files are readable by current user.",
        ),
        sources=_MAN,
    ),
    Rule(
        "GW-DRIVER-035",
        "error",
        "nvidia-smi is of another driver",
        "The program nvidia-smi and the library it found belong to different drivers: two ways of installing were "
        "mixed, or PATH has an old copy.",
        "See `type -a nvidia-smi` and remove the copy that no package owns; then install the one of the library's "
        "version.",
        _on("other-nvidia-smi"),
        ("hosts.md §3.3", "hosts.md §5.2"),
        effect="nvidia-smi refuses to work; CUDA itself may work.",
        detected="nvidia-smi's text with exit status 255.",
        messages=(
            "Mismatch in versions between nvidia-smi and NVML.",
            "Are you sure you are using nvidia-smi provided with the driver?",
        ),
        sources=_MAN,
    ),
    Rule(
        "GW-DRIVER-036",
        "error",
        "the driver's library lacks a function",
        "nvidia-smi calls a function that this libnvidia-ml.so does not have: the library is older than nvidia-smi.",
        "Install library and nvidia-smi of one version, that of the loaded module.",
        _on("function-missing"),
        ("hosts.md §3.3",),
        effect="nvidia-smi does not work, and programs built for the newer library fail in the same way.",
        detected="nvidia-smi's text, or its exit status 13.",
        messages=("Failed to initialize NVML: Function Not Found",),
        sources=_MAN,
    ),
)
_HARDWARE = (
    Rule(
        "GW-DRIVER-037",
        "error",
        "the driver does not answer in time",
        "The library waited for the driver and gave up: a GPU hangs, or the driver is still starting many GPUs.",
        "Wait a minute and probe again. If it stays, read `dmesg | grep -E 'NVRM|Xid'`, drain the node and reboot it.",
        _on("timeout", _FAULTS),
        ("hosts.md §3.3",),
        effect="No program can start to use a GPU.",
        detected="nvidia-smi's text with exit status 255.",
        messages=("Failed to initialize NVML: Timeout",),
        sources=_MAN,
    ),
    Rule(
        "GW-DRIVER-038",
        "error",
        "a GPU does not get its interrupts",
        "Interrupts of a GPU do not reach the driver: the firmware's or the hypervisor's setting of MSI or of the "
        "IOMMU, or a slot that shares a broken line.",
        "Look for `NVRM: GPU … interrupt` in dmesg; update the machine's firmware; do not boot with `pci=nomsi`; in a "
        "virtual machine look at the passthrough settings. Then reboot.",
        _on("interrupt", r"NVRM:.*(interrupt|IRQ|MSI)|fallen off the bus"),
        ("hosts.md §3.3",),
        effect="The GPU cannot be used.",
        detected="nvidia-smi's text, or its exit status 10 or 11: the manual says 10, real programs end with 11.",
        messages=("Failed to initialize NVML: Interrupt Request Issue",),
        sources=_MAN,
    ),
    Rule(
        "GW-DRIVER-039",
        "error",
        "a lost GPU keeps nvidia-smi from working",
        "A GPU has fallen off the bus or cannot be reached, and the library gives up as a whole.",
        "Drain the node and reboot it; when the GPU does not come back, power the machine off and on. If it happens "
        "again: power, heat, seating, then a new card.",
        _on("lost", _FAULTS),
        ("hosts.md §3.3", "hosts.md §3.4"),
        effect="nvidia-smi and everything that uses NVML fail, also for the GPUs that are well.",
        detected="nvidia-smi's text, or its exit status 15.",
        messages=("Failed to initialize NVML: GPU is lost", "GPU has fallen off the bus."),
        sources=(*_MAN, "docs.nvidia.com/deploy/xid-errors"),
    ),
    Rule(
        "GW-DRIVER-040",
        "error",
        "a GPU that must be reset keeps nvidia-smi from working",
        "A GPU stopped after an error, and the library gives up as a whole.",
        "Drain the node, stop what uses the GPUs and run `nvidia-smi --gpu-reset` as root; else reboot.",
        _on("reset", _FAULTS),
        ("hosts.md §3.3",),
        effect="nvidia-smi and everything that uses NVML fail.",
        detected="nvidia-smi's text with exit status 255.",
        messages=("Failed to initialize NVML: GPU requires reset",),
        sources=_MAN,
    ),
    Rule(
        "GW-DRIVER-041",
        "error",
        "the operating system blocks access to the GPU",
        "The kernel or a virtualisation layer keeps the driver away from the GPU: WSL without a GPU-capable Windows "
        "driver, a device that is being handed to a virtual machine, or a container without its devices.",
        "On WSL update the Windows driver and run `wsl --shutdown`. Else see who holds the device: "
        "`lspci -k -d 10de:`, `virsh nodedev-list`, the container's device rules.",
        _on("blocked"),
        ("hosts.md §3.3",),
        effect="No program can use the GPU here.",
        detected="nvidia-smi's text, or its exit status 17.",
        messages=("Failed to initialize NVML: GPU access blocked by the operating system",),
        sources=_MAN,
    ),
    Rule(
        "GW-DRIVER-042",
        "error",
        "the driver supports none of the GPUs",
        "The library found no GPU that this driver knows: its branch is too new or too old for them, or the flavour "
        "of the module is wrong.",
        "Compare the GPU with the driver: 580 is the last branch for Maxwell, Pascal and Volta, Blackwell needs the "
        "open modules of 570 or later.",
        _unsupported,
        ("hosts.md §3.3", "hosts.md §3.6"),
        effect="No GPU can be used.",
        detected="nvidia-smi's text with exit status 255.",
        messages=("Failed to initialize NVML: No supported GPUs were found",),
        sources=_MAN,
    ),
    Rule(
        "GW-DRIVER-043",
        "error",
        "the driver fails with an unknown error",
        "NVML has no name for what went wrong. In a container it is the device rules that a `systemctl daemon-reload` "
        "took away; on a host a failed GPU, or device nodes of a former driver.",
        'In a container: create it anew, and use CDI (`mode = "cdi"`), which survives a reload. On the host read '
        "`dmesg | grep -E 'NVRM|Xid'`, drain the node and reboot it.",
        _on("unknown-error", _FAULTS),
        ("hosts.md §3.3", "hosts.md §6.6"),
        effect="nvidia-smi and CUDA do not start.",
        detected="nvidia-smi's text with exit status 255.",
        messages=("Failed to initialize NVML: Unknown Error",),
        sources=(*_MAN, "NVIDIA/nvidia-container-toolkit#48", "NVIDIA/gpu-operator#485"),
    ),
    Rule(
        "GW-DRIVER-044",
        "error",
        "nvidia-smi hangs",
        "nvidia-smi gave no answer in the time that it was given. A GPU that is lost makes it wait for ever; many GPUs "
        "without persistence mode make it take half a minute.",
        "Read `dmesg | grep -E 'NVRM|Xid'` and look for processes in state D. When a GPU is lost, drain the node and "
        "reboot it.",
        _on("hangs", _FAULTS),
        ("hosts.md §4.6", "hosts.md §3.3"),
        effect="The device plugin and monitoring hang in the same way; the node's GPUs may vanish from Kubernetes.",
        detected="nvidia-smi did not end within its limit (60 s), or was killed.",
        messages=("nvidia-smi gave no answer in time",),
        sources=("Azure/aks-gpu#105", "NVIDIA/gpu-operator values.yaml"),
        instead_of=("GW-OPERATOR-005",),
    ),
)

RULES = (_REST, *_LIBRARY_AND_MODULE, *_HARDWARE)
