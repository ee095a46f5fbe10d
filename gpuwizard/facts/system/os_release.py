"""Distribution, special environments and the kernel out of os-release and a few marks (`hosts.md §1`)."""

import re
from collections.abc import Collection, Mapping
from typing import Literal

from gpuwizard.facts.model import KernelFacts, OsFacts
from gpuwizard.facts.system.distributions import family_of, immutable_by_name
from gpuwizard.facts.system.release_text import parse_os_release
from gpuwizard.facts.text import value

__all__ = ["dgx_version", "kernel_facts", "l4t_version", "os_facts", "parse_os_release", "secure_boot"]

Kind = Literal["host", "container", "wsl2", "wsl1", "jetson", "bottlerocket"]

_IMMUTABLE_MARKS: Mapping[str, str] = {
    "/run/ostree-booted": "/run/ostree-booted: the system is an OSTree image",
    "/etc/NIXOS": "/etc/NIXOS: the system is built from its configuration",
    "/usr/share/flatcar": "/usr/share/flatcar: an image with A and B partitions",
    "/etc/kairos-release": "/etc/kairos-release: an image with A and B partitions",
    "/.bottlerocket": "/.bottlerocket: this is Bottlerocket, changed through its API alone",
    "transactional-update": "transactional-update is installed: changes go into the next snapshot",
    "/usr is read-only": "/usr is mounted read-only",
    "/ is a read-only image": "/ is a read-only image",
}
_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv", "/run/secrets/kubernetes.io")
_CONTAINER_GROUP = re.compile(r"/[^\n]*(docker|kubepods|libpod|containerd|lxc|garden|buildkit|machine\.slice)")
_WSL2 = re.compile(r"microsoft-standard|wsl2", re.IGNORECASE)
_WSL1 = re.compile(r"^4\.4\.0-\d+-microsoft$", re.IGNORECASE)
_L4T = re.compile(r"#\s*R(\d{1,4})\s*\(release\),\s*REVISION:\s*(\d{1,4}(?:\.\d{1,4}){0,3})")
_PLATFORM = re.compile(r"platform:[a-z]+(\d{1,6})", re.IGNORECASE)
_LEADING = re.compile(r"[vV]?(\d{1,9})(?![0-9A-Za-z])")


def dgx_version(text: str | None) -> str | None:
    """The installed DGX OS version: the last over-the-air update, else the image (`hosts.md §1.3`)."""
    if text is None:
        return None
    release = parse_os_release(text)
    return release.get("DGX_OTA_VERSION") or release.get("DGX_SWBUILD_VERSION") or None


def l4t_version(text: str | None) -> str | None:
    """The Jetson release of ``# R36 (release), REVISION: 4.3, …`` as ``36.4.3``."""
    match = _L4T.search(text or "")
    return f"{match[1]}.{match[2]}" if match else None


def os_facts(
    release_text: str | None,
    *,
    dgx_text: str | None = None,
    tegra_text: str | None = None,
    marks: Collection[str] | None = (),
    kernel_release: str | None = None,
    fastos_text: str | None = None,
    soc_family: str | None = None,
    container: str | None = None,
    init_groups: str | None = None,
    proxmox: str | None = None,
    whole: bool = True,
) -> OsFacts:
    """The distribution. An absent os-release leaves everything None; `family` is then ``unknown``.

    `marks` are the paths that are there, None where they could not be looked for. `container` is what systemd says it
    runs in, `init_groups` the control groups of process 1, `proxmox` the version of Proxmox VE's package. With `whole`
    false the end of `release_text` is missing, and what it does not say is not known.
    """
    release = parse_os_release(_lines(release_text, whole=whole))
    name = release.get("ID", "").lower() or None
    like = tuple(word for word in re.split(r"[\s,]+", release.get("ID_LIKE", "").lower()) if word)
    seen = marks or ()
    tegra = tegra_text is not None or (soc_family or "").strip().lower().startswith("tegra")
    kind, kind_why = _kind(seen, name, kernel_release, container, init_groups, tegra=tegra)
    if kind == "bottlerocket" and name != "bottlerocket":  # its admin container says Amazon Linux 2 (hosts.md §1.4)
        name, like, release = "bottlerocket", (), {"PRETTY_NAME": "Bottlerocket"}
    family = family_of(name, like)
    why = _immutable(name, like, release.get("VARIANT_ID", "").lower(), seen)
    known = name is not None and marks is not None and whole
    version = release.get("VERSION_ID") or None
    return OsFacts(
        id=name,
        id_like=like,
        version_id=None if version == "TEMPLATE_VERSION_ID" else version,
        pretty_name=release.get("PRETTY_NAME") or release.get("NAME") or name,
        family="unknown" if family == "other" and not whole else family,
        immutable=True if why is not None else False if known else None,
        dgx=dgx_version(dgx_text),
        kind=kind,
        codename=next((release[key] for key in ("VERSION_CODENAME", "DEBIAN_CODENAME") if release.get(key)), None),
        variant_id=release.get("VARIANT_ID", "").lower() or None,
        major=_major(release),
        dgx_name=_dgx_name(dgx_text, fastos_text),
        l4t=l4t_version(tegra_text) if kind == "jetson" else None,
        proxmox=proxmox if kind == "host" else None,
        immutable_why=why,
        container=value(container),
        kind_why=kind_why,
    )


