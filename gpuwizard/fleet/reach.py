"""What of a simulated host's tree is for all users, by the modes of its files: the rest is root's alone."""

import os
import stat

__all__ = ["public_parts"]


def public_parts(folder: str) -> tuple[bool, list[str]]:
    """Whether everything below is for all users, and the largest parts that are."""
    parts: list[str] = []
    whole = True
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                continue
            mode = entry.stat(follow_symlinks=False).st_mode
            if entry.is_dir(follow_symlinks=False):
                if mode & 0o005 != 0o005:
                    whole = False
                    continue
                inner_whole, inner = public_parts(entry.path)
                whole = whole and inner_whole
                parts += [entry.path] if inner_whole else inner
            elif mode & stat.S_IROTH:
                parts.append(entry.path)
            else:
                whole = False
    return whole, [folder] if whole else parts
