"""The configuration files that a probe brought: bytes, mode, owner, time and where a symlink leads."""

import base64
import binascii
import re
from collections.abc import Iterator

from gpuwizard.facts.frames import Frames, Section
from gpuwizard.facts.model import HostFile
from gpuwizard.secret import SecretBytes

__all__ = ["host_files"]

_STAT = re.compile(r"([0-7]{1,5}) (\d{1,10}) (\d{1,10}) (-?\d{1,15}) (\d{1,15}) (/.*)")


def host_files(frames: Frames) -> tuple[dict[str, HostFile], tuple[str, ...]]:
    """Files by path, absent ones included, and the paths whose content did not arrive whole."""
    found: dict[str, HostFile] = {}
    broken: list[str] = []
    stats = dict(_stats(frames))
    for section in (*frames.all("file"), *frames.all("file-hex")):
        path = section.key
        mode, uid, gid, mtime, size = stats.get(path, (None, None, None, None, None))
        content = _content(section)
        if content is None or (size is not None and size != len(content)):
            broken.append(path)
            continue
        target = frames.good("file-target", path)
        found.setdefault(
            path,
            HostFile(path, SecretBytes(content), mode, uid, gid, mtime, target.strip() if target else None),
        )
    for section in frames.sections:
        if section.name == "file-absent" and not section.cut:
            path = section.text.strip("\n")
            if path.startswith("/"):
                found.setdefault(path, HostFile(path, None))
    return found, tuple(broken)


def _content(section: Section) -> bytes | None:
    if section.cut or section.status != 0:
        return None
    try:
        if section.name == "file-hex":
            return bytes.fromhex(section.data.decode("ascii"))
        return base64.b64decode(b"".join(section.data.split()), validate=True)
    except (ValueError, binascii.Error):
        return None


def _stats(frames: Frames) -> Iterator[tuple[str, tuple[int, int, int, int, int]]]:
    """``mode uid gid mtime size path`` lines."""
    for section in frames.all("file-stats"):
        for line in section.lines:
            match = _STAT.fullmatch(line)
            if match is not None:
                yield match[6], (int(match[1], 8), int(match[2]), int(match[3]), int(match[4]), int(match[5]))
