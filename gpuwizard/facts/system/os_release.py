"""Distribution, special environments and the kernel out of os-release and a few marks (`hosts.md §1`)."""

import re
import shlex
from collections.abc import Collection, Mapping
from typing import Literal

from gpuwizard.facts.model import Family, KernelFacts, OsFacts
from gpuwizard.facts.text import value

__all__ = ["dgx_version", "kernel_facts", "os_facts", "parse_os_release", "secure_boot"]

_FAMILIES: Mapping[str, Family] = {
    "debian": "debian",
    "ubuntu": "debian",
    "rhel": "rhel",
    "fedora": "rhel",
    "centos": "rhel",
    "rocky": "rhel",
    "almalinux": "rhel",
    "ol": "rhel",
    "amzn": "rhel",
    "rhcos": "rhel",
    "suse": "suse",
    "opensuse": "suse",
    "opensuse-leap": "suse",
    "opensuse-tumbleweed": "suse",
    "sles": "suse",
    "sl-micro": "suse",
    "suse-microos": "suse",
    "alp-dolomite": "suse",
    "arch": "arch",
    "archarm": "arch",
    "nixos": "nixos",
    "flatcar": "flatcar",
    "talos": "talos",
    "azurelinux": "azurelinux",
    "mariner": "azurelinux",
}
_IMMUTABLE_IDS = frozenset(
    (
        "flatcar",
        "talos",
        "bottlerocket",
        "cos",
        "rhcos",
        "nixos",
        "sl-micro",
        "suse-microos",
        "opensuse-microos",
        "opensuse-leap-micro",
        "alp-dolomite",
        "ubuntu-core",
    )
)
_IMMUTABLE_VARIANTS = frozenset(("coreos", "silverblue", "kinoite", "sericea", "onyx", "iot"))
_IMMUTABLE_MARKS = (
    "/run/ostree-booted",
    "/etc/NIXOS",
    "/usr/share/flatcar",
    "/.bottlerocket",
    "transactional-update",
    "/usr is read-only",
)


def parse_os_release(text: str) -> dict[str, str]:
    """``KEY=value`` lines with shell quoting; later lines win (dgx-release appends). Never raises."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"\s*([A-Za-z_][A-Za-z0-9_]*)=(.*)", line)
        if match is None:
            continue
        try:
            words = shlex.split(match[2], posix=True)
        except ValueError:  # an unpaired quote
            words = [match[2].strip("\"' ")]
        found[match[1]] = value(" ".join(words)) or ""
    return found


def dgx_version(text: str | None) -> str | None:
    """The installed DGX OS version: the last over-the-air update, else the image (`hosts.md §1.3`)."""
    if text is None:
        return None
    release = parse_os_release(text)
    return release.get("DGX_OTA_VERSION") or release.get("DGX_SWBUILD_VERSION") or None


def os_facts(
    release_text: str | None,
    *,
    dgx_text: str | None = None,
    tegra_text: str | None = None,
    marks: Collection[str] = (),
    kernel_release: str | None = None,
) -> OsFacts:
    """The distribution. An absent os-release leaves everything None; `family` is then ``unknown``."""
    release = parse_os_release(release_text or "")
    name = release.get("ID", "").lower() or None
    like = tuple(release.get("ID_LIKE", "").lower().split())
    if "/.bottlerocket" in marks:  # its admin container says Amazon Linux 2 (hosts.md §1.4)
        name, like = "bottlerocket", ()
    version = release.get("VERSION_ID") or None
    return OsFacts(
        id=name,
        id_like=like,
        version_id=None if version == "TEMPLATE_VERSION_ID" else version,
        pretty_name=release.get("PRETTY_NAME") or release.get("NAME") or name,
        family=_family(name, like),
        immutable=_immutable(name, release.get("VARIANT_ID", "").lower(), marks),
        dgx=dgx_version(dgx_text),
        kind=_kind(marks, kernel_release, tegra_text),
    )


def _family(name: str | None, like: tuple[str, ...]) -> Family:
    if name is None:
        return "unknown"
    for word in (name, *like):
        family = _FAMILIES.get(word) or ("suse" if word.startswith(("opensuse", "sle")) else None)
        if family is not None:
            return family
    return "other"


def _immutable(name: str | None, variant: str, marks: Collection[str]) -> bool | None:
    if name in _IMMUTABLE_IDS or variant in _IMMUTABLE_VARIANTS or any(mark in marks for mark in _IMMUTABLE_MARKS):
        return True
    return None if name is None else False


def _kind(
    marks: Collection[str], kernel_release: str | None, tegra_text: str | None
) -> Literal["host", "container", "wsl2", "jetson"]:
    if "microsoft" in (kernel_release or "").lower() or {"/dev/dxg", "/usr/lib/wsl/lib/nvidia-smi"} <= set(marks):
        return "wsl2"
    if tegra_text is not None:
        return "jetson"
    if "/run/systemd/system" not in marks and ("/.dockerenv" in marks or "/run/.containerenv" in marks):
        return "container"
    return "host"


def secure_boot(text: str | None, status: int = 0) -> bool | None:
    """Whether Secure Boot is on: from ``bios``, the bytes of the EFI variable (the fifth is the value) or the words
    of mokutil; None when it could not be read."""
    if text is None or status != 0:
        return None
    if text.strip() == "bios":
        return False
    numbers = text.split()
    if len(numbers) == 5 and all(re.fullmatch(r"[0-9]{1,3}", n) for n in numbers):
        return numbers[4] == "1"
    words = re.search(r"SecureBoot (enabled|disabled)", text)
    return words[1] == "enabled" if words else None


def kernel_facts(uname: str | None, secure: bool | None) -> tuple[str | None, KernelFacts]:
    """Host name and kernel from the three words of ``uname -n -r -m`` (printed in that order)."""
    words = (uname or "").split()
    if len(words) != 3:
        return None, KernelFacts(secure_boot=secure)
    return value(words[0]), KernelFacts(release=value(words[1]), arch=value(words[2]), secure_boot=secure)
