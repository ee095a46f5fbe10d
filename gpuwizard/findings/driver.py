"""Rules about the driver: its module, its library, and who else holds the GPU."""

from gpuwizard.facts.gpu.pci import needs_proprietary_module
from gpuwizard.facts.model import DriverFacts, Probe
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus, looked_at, shown_gpu

__all__ = ["RULES"]

_FOREIGN = ("nouveau", "nova_core", "nova")


def _applies(probe: Probe) -> bool:
    """A GPU on the bus of a host that has a kernel of its own."""
    on_bus = any("pci" in gpu.seen_by for gpu in installed_gpus(probe))
    return looked_at(probe) and on_bus and probe.facts.os.kind == "host"


def _foreign(probe: Probe) -> list[str]:
    return [shown_gpu(gpu) for gpu in installed_gpus(probe) if gpu.bound_driver in _FOREIGN]


def _mismatched(driver: DriverFacts) -> bool:
    if driver.problem_code == 18 or "version mismatch" in (driver.problem or "").lower():
        return True
    return driver.loaded is not None and driver.userspace is not None and driver.loaded != driver.userspace


def _not_loaded(probe: Probe) -> bool:
    bound = any(gpu.bound_driver == "nvidia" for gpu in installed_gpus(probe))
    return _applies(probe) and probe.facts.driver.loaded is None and not bound and not _foreign(probe)


