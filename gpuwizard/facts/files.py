"""The configuration files that a probe brought: bytes, mode, owner, time and where a symlink leads."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gpuwizard.facts.frames import Frames, Section
from gpuwizard.facts.model import HostFile
from gpuwizard.secret import SecretBytes

__all__ = ["FileTimes", "file_times", "host_files"]

_STAT = re.compile(r"([0-7]{1,5}) (\d{1,10}) (\d{1,10}) (-?\d{1,15}) (?:(-?\d{1,15}) )?(\d{1,15}) (/.*)")
_HEADING = re.compile(rb"==> (/[^\n]{1,4096}) <==\n")
_END = b"\n==> /dev/null <==\n"
_LIMIT = 1 << 20
"""The probe sends at most so many bytes of a file."""


@dataclass(frozen=True, slots=True)
class FileTimes:
    """When a file's content was written last, and when anything of it (also its owner or name) was changed last.
    Seconds since the epoch, by the host's clock; None where it was not told."""

    modified: int
    changed: int | None = None


@dataclass(frozen=True, slots=True)
class _Stat:
    mode: int
    uid: int
    gid: int
    times: FileTimes
    size: int


def host_files(frames: Frames) -> tuple[dict[str, HostFile], tuple[str, ...]]:
    """Files by path, absent ones included, and the paths whose content did not arrive whole."""
    found: dict[str, HostFile] = {}
    broken: list[str] = []
    stats = dict(_stats(frames))
    for path, content in _contents(frames, stats):
        stat = stats.get(path)
        if content is None or (stat is not None and stat.size != len(content)):
            broken.append(path)
            continue
        target = frames.good("file-target", path)
        found.setdefault(path, _file(path, content, stat, target.strip() if target else None))
    for path in _absent(frames):
        found.setdefault(path, HostFile(path, None))
    return found, tuple(path for path in dict.fromkeys(broken) if path not in found)


def _file(path: str, content: bytes, stat: _Stat | None, target: str | None) -> HostFile:
    if stat is None:
        return HostFile(path, SecretBytes(content), target=target)
    return HostFile(path, SecretBytes(content), stat.mode, stat.uid, stat.gid, stat.times.modified, target)


def file_times(frames: Frames) -> dict[str, FileTimes]:
    """The times of every file, folder and program that the probe asked them of, by path. ``/proc/self`` is the
    moment of that question itself."""
    return {path: stat.times for path, stat in _stats(frames)}


def _contents(frames: Frames, stats: Mapping[str, _Stat]) -> Iterator[tuple[str, bytes | None]]:
    """Every file that was sent, one by one or all in one piece; None for what is not as it was announced."""
    for section in (*frames.all("file"), *frames.all("file-hex")):
        yield section.key, _decoded(section)
    for section in (*frames.all("files"), *frames.all("files-hex")):
        whole = _decoded(section)
        if whole is not None:
            yield from _pieces(whole, section.key, stats)
        else:
            yield "configuration files", None


def _pieces(whole: bytes, root: str, stats: Mapping[str, _Stat]) -> Iterator[tuple[str, bytes | None]]:
    """Take apart what ``head`` made of several files: ``==> PATH <==``, a newline, the content, and an empty line
    before the next. `root` is what stands before every path.

    How long each is was asked before; where the next heading is not in its place the file was changed in between.
    """
    prefix = root.encode("utf-8", "surrogateescape")
    position = 0
    while (heading := _HEADING.match(whole, position)) is not None:
        name = heading[1]
        if name == b"/dev/null":
            return
        path = name.removeprefix(prefix).decode("utf-8", "replace")
        start, stat = heading.end(), stats.get(path)
        end = start + stat.size if stat is not None else -1
        if stat is not None and (whole.startswith(b"\n==> /", end) or end == len(whole)):
            yield path, whole[start:end]
        else:
            end = _next(whole, start, prefix, stats)
            yield path, whole[start:end] if stat is None and end - start < _LIMIT else None
        position = end + 1


def _next(whole: bytes, start: int, prefix: bytes, stats: Mapping[str, _Stat]) -> int:
    """Where the next heading of a file that was asked for begins, or the end of the list."""
    position = start
    while (position := whole.find(b"\n==> /", position)) >= 0:
        heading = _HEADING.match(whole, position + 1)
        if heading is not None:
            name = heading[1]
            known = name.removeprefix(prefix).decode("utf-8", "replace")
            if known in stats or not stats or whole.startswith(_END, position):
                return position
        position += 1
    return len(whole)


def _decoded(section: Section) -> bytes | None:
    if section.cut or section.status != 0:
        return None
    try:
        if section.name.endswith("-hex"):
            return bytes.fromhex(section.data.decode("ascii"))
        return base64.b64decode(b"".join(section.data.split()), validate=True)
    except (ValueError, binascii.Error):
        return None


def _absent(frames: Frames) -> Iterator[str]:
    for section in frames.sections:
        if section.name in ("file-absent", "files-absent") and not section.cut:
            yield from (line for line in section.text.split("\n") if line.startswith("/"))


def _stats(frames: Frames) -> Iterator[tuple[str, _Stat]]:
    """``mode uid gid mtime ctime size path`` lines; older probes did not tell the ctime."""
    for section in frames.all("file-stats"):
        for line in section.lines:
            match = _STAT.fullmatch(line)
            if match is not None:
                times = FileTimes(int(match[4]), int(match[5]) if match[5] else None)
                yield match[7], _Stat(int(match[1], 8), int(match[2]), int(match[3]), times, int(match[6]))
