"""The driver's four versions: loaded, on disk, user space, next kernel (`hosts.md §0 rule 6, §3`)."""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from gpuwizard.facts.gpu.nvidia_smi import SmiTable, cell, smi_problem
from gpuwizard.facts.model import DriverFacts
from gpuwizard.facts.text import value, version_key

__all__ = ["driver_facts", "library_version", "module_version", "newest_kernel", "nvrm_version"]

Flavour = Literal["open", "proprietary"]
_NVRM = re.compile(r"^NVRM version:.*Kernel Module(?: for \S+)?\s+([0-9][0-9.]*)", re.MULTILINE)
_LIBRARY = re.compile(r"libnvidia-ml\.so\.([0-9]+\.[0-9.]*[0-9])$")


def nvrm_version(text: str | None) -> tuple[str | None, Flavour | None]:
    """Version and flavour of the loaded module from ``/proc/driver/nvidia/version`` (`hosts.md §3.1`)."""
    match = _NVRM.search(text or "")
    if match is None:
        return None, None
    return match[1].rstrip("."), "open" if "Open Kernel Module" in match[0] else "proprietary"


def module_version(text: str | None) -> str | None:
    """A version as modinfo and ``/sys/module/nvidia/version`` print it, else None."""
    first = (text or "").strip().partition("\n")[0].strip()
    return first if re.fullmatch(r"[0-9]{2,4}(\.[0-9]{1,4}){1,3}", first) else None


def library_version(paths: Iterable[str], help_text: str | None = None) -> str | None:
    """The user-space version: out of the name ``libnvidia-ml.so.580.95.05``, the newest where there are several;
    without one, out of the first line of ``nvidia-smi -h``, which works without a driver."""
    versions = [match[1] for path in paths if (match := _LIBRARY.search(path.strip()))]
    if versions:
        return max(versions, key=version_key)
    match = re.search(r"NVIDIA System Management Interface -- v([0-9][0-9.]*)", help_text or "")
    return match[1].rstrip(".") if match else None


def newest_kernel(kernels: Iterable[str]) -> str | None:
    """The newest of the installed kernels that a boot would take; rescue images do not count."""
    real = [k.strip() for k in kernels if k.strip() and "rescue" not in k]
    return value(max(real, key=version_key)) if real else None


def driver_facts(
    *,
    nvrm: str | None,
    module: str | None,
    modinfo: tuple[int, str] | None,
    license_text: str | None,
    others: Mapping[str, tuple[int, str]],
    kernels: Iterable[str],
    running: str | None,
    libraries: Iterable[str],
    help_text: str | None,
    smi: tuple[int, SmiTable] | None,
    smi_seconds: float | None,
) -> DriverFacts:
    """Put the versions together. `modinfo` and `others` (per kernel) are (exit status, output); None: not asked."""
    installed = [k.strip() for k in kernels]
    loaded, flavour = nvrm_version(nvrm)
    answers = dict(others)
    if modinfo is not None and running is not None:
        answers[running] = modinfo
    on_disk = module_version(modinfo[1]) if modinfo is not None and modinfo[0] == 0 else None
    newest = newest_kernel(installed) or running
    newest_answer = answers.get(newest) if newest else None
    if flavour is None and license_text is not None and on_disk is not None:
        flavour = "open" if "MIT" in license_text else "proprietary"
    return DriverFacts(
        loaded=loaded or module_version(module),
        on_disk=on_disk,
        userspace=library_version(libraries, help_text) or _reported(smi),
        next_kernel=module_version(newest_answer[1]) if newest_answer and newest_answer[0] == 0 else None,
        flavour=flavour,
        problem=smi_problem(*smi) if smi is not None else None,
        problem_code=smi[0] if smi is not None and smi[0] != 0 else None,
        newest_kernel=newest,
        kernels_without_module=tuple(k for k, (status, _) in sorted(answers.items()) if status == 1),
        smi_seconds=smi_seconds,
        persistence=_persistence(smi),
    )


def _reported(smi: tuple[int, SmiTable] | None) -> str | None:
    """nvidia-smi answers only when module and library agree: then its driver version is the library's as well."""
    if smi is None or smi[0] not in (0, 14):
        return None
    return next((v for row in smi[1].rows if (v := module_version(cell(row.get("driver_version"))))), None)


def _persistence(smi: tuple[int, SmiTable] | None) -> bool | None:
    modes = {cell(row.get("persistence_mode")) for row in smi[1].rows} - {None} if smi is not None else set()
    return None if not modes else modes == {"Enabled"}
