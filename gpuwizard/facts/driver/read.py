"""The driver of one probe, put together from what each part of it says."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from gpuwizard.facts.driver.dkms import dkms_failures, parse_dkms
from gpuwizard.facts.driver.log import read_log
from gpuwizard.facts.driver.modules import Modules, read_modules
from gpuwizard.facts.driver.smi import problem_kind
from gpuwizard.facts.driver.versions import (
    host_libraries,
    library_version,
    module_version,
    nvrm_version,
    operator_libraries,
    reported_version,
)
from gpuwizard.facts.frames import Frames
from gpuwizard.facts.gpu.nvidia_smi import SmiTable, cell, smi_problem
from gpuwizard.facts.gpu.read import GpuLook
from gpuwizard.facts.look import Look
from gpuwizard.facts.model import DriverFacts, KernelFacts
from gpuwizard.facts.text import number, value

__all__ = ["driver_packages", "read_driver"]

_PACKAGE = re.compile(
    r"(lib)?nvidia-(driver|open|dkms|kernel|headless|utils|compute|gl|ml|fabric-?manager|imex|persistenced|smi|kmod|legacy|"
    r"tesla|firmware|modprobe|common|l4t|gfx)"
    r"|linux-(modules|objects|signatures)-nvidia|cuda-drivers|(kmod|akmod|dkms)-nvidia|xorg-x11-drv-nvidia|nvlsm"
    r"|xserver-xorg-video-nvidia|libcuda1$|nvidia$|nvidia-lts$"
)
_NO_DRIVER = re.compile(
    r"nvidia-(kernel-common|driver-pinning|modprobe|persistenced|installer-cleanup|legacy-check)|.*-dev(-|$)"
)
"""Packages that can be there without a driver, or that belong to several."""
_MANAGER = re.compile(r"nvidia-fabric-?manager(-[0-9]{3}(-server)?)?")
_UPSTREAM = re.compile(r"(?:[0-9]+:)?([0-9]{3}\.[0-9.]{1,12}[0-9])")
_SIGNING = ("sig_enforce:", "lockdown:")  # lines about signatures among the words of the command line
_HGX_NVLINK5 = ("10de:2901", "10de:3182")  # B200, B300: their switches hide behind InfiniBand functions


def read_driver(look: Look, kernel: KernelFacts, gpus: GpuLook, *, immutable: bool | None = None) -> DriverFacts:
    """The driver facts of one probe. `immutable` tells that packages come with the system's image."""
    frames = look.frames
    modules = read_modules(frames, kernel.release)
    here, following = modules.of(kernel.release), modules.of(modules.newest)
    paths = frames.lines("nvml-files")
    nvrm, flavour = nvrm_version(frames.text("nvrm-version"))
    loaded = nvrm or module_version(frames.text("module-version"))
    problem = smi_problem(*gpus.smi) if gpus.smi is not None else None
    code = gpus.smi[0] if gpus.smi is not None and gpus.smi[0] != 0 else None
    library = library_version(paths, link=frames.text("nvml-link"), loaded=loaded, help_text=frames.text("smi-help"))
    packages = driver_packages(look.packages)
    marks = frozenset(frames.lines("driver-marks"))
    log = read_log(frames.get("kernel-log"))
    took = number(frames.text("smi-seconds"))
    words = frames.lines("module-loading")
    facts = DriverFacts(
        loaded=loaded,
        on_disk=here.version if here else None,
        userspace=reported_version(gpus.smi) or library,
        next_kernel=following.version if following else None,
        flavour=flavour or (here.flavour if here else None),
        problem=problem,
        problem_code=code,
        newest_kernel=value(modules.newest),
        kernels_without_module=modules.without,
        smi_seconds=None if took is None else float(took),
        persistence=_persistence(gpus.smi),
        disk_flavour=here.flavour if here else None,
        kernels_without_headers=tuple(k.release for k in modules.kernels if k.headers is False),
        dkms=parse_dkms(frames.text("dkms") or "", frames.text("dkms-links") or ""),
        packages=packages,
        installer=_installer(look, packages, marks, modules, loaded, immutable, operators=operator_libraries(paths)),
        modules_loaded=_names(frames, "driver-modules"),
        log=log.lines,
        device_nodes=_names(frames, "device-nodes"),
        problem_kind=problem_kind(problem, code),
        libraries=host_libraries(paths),
        kernel_modules=modules.files,
        module_settings=modules.settings,
        kernel_arguments=tuple(w for line in words if not line.startswith(_SIGNING) and (w := value(line))),
        signatures_enforced=_signatures(words),
        dkms_log=dkms_failures(frames),
        runfile="/usr/bin/nvidia-uninstall" in marks if frames.get("driver-marks") is not None else None,
        uptime_seconds=log.uptime,
    )
    return _with_company(facts, look, gpus, modules, marks)


