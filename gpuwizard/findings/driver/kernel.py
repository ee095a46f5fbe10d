"""Rules about what keeps the kernel from loading the module: signatures, blacklists, another driver, a wrong build."""

import re

from gpuwizard.facts.model import Probe
from gpuwizard.findings.driver.words import (
    applies,
    foreign,
    logged,
    module_for,
    not_loaded,
    shown_log,
)
from gpuwizard.findings.rule import Rule, Verdict

__all__ = ["RULES", "refused"]

_REFUSED = (
    r"Loading of (unsigned module|module with (unavailable key|unsupported crypto)) is rejected|Key was rejected"
    r"|Required key not available|unsigned module loading is restricted"
)
_MISFIT = r"nvidia\S*: (version magic '|disagrees about version of symbol|Unknown symbol)"
_REPLACED = re.compile(r"install\s+nvidia\s+\S*/?(false|true)\b")
_BLACKLISTED = re.compile(r"blacklist\s+nvidia\s*$")


def refused(probe: Probe) -> bool:
    """One of the rules here says why a module that is on disk is not loaded."""
    return any(check(probe) is not None for check in (_signature, _blacklisted, _misfit))


def _signature(probe: Probe) -> Verdict | None:
    driver, kernel = probe.facts.driver, probe.facts.kernel
    module = module_for(driver, kernel.release)
    if not not_loaded(probe) or module is None:
        return None
    enforced = driver.signatures_enforced
    lines = tuple(logged(probe, _REFUSED)) if kernel.secure_boot or enforced else ()
    unsigned = module.signed is False and enforced is True
    if not unsigned and not lines:
        return None
    evidence = [f"Secure Boot is {'on' if kernel.secure_boot else 'off'}" if kernel.secure_boot is not None else ""]
    evidence += ["the kernel refuses modules without a good signature"] if enforced else []
    if module.signed is not None:
        signer = f"signed by {module.signer or 'a key without a name'}" if module.signed else "not signed"
        evidence.append(f"/lib/modules/{module.kernel}/{module.path}: {signer}")
    return Verdict((*filter(None, evidence), *shown_log(lines)))


def _signature_next(probe: Probe) -> Verdict | None:
    driver, kernel = probe.facts.driver, probe.facts.kernel
    here, following = module_for(driver, kernel.release), module_for(driver, driver.newest_kernel)
    if here is None or following is None or here is following or driver.loaded is None or not applies(probe):
        return None
    if here.signed is not True or following.signed is not False or driver.signatures_enforced is not True:
        return None
    return Verdict(
        (
            f"/lib/modules/{here.kernel}/{here.path}: signed by {here.signer or 'a key without a name'}",
            f"/lib/modules/{following.kernel}/{following.path}: not signed",
            "the kernel refuses modules without a good signature",
        )
    )


