"""Versions of the driver: the loaded module's, the library's, and what counts as a newer kernel (`hosts.md §3.1`)."""

import re
from collections.abc import Iterable

from gpuwizard.facts.gpu.nvidia_smi import SmiTable, cell
from gpuwizard.facts.model.driver import ModuleFlavour
from gpuwizard.facts.text import version_key

__all__ = [
    "host_libraries",
    "library_version",
    "module_version",
    "newer_kernel",
    "nvrm_version",
    "operator_libraries",
    "reported_version",
]

_NVRM = re.compile(r"^NVRM version:[^\n]{0,200}?Kernel Module(?: for \S{1,40})?\s+([0-9][0-9.]{1,30})", re.MULTILINE)
_LIBRARY = re.compile(r"libnvidia-ml\.so\.([0-9]{1,4}\.[0-9.]{0,20}[0-9])$")
_VERSION = re.compile(r"[0-9]{2,4}(\.[0-9]{1,4}){1,3}")
_OPERATOR_ROOT = "/run/nvidia/driver/"


def nvrm_version(text: str | None) -> tuple[str | None, ModuleFlavour | None]:
    """Version and flavour of the loaded module from ``/proc/driver/nvidia/version``.

    The line differs between flavours, on Jetson, and in modules that people built themselves: the date may be
    localised or missing, and the version has two or three parts.
    """
    match = _NVRM.search((text or "")[:4000])
    version = module_version(match[1].rstrip(".")) if match else None
    if match is None or version is None:
        return None, None
    return version, "open" if "Open Kernel Module" in match[0] else "proprietary"


def module_version(text: str | None) -> str | None:
    """A version as modinfo and ``/sys/module/nvidia/version`` print it, else None."""
    first = (text or "")[:200].strip().partition("\n")[0].strip()
    return first if _VERSION.fullmatch(first) else None


def host_libraries(paths: Iterable[str]) -> tuple[str, ...]:
    """The versions of all libraries of the host itself, without those of a driver that the GPU Operator brought."""
    found = _library_versions(paths)
    own = {version for path, version in found.items() if not path.startswith(_OPERATOR_ROOT)}
    return tuple(sorted(own, key=version_key))


def operator_libraries(paths: Iterable[str]) -> frozenset[str]:
    """The versions of the libraries below the root of a driver that the GPU Operator brought."""
    return frozenset(v for path, v in _library_versions(paths).items() if path.startswith(_OPERATOR_ROOT))


def _library_versions(paths: Iterable[str]) -> dict[str, str]:
    """Path → version, out of the names of the files ``libnvidia-ml.so.580.95.05``."""
    return {path.strip(): match[1] for path in paths if (match := _LIBRARY.search(path.strip()))}


def library_version(
    paths: Iterable[str], *, link: str | None = None, loaded: str | None = None, help_text: str | None = None
) -> str | None:
    """The user-space version.

    A driver that the GPU Operator brought has its own root: there the library counts that fits the loaded module.
    Of several files the one counts to which the link ``libnvidia-ml.so.1`` leads, else the newest, as ldconfig does
    it. Without any file the first line of ``nvidia-smi -h`` tells it, which works without a driver.
    """
    found = _library_versions(paths)
    operator = {version for path, version in found.items() if path.startswith(_OPERATOR_ROOT)}
    if loaded is not None and loaded in operator:
        return loaded
    host = {version for path, version in found.items() if not path.startswith(_OPERATOR_ROOT)}
    linked = _LIBRARY.search((link or "").strip())
    if linked and linked[1] in host:
        return linked[1]
    if candidates := host or operator:
        return max(candidates, key=version_key)
    match = re.search(r"NVIDIA System Management Interface -- v([0-9][0-9.]{1,30})", (help_text or "")[:4000])
    return module_version(match[1].rstrip(".")) if match else None


def reported_version(smi: tuple[int, SmiTable] | None) -> str | None:
    """nvidia-smi answers only when module and library agree: then its driver version is the library's as well."""
    if smi is None or smi[0] not in (0, 14):
        return None
    return next((v for row in smi[1].rows if (v := module_version(cell(row.get("driver_version"))))), None)


def newer_kernel(release: str, than: str) -> bool:
    """True when the first number in which the two kernel releases differ is greater in `release`. Releases that
    differ in words alone (``+64k``, ``-lowlatency``) are no newer than each other."""
    for one, two in zip(re.split(r"[-.+_~]", release), re.split(r"[-.+_~]", than), strict=False):
        if not (re.fullmatch("[0-9]{1,9}", one) and re.fullmatch("[0-9]{1,9}", two)):
            return False
        if int(one) != int(two):
            return int(one) > int(two)
    return False
