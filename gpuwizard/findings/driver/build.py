"""Rules about how the module comes to be on disk: parts of a driver, DKMS, kernel headers."""

import re

from gpuwizard.facts.model import DriverFacts, Probe
from gpuwizard.findings.driver.words import applies, certainly_no_module, module_for, not_loaded
from gpuwizard.findings.model import Severity
from gpuwizard.findings.rule import Rule, Verdict

__all__ = ["RULES", "remains"]

_BESIDE = re.compile(r"nvidia-(fabric-?manager|imex|firmware)|nvlsm|cuda-drivers-fabricmanager")
"""Packages that do not make a driver by themselves."""
_LOG_OF = re.compile(r"make\.log for (\S+?)[/-]([0-9][0-9.]*) for kernel (\S+) \((\w+)\)")
_NO_MODULE = ("GW-DRIVER-002", "GW-DRIVER-007")
"""What else is true of a kernel for which DKMS built no module. Where that is the next kernel, its reboot
(GW-HOST-023) is taken in with GW-DRIVER-007."""
_EMPTY_FROM = 615  # cuda-drivers holds nothing from this branch on


def remains(driver: DriverFacts) -> tuple[str, ...]:
    """What of a driver is installed besides its module, as lines of evidence."""
    names = [name for name in driver.packages if not _BESIDE.match(name)]
    found = [f"package {name} {driver.packages[name]}" for name in names[:6]]
    if len(names) > 6:
        found.append(f"and {len(names) - 6} more packages")
    return (*found, *(f"libnvidia-ml.so.{version}" for version in driver.libraries))