def _blacklisted(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    if not not_loaded(probe) or module_for(driver, probe.facts.kernel.release) is None:
        return None
    lines = [line for line in driver.module_settings if _REPLACED.search(line) or _BLACKLISTED.search(line)]
    for word in driver.kernel_arguments:
        name, equals, names = word.partition("=")
        if equals and name.endswith("blacklist") and "nvidia" in re.split("[,:]", names):
            lines.append(f"/proc/cmdline: {word}")
    return Verdict((*lines, "the module nvidia is not loaded")) if lines else None


def _misfit(probe: Probe) -> Verdict | None:
    if not not_loaded(probe):
        return None
    lines = tuple(logged(probe, _MISFIT))
    return Verdict((f"running kernel: {probe.facts.kernel.release}", *shown_log(lines))) if lines else None


def _other_loaded(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    loaded = [name for name in driver.modules_loaded or () if name in ("nouveau", "nova_core")]
    if not loaded or not applies(probe) or foreign(probe):
        return None
    evidence = tuple(f"/sys/module/{name} is there; it holds no GPU" for name in loaded)
    return Verdict(evidence, severity="info" if driver.loaded else None)


RULES = (
    Rule(
        "GW-DRIVER-020",
        "error",
        "the kernel refuses the module's signature",
        "With Secure Boot on (or with signatures enforced otherwise) the kernel loads only modules that a known key "
        "signed, and this one is unsigned or signed by a key that nobody enrolled.",
        "Use the distribution's signed modules (Ubuntu linux-modules-nvidia-…, SUSE …-signed-kmp-…), or enrol the key "
        "that signed it: `mokutil --import /var/lib/shim-signed/mok/MOK.der` (DKMS: /var/lib/dkms/mok.pub), then "
        "confirm at the console during the next boot. Or switch Secure Boot off. The operator's driver container needs "
        "driver.enabled=false then.",
        _signature,
        ("hosts.md §3.2 #4", "kubernetes.md §1.14 #16"),
        effect="The module cannot be loaded: no GPU works.",
        detected="The module is on disk and not loaded, and either it has no signature while the kernel enforces "
        "signatures, or the kernel log says that a module was rejected.",
        messages=(
            "modprobe: ERROR: could not insert 'nvidia': Key was rejected by service",
            "modprobe: ERROR: could not insert 'nvidia': Required key not available",
            "Loading of unsigned module is rejected",
            "Loading of module with unavailable key is rejected",
            "Operation not permitted",
        ),
        sources=("NVIDIA/gpu-operator#1726", "NVIDIA/gpu-operator#266", "mokutil(1)", "kernel_lockdown(7)"),
    ),
    Rule(
        "GW-DRIVER-021",
        "warning",
        "the module for the next kernel is not signed",
        "The running kernel's module is signed, that of the newest installed kernel is not, and the kernel enforces "
        "signatures.",
        "Sign it before the next reboot: with DKMS see `mok_signing_key` in /etc/dkms/framework.conf and build it anew "
        "(`dkms install --force NAME/VERSION -k KERNEL`), or install the distribution's signed module.",
        _signature_next,
        ("hosts.md §3.2 #4", "hosts.md §3.2 #10"),
        effect="After the next reboot the kernel refuses the module and no GPU works.",
        detected="modinfo's signer of both modules, and sig_enforce or lockdown of the kernel.",
        messages=("Loading of unsigned module is rejected",),
        sources=("dkms(8)", "kernel_lockdown(7)"),
        instead_of=("GW-HOST-023",),
    ),
    Rule(
        "GW-DRIVER-022",
        "error",
        "the module nvidia is blacklisted",
        "A file of modprobe.d or the kernel's command line keeps the module from being loaded. prime-select, bumblebee "
        "and people who wanted nouveau leave such lines behind.",
        "Remove the line named above, run `update-initramfs -u` or `dracut -f`, then `modprobe nvidia`.",
        _blacklisted,
        ("hosts.md §2.4", "hosts.md §3.2 #4"),
        effect="The module is not loaded at boot: no GPU works.",
        detected="Lines `blacklist nvidia` or `install nvidia /bin/false` below modprobe.d, or module_blacklist= and "
        "modprobe.blacklist= on the kernel's command line, while the module is on disk and not loaded.",
        messages=("Module nvidia is blacklisted",),
        sources=("modprobe.d(5)", "kernel-parameters.txt module_blacklist"),
    ),
    Rule(
        "GW-DRIVER-023",
        "error",
        "the module does not fit the running kernel",
        "The module was built for another kernel or with another compiler configuration, so the kernel refuses it.",
        "Build or install it for exactly this kernel: `dkms install --force NAME/VERSION -k $(uname -r)`, or the "
        "distribution's package for it.",
        _misfit,
        ("hosts.md §3.2 #2",),
        effect="The module cannot be loaded: no GPU works.",
        detected="The kernel log names a wrong version magic or unknown symbols in nvidia's modules, and nvidia is not "
        "loaded.",
        messages=(
            "nvidia: version magic",
            "nvidia: disagrees about version of symbol module_layout",
            "modprobe: ERROR: could not insert 'nvidia': Exec format error",
        ),
        sources=("modprobe(8)", "Linux kernel/module/version.c"),
    ),
    Rule(
        "GW-DRIVER-024",
        "warning",
        "nouveau is loaded although it holds no GPU",
        "The kernel's own driver was loaded before NVIDIA's and does not hold a GPU now. While NVIDIA's module runs "
        "that does no harm.",
        "Blacklist nouveau (`blacklist nouveau`, `options nouveau modeset=0`), rebuild the initramfs and reboot.",
        _other_loaded,
        ("kubernetes.md §1.14 #15", "hosts.md §3.2 #5"),
        effect="At the next boot nouveau may take the GPU first. The operator's driver container stops while nouveau "
        "is loaded.",
        detected="/sys/module/nouveau or /sys/module/nova_core, and no GPU bound to it. A remark only while NVIDIA's "
        "module is loaded.",
        messages=("Unloading nouveau driver...", "rmmod: ERROR: Module nouveau is in use"),
        sources=("NVIDIA/cloud-native-docs gpu-operator/troubleshooting.rst",),
    ),
)
