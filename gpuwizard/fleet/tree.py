"""The directory tree that is a simulated host's file system, touched by the fleet only in ways that cannot leave it.

The fleet may run with more rights than its hosts, and their scripts may put symlinks anywhere: so every path is walked
by descriptors, and a symlink is taken as the host would take it, with the tree as its root.
"""

import contextlib
import os
import posixpath
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Tree"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40


class Tree:
    """A host's file system below `root`. Paths are the host's: absolute. New files belong to `owner` (uid, gid)."""

    def __init__(self, root: Path, owner: tuple[int, int] | None = None) -> None:
        self.root = root
        self._owner = owner
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the root directory."""
        os.close(self._root)

    def read(self, path: str) -> bytes | None:
        """The bytes of a regular file; None when there is none."""
        with self._parent(path) as (folder, name):
            if folder is None:
                return None
            try:
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            except OSError:
                return None
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            return None
        with os.fdopen(file, "rb") as stream:
            return stream.read()

    def text(self, path: str) -> str:
        """The text of a file; empty when there is none."""
        return (self.read(path) or b"").decode("utf-8", "replace")

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Replace a file in one step, making the folders that are missing. Raises OSError."""
        self.make_folder(posixpath.dirname(path))
        with self._parent(path) as (folder, name):
            if folder is None:
                raise NotADirectoryError(f"{path} has no folder")
            temporary = f".fleet-{name}"
            file = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder
            )
            with os.fdopen(file, "wb") as stream:
                stream.write(data)
                stream.flush()
                self._own(file)
                os.fchmod(file, mode)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)

    def link(self, path: str, target: str) -> None:
        """Make a symlink, in the place of whatever file is there. Raises OSError."""
        self.make_folder(posixpath.dirname(path))
        with self._parent(path, follow=False) as (folder, name):
            if folder is None:
                raise NotADirectoryError(f"{path} has no folder")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
            os.symlink(target, name, dir_fd=folder)
            if self._owner is not None:
                os.chown(name, *self._owner, dir_fd=folder, follow_symlinks=False)

    def make_folder(self, path: str, mode: int = 0o755) -> None:
        """Make a folder and those above it. Raises OSError when something else is in the way."""
        done = ""
        for part in (p for p in path.split("/") if p):
            done += f"/{part}"
            with self._parent(done) as (folder, name):
                if folder is None:
                    raise NotADirectoryError(done)
                try:
                    os.mkdir(name, 0o700, dir_fd=folder)
                except FileExistsError:
                    continue
                made = os.open(name, _FOLDER, dir_fd=folder)
                try:
                    self._own(made)
                    os.fchmod(made, mode if done == path.rstrip("/") else 0o755)
                finally:
                    os.close(made)

    def chmod(self, path: str, mode: int) -> bool:
        """Set the mode of a file or folder; false when there is none."""
        with self._parent(path) as (folder, name):
            if folder is None:
                return False
            try:
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            except PermissionError:
                return self._chmod_unreadable(folder, name, mode)
            except OSError:
                return False
            try:
                os.fchmod(file, mode)
            finally:
                os.close(file)
            return True

    def _chmod_unreadable(self, folder: int, name: str, mode: int) -> bool:
        """A file of mode 0: its folder is ours, and the name was found to be no symlink a moment ago."""
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return False
        os.chmod(name, mode, dir_fd=folder)
        return True

    def remove(self, path: str) -> bool:
        """Remove a file or symlink; false when there is none."""
        with self._parent(path, follow=False) as (folder, name):
            if folder is None:
                return False
            try:
                os.unlink(name, dir_fd=folder)
            except (FileNotFoundError, IsADirectoryError, PermissionError):
                return False
            return True

    def remove_folder(self, path: str) -> None:
        """Remove a folder with all that is in it, if it is there."""
        for name in self.names(path):
            inner = f"{path}/{name}"
            if not self.remove(inner):
                self.remove_folder(inner)
        with self._parent(path, follow=False) as (folder, name):
            if folder is not None:
                with contextlib.suppress(OSError):
                    os.rmdir(name, dir_fd=folder)

    def stat(self, path: str) -> os.stat_result | None:
        """What is there, symlinks followed; None when there is nothing."""
        with self._parent(path) as (folder, name):
            if folder is None:
                return None
            try:
                return os.stat(name, dir_fd=folder, follow_symlinks=False)
            except OSError:
                return None

    def exists(self, path: str) -> bool:
        """Something is there, symlinks followed."""
        return self.stat(path) is not None

    def executable(self, path: str) -> bool:
        """A regular file that may be run is there."""
        found = self.stat(path)
        return found is not None and stat.S_ISREG(found.st_mode) and found.st_mode & 0o111 != 0

    def link_target(self, path: str) -> str | None:
        """Where a symlink points; None when it is none."""
        with self._parent(path, follow=False) as (folder, name):
            if folder is None:
                return None
            try:
                return os.readlink(name, dir_fd=folder)
            except OSError:
                return None

    def names(self, path: str) -> list[str]:
        """The names in a folder, sorted; empty when there is no such folder."""
        with self._parent(path) as (folder, name):
            if folder is None:
                return []
            try:
                inner = os.open(name, _FOLDER, dir_fd=folder)
            except OSError:
                return []
        try:
            return sorted(os.listdir(inner))  # noqa: PTH208 - by descriptor
        finally:
            os.close(inner)

    def files(self, path: str, depth: int = 6) -> dict[str, bytes]:
        """Every regular file below a folder, by its path."""
        found: dict[str, bytes] = {}
        for name in self.names(path):
            inner = f"{path}/{name}"
            data = self.read(inner)
            if data is not None:
                found[inner] = data
            elif depth > 0:
                found |= self.files(inner, depth - 1)
        return found

    def own_path(self, text: str) -> str:
        """A path that a script wrote, as the host's own: scripts put the tree's root before every path."""
        root = str(self.root)
        if text == root:
            return "/"
        return text[len(root) :] if text.startswith(f"{root}/") else text

    def _own(self, descriptor: int) -> None:
        if self._owner is not None:
            os.fchown(descriptor, *self._owner)

    @contextlib.contextmanager
    def _parent(self, path: str, *, follow: bool = True) -> Iterator[tuple[int | None, str]]:
        """The folder that holds `path` as a descriptor, and the last name; (None, "") when the way does not exist."""
        chain = [os.dup(self._root)]
        try:
            name = self._walk(chain, path, follow=follow)
            yield (None, "") if name is None else (chain[-1], name)
        finally:
            for descriptor in chain:
                os.close(descriptor)

    def _walk(self, chain: list[int], path: str, *, follow: bool) -> str | None:
        parts = deque(p for p in path.split("/") if p not in ("", "."))
        links = 0
        while parts:
            part = parts.popleft()
            if part == "..":
                if len(chain) > 1:
                    os.close(chain.pop())
                continue
            try:
                found = os.stat(part, dir_fd=chain[-1], follow_symlinks=False)
            except OSError:
                return part if not parts else None
            if stat.S_ISLNK(found.st_mode) and (parts or follow):
                links += 1
                if links > _MOST_LINKS:
                    return None
                target = os.readlink(part, dir_fd=chain[-1])
                if target.startswith("/"):
                    while len(chain) > 1:
                        os.close(chain.pop())
                    target = self.own_path(target)
                parts.extendleft(reversed([p for p in target.split("/") if p not in ("", ".")]))
                continue
            if not parts:
                return part
            try:
                chain.append(os.open(part, _FOLDER, dir_fd=chain[-1]))
            except OSError:
                return None
        return "."
