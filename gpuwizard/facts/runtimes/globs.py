"""The patterns by which containerd's files import others (`runtimes.md §1.3`)."""

import functools
import re

__all__ = ["matches"]


def matches(pattern: str, path: str) -> bool:
    """Go's ``filepath.Match``: ``*`` and ``?`` stay within one folder, dot files are matched too."""
    return _compiled(pattern).fullmatch(path) is not None


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(_regex(pattern))
    except re.error:  # a class that Go and Python take differently: only the path itself
        return re.compile(re.escape(pattern))


def _regex(pattern: str) -> str:
    out: list[str] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            if out[-1:] != ["[^/]*"]:
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
