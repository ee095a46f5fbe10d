"""Which files a file's `imports` name, in the order in which containerd reads them (`runtimes.md §1.3`)."""

import posixpath
from collections.abc import Iterable, Mapping

from gpuwizard.clean import clean_line
from gpuwizard.containerd.parse import LoadError
from gpuwizard.containerd.release import Release
from gpuwizard.facts.runtimes.globs import matches

__all__ = ["NOWHERE", "is_directory", "matches", "resolve"]

# Behind a path: a symbolic link that leads nowhere, which a pattern matches all the same.
NOWHERE = "//"


def resolve(parent: str, imports: Iterable[str], files: Mapping[str, bytes], release: Release) -> tuple[str, ...]:
    """The paths that `imports` of the file `parent` name. Only an entry with ``*`` is a pattern; it matches what
    exists in `files`, sorted. A literal path is returned even when it does not exist (the daemon then fails).

    Raises LoadError for a pattern that is none.
    """
    found: list[str] = []
    for entry in imports:
        pattern = "*" in entry
        start = "/" if pattern and release.relative_globs_from_cwd else posixpath.dirname(parent)
        path = posixpath.normpath(posixpath.join(start, entry))
        if pattern:
            if _is_broken(path):
                raise LoadError(f"{parent}: imports: {clean_line(entry)} is no valid pattern")
            found += sorted((f for f in _places(files) if matches(path, f)), key=lambda f: f.split("/"))
        else:
            found.append(path)
    return tuple(found)


def is_directory(path: str, files: Mapping[str, bytes]) -> bool:
    """True when some known file lies below `path`; a key with a slash at its end stands for an empty folder."""
    return any(f.startswith(path.rstrip("/") + "/") and not f.endswith(NOWHERE) for f in files)


def _places(files: Mapping[str, bytes]) -> Iterable[str]:
    """The files and the folders above them: a pattern matches both, and a folder is fatal."""
    places = {path.rstrip("/") for path in files}
    for path in list(places):
        while (path := posixpath.dirname(path)) not in places and path != "/":
            places.add(path)
    return places


def _is_broken(pattern: str) -> bool:
    """True for a pattern with an open or empty ``[``, or a lone backslash at its end."""
    position = 0
    while position < len(pattern):
        if pattern[position] == "\\":
            position += 1
            if position == len(pattern):
                return True
        elif pattern[position] == "[":
            start = position + (2 if pattern.startswith("[^", position) else 1)
            end = pattern.find("]", start)
            if end <= start:
                return True
            position = end
        position += 1
    return False
