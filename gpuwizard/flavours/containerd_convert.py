"""What of containerd's files has to be made anew before they can be edited, and how (`runtimes.md §1.3`, `§1.5`).

Docker's stub, a stub that somebody gave a version line, and a file of version 1 that this release ignores are replaced
only with consent (``runtime.convert``). Where there is no file at all, one is begun.
"""

from collections.abc import Mapping
from typing import Any

from gpuwizard.actions import Refusal
from gpuwizard.containerd import Effective, Release
from gpuwizard.containerd.convert import CRI_NAMES, converted
from gpuwizard.containerd.edit import add_table, set_value
from gpuwizard.containerd.model import CRI_V2, RUNTIME_V3
from gpuwizard.facts.model import KubernetesFacts
from gpuwizard.flavours.containerd_files import parsed, table_at

__all__ = ["begun", "conversion", "dialect", "is_old", "obstacle"]

_CONSENT = "set runtime.convert = true: gpuwizard then converts it and shows every value that changes"


def dialect(files: dict[str, bytes], main: str, before: Effective, release: Release) -> tuple[str, int, int]:
    """The plugin table in which handlers belong, the version that the root file has or gets (0: none), and that of a
    drop-in of ours (`runtimes.md §1.1`).

    Where version-1 names count, the file stays version 1: they would be fatal in version 2. 2.0 to 2.2 take the tables
    of the version that the last file has; with a drop-in of version 3 the root's of version 2 do nothing.
    """
    plugin, version = _dialect(files, main, before, release)
    if release.line in ((2, 0), (2, 1), (2, 2)) and version == 2:
        last = [v for path in before.files if (v := _version(_data(files, path))) >= 2]
        if last and last[-1] > 2:
            return RUNTIME_V3, version, last[-1]
    return plugin, version, 2 if release.major < 2 and plugin == CRI_V2 and version < 2 else version


def _dialect(files: dict[str, bytes], main: str, before: Effective, release: Release) -> tuple[str, int]:
    version = before.root_version
    if version >= 2 or not (before.starts or before.files):
        return (RUNTIME_V3 if release.major >= 2 and version > 2 else CRI_V2), version or 2
    data = [_data(files, path) for path in {main: 0, **dict.fromkeys(before.files)}]
    if release.major < 2:
        last = next((v for d in reversed(data) if (v := _version(d))), 0)
        if last >= 2:  # a file with a version decides for all, and short names would be fatal
            return CRI_V2, version
        return ("cri", version) if last == 1 or any(_names(d) for d in data) else (CRI_V2, 2)
    if _has_old_cri(data[0]):
        return "cri", version
    newer = max((_version(d) for d in data[1:]), default=0)
    version = newer if newer >= 2 else 3
    return (CRI_V2 if version == 2 else RUNTIME_V3), version


def is_old(files: dict[str, bytes], main: str, before: Effective) -> bool:
    """True for a root file without version, or of version 1, that has CRI settings."""
    return before.root_version < 2 and _has_old_cri(_data(files, main))


def obstacle(files: dict[str, bytes], main: str, before: Effective, release: Release) -> tuple[Refusal, bool] | None:
    """Why the files are not edited as they are, and whether a conversion would help."""
    if before.cri == "disabled" or (not before.starts and _disables_cri(files, main, before)):
        lead = "" if before.starts else f", and containerd would not start on it ({before.error})"
        file = next((p for p in (main, *before.files) if _disables(_data(files, p))), main)
        why = f"{file} disables the CRI plugin, as Docker's package ships it: no kubelet can use this containerd{lead}"
        return Refusal("cri-disabled", why, _CONSENT), True
    if not before.starts:
        remedy = "repair them first: any restart of containerd would activate this mistake"
        return Refusal(
            "broken-now", f"containerd would not start on the files as they are: {before.error}", remedy
        ), False
    if before.cri == "error":
        remedy = _repair(files, main, before, release)
        return Refusal("broken-now", f"the CRI plugin is in error: {before.error}", remedy), False
    if release.major >= 2 and not release.migrates_each_file and is_old(files, main, before):
        kind = "is of version 1" if before.root_version else "has no version line"
        why = f"{main} {kind}, so that containerd {release} ignores its CRI part"
        return Refusal("unversioned-root", why, _CONSENT), True
    return None


