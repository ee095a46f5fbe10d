"""The state of a machine: cgroups, clock, room on disks, pending reboot, swap, SELinux, proxies, reachability."""

import re
from collections.abc import Iterator, Mapping
from typing import Literal

from gpuwizard.facts.look import Look
from gpuwizard.facts.model import HostState, MountSpace, Reach
from gpuwizard.facts.system.kubelet import refuses
from gpuwizard.facts.system.proxies import hide_login, host_proxies, unit_proxies
from gpuwizard.facts.text import number, value

__all__ = ["mounts", "read_state"]

_SPACE = re.compile(r".*?\s(\d{1,18})\s+(\d{1,18})\s+(-?\d{1,18})\s+(?:\d{1,4}%|-)\s+(/.*)")
_MOUNT = re.compile(r"(/\S*) (\S+) (r[ow])")
_REACH = re.compile(r"(registry|packages) (https?://[A-Za-z0-9.:_-]+) (\d{1,3})(?: (.*))?")
_EXTENDED = tuple(f"/etc/apt/sources.list.d/ubuntu-esm-infra.{ending}" for ending in ("list", "sources"))
_PAID_KEY = "/etc/apt/auth.conf.d/90ubuntu-advantage"
_EPOCH = (1_000_000_000, 100_000_000_000)
"""Seconds that a clock can say: later than 2001, before the year 5138."""


def mounts(look: Look) -> Mapping[str, tuple[str, bool]]:
    """Type of file system, and whether it is mounted read-only, by mount point; of several the last one is seen."""
    matches = (_MOUNT.fullmatch(line.strip()) for line in _lines(look, "mounts"))
    return {match[1]: (match[2], match[3] == "ro") for match in matches if match is not None}


def read_state(look: Look, mounted: Mapping[str, tuple[str, bool]], *, contained: bool) -> HostState:
    """The state of the machine. In a container (`contained`) nothing is said of what belongs to its host."""
    frames = look.frames
    layout = value(frames.text("cgroup"))
    needed, why = _reboot(look)
    return HostState(
        cgroup_version=None if layout not in _LAYOUTS else 2 if layout == "unified" else 1,
        clock_offset_seconds=_clock_offset(look),
        reboot_needed=None if contained else needed,
        reboot_why=() if contained else why,
        space=tuple(_space(look, mounted)),
        proxies=unit_proxies(look),
        reach=tuple(_reach(look)),
        swap_bytes=None if contained else _swap("\n".join(_lines(look, "swaps"))),
        selinux=None if contained else _SELINUX.get((frames.text("selinux") or "").strip()),
        systemd="/run/systemd/system" in look.marks if frames.get("marks") else None,
        cgroup_layout=_LAYOUTS.get(layout or ""),
        host_proxies=host_proxies(look),
        extended_support=_extended(look) if frames.get("marks") else None,
        held_packages=tuple(_names(look, "packages-held")),
        kubelet_refuses_swap=refuses(look, "failSwapOn", "fail-swap-on", default=True),
        kubelet_refuses_cgroup_v1=refuses(look, "failCgroupV1", "fail-cgroupv1", default=None),
        broken_packages=tuple(value(line) or "?" for line in _lines(look, "packages-broken")),
    )


_LAYOUTS: Mapping[str, Literal["unified", "hybrid", "legacy"]] = {
    "unified": "unified",
    "hybrid": "hybrid",
    "legacy": "legacy",
}
_SELINUX: Mapping[str, Literal["enforcing", "permissive", "disabled"]] = {
    "1": "enforcing",
    "0": "permissive",
    "none": "disabled",
}


def _lines(look: Look, name: str) -> list[str]:
    """The lines of a section; of one that was cut only those that came whole."""
    section = look.frames.get(name)
    if section is None:
        return []
    return section.text.rpartition("\n")[0].split("\n") if section.cut else section.lines


