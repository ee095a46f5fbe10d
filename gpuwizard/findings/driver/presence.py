"""Rules about the driver: whether it is there, loaded, and of one version."""

from collections.abc import Iterable

from gpuwizard.facts.model import Probe
from gpuwizard.findings.driver import build, start
from gpuwizard.findings.driver.kernel import refused
from gpuwizard.findings.driver.words import (
    FOREIGN,
    all_seen,
    applies,
    certainly_no_module,
    foreign,
    is_before_turing,
    logged,
    mismatched,
    module_for,
    not_loaded,
    shown_log,
    wants_open_module,
)
from gpuwizard.findings.gpu.words import places
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus, shown_gpu

__all__ = ["RULES"]

_MISSING_CAUSE = "There is a GPU, and neither a loaded nor an installed kernel module of NVIDIA."
_MAX_PATHS = 4
_NOT_LOADED = ("GW-OPERATOR-005",)
"""What the GPU Operator finds where no driver works."""


def _missing(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    if not not_loaded(probe) or driver.kernel_modules or driver.on_disk or driver.next_kernel:
        return None
    if driver.installer == "operator" or (certainly_no_module(probe) and build.remains(driver)):
        return None
    evidence = [shown_gpu(gpu) for gpu in installed_gpus(probe)]
    evidence.append("the module nvidia is not loaded")
    if driver.kernels_without_module:
        evidence.append(f"no module nvidia for {', '.join(driver.kernels_without_module)}")
    if driver.problem:
        evidence.append(f"nvidia-smi: {driver.problem}")
    if not certainly_no_module(probe):
        return Verdict(
            tuple(evidence),
            title="the NVIDIA driver is not loaded",
            cause="There is a GPU and no loaded module of NVIDIA. Whether one is installed could not be seen.",
        )
    return Verdict(tuple(evidence), cause=f"{_MISSING_CAUSE}{_which_branch(probe)}")


def _which_branch(probe: Probe) -> str:
    gpus = installed_gpus(probe)
    if any(is_before_turing(gpu) for gpu in gpus):
        return " This GPU is older than Turing: it needs the proprietary modules of branch 580."
    if any(wants_open_module(gpu) for gpu in gpus):
        return " This GPU needs the open modules, of branch 580 or later."
    return ""


def _other_kernel(probe: Probe) -> Verdict | None:
    driver, running = probe.facts.driver, probe.facts.kernel.release
    if not not_loaded(probe) or running is None or running not in driver.kernels_without_module:
        return None
    if not driver.kernel_modules:
        return None
    found = [
        f"installed kernel {module.kernel}: module {module.version or module.path}" for module in driver.kernel_modules
    ]
    evidence = (f"running kernel: {running}: no module nvidia", *found[-_MAX_PATHS:])
    return Verdict(evidence, about=frozenset((running,)))


def _installed_not_loaded(probe: Probe) -> Verdict | None:
    driver, kernel = probe.facts.driver, probe.facts.kernel
    module = module_for(driver, kernel.release)
    if not not_loaded(probe) or module is None or driver.installer == "operator":
        return None
    if refused(probe) or start.wrong_module(probe):
        return None
    evidence = [
        f"module {module.version or module.path} is on disk for {kernel.release}",
        "the module nvidia is not loaded",
    ]
    evidence += shown_log(logged(probe, r"NVRM:|nvidia"))
    if kernel.secure_boot:
        return Verdict(
            (*evidence, "Secure Boot is on"),
            cause="The module is not loaded; with Secure Boot on, an unsigned module is refused by the kernel.",
            remedy="Try `modprobe nvidia` as root. `Key was rejected by service` means that the module's key must be "
            "enrolled (mokutil, at the console) or that the distribution's signed modules are needed.",
        )
    return Verdict(tuple(evidence))


def _mismatch(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    if not mismatched(driver) or probe.facts.os.kind in ("jetson", "wsl2"):
        return None
    evidence = [f"loaded module: {driver.loaded or 'unknown'}", f"library: {driver.userspace or 'unknown'}"]
    if driver.on_disk is not None:
        evidence.append(f"module on disk: {driver.on_disk}")
    if driver.problem:
        evidence.append(f"nvidia-smi: {driver.problem}")
    evidence += shown_log(logged(probe, "API mismatch"), 2)
    if driver.installer != "operator":
        return Verdict(tuple(evidence))
    return Verdict(
        tuple(evidence),
        severity="warning",
        cause="The driver is the GPU Operator's, below /run/nvidia/driver. The host has a library of its own left from "
        "a former driver, and nvidia-smi on the host uses that one. Pods do not.",
        remedy="Remove the host's own driver packages, or let `driver.enabled=false` and use the host's driver.",
    )


def _nouveau(probe: Probe) -> Verdict | None:
    held = foreign(probe)
    if not held:
        return None
    driver = probe.facts.driver
    told = [line for line in driver.module_settings if "blacklist" in line and _names(line, ("nouveau", "nova_core"))]
    told += [word for word in driver.kernel_arguments if "blacklist" in word and ("nouveau" in word or "nova" in word)]
    cause = None
    if told and not any(gpu.bound_driver == "nova_core" for gpu in installed_gpus(probe)):
        cause = "nouveau is blacklisted and holds the GPU all the same: the initramfs was made before, or nobody has "
        cause += "rebooted since."
    return Verdict(
        (*held, *told, *shown_log(logged(probe, "probe routine was not called|already bound"), 2)),
        cause=cause,
        about=places(gpu for gpu in installed_gpus(probe) if gpu.bound_driver in FOREIGN),
    )


def _names(line: str, modules: Iterable[str]) -> bool:
    words = line.split()
    return any(module in words for module in modules)


def _operators(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    if not not_loaded(probe) or driver.installer != "operator":
        return None
    return Verdict(
        (*(shown_gpu(gpu) for gpu in installed_gpus(probe)), "/run/nvidia/driver/usr is there, no module is loaded")
    )


def _no_library(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    if not applies(probe) or driver.loaded is None or driver.userspace is not None or driver.problem is not None:
        return None
    if probe.facts.os.immutable or driver.installer == "operator" or all_seen(probe):
        return None
    return Verdict((f"loaded module: {driver.loaded}", "no libnvidia-ml.so in the usual places, no nvidia-smi"))


def _api_mismatch(probe: Probe) -> Verdict | None:
    if mismatched(probe.facts.driver) or not applies(probe) or not all_seen(probe):
        return None
    lines = tuple(logged(probe, r"API mismatch"))
    return Verdict(shown_log(lines)) if lines else None


_PRESENCE = (
    Rule(
        "GW-DRIVER-001",
        "error",
        "no NVIDIA driver",
        _MISSING_CAUSE,
        "Install the driver of your distribution or NVIDIA's packages and reboot; gpuwizard does not install drivers.",
        _missing,
        ("hosts.md §3.2 #1", "kubernetes.md §1.14 #1", "hosts.md §5.1"),
        effect="No GPU works on this host: nvidia-smi is missing or fails, and operands of the GPU Operator wait for "
        "ever in Init:0/1.",
        detected="A GPU on the PCI bus, no /proc/driver/nvidia, no NVIDIA module in modules.dep of any installed "
        "kernel, no driver package and no libnvidia-ml.so.",
        messages=(
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
            "Init:0/1",
            "modprobe: FATAL: Module nvidia not found in directory /lib/modules/",
        ),
        sources=("NVIDIA/cloud-native-docs gpu-operator/troubleshooting.rst", "docs.nvidia.com/datacenter/tesla"),
        instead_of=_NOT_LOADED,
    ),
    Rule(
        "GW-DRIVER-002",
        "error",
        "the driver is not built for the running kernel",
        "The module is installed for another kernel only: a precompiled package for that one, or missing headers.",
        "Install the module package for the running kernel (or its headers and run `dkms autoinstall`), or reboot "
        "into the kernel that has it.",
        _other_kernel,
        ("hosts.md §3.2 #2", "kubernetes.md §1.14 #1"),
        effect="modprobe finds no module, so no GPU works until the module is there or the other kernel is booted.",
        detected="modules.dep of each installed kernel: the running one has no NVIDIA module, another one has.",
        messages=("modprobe: FATAL: Module nvidia not found in directory /lib/modules/",),
        sources=("dkms(8)", "packages.ubuntu.com linux-modules-nvidia"),
        instead_of=_NOT_LOADED,
    ),
    Rule(
        "GW-DRIVER-003",
        "error",
        "driver and library have different versions",
        "The library was upgraded while the old kernel module stayed loaded; NVML refuses to work across versions.",
        "Drain the node and reboot it; the new module is loaded then. Afterwards hold the packages (`apt-mark hold`, "
        "`dnf versionlock`) or name them in Unattended-Upgrade::Package-Blacklist.",
        _mismatch,
        ("hosts.md §3.2 #8", "kubernetes.md §1.14 #22"),
        effect="nvidia-smi, the device plugin and every new GPU container fail. Programs that run already go on.",
        detected="The loaded module's version against the name of the file libnvidia-ml.so, and nvidia-smi's exit "
        "status 18.",
        messages=(
            "Failed to initialize NVML: Driver/library version mismatch",
            "NVRM: API mismatch: the client has the version",
            "nvml error: driver/library version mismatch",
        ),
        sources=("NVIDIA/k8s-device-plugin#1431", "NVIDIA/gpu-operator#898", "anderskm/gputil#55"),
        instead_of=(*_NOT_LOADED, "GW-HOST-023"),
    ),
    Rule(
        "GW-DRIVER-004",
        "error",
        "another driver holds the GPU",
        "The kernel's own driver (nouveau or nova_core) took the GPU at boot, so NVIDIA's module cannot.",
        "Blacklist that driver (`blacklist nouveau` and `options nouveau modeset=0` in "
        "/etc/modprobe.d/blacklist-nouveau.conf), rebuild the initramfs (`update-initramfs -u` or `dracut -f`) and "
        "reboot.",
        _nouveau,
        ("hosts.md §3.2 #5", "hosts.md §2.4", "kubernetes.md §1.14 #15"),
        effect="NVIDIA's module is not loaded or finds no device. The operator's driver container says: module in use.",
        detected="The driver link of the GPU in sysfs names nouveau or nova_core.",
        messages=(
            "NVRM: The NVIDIA probe routine was not called for 1 device(s).",
            "This can occur when a driver such as: nouveau, rivafb, nvidiafb or rivatv was loaded",
        ),
        sources=("mattshma/bigdata#133", "Linux drivers/gpu/nova-core/Kconfig", "NVIDIA/cloud-native-docs"),
        instead_of=(*_NOT_LOADED, "GW-DRIVER-025", "GW-DRIVER-032", "GW-DRIVER-033", "GW-GPU-002"),
    ),
    Rule(
        "GW-DRIVER-005",
        "error",
        "the driver is installed but not loaded",
        "The module is on disk for this kernel and is not loaded.",
        "Run `modprobe nvidia` as root and read its error, then `dmesg | grep -i nvidia`.",
        _installed_not_loaded,
        ("hosts.md §3.2 #4", "hosts.md §2.4", "kubernetes.md §1.14 #1"),
        effect="No GPU works on this host until the module is loaded.",
        detected="modules.dep of the running kernel has the module, /proc/driver/nvidia is not there, and nothing that "
        "was seen says why: no signature refused, no blacklist, no other driver.",
        messages=("modprobe: ERROR: could not insert 'nvidia'", "NVIDIA-SMI has failed"),
        sources=("modprobe(8)", "NVIDIA/gpu-operator#1726"),
        instead_of=_NOT_LOADED,
    ),
)
_SPECIAL = (
    Rule(
        "GW-DRIVER-010",
        "error",
        "the GPU Operator's driver is not loaded",
        "The GPU Operator's driver container has been set up on this node and no module is loaded: it still downloads "
        "or builds, or it failed.",
        "Read `kubectl logs -n gpu-operator -l app=nvidia-driver-daemonset -c nvidia-driver-ctr`. A build takes up to "
        "30 min; missing headers or packages mean a proxy, a mirror, or a kernel that is newer than its repository.",
        _operators,
        ("kubernetes.md §1.14 #1", "kubernetes.md §1.14 #18", "hosts.md §5.1"),
        effect="All operands wait in Init:0/1 and the node offers no GPU.",
        detected="/run/nvidia/driver holds a file system, and /proc/driver/nvidia is not there.",
        messages=("Init:0/1", "Could not resolve Linux kernel version"),
        sources=("NVIDIA/cloud-native-docs gpu-operator/troubleshooting.rst", "NVIDIA/gpu-driver-container"),
        instead_of=_NOT_LOADED,
    ),
    Rule(
        "GW-DRIVER-011",
        "warning",
        "the driver's library was not found",
        "The kernel module is loaded, and neither libnvidia-ml.so nor nvidia-smi was found where distributions put "
        "them. Only the kernel half of the driver was installed, or its files are in a place of their own.",
        "Install the user space of exactly the loaded version (nvidia-utils, nvidia-driver-cuda, nvidia-compute-…), or "
        "set the toolkit's `root` to where the driver's files are.",
        _no_library,
        ("kubernetes.md §1.14 #25", "hosts.md §3.1"),
        effect="The container toolkit finds no library to put into containers.",
        detected="No file libnvidia-ml.so.* in the library folders, below /run/nvidia/driver or in COS' folder, and no "
        "nvidia-smi.",
        messages=("libnvidia-ml.so.1: cannot open shared object file", "could not load NVML library"),
        sources=("NVIDIA/libnvidia-container", "NVIDIA/cloud-native-docs gpu-operator/troubleshooting.rst"),
    ),
    Rule(
        "GW-DRIVER-012",
        "info",
        "a program came with the library of another driver version",
        "The kernel log says that a program with another version of the driver's library asked the module. The host's "
        "own library fits: it was a container image that brings its own, or it happened before the last upgrade.",
        "Remove libcuda and libnvidia-* from the image: the container toolkit brings them from the host.",
        _api_mismatch,
        ("hosts.md §3.4",),
        effect="That program fails; others work.",
        detected="`NVRM: API mismatch` in the kernel log while all GPUs answer and the versions agree.",
        messages=("NVRM: API mismatch: the client has the version 550.100, but this kernel module has the version",),
        sources=("NVIDIA/open-gpu-kernel-modules#712",),
    ),
)

RULES = (
    *_PRESENCE,
    *_SPECIAL,
)
