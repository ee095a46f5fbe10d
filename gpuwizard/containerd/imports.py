"""Which files a file's `imports` name, in the order in which containerd reads them (`runtimes.md §1.3`)."""

import posixpath
import re
from collections.abc import Iterable, Mapping

from gpuwizard.containerd.release import Release

__all__ = ["is_directory", "matches", "resolve"]


def resolve(parent: str, imports: Iterable[str], files: Mapping[str, bytes], release: Release) -> tuple[str, ...]:
    """The paths that `imports` of the file `parent` name. Only an entry with ``*`` is a pattern; it matches what
    exists in `files`, sorted. A literal path is returned even when it does not exist (the daemon then fails)."""
    found: list[str] = []
    for entry in imports:
        pattern = "*" in entry
        start = "/" if pattern and release.relative_globs_from_cwd else posixpath.dirname(parent)
        path = posixpath.normpath(posixpath.join(start, entry))
        if pattern:
            found += sorted((f for f in files if matches(path, f)), key=lambda f: f.split("/"))
        else:
            found.append(path)
    return tuple(found)


def matches(pattern: str, path: str) -> bool:
    """Go's ``filepath.Match``: ``*`` and ``?`` stay within one folder, dot files are matched too."""
    return re.fullmatch(_regex(pattern), path) is not None


def is_directory(path: str, files: Mapping[str, bytes]) -> bool:
    """True when some known file lies below `path`."""
    return any(f.startswith(path.rstrip("/") + "/") for f in files)


def _regex(pattern: str) -> str:
    out: list[str] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "\\" and position < len(pattern):
            out.append(re.escape(pattern[position]))
            position += 1
        elif char == "[" and (end := pattern.find("]", position + 1)) > 0:
            inner = pattern[position:end].replace("\\", "\\\\")
            out.append(f"[{inner}]" if not inner.startswith("!") else f"[\\{inner}]")
            position = end + 1
        else:
            out.append(re.escape(char))
    return "".join(out)