def _extended(look: Look) -> bool:
    """Releases that are near their end come with the repository's file; the key to it comes with the subscription."""
    return _PAID_KEY in look.marks and any(mark in look.marks for mark in _EXTENDED)


def _clock_offset(look: Look) -> float | None:
    """The host prints its whole seconds last of all, so its answer was on its way when this machine's clock was read;
    half a second is what the fraction is worth on average."""
    section = look.frames.get("clock")
    if section is None or section.cut or look.received is None:
        return None
    epoch = number(section.text)
    if epoch is None or not _EPOCH[0] <= epoch <= _EPOCH[1]:
        return None
    return round(epoch + 0.5 - look.received, 1)


def _reboot(look: Look) -> tuple[bool | None, tuple[str, ...]]:
    """Whether a mark asks for a reboot, and which packages or words stand behind it (`hosts.md §3.2`)."""
    kinds = [line.partition(":")[::2] for line in _lines(look, "reboot")]
    why = [shown for kind, text in kinds if kind == "needed" and (shown := value(text))]
    if not why:
        return (False if any(kind == "watched" for kind, _ in kinds) else None), ()
    packages = dict.fromkeys(_names(look, "reboot-packages"))
    return True, (*why, *packages)


def _names(look: Look, section: str) -> Iterator[str]:
    """The first word of each line."""
    for line in _lines(look, section):
        if words := line.split():
            yield value(words[0]) or "?"


def _swap(text: str) -> int | None:
    """Bytes of swap that is on: the third column of /proc/swaps, in KiB."""
    if not text.startswith("Filename"):
        return None
    sizes = [number(words[2]) for line in text.splitlines()[1:] if len(words := line.split()) >= 4]
    return None if None in sizes else sum(size for size in sizes if size is not None) * 1024


def _space(look: Look, mounted: Mapping[str, tuple[str, bool]]) -> Iterator[MountSpace]:
    """The file systems below the paths that were asked for. df prints a line for each of them; where it printed another
    number of lines (a path vanished, or it joins what is on one file system) the nearest mount point above counts."""
    said = _lines(look, "space") or [""]
    paths = said[0].split()
    found = [match for line in said[1:] if (match := _SPACE.fullmatch(line.rstrip())) is not None]
    lines: dict[str, tuple[re.Match[str], list[str]]] = {}
    for position, path in enumerate(paths):
        match = found[position] if len(found) == len(paths) else _nearest(path, found)
        if match is not None:
            lines.setdefault(match[4], (match, []))[1].append(value(path) or "?")
    for point, (match, holds) in lines.items():
        total, free = int(match[1]) * 1024, max(int(match[3]), 0) * 1024
        mount = mounted.get(point)
        yield MountSpace(value(point) or "?", free, total, None if mount is None else mount[1], tuple(holds))


def _nearest(path: str, found: list[re.Match[str]]) -> re.Match[str] | None:
    above = [m for m in found if m[4] == "/" or path == m[4] or path.startswith(f"{m[4]}/")]
    return max(above, key=lambda match: len(match[4]), default=None)


def _reach(look: Look) -> Iterator[Reach]:
    """``kind address status words`` lines; curl and wget end with 0 when they had an answer of any kind, and wget with
    8 when it was one that it does not like."""
    for line in _lines(look, "reach"):
        match = _REACH.fullmatch(line.strip())
        if match is None:
            continue
        said = value(hide_login(match[4] or "").removesuffix(" HTTP 000"))
        kind: Literal["registry", "packages"] = "registry" if match[1] == "registry" else "packages"
        yield Reach(match[2], _answered(match[3], match[4] or ""), said, kind)


def _answered(status: str, said: str) -> bool | None:
    if re.search(r"\b407\b|Proxy Authentication", said):
        return False
    if status in ("0", "8") or re.search(r"(?:HTTP/[\d.]+|ERROR) [1-5]\d\d|HTTP [1-5]\d\d|server returned error", said):
        return re.search(r"HTTP 000", said) is None
    if status in ("126", "127"):
        return None
    return False
