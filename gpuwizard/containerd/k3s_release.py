"""Which file a K3s or RKE2 renders at its next start, and what its templates may use (`runtimes.md §2.2`, `§2.3`)."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gpuwizard.errors import UsageError
from gpuwizard.facts.kubernetes.release import KubeRelease

__all__ = [
    "NEWEST",
    "V2_TEMPLATE",
    "V3_TEMPLATE",
    "Applying",
    "Dialect",
    "applying_template",
    "built_in_dialect",
    "doubtful_functions",
    "finds_cdi_runtime",
    "functions",
    "has_bin_dirs",
    "has_certs_folder",
    "has_stable_cni_folder",
    "passes_state",
    "release_of",
    "systemd_cgroup_of_detected",
    "writes_state",
]

V2_TEMPLATE, V3_TEMPLATE = "config.toml.tmpl", "config-v3.toml.tmpl"
NEWEST = KubeRelease(1, 37, 10**6)
"""The newest line whose templates are known; later ones may have other fields and functions."""

Dialect = Literal[1, 2, 3]


@dataclass(frozen=True, slots=True)
class Applying:
    """The template that is rendered: its path (None: the built-in one), its text, the dialect of its "base"."""

    path: str | None
    text: str
    dialect: Dialect


def release_of(text: str) -> KubeRelease:
    """The release of ``v1.33.5+k3s1``. Raises UsageError where there are no numbers."""
    found = KubeRelease.parse(text.strip())
    if found is None:
        raise UsageError(f"not a version of K3s or RKE2: {text!r}", remedy="see what `k3s --version` prints")
    return found


def applying_template(
    files: Mapping[str, bytes], folder: str, release: KubeRelease, rendered: Dialect | None = None
) -> Applying:
    """The template that applies: ``config-v3.toml.tmpl`` where it is known, else ``config.toml.tmpl``, else the
    built-in one. `rendered` is the dialect of the file that this release rendered last, where that is known."""
    names = (V3_TEMPLATE, V2_TEMPLATE) if release.has_v3_template else (V2_TEMPLATE,)
    for name in names:
        path = posixpath.join(folder, name)
        if path in files:
            dialect: Dialect = 3 if name == V3_TEMPLATE else built_in_dialect(release, rendered, v2_file=True)
            return Applying(path, files[path].decode("utf-8", "surrogateescape"), dialect)
    return Applying(None, '{{ template "base" . }}', built_in_dialect(release, rendered))


def built_in_dialect(release: KubeRelease, rendered: Dialect | None = None, *, v2_file: bool = False) -> Dialect:
    """The configuration version that the built-in template is written in. Lines older than 1.25 keep version 1 unless
    the change was carried back to them, which the `rendered` file tells."""
    if release.has_v3_template:
        return 2 if v2_file else 3
    if release >= KubeRelease(1, 25, 4):
        return 2
    return 2 if rendered == 2 else 1


def passes_state(release: KubeRelease, dialect: Dialect) -> bool:
    """K3s gives containerd its root, state and address on the command line: always but for a version-3 template."""
    return not (release.has_v3_template and dialect == 3)


def systemd_cgroup_of_detected(release: KubeRelease) -> bool:
    """Detected runtimes get ``SystemdCgroup`` as runc does."""
    return _since(release, (26, 10), (27, 7), (28, 3))


def writes_state(release: KubeRelease) -> bool:
    """The built-in templates write root, state and the socket's address."""
    return release.has_v3_template


def has_bin_dirs(release: KubeRelease) -> bool:
    """containerd is 2.1 or newer, which takes a list of CNI folders."""
    return _since(release, (31, 13), (32, 9), (33, 5), (34, 1))


def has_stable_cni_folder(release: KubeRelease) -> bool:
    """The folder of the CNI plugins is the same for every release of K3s: ``data/cni``."""
    return _since(release, (28, 15), (29, 10), (30, 6), (31, 2), (32, 0))


def has_certs_folder(release: KubeRelease) -> bool:
    """Registries are described by files below ``certs.d`` and no longer by tables (January 2024)."""
    return _since(release, (26, 13), (27, 10), (28, 6), (29, 1))


def finds_cdi_runtime(release: KubeRelease) -> bool:
    """``nvidia-container-runtime.cdi`` is looked for."""
    return release.looks_in_own_path


def functions(release: KubeRelease) -> frozenset[str]:
    """What a template can call besides Go's own functions."""
    found = {"deschemify", "toJson"} if release.has_v3_template else set()
    return frozenset(found | ({"filepathjoin"} if release.has_imports else set()))


def doubtful_functions(release: KubeRelease, text: str) -> frozenset[str]:
    """Functions of which it is not known whether this release has them. A release newer than those that are known may
    have any."""
    if release > NEWEST:
        from gpuwizard.facts.kubernetes.template_text import read_template

        return frozenset(name for name, _ in read_template(text).functions) - functions(release)
    return frozenset() if release.has_v3_template else frozenset(("deschemify", "toJson"))


def _since(release: KubeRelease, *first: tuple[int, int]) -> bool:
    """From the given (minor, patch) of each line on, and in every line after the last one."""
    gates = dict(first)
    return release.major > 1 or release.minor > max(gates) or release.patch >= gates.get(release.minor, 10**7)