def _lines(text: str | None, *, whole: bool) -> str:
    """The text; of one that was cut only the lines that came to their end."""
    if text is None:
        return ""
    return text if whole else text.rpartition("\n")[0]


def _immutable(name: str | None, like: tuple[str, ...], variant: str, marks: Collection[str]) -> str | None:
    by_name = immutable_by_name(name, like, variant)
    return by_name or next((why for mark, why in _IMMUTABLE_MARKS.items() if mark in marks), None)


def _kind(
    marks: Collection[str],
    name: str | None,
    kernel: str | None,
    container: str | None,
    init_groups: str | None,
    *,
    tegra: bool,
) -> tuple[Kind, str | None]:
    """The environment, and what tells it. A container on WSL2 has its kernel, and one on a Jetson its files: so
    containers come first, except that the root of a WSL2 guest may once have been a container's and keep the mark."""
    shown = f"kernel {kernel}" if kernel else None
    wsl: Kind = "wsl1" if kernel and _WSL1.search(kernel) else "wsl2"
    if name == "bottlerocket" or "/.bottlerocket" in marks:
        return "bottlerocket", "/.bottlerocket" if "/.bottlerocket" in marks else "ID=bottlerocket"
    if "/run/WSL" in marks or container == "wsl":
        return wsl, "/run/WSL" if "/run/WSL" in marks else "/run/systemd/container: wsl"
    if not {"/run/systemd/system", "/run/openrc"} & set(marks):
        if mark := next((mark for mark in _CONTAINER_MARKS if mark in marks), None):
            return "container", mark
        if group := _CONTAINER_GROUP.search(init_groups or ""):
            return "container", f"/proc/1/cgroup: {value(group[0])}"
    if wsl == "wsl1" or _WSL2.search(kernel or ""):
        return wsl, shown
    if {"/dev/dxg", "/usr/lib/wsl/lib/nvidia-smi"} <= set(marks):
        return "wsl2", "/dev/dxg and /usr/lib/wsl/lib/nvidia-smi"
    return ("jetson", "/etc/nv_tegra_release or a Tegra in /sys/devices/soc0") if tegra else ("host", None)


def _major(release: Mapping[str, str]) -> int | None:
    """The integer part of the version; PLATFORM_ID (``platform:el9``) is surer where there is one."""
    match = _PLATFORM.fullmatch(release.get("PLATFORM_ID", "")) or _LEADING.match(release.get("VERSION_ID", ""))
    return int(match[1]) if match else None


def _dgx_name(dgx_text: str | None, fastos_text: str | None) -> str | None:
    """What the machine calls itself; DGX_PLATFORM is wrong on a Spark (`hosts.md §1.3`)."""
    release = parse_os_release(dgx_text or "")
    named = release.get("DGX_NAME") or release.get("DGX_PRETTY_NAME")
    if named:
        return named
    return "DGX Spark" if "SPARK" in parse_os_release(fastos_text or "").get("NAME", "").upper() else None


def secure_boot(text: str | None, status: int = 0) -> bool | None:
    """Whether Secure Boot is on: from ``bios``, the bytes of the EFI variable (the fifth is the value) or the words
    of mokutil; None when it could not be read."""
    if text is None or status != 0:
        return None
    if text.strip() == "bios":
        return False
    numbers = text.split()
    if len(numbers) == 5 and all(re.fullmatch(r"[0-9]{1,3}", n) for n in numbers):
        return {"0": False, "1": True}.get(numbers[4])
    words = re.search(r"SecureBoot (enabled|disabled)", text)
    return words[1] == "enabled" if words else None


def kernel_facts(uname: str | None, secure: bool | None) -> tuple[str | None, KernelFacts]:
    """Host name and kernel from the three words of ``uname -n -r -m`` (printed in that order)."""
    words = (uname or "").split()
    if len(words) != 3:
        return None, KernelFacts(secure_boot=secure)
    return value(words[0]), KernelFacts(release=value(words[1]), arch=value(words[2]), secure_boot=secure)
