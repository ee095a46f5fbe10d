"""Run a program of this machine and fail with its own words."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["LabError", "call", "filesystem_of", "mounts"]


class LabError(Exception):
    """The lab could not do what a test needs; the message says which command failed and what it printed."""


def call(
    *argv: str | Path, stdin: str | None = None, env: Mapping[str, str] | None = None, timeout: float = 120.0
) -> str:
    """Run `argv`, return its standard output. Raises LabError when it fails or takes longer than `timeout` seconds."""
    words: Sequence[str] = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            env=None if env is None else dict(env),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise LabError(f"{' '.join(words)}: {problem}") from problem
    if done.returncode:
        raise LabError(f"{' '.join(words)}: status {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def mounts() -> list[tuple[str, str, str]]:
    """What is mounted here: (source, mount point, type), in mount order."""
    rows = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        source, point, kind = line.split(" ")[:3]
        rows.append((source, point.replace("\\040", " "), kind))
    return rows


def filesystem_of(path: Path) -> str:
    """The type of the file system that `path` lies on (``ext4``, ``overlay``)."""
    resolved = path.resolve()
    best = ("", "")
    for _, point, kind in mounts():
        if resolved.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]
