"""Kernels, NVIDIA's module on disk for each of them, and what modprobe is told (`hosts.md §3.1, §3.2`)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from gpuwizard.facts.driver.versions import module_version, newer_kernel
from gpuwizard.facts.frames import Frames
from gpuwizard.facts.model.driver import KernelModule, ModuleFlavour
from gpuwizard.facts.text import value

__all__ = ["Kernel", "Modules", "newest_kernel", "parse_kernels", "read_modules"]

_DEPENDENCIES = re.compile(r"/lib/modules/([^/:\s]+)/modules\.dep:([^:\s]+):")
_SETTING = re.compile(r"(/(?:etc|run|usr/lib|lib)/modprobe\.d/[^:]+\.conf):(\s*(?:blacklist|install)\s.*)")
_APT = re.compile(r"/etc/apt/apt\.conf\.d/[^:]+:\s*(.*)")
_INSTALLED = re.compile(r"install\s+nvidia\s+.*\bmodprobe\s+(?:-\S+\s+)*(nvidia[-_]\S+)")
_FILE = re.compile(r"/lib/modules/([^/\s]+)/(\S+)$")


@dataclass(frozen=True, slots=True)
class Kernel:
    """An installed kernel: release, whether its headers are there, a boot image, and a readable list of its modules.
    None: not seen."""

    release: str
    headers: bool | None = None
    image: bool | None = None
    listed: bool | None = None


@dataclass(frozen=True, slots=True)
class Modules:
    """What is on disk. `files` are all modules of NVIDIA that were found; `without` the kernels that certainly have
    none. `settings` are lines of modprobe.d; `auto_upgrades` and `spare` are what unattended-upgrades is told."""

    kernels: tuple[Kernel, ...] = ()
    newest: str | None = None
    files: tuple[KernelModule, ...] = ()
    without: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    auto_upgrades: bool | None = None
    spare: tuple[str, ...] = ()

    def of(self, kernel: str | None) -> KernelModule | None:
        """The module that kernel would load."""
        return next((module for module in self.files if module.kernel == kernel), None)


@dataclass(frozen=True, slots=True)
class _Listed:
    """The lines of the probe's one look into modules.dep, modprobe.d and apt's configuration."""

    paths: tuple[tuple[str, str], ...] = ()
    settings: tuple[str, ...] = ()
    apt: tuple[str, ...] = ()
    chosen: str | None = None


@dataclass(frozen=True, slots=True)
class _Details:
    version: str | None = None
    flavour: ModuleFlavour | None = None
    signed: bool | None = None
    signer: str | None = None


def read_modules(frames: Frames, running: str | None) -> Modules:
    """What one probe saw of kernels and modules on disk."""
    seen = frames.get("kernels")
    kernels = parse_kernels(seen.text) if seen is not None and not seen.cut else ()
    section = frames.get("driver-files")
    listed = _parse_listed(section.text) if section is not None else _Listed()
    details = _parse_modinfo(frames.text("modinfo") or "")
    modules = {}
    for kernel, path in listed.paths:
        more = details.get((kernel, path), _Details())
        module = KernelModule(kernel, path, more.version, more.flavour, more.signed, more.signer)
        # Debian can have both flavours under names of their own; modprobe.d says which one is meant
        if kernel not in modules or (listed.chosen is not None and f"/{listed.chosen}.ko" in f"/{path}"):
            modules[kernel] = module
    certain = section is not None and section.status in (0, 1) and not section.cut
    without = [k.release for k in kernels if k.release not in modules and k.listed is not False] if certain else []
    if certain and kernels and running is not None and running not in {k.release for k in kernels}:
        without.append(running)  # its whole directory is gone
    switches = [line for line in listed.apt if line.startswith("APT::Periodic::Unattended-Upgrade")]
    return Modules(
        kernels=kernels,
        newest=newest_kernel(kernels, running),
        files=tuple(modules.values()),
        without=tuple(without),
        settings=listed.settings,
        auto_upgrades=re.search(r'"\s*[1-9]', switches[-1]) is not None if switches else None,
        spare=tuple(line for line in listed.apt if line not in switches),
    )


@lru_cache(maxsize=256)
def parse_kernels(text: str) -> tuple[Kernel, ...]:
    """``6.8.0-90-generic headers=1 image=1`` a line; the words behind the release may be missing."""
    found: dict[str, Kernel] = {}
    for line in text.splitlines():
        release, *words = line.split() or [""]
        shown = value(release)
        if shown is None or "rescue" in shown:
            continue
        said = dict(word.partition("=")[::2] for word in words)
        flags = [{"1": True, "0": False}.get(said.get(name, "")) for name in ("headers", "image", "listed")]
        found.setdefault(shown, Kernel(shown, *flags))
    return tuple(found.values())


def newest_kernel(kernels: Iterable[Kernel], running: str | None) -> str | None:
    """The newest of the installed kernels that a boot could take; the running one unless another is newer.

    A kernel without an image counts only where no image of any kernel was seen: then /boot was not visible.
    """
    known = tuple(kernels)
    visible = any(kernel.image for kernel in known)
    newest = running
    for kernel in known:
        if visible and kernel.image is False:
            continue
        if newest is None or newer_kernel(kernel.release, newest):
            newest = kernel.release
    return newest


@lru_cache(maxsize=256)
def _parse_listed(text: str) -> _Listed:
    paths: list[tuple[str, str]] = []
    settings: list[str] = []
    apt: list[str] = []
    chosen = None
    for line in text.splitlines():
        if match := _DEPENDENCIES.search(line[:2000]):
            kernel, path = value(match[1]), value(match[2])
            if kernel and path and (kernel, path) not in paths:
                paths.append((kernel, path))
        elif match := _SETTING.search(line[:2000]):
            if shown := value(f"{match[1]}: {match[2].strip()}"):
                settings.append(shown)
            if ours := _INSTALLED.search(match[2]):
                chosen = value(ours[1])
        elif (match := _APT.search(line[:2000])) and (shown := value(match[1])):
            apt.append(shown)
    return _Listed(tuple(paths), tuple(dict.fromkeys(settings)), tuple(apt), chosen)


@lru_cache(maxsize=256)
def _parse_modinfo(text: str) -> Mapping[tuple[str, str], _Details]:
    """The blocks that modinfo prints, one per file, by kernel and path within its directory."""
    blocks: list[dict[str, str]] = []
    for line in text.splitlines():
        key, colon, rest = line[:1000].partition(":")
        if key == "filename":
            blocks.append({})
        if colon and blocks:
            blocks[-1].setdefault(key, rest.strip())
    return {place: _details(fields) for fields in blocks if (place := _place(fields["filename"])) is not None}


def _place(filename: str) -> tuple[str, str] | None:
    match = _FILE.search(filename)
    return (match[1], match[2]) if match else None


def _details(fields: Mapping[str, str]) -> _Details:
    terms = fields.get("license")
    flavour: ModuleFlavour | None = None
    if terms is not None:
        flavour = "open" if "MIT" in terms or "GPL" in terms else "proprietary" if terms == "NVIDIA" else None
    version = module_version(fields.get("version"))
    signed = None if version is None else "sig_id" in fields or "signer" in fields
    return _Details(version, flavour, signed, value(fields.get("signer")))
