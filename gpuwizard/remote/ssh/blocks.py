"""The SSH configuration, read once for many hosts: what of it one host needs.

A configuration that names every host of a fleet would otherwise be parsed whole for each of them. What a line means
stays asyncssh's business: it gets the lines that hold for the host, without those of the other ``Host`` blocks.
"""

import contextlib
import functools
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asyncssh.pattern import WildcardPatternList

__all__ = ["is_plain", "lines_for", "readable_path", "without_address"]

_PLAIN = re.compile(r"([A-Za-z0-9]+)(?:[ \t=]|$)")
_HOST = re.compile(r"host[ \t]+([^\"'\\=#]+)", re.IGNORECASE)
_ONE_NAME = re.compile(r"[^!*?\[\]]+")
_ADDRESS = re.compile(r"hostname(?:[ \t]+|[ \t]*=[ \t]*)([A-Za-z0-9.:_-]+)", re.IGNORECASE)
_PIPE_LIMIT = 16 * 1024
"""What surely fits into a pipe that nobody reads yet."""


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Blocks of lines in their order; the first, before any ``Host``, holds for every host. `named` are the blocks
    that a plain name stands before, `others` those with patterns."""

    lines: tuple[tuple[str, ...], ...]
    named: dict[str, list[int]]
    others: tuple[tuple[int, WildcardPatternList], ...]


def is_plain(path: Path) -> bool:
    """True when `path` has ``Host`` blocks only: no ``Match``, no ``Include``, nothing unusual, so that reading it
    runs no command and is over at once."""
    return _blocks(path) is not None


def lines_for(path: Path, name: str) -> str | None:
    """The lines of `path` that hold for the host that was written as `name`; None when it must be read whole."""
    blocks = _blocks(path)
    if blocks is None:
        return None
    matching = {0, *blocks.named.get(name, ()), *(at for at, patterns in blocks.others if patterns.matches(name))}
    return "".join(line for at in sorted(matching) for line in blocks.lines[at])


def without_address(lines: str, name: str) -> tuple[str, str] | None:
    """The host's address, and the lines without it, which are then the same for all hosts of a pattern; None when
    they depend on the host in other ways."""
    if "%" in lines or "$" in lines:
        return None
    rest, address = [], None
    for line in lines.splitlines(keepends=True):
        found = _ADDRESS.fullmatch(line.rstrip("\n"))
        if found is None and line[:8].lower() == "hostname":
            return None
        if found is None:
            rest.append(line)
        elif address is None:  # the first one counts
            address = found[1]
    return address or name, "".join(rest)


@contextlib.contextmanager
def readable_path(text: str) -> Iterator[str | None]:
    """A path under which `text` can be read once, as a file; None where there is no such thing."""
    raw = text.encode("utf-8", "surrogateescape")
    if len(raw) > _PIPE_LIMIT or not os.path.isdir("/dev/fd"):  # noqa: PTH112 - asked for every host
        yield None
        return
    reading, writing = os.pipe()
    try:
        os.write(writing, raw)
        os.close(writing)
        yield f"/dev/fd/{reading}"
    finally:
        os.close(reading)


def _blocks(path: Path) -> _Blocks | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return _parsed(path, seen.st_mtime_ns, seen.st_size, seen.st_ino)


@functools.lru_cache(maxsize=4)
def _parsed(path: Path, *version: int) -> _Blocks | None:
    """The blocks; None when anything is in the file that only the real parser should judge."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    blocks: list[list[str]] = [[]]
    named: dict[str, list[int]] = {}
    others: list[tuple[int, WildcardPatternList]] = []
    for line in map(str.strip, lines):
        if not line or line.startswith("#"):
            continue
        word = _PLAIN.match(line)
        if word is None or word[1].lower() in ("match", "include") or not _closed(line):
            return None
        if word[1].lower() != "host":
            blocks[-1].append(f"{line}\n")
            continue
        header = _HOST.fullmatch(line)
        if header is None:
            return None
        patterns = header[1].replace(",", " ").split()
        blocks.append([])
        if all(_ONE_NAME.fullmatch(pattern) for pattern in patterns):
            for pattern in patterns:
                named.setdefault(pattern, []).append(len(blocks) - 1)
        else:
            others.append((len(blocks) - 1, WildcardPatternList(",".join(patterns))))
    return _Blocks(tuple(map(tuple, blocks)), named, tuple(others))


def _closed(line: str) -> bool:
    """False for a quote that nothing closes: asyncssh says so, wherever it stands."""
    if not any(sign in line for sign in "\"'\\"):
        return True
    try:
        shlex.split(line)
    except ValueError:
        return False
    return True
