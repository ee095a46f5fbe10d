"""Which files a file's `imports` name, in the order in which containerd reads them (`runtimes.md §1.3`)."""

import posixpath
from collections.abc import Iterable, Mapping

from gpuwizard.containerd.release import Release
from gpuwizard.facts.runtimes.globs import matches

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


def is_directory(path: str, files: Mapping[str, bytes]) -> bool:
    """True when some known file lies below `path`."""
    return any(f.startswith(path.rstrip("/") + "/") for f in files)
