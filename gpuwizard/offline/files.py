"""The files that a containerd would read, from this machine or from a folder that stands for a host's root."""

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from gpuwizard.containerd.imports import NOWHERE, resolve
from gpuwizard.containerd.parse import LoadError, parse_file
from gpuwizard.containerd.release import Release
from gpuwizard.errors import UsageError

__all__ = ["Tree"]

_LARGEST = 4 << 20
_LINKS = 40
_MANY = 4096
_PATTERN = re.compile(r".*[*?\[\\].*")


class Tree:
    """A host's file tree: paths go by the host's names; with `root` they lie below that folder, and a symbolic link
    never leads out of it."""

    def __init__(self, root: str | None) -> None:
        self.root = Path(root).resolve() if root is not None else None
        self._once: dict[str, bytes] = {}
        if self.root is not None and not self.root.is_dir():
            remedy = "name the folder that holds the host's files"
            raise UsageError("--root is no folder", where=str(root), remedy=remedy)

    def root_file(self, name: str) -> str:
        """The host's path of the configuration file. Raises UsageError when it cannot be read."""
        path = posixpath.normpath("/" + name.lstrip("/")) if self.root is not None else os.path.abspath(name)  # noqa: PTH100
        where = name if self.root is None else f"{path} below {self.root}"
        remedy = "check the path" + ("" if self.root is None else ": with --root it is a path inside that folder")
        place = self._place(path)
        if place is None or not place.exists():
            raise UsageError("the configuration file does not exist", where=where, remedy=remedy)
        if place.is_dir():
            raise UsageError("this is a folder, not a configuration file", where=where, remedy="name the file in it")
        try:
            with place.open("rb") as stream:
                raw = stream.read(_LARGEST + 1)
        except OSError as error:
            why = f"the configuration file cannot be read: {error.strerror}"
            raise UsageError(why, where=where, remedy="copy it to where you may read it, or use sudo") from error
        if len(raw) > _LARGEST:
            raise UsageError("the file is too large for a configuration", where=where, remedy="name the right file")
        self._once[path] = raw  # a pipe, as the shell's <(…) gives, cannot be read again
        return path

    def load(self, main: str, version: str) -> dict[str, bytes]:
        """`main`, everything that it imports, and the drop-ins beside it, by the host's paths. A folder that a
        pattern matches is there with a slash at its end."""
        release = Release.parse(version)
        found: dict[str, bytes] = {}
        pending = [main]
        while pending and len(found) < _MANY:
            path = pending.pop(0)
            if path in found:
                continue
            self._check_readable(path)
            raw = self.read(path)
            if raw is None:
                found |= self._mark(path)
                continue
            found[path] = raw
            pending += self._imports(path, raw, release)
        folder = [part for part in posixpath.dirname(main).split("/") if part]
        for path in self._walk("/", [*folder, "*", "*"]):
            beside = path.endswith(".toml") and posixpath.dirname(path).endswith(".d")
            if beside and path not in found and (raw := self.read(path)) is not None:
                found[path] = raw
        return found

    def read(self, path: str) -> bytes | None:
        """The bytes of the host's file `path`; None when there is none or it cannot be read."""
        if path in self._once:
            return self._once[path]
        place = self._place(path)
        try:
            if place is None or not place.is_file() or place.stat().st_size > _LARGEST:
                return None
            return place.read_bytes()
        except OSError:
            return None

    def _imports(self, path: str, raw: bytes, release: Release) -> list[str]:
        """What the file `path` imports: literal paths, and what its patterns match in this tree."""
        try:
            imports = parse_file(raw, path, release).imports
            near = {place: b"" for entry in imports if "*" in entry for place in self._candidates(path, entry, release)}
            return list(resolve(path, imports, near, release))
        except LoadError:
            return []

    def _mark(self, path: str) -> dict[str, bytes]:
        """What stands in a set of files for a folder, and for a link that leads nowhere (`imports.is_directory`)."""
        place = self._place(path)
        if place is not None and place.is_dir():
            return {f"{path}/": b""}
        return {f"{path}{NOWHERE}": b""}

    def _check_readable(self, path: str) -> None:
        """Raise UsageError for a file that is there but that we may not read: the daemon may."""
        place = self._place(path)
        try:
            if place is not None and place.is_file() and not os.access(place, os.R_OK):
                raise UsageError("an imported file cannot be read", where=path, remedy="copy the files, or use sudo")
        except OSError as error:
            why = f"an imported file cannot be looked at: {error.strerror}"
            raise UsageError(why, where=path, remedy="copy the files, or use sudo") from error

    def _candidates(self, parent: str, entry: str, release: Release) -> Iterator[str]:
        """Paths of this tree that the pattern `entry` may match: each part of it with a pattern stands for any."""
        start = "/" if release.relative_globs_from_cwd else posixpath.dirname(parent)
        parts = posixpath.normpath(posixpath.join(start, entry)).split("/")
        yield from self._walk("/", [_PATTERN.sub("*", part) for part in parts if part])

    def _walk(self, folder: str, parts: list[str]) -> Iterator[str]:
        if not parts:
            yield folder
            return
        head, *rest = parts
        if head != "*":
            yield from self._walk(posixpath.join(folder, head), rest)
            return
        place = self._place(folder)
        try:
            names = sorted(os.listdir(place)) if place is not None and place.is_dir() else []  # noqa: PTH208
        except OSError:
            names = []
        for name in names[:_MANY]:
            yield from self._walk(posixpath.join(folder, name), rest)

    def _place(self, path: str) -> Path | None:
        """Where the host's `path` lies on this machine; None for a chain of links without end."""
        if self.root is None:
            return Path(path)
        return _inside(self.root, path)


def _inside(root: Path, path: str) -> Path | None:
    """`path` below `root`, each symbolic link on the way followed as if `root` were ``/``."""
    pending = [part for part in path.split("/") if part not in ("", ".")]
    here: list[str] = []
    links = 0
    while pending:
        part = pending.pop(0)
        if part == "..":
            here = here[:-1]
            continue
        place = root.joinpath(*here, part)
        if not place.is_symlink():
            here.append(part)
            continue
        links += 1
        if links > _LINKS:
            return None
        target = os.readlink(place)  # noqa: PTH115
        here = [] if target.startswith("/") else here
        pending = [p for p in target.split("/") if p not in ("", ".")] + pending
    return root.joinpath(*here)
