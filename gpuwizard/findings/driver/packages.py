"""Rules about where the driver's files come from: mixed sources, half-installed packages, upgrades by night."""

import re

from gpuwizard.facts.model import Probe
from gpuwizard.findings.driver.build import remains
from gpuwizard.findings.driver.words import applies, mismatched
from gpuwizard.findings.rule import Rule, Verdict

__all__ = ["RULES"]

_OF_THE_ARCHIVE = re.compile(r"-0ubuntu0?[.0-9]")
_UPGRADED = re.compile(r"(lib)?nvidia-|linux-(modules|objects)-nvidia")


def _mixed(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    packages = tuple(line for line in remains(driver) if line.startswith("package "))
    if not driver.runfile or not packages or not applies(probe):
        return None
    return Verdict(("/usr/bin/nvidia-uninstall is there: NVIDIA's .run installer was used", *packages[:4]))


def _several_libraries(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    if len(driver.libraries) < 2 or mismatched(driver) or not applies(probe):
        return None
    return Verdict(
        (
            *(f"libnvidia-ml.so.{version}" for version in driver.libraries),
            f"in use: {driver.userspace or 'unknown'}",
            *((f"loaded module: {driver.loaded}",) if driver.loaded else ()),
        )
    )


def _half_installed(probe: Probe) -> Verdict | None:
    broken = probe.facts.driver.packages_broken
    if not broken or not applies(probe):
        return None
    return Verdict(
        tuple(f"package {line}" for line in broken), about=frozenset(line.split()[0] for line in broken if line)
    )


def _by_night(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    if not driver.auto_upgrades or driver.loaded is None or driver.packages_held is None or not applies(probe):
        return None
    if driver.auto_upgrades_spare:
        return None  # whatever is spared there, somebody thought of it
    ours = [
        f"package {name} {version}"
        for name, version in driver.packages.items()
        if _UPGRADED.match(name) and _OF_THE_ARCHIVE.search(version) and name not in driver.packages_held
    ]
    if not ours:
        return None
    more = (f"and {len(ours) - 4} more packages",) if len(ours) > 4 else ()
    return Verdict((*ours[:4], *more, "unattended-upgrades is on and nothing spares NVIDIA's packages"))


RULES = (
    Rule(
        "GW-DRIVER-052",
        "warning",
        "packages and NVIDIA's .run installer are mixed",
        "The driver was installed with NVIDIA's .run file, and packages of the driver are installed as well. Each "
        "overwrites files of the other.",
        "Choose one: run `nvidia-uninstall`, then reinstall the packages; or purge the packages first.",
        _mixed,
        ("hosts.md §5.2",),
        effect="The next upgrade of either leaves module and library of different versions.",
        detected="/usr/bin/nvidia-uninstall is there, and the package manager lists driver packages.",
        messages=(
            "An alternate method of installing the NVIDIA driver was detected.",
            "Driver/library version mismatch",
        ),
        sources=("NVIDIA/nvidia-installer", "docs.nvidia.com/datacenter/tesla/driver-installation-guide"),
        instead_of=("GW-DRIVER-053",),
    ),
    Rule(
        "GW-DRIVER-053",
        "warning",
        "several versions of the driver's library",
        "Files of a former driver were left behind, or two ways of installing were mixed.",
        "Find out which package owns which (`dpkg -S`, `rpm -qf`), remove the files that nobody owns, run `ldconfig`, "
        "and renew the CDI specification.",
        _several_libraries,
        ("hosts.md §5.2", "hosts.md §3.1"),
        effect="ldconfig takes the newest one, whether it fits the module or not; containers may get the wrong one.",
        detected="Files libnvidia-ml.so of different versions in the host's library folders.",
        messages=("Driver/library version mismatch",),
        sources=("ldconfig(8)", "NVIDIA/libnvidia-container"),
    ),
    Rule(
        "GW-DRIVER-054",
        "warning",
        "driver packages are half installed",
        "The package manager was interrupted, or a package's script failed: most often the DKMS build.",
        "As root: `dpkg --configure -a`, then `apt-get -f install`, and read what fails.",
        _half_installed,
        ("hosts.md §5.2",),
        effect="apt refuses other work until it is mended, and the driver may be there in part only.",
        detected="dpkg's state of the driver packages.",
        messages=("dpkg was interrupted, you must manually run 'dpkg --configure -a'",),
        sources=("dpkg-query(1)",),
        instead_of=("GW-HOST-027",),
    ),
    Rule(
        "GW-DRIVER-055",
        "warning",
        "the driver may be upgraded by night",
        "unattended-upgrades is on, and Ubuntu delivers drivers through the security pocket. It replaces the library "
        "while the old module stays loaded.",
        "Hold the driver's packages (`apt-mark hold …`) or name them in Unattended-Upgrade::Package-Blacklist, and "
        "upgrade drained nodes on purpose.",
        _by_night,
        ("kubernetes.md §1.14 #22", "hosts.md §5.2"),
        effect="Some morning every new GPU container fails with `Driver/library version mismatch`.",
        detected="APT::Periodic::Unattended-Upgrade is on, driver packages of Ubuntu's archive are installed and not "
        "held, and no pattern in the configuration names nvidia.",
        messages=("Driver/library version mismatch",),
        sources=("unattended-upgrade(8)", "NVIDIA/gpu-operator#898", "pando85/homelab#4110"),
    ),
)
