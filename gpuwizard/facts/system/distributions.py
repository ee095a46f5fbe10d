"""Which distribution belongs to which family, and which ones keep their system in an image (`hosts.md §1.2`)."""

import re
from collections.abc import Mapping, Sequence

from gpuwizard.facts.model import Family

__all__ = ["family_of", "immutable_by_name"]

_MEMBERS: Mapping[Family, str] = {
    "debian": "debian ubuntu ubuntu-core kubuntu linuxmint pop elementary neon zorin kali parrot raspbian devuan "
    "deepin mx pureos tails pardus osmc cumulus-linux sonic astra gardenlinux vyos endless armbian",
    "rhel": "rhel redhat fedora fedora-asahi-remix centos rocky almalinux ol oracle amzn rhcos scos scientific "
    "eurolinux miraclelinux virtuozzo cloudlinux clearos xenenterprise xcp-ng kvmibm springdale circle navylinux "
    "euleros redos nobara ultramarine bazzite bluefin aurora qubes",
    "suse": "suse opensuse sles sled sl-micro suse-microos sle-micro alp alp-dolomite alp-micro aeon kalpa",
    "arch": "arch archlinux archarm manjaro manjaro-arm cachyos antergos arcolinux endeavouros artix garuda blackarch "
    "parabola holoiso",
    "nixos": "nixos",
    "flatcar": "flatcar",
    "talos": "talos",
    "azurelinux": "azurelinux mariner",
}
_FAMILIES = {name: family for family, names in _MEMBERS.items() for name in names.split()}
_SUSE = re.compile(r"opensuse|sles|sled([-_]|$)|sle[-_]")
_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]*")
_NO_NAMES = frozenset(("linux", "unknown", "none"))
"""``linux`` is what os-release(5) gives a system that does not say what it is."""

_IMAGES: Mapping[str, str] = {
    "Container-Optimized OS": "cos",
    "an image with A and B partitions": "flatcar coreos talos bottlerocket rancheros burmilla k3os balena-os haos "
    "openelec libreelec coreelec lakka vanilla torizon kairos",
    "an OSTree image": "rhcos scos endless bazzite bluefin aurora",
    "transactional updates": "sl-micro suse-microos sle-micro sle-micro-rancher opensuse-microos opensuse-leap-micro "
    "opensuse-aeon opensuse-kalpa aeon kalpa alp alp-dolomite alp-micro",
    "a system built from its configuration": "nixos guix",
    "snaps only": "ubuntu-core",
}
_IMAGE_NAMES = {name: kind for kind, names in _IMAGES.items() for name in names.split()}
_VARIANTS = re.compile(r"(coreos|atomic|silverblue|kinoite|sericea|onyx|iot|bootc)([._-].*)?|[a-z]+-atomic")
_OSTREE_FAMILIES = frozenset(("fedora", "rhel", "centos", "almalinux", "rocky", "ol", "scos", "rhcos"))


def family_of(name: str | None, like: Sequence[str]) -> Family:
    """By ID, then by each word of ID_LIKE, in lower case. ``other`` is a distribution that says what it is and belongs
    to none of the families; ``unknown`` one that does not say, or whose name came garbled."""
    if name == "steamos" and "debian" not in like:
        return "arch"
    for word in (name, *like) if name else like:
        if word is not None and (family := _FAMILIES.get(word) or ("suse" if _SUSE.match(word) else None)):
            return family
    if name is None or name in _NO_NAMES or _NAME.fullmatch(name) is None:
        return "unknown"
    return "other"


def immutable_by_name(name: str | None, like: Sequence[str], variant: str) -> str | None:
    """Why a distribution of that ID and VARIANT_ID cannot be changed in place; None when its names do not say so."""
    if name is None:
        return None
    if (kind := _IMAGE_NAMES.get(name)) is not None:
        return f"ID={name}: {kind}"
    if name == "steamos" and "debian" not in like:  # version 2 was a plain Debian
        return "ID=steamos: an image with A and B partitions"
    if variant and _VARIANTS.fullmatch(variant) and (name in _OSTREE_FAMILIES or "fedora" in like):
        return f"VARIANT_ID={variant}: an OSTree image"
    return None
