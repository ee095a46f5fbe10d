"""Rules about a driver that works now and will not after the next reboot (`hosts.md §0` rule 6)."""

from gpuwizard.facts.model import Probe
from gpuwizard.findings.driver.words import mismatched, module_for
from gpuwizard.findings.rule import Rule, Verdict

__all__ = ["RULES"]


def _next_boot(probe: Probe) -> Verdict | None:
    driver, running = probe.facts.driver, probe.facts.kernel.release
    newest = driver.newest_kernel
    if driver.loaded is None or newest is None or newest == running or newest not in driver.kernels_without_module:
        return None
    here = module_for(driver, running)
    if here is None or driver.installer == "operator" or probe.facts.os.kind != "host":
        return None  # the running module comes from elsewhere, and so may the next
    evidence = [f"running kernel: {running}: module {here.version or here.path}"]
    evidence.append(f"newest installed kernel: {newest}: no module nvidia")
    if newest in driver.kernels_without_headers:
        evidence.append(f"/lib/modules/{newest}/build is missing: DKMS cannot build the module")
    return Verdict(tuple(evidence), about=frozenset((newest,)))


def _upgrade_pending(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    if driver.loaded is None or driver.on_disk is None or driver.loaded == driver.on_disk or mismatched(driver):
        return None
    if driver.installer == "operator" or probe.facts.os.kind != "host":
        return None
    library = (f"library: {driver.userspace}",) if driver.userspace is not None else ()
    return Verdict((f"loaded module: {driver.loaded}", f"on disk: {driver.on_disk}", *library))


def _next_differs(probe: Probe) -> Verdict | None:
    """The newest kernel is installed with a module of another version than the libraries."""
    driver, running = probe.facts.driver, probe.facts.kernel.release
    newest, library = driver.newest_kernel, driver.userspace
    if driver.next_kernel is None or library is None or newest in (None, running) or driver.next_kernel == library:
        return None
    if driver.loaded is None or mismatched(driver) or driver.installer == "operator" or probe.facts.os.kind != "host":
        return None
    return Verdict(
        (
            f"newest installed kernel: {newest}: module {driver.next_kernel}",
            f"library: {library}",
            f"running kernel: {running or 'unknown'}: module {driver.on_disk or driver.loaded}",
        )
    )


RULES = (
    Rule(
        "GW-DRIVER-007",
        "warning",
        "after the next reboot the GPU will be gone",
        "A newer kernel is installed that has no NVIDIA module.",
        "Install the module for that kernel before the next reboot: the package linux-modules-nvidia-… or kmod-nvidia "
        "of that very kernel, or its headers and `dkms autoinstall -k KERNEL`.",
        _next_boot,
        ("hosts.md §3.2 #10",),
        effect="After the next reboot nvidia-smi fails and the node offers no GPU, unless DKMS builds the module while "
        "it boots.",
        detected="The newest release below /lib/modules that has a boot image is not the running one, and its "
        "modules.dep names no NVIDIA module.",
        messages=("modprobe: FATAL: Module nvidia not found in directory /lib/modules/",),
        sources=("dkms(8)", "packages.ubuntu.com linux-modules-nvidia"),
        instead_of=("GW-HOST-023",),
    ),
    Rule(
        "GW-DRIVER-008",
        "warning",
        "a driver upgrade waits for a reboot",
        "The module on disk is not the one that is loaded; the library is still that of the loaded one, so the two "
        "will differ when the module on disk is loaded.",
        "Finish the upgrade first: bring the libraries to the version of the module on disk (`apt full-upgrade`, `dnf "
        "upgrade`, or the installer again). Then reboot the node at a time of your choice, drained.",
        _upgrade_pending,
        ("hosts.md §3.2 #9", "hosts.md §0 rule 6"),
        effect="All goes on until the module is unloaded or the node reboots; then the other version is loaded, and "
        "NVML refuses to work with a library of the former one.",
        detected="modinfo of the module for the running kernel against /proc/driver/nvidia/version.",
        messages=("Driver/library version mismatch",),
        sources=("modinfo(8)", "NVIDIA/cloud-native-docs gpu-operator/gpu-driver-upgrades.rst"),
        instead_of=("GW-HOST-023",),
    ),
    Rule(
        "GW-DRIVER-069",
        "warning",
        "after the next reboot driver and library will have different versions",
        "The newest installed kernel has a module of another version than the driver's libraries: a precompiled "
        "module package moved on with the kernel, or DKMS built an older or newer source for it.",
        "Before the next reboot install the module of the library's version for that kernel, or the libraries of the "
        "module's version; then hold both (`apt-mark hold`, `dnf versionlock`).",
        _next_differs,
        ("hosts.md §3.2 #8", "hosts.md §3.2 #10", "hosts.md §0 rule 6"),
        effect="The module of the new kernel is loaded at boot and NVML refuses to work with it: nvidia-smi, the "
        "device plugin and every GPU container fail.",
        detected="modinfo of the module for the newest kernel that has a boot image, against the name of the file "
        "libnvidia-ml.so.",
        messages=("Failed to initialize NVML: Driver/library version mismatch",),
        sources=("modinfo(8)", "packages.ubuntu.com linux-modules-nvidia", "NVIDIA/k8s-device-plugin#1431"),
        instead_of=("GW-DRIVER-008", "GW-HOST-023"),
    ),
)