def _parts(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    if not not_loaded(probe) or not certainly_no_module(probe) or driver.installer == "operator":
        return None
    found = remains(driver)
    if not found or any(check(probe) for check in (_failed_here, _not_installed, _no_headers, _empty_package)):
        return None
    broken = [f"package {name}" for name in driver.packages_broken or ()]
    return Verdict((*found, *broken, f"no module nvidia for {', '.join(driver.kernels_without_module)}"))


def _bootable_without_module(probe: Probe) -> frozenset[str]:
    """Of the running and the newest kernel those that certainly have no module, on a host with a GPU."""
    driver = probe.facts.driver
    if not applies(probe):
        return frozenset()
    return frozenset((probe.facts.kernel.release or "", driver.newest_kernel or "")) & {*driver.kernels_without_module}


def _failed(probe: Probe) -> tuple[str, bool] | None:
    """The kernel that DKMS could not build for, and whether that is the running one; None when it has the module."""
    driver = probe.facts.driver
    for line in driver.dkms_log:
        match = _LOG_OF.search(line)
        if match and match[3] in _bootable_without_module(probe):
            return match[3], match[3] == probe.facts.kernel.release
    return None


def _failed_here(probe: Probe) -> Verdict | None:
    failed = _failed(probe)
    if failed is None:
        return None
    severity: Severity = "error" if failed[1] and not_loaded(probe) else "warning"
    evidence = (*probe.facts.driver.dkms_log[:6], f"no module nvidia for {failed[0]}")
    return Verdict(evidence, severity=severity, about=frozenset((failed[0],)))


def _not_installed(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    stuck = [s for s in driver.dkms if s.state == "built" and s.kernel in _bootable_without_module(probe)]
    if not stuck:
        return None
    here = any(state.kernel == probe.facts.kernel.release for state in stuck)
    lines = [f"/var/lib/dkms: {s.name}/{s.version}, {s.kernel}, {s.arch}: built, not installed" for s in stuck]
    severity: Severity = "error" if here and not_loaded(probe) else "warning"
    return Verdict(tuple(lines), severity=severity, about=frozenset(state.kernel or "" for state in stuck))


def _no_headers(probe: Probe) -> Verdict | None:
    driver, running = probe.facts.driver, probe.facts.kernel.release
    if not driver.dkms or running not in driver.kernels_without_headers or not applies(probe):
        return None
    states = tuple(f"/var/lib/dkms: {s.name}/{s.version}: {s.state}" for s in driver.dkms[:4])
    evidence = (f"/lib/modules/{running}/build is missing", *states)
    if module_for(driver, running) is not None or not not_loaded(probe):
        return Verdict(
            evidence,
            severity="info",
            title="the next driver upgrade cannot be built for this kernel",
            cause="The module is there, but the headers of the running kernel are not, so DKMS cannot build another "
            "version for it.",
        )
    return Verdict(evidence, about=frozenset((running or "",)))


def _no_headers_next(probe: Probe) -> Verdict | None:
    driver, newest = probe.facts.driver, probe.facts.driver.newest_kernel
    if not driver.dkms or newest == probe.facts.kernel.release or newest not in driver.kernels_without_headers:
        return None
    if newest not in _bootable_without_module(probe):
        return None
    evidence = (f"newest installed kernel: {newest}: no module nvidia", f"/lib/modules/{newest}/build is missing")
    return Verdict(evidence, about=frozenset((newest or "",)))


def _broken_source(probe: Probe) -> Verdict | None:
    broken = [state for state in probe.facts.driver.dkms if state.state == "broken"]
    if not broken or not applies(probe):
        return None
    return Verdict(
        tuple(f"/var/lib/dkms/{s.name}/{s.version}/source leads nowhere" for s in broken),
        about=_bootable_without_module(probe),
    )


def _empty_package(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    match = re.match(r"(?:[0-9]+:)?([0-9]{3})\.", driver.packages.get("cuda-drivers", ""))
    if match is None or int(match[1]) < _EMPTY_FROM or not not_loaded(probe) or not certainly_no_module(probe):
        return None
    return Verdict((f"package cuda-drivers {driver.packages['cuda-drivers']}", "no module nvidia for any kernel"))


RULES = (
    Rule(
        "GW-DRIVER-013",
        "error",
        "parts of a driver are installed and its kernel module is not",
        "Packages or libraries of NVIDIA's driver are there, and no installed kernel has its module: only the user "
        "space was installed, the module's package is for a kernel that is gone, or the driver was half removed.",
        "Install the module of the same version: `linux-modules-nvidia-BRANCH-server-open-$(uname -r)`, nvidia-dkms-…, "
        "kmod-nvidia-open-dkms, or nvidia-open. Or remove the rest of the driver first.",
        _parts,
        ("hosts.md §3.2 #2",),
        effect="nvidia-smi is there and fails; no GPU works.",
        detected="Installed packages or files libnvidia-ml.so.*, and no NVIDIA module in modules.dep of any kernel.",
        messages=("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",),
        sources=(
            "packages.ubuntu.com linux-modules-nvidia",
            "docs.nvidia.com/datacenter/tesla/driver-installation-guide",
        ),
    ),
    Rule(
        "GW-DRIVER-014",
        "error",
        "DKMS could not build the driver",
        "The build of the kernel module failed: the driver is too old for this kernel, a compiler is missing or of "
        "another version, or the disk is full.",
        "Read /var/lib/dkms/NAME/VERSION/build/make.log. Then install a driver that knows the kernel, or the missing "
        "packages, and run `dkms autoinstall`.",
        _failed_here,
        ("hosts.md §3.2 #2", "hosts.md §3.1"),
        effect="That kernel has no module: no GPU works when it runs.",
        detected="DKMS left a make.log with errors, for a kernel whose modules.dep has no NVIDIA module.",
        messages=("Bad return status for module build on kernel:", "Error! Bad return status for module build"),
        sources=("dkms(8)",),
        instead_of=(*_NO_MODULE, "GW-DRIVER-016", "GW-DRIVER-017", "GW-DRIVER-018"),
    ),
    Rule(
        "GW-DRIVER-015",
        "error",
        "DKMS built the driver and did not install it",
        "DKMS has the module in its own tree and did not put it below /lib/modules.",
        "As root: `dkms install NAME/VERSION -k KERNEL`.",
        _not_installed,
        ("hosts.md §3.1", "hosts.md §3.2 #2"),
        effect="That kernel has no module: no GPU works when it runs.",
        detected="DKMS' tree has the module for a kernel, the link kernel-KERNEL-ARCH is missing, and that kernel's "
        "modules.dep has no NVIDIA module.",
        messages=("nvidia/580.95.05, 6.8.0-85-generic, x86_64: built",),
        sources=("dkms(8)",),
        instead_of=_NO_MODULE,
    ),
    Rule(
        "GW-DRIVER-016",
        "error",
        "the headers of the running kernel are missing",
        "The driver comes through DKMS, and without the kernel's headers it cannot be built.",
        "Install them (`linux-headers-$(uname -r)`, kernel-devel-$(uname -r), kernel-default-devel) and run "
        "`dkms autoinstall`.",
        _no_headers,
        ("hosts.md §3.2 #3", "kubernetes.md §1.14 #18"),
        effect="No module for the running kernel, so no GPU works.",
        detected="/lib/modules/RELEASE/build leads nowhere, and /var/lib/dkms has the driver's source.",
        messages=(
            "Your kernel headers for kernel 6.8.0-85-generic cannot be found",
            "Unable to find the kernel source tree for the currently running kernel.",
        ),
        sources=("dkms(8)", "NVIDIA/gpu-driver-container"),
        instead_of=("GW-DRIVER-002",),
    ),
    Rule(
        "GW-DRIVER-017",
        "warning",
        "the headers of the newest kernel are missing",
        "The driver comes through DKMS; a newer kernel was installed without its headers.",
        "Install that kernel's headers and run `dkms autoinstall -k KERNEL` before the next reboot. A meta package "
        "(linux-headers-generic, kernel-devel-matched) brings them with each kernel.",
        _no_headers_next,
        ("hosts.md §3.2 #3", "hosts.md §3.2 #10"),
        effect="After the next reboot there is no module and DKMS cannot build it.",
        detected="/lib/modules/RELEASE/build of the newest kernel leads nowhere, and its modules.dep has no NVIDIA "
        "module.",
        messages=("Your kernel headers for kernel 6.8.0-90-generic cannot be found",),
        sources=("dkms(8)",),
        instead_of=("GW-DRIVER-007",),
    ),
    Rule(
        "GW-DRIVER-018",
        "warning",
        "DKMS lost the source of the driver",
        "The source below /usr/src was removed and DKMS still has the version on its list.",
        "As root: `dkms remove NAME/VERSION --all`, or put the source package back.",
        _broken_source,
        ("hosts.md §3.1",),
        effect="DKMS cannot build this version for another kernel, and its runs end with an error.",
        detected="The link `source` in DKMS' tree leads nowhere.",
        messages=("is broken!", "nvidia/580.95.05: broken"),
        sources=("dkms(8)",),
        instead_of=_NO_MODULE,
    ),
    Rule(
        "GW-DRIVER-019",
        "error",
        "the package cuda-drivers is empty",
        "From branch 615 on there are no proprietary modules, and cuda-drivers installs nothing any more.",
        "Install `nvidia-open`. For Maxwell, Pascal and Volta pin branch 580 (nvidia-driver-pinning-580).",
        _empty_package,
        ("hosts.md §3.6", "hosts.md §0 rule 7"),
        effect="There is no driver on the host.",
        detected="cuda-drivers of branch 615 or later is installed and no kernel has a module.",
        messages=("cuda-drivers is already the newest version",),
        sources=("cupy/cupy#10295", "cupy/cupy#10296", "docs.nvidia.com/datacenter/tesla/driver-installation-guide"),
    ),
)