def _with_company(
    facts: DriverFacts, look: Look, gpus: GpuLook, modules: Modules, marks: frozenset[str]
) -> DriverFacts:
    """The same with what stands beside the driver: daemons, and what may change its packages."""
    frames = look.frames
    return replace(
        facts,
        persistenced=look.service("nvidia-persistenced.service"),
        fabric_manager=look.service("nvidia-fabricmanager.service"),
        fabric_manager_version=_manager_version(frames, look.packages),
        imex=look.service("nvidia-imex.service"),
        imex_channels={"1": True, "0": False}.get((frames.text("imex-channels") or "").strip()),
        nvlink5=_nvlink5(frames, gpus),
        packages_held=_package_names(frames, "packages-held"),
        packages_broken=_package_names(frames, "packages-broken"),
        auto_upgrades=modules.auto_upgrades if "/usr/bin/unattended-upgrade" in marks else None,
        auto_upgrades_spare=modules.spare,
        compute_domains="/var/lib/kubelet/plugins/compute-domain.nvidia.com" in marks if look.root else None,
        fabric_manager_log=tuple(w for line in frames.lines("fabric-manager-log")[-12:] if (w := value(line))),
    )


def driver_packages(packages: Mapping[str, str]) -> dict[str, str]:
    """Those of the installed packages that make a driver, with their versions."""
    return {
        name: version
        for name, version in packages.items()
        if _PACKAGE.match(name) and not _NO_DRIVER.match(name) and "container" not in name and "nvidia-fs" not in name
    }


def _installer(
    look: Look,
    packages: Mapping[str, str],
    marks: frozenset[str],
    modules: Modules,
    loaded: str | None,
    immutable: bool | None,
    *,
    operators: frozenset[str],
) -> Literal["package", "runfile", "operator", "image"] | None:
    own = {name for name in packages if not _MANAGER.fullmatch(name)}
    if "/run/nvidia/driver/usr" in marks:
        ours = loaded in {module.version for module in modules.files} - {None}
        if (loaded in operators and not ours) or not (loaded and (own or modules.files)):
            return "operator"
    if own:
        return "package"
    if "/usr/bin/nvidia-uninstall" in marks:
        return "runfile" if look.packages_asked else None
    return "image" if immutable and (loaded or modules.files) else None


def _names(frames: Frames, section: str) -> tuple[str, ...] | None:
    found = frames.get(section)
    if found is None or found.cut:
        return None
    return tuple(name for line in found.lines if (name := value(line)))


def _package_names(frames: Frames, section: str) -> tuple[str, ...] | None:
    """Driver packages among the ``name version …`` lines; the first word, and dpkg's word where there is a third."""
    if frames.get(section) is None:
        return None
    lines = (line.split() for line in frames.lines(section))
    found = {words[0]: " ".join((words[0], *words[2:3])) for words in lines if words}
    return tuple(shown for name in driver_packages(found) if (shown := value(found[name])))


def _persistence(smi: tuple[int, SmiTable] | None) -> bool | None:
    modes = {cell(row.get("persistence_mode")) for row in smi[1].rows} - {None} if smi is not None else set()
    return None if not modes else modes == {"Enabled"}


def _manager_version(frames: Frames, packages: Mapping[str, str]) -> str | None:
    said = re.search(r"version is\s*:?\s*([0-9]{3}\.[0-9.]{1,12}[0-9])", frames.good("fabric-manager-version") or "")
    if said:
        return said[1]
    found = {
        match[1]
        for name, version in packages.items()
        if _MANAGER.fullmatch(name) and (match := _UPSTREAM.match(version))
    }
    return found.pop() if len(found) == 1 else None


def _nvlink5(frames: Frames, gpus: GpuLook) -> bool | None:
    section = frames.get("nvlink5")
    if section is not None:
        return True if "vpd" in section.text else False if section.status == 1 else None
    if frames.get("pci") is None:
        return None
    return None if any(gpu.pci_id in _HGX_NVLINK5 for gpu in gpus.gpus) else False


def _signatures(words: list[str]) -> bool | None:
    """Whether the kernel refuses modules without a good signature: its own switch, or lockdown."""
    said = dict(line.partition(":")[::2] for line in words if ":" in line)
    if said.get("sig_enforce", "").strip() in ("Y", "1") or "module.sig_enforce=1" in words:
        return True
    lockdown = re.search(r"\[(\w+)\]", said.get("lockdown", ""))
    if lockdown and lockdown[1] in ("integrity", "confidentiality"):
        return True
    return False if "sig_enforce" in said and lockdown else None