def _missing(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    if not _not_loaded(probe) or driver.on_disk is not None or driver.next_kernel is not None:
        return None
    evidence = [shown_gpu(gpu) for gpu in installed_gpus(probe)]
    evidence.append("the module nvidia is not loaded")
    if driver.kernels_without_module:
        evidence.append(f"modinfo finds no module nvidia for {', '.join(driver.kernels_without_module)}")
    if driver.problem:
        evidence.append(f"nvidia-smi: {driver.problem}")
    old = any(gpu.pci_id and needs_proprietary_module(gpu.pci_id.partition(":")[2]) for gpu in installed_gpus(probe))
    hint = " This GPU is older than Turing: it needs the proprietary modules of branch 580." if old else ""
    return Verdict(tuple(evidence), cause=f"{_MISSING_CAUSE}{hint}")


_MISSING_CAUSE = "There is a GPU, and neither a loaded nor an installed kernel module of NVIDIA."


def _other_kernel(probe: Probe) -> Verdict | None:
    driver, running = probe.facts.driver, probe.facts.kernel.release
    if not _not_loaded(probe) or driver.on_disk is not None or driver.next_kernel is None:
        return None
    return Verdict(
        (
            f"running kernel: {running}: no module nvidia",
            f"installed kernel {driver.newest_kernel}: module {driver.next_kernel}",
        )
    )


def _installed_not_loaded(probe: Probe) -> Verdict | None:
    driver, kernel = probe.facts.driver, probe.facts.kernel
    if not _not_loaded(probe) or driver.on_disk is None:
        return None
    evidence = (f"module {driver.on_disk} is on disk for {kernel.release}", "the module nvidia is not loaded")
    if kernel.secure_boot:
        return Verdict(
            (*evidence, "Secure Boot is on"),
            cause="The module is not loaded; with Secure Boot on, an unsigned module is refused by the kernel.",
            remedy="Try `modprobe nvidia` as root. `Key was rejected by service` means that the module's key must be "
            "enrolled (mokutil, at the console) or that the distribution's signed modules are needed.",
        )
    return Verdict(evidence)


def _mismatch(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    if not _mismatched(driver):
        return None
    evidence = [f"loaded module: {driver.loaded or 'unknown'}", f"library: {driver.userspace or 'unknown'}"]
    if driver.problem:
        evidence.append(f"nvidia-smi: {driver.problem}")
    return Verdict(tuple(evidence))


def _nouveau(probe: Probe) -> Verdict | None:
    held = _foreign(probe)
    return Verdict(tuple(held)) if held else None


def _smi_fails(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    if driver.problem is None or _mismatched(driver) or _not_loaded(probe) or _foreign(probe):
        return None
    if not _applies(probe) and probe.facts.os.kind == "host":
        return None
    status = "" if driver.problem_code is None else f" (exit status {driver.problem_code})"
    soft = driver.problem_code == 14 or (driver.problem_code is None and "WARNING" in driver.problem)
    return Verdict((f"nvidia-smi: {driver.problem}{status}",), severity="warning" if soft else None)


def _next_boot(probe: Probe) -> Verdict | None:
    driver, running = probe.facts.driver, probe.facts.kernel.release
    newest = driver.newest_kernel
    if driver.loaded is None or newest is None or newest == running or newest not in driver.kernels_without_module:
        return None
    return Verdict((f"running kernel: {running}", f"newest installed kernel: {newest}: no module nvidia"))


def _upgrade_pending(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    if driver.loaded is None or driver.on_disk is None or driver.loaded == driver.on_disk or _mismatched(driver):
        return None
    return Verdict((f"loaded module: {driver.loaded}", f"on disk: {driver.on_disk}"))


def _slow(probe: Probe) -> Verdict | None:
    seconds, persistence = probe.facts.driver.smi_seconds, probe.facts.driver.persistence
    if persistence is not False or seconds is None or seconds < 5:
        return None
    return Verdict((f"one nvidia-smi call took {seconds:.0f} s", "persistence mode is off"))


RULES = (
    Rule(
        "GW-DRIVER-001",
        "error",
        "no NVIDIA driver",
        _MISSING_CAUSE,
        "Install the driver of your distribution or NVIDIA's packages and reboot; gpuwizard does not install drivers.",
        _missing,
        ("hosts.md §3.2",),
    ),
    Rule(
        "GW-DRIVER-002",
        "error",
        "the driver is not built for the running kernel",
        "The module is installed for another kernel only: a precompiled package for that one, or missing headers.",
        "Install the module package for the running kernel (or its headers and run `dkms autoinstall`), or reboot "
        "into the kernel that has it.",
        _other_kernel,
        ("hosts.md §3.2",),
    ),
    Rule(
        "GW-DRIVER-003",
        "error",
        "driver and library have different versions",
        "The library was upgraded while the old kernel module stayed loaded; NVML refuses to work across versions.",
        "Drain the node and reboot it; the new module is loaded then.",
        _mismatch,
        ("hosts.md §3.2",),
    ),
    Rule(
        "GW-DRIVER-004",
        "error",
        "another driver holds the GPU",
        "The kernel's own driver (nouveau or nova_core) took the GPU at boot, so NVIDIA's module cannot.",
        "Blacklist that driver, rebuild the initramfs (`update-initramfs -u` or `dracut -f`) and reboot.",
        _nouveau,
        ("hosts.md §2.4",),
    ),
    Rule(
        "GW-DRIVER-005",
        "error",
        "the driver is installed but not loaded",
        "The module is on disk for this kernel and is not loaded.",
        "Run `modprobe nvidia` as root and read its error, then `dmesg | grep -i nvidia`.",
        _installed_not_loaded,
        ("hosts.md §3.2",),
    ),
    Rule(
        "GW-DRIVER-006",
        "error",
        "nvidia-smi reports a problem",
        "The driver is loaded, but at least one GPU does not work as it should.",
        "Read `dmesg | grep -E 'NVRM|Xid'`; a GPU that is lost or needs a reset comes back after a reboot.",
        _smi_fails,
        ("hosts.md §3.3",),
    ),
    Rule(
        "GW-DRIVER-007",
        "warning",
        "after the next reboot the GPU will be gone",
        "A newer kernel is installed that has no NVIDIA module.",
        "Install the module for that kernel before the next reboot.",
        _next_boot,
        ("hosts.md §3.2",),
    ),
    Rule(
        "GW-DRIVER-008",
        "warning",
        "a driver upgrade waits for a reboot",
        "The module on disk is not the one that is loaded; when it is loaded next, library and module may differ.",
        "Reboot the node at a time of your choice.",
        _upgrade_pending,
        ("hosts.md §3.2",),
    ),
    Rule(
        "GW-DRIVER-009",
        "warning",
        "persistence mode is off and nvidia-smi is slow",
        "Without persistence mode every call starts all GPUs and stops them again.",
        "Enable nvidia-persistenced.service.",
        _slow,
        ("hosts.md §4.6",),
    ),
)