def conversion(
    files: dict[str, bytes], main: str, before: Effective, release: Release, kubernetes: KubernetesFacts
) -> tuple[dict[str, bytes], str]:
    """The files in a form that this release uses, all their settings kept, and what was done in words.

    The CRI plugin is enabled where it was disabled; its handler runc then gets the kubelet's cgroup driver unless the
    file says something of it. Raises RefusedError for a text that cannot be converted.
    """
    enable = before.cri == "disabled" or not before.starts
    paths = [*(p for p in before.files if p != main), main]
    old = any(table_at(_data(files, p), ("plugins", name)) is not None for p in paths for name in ("cri", CRI_V2))
    version = before.root_version if before.root_version >= 2 else 2 if old or release.major < 2 else 3
    new: dict[str, bytes] = {}
    for path in paths:
        own = _version(_data(files, path))
        wanted = version if path == main or own == 1 else None
        text = converted(_text(files, path), wanted, enable_cri=enable)
        if text != _text(files, path):
            new[path] = text.encode("utf-8", "surrogateescape")
    words = f"{main} is converted to version {version}" if before.root_version != version else f"{main} is repaired"
    if not enable:
        return new, words
    plugin = CRI_V2 if version == 2 else RUNTIME_V3
    systemd = kubernetes.cgroup_driver != "cgroupfs"
    guess = "" if kubernetes.cgroup_driver else " (the kubelet's could not be seen; this is kubeadm's default)"
    text = with_cgroup_driver(_text(files | new, main), plugin, systemd=systemd)
    new[main] = text.encode("utf-8", "surrogateescape")
    driver = "systemd" if systemd else "cgroupfs"
    return new, f"{words}, with the CRI plugin enabled and cgroup driver {driver}{guess}"


def begun(release: Release, kubernetes: KubernetesFacts) -> bytes | None:
    """The root file of a host that has none, where the built-in settings do not fit the kubelet: it uses systemd's
    cgroups. None where they do."""
    if kubernetes.cgroup_driver != "systemd":
        return None
    version, plugin = (2, CRI_V2) if release.major < 2 else (3, RUNTIME_V3)
    return with_cgroup_driver(f"version = {version}\n", plugin, systemd=True).encode()


def with_cgroup_driver(text: str, plugin: str, *, systemd: bool) -> str:
    """Handler runc with that driver; one that the text has already says itself what it wants."""
    runc = ("plugins", plugin, "containerd", "runtimes", "runc")
    present = table_at(parsed(text), runc)
    if present is None:
        return add_table(text, runc, {"runtime_type": "io.containerd.runc.v2", "options": {"SystemdCgroup": systemd}})
    if table_at(present, ("options", "SystemdCgroup")) is None:
        return set_value(text, (*runc, "options", "SystemdCgroup"), systemd)
    return text


def _text(files: dict[str, bytes], path: str) -> str:
    return files.get(path, b"").decode("utf-8", "surrogateescape")


def _data(files: dict[str, bytes], path: str) -> Mapping[str, Any]:
    return parsed(_text(files, path))


def _version(data: Mapping[str, Any]) -> int:
    version = data.get("version", 0)
    return version if isinstance(version, int) else 0


def _names(data: Mapping[str, Any]) -> list[str]:
    return [*data.get("plugins", {}), *data.get("disabled_plugins", []), *data.get("required_plugins", [])]


def _has_old_cri(data: Mapping[str, Any]) -> bool:
    return any(table_at(data, ("plugins", name)) is not None for name in ("cri", CRI_V2))


def _disables_cri(files: dict[str, bytes], main: str, before: Effective) -> bool:
    return any(_disables(_data(files, path)) for path in (main, *before.files))


def _disables(data: Mapping[str, Any]) -> bool:
    names = data.get("disabled_plugins", [])
    return isinstance(names, list) and any(name in CRI_NAMES for name in names)


def _repair(files: dict[str, bytes], main: str, before: Effective, release: Release) -> str:
    """What to do about a CRI plugin in error; the usual cause on 1.x is a drop-in with the nvidia handler alone."""
    holders = [p for p in before.files if any(n in _data(files, p).get("plugins", {}) for n in ("cri", CRI_V2))]
    after = "restart containerd, see that the node is Ready, and plan again"
    if release.replaces_plugin_tables and holders and holders[-1] != main:
        return (
            f"{holders[-1]} takes the place of the whole CRI table of {main}: move it away (not within conf.d), {after}"
        )
    return f"repair the configuration, {after}"
