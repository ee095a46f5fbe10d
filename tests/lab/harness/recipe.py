"""What a base tree is made of: packages by suite, the preparation script, and the hashes that say when to rebuild."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

__all__ = ["IMAGE", "RECIPES", "SUITES", "Recipe", "prepared_hash", "tree_hash"]

IMAGE = Path(__file__).resolve().parent.parent / "image"

_COMMON = (
    "attr",
    "ca-certificates",
    "containerd",
    "dbus",
    "iproute2",
    "kmod",
    "libpam-google-authenticator",
    "libpam-systemd",
    "openssh-server",
    "procps",
    "runc",
    "sudo",
    "systemd",
    "systemd-sysv",
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One suite: its packages. No Python and no pciutils: gpuwizard must not need them on a host."""

    suite: str
    packages: tuple[str, ...]


RECIPES = {
    "bookworm": Recipe("bookworm", _COMMON),
    "trixie": Recipe("trixie", (*_COMMON, "sudo-rs")),
    "sid": Recipe("sid", (*_COMMON, "sudo-rs")),
}
SUITES = tuple(RECIPES)


def tree_hash(recipe: Recipe) -> str:
    """Names the bare tree: it changes when the package list does."""
    return sha256("\n".join(("1", recipe.suite, *recipe.packages)).encode()).hexdigest()[:12]


def prepared_hash(recipe: Recipe) -> str:
    """Names the prepared layer over the bare tree: it changes when the preparation script does as well."""
    digest = sha256(tree_hash(recipe).encode())
    digest.update((IMAGE / "prepare.sh").read_bytes())
    return digest.hexdigest()[:12]
