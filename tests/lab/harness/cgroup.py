"""One control group per host, so that a host can be ended whole and two hosts never share a systemd tree.

systemd-nspawn with ``--keep-unit`` makes its groups below the caller's own group, so each host is started from a group
of its own. A group on which ``cgroup.kill`` was used must be removed afterwards: new children cloned into it die at
once.
"""

import contextlib
import os
import select
import time
from pathlib import Path

from tests.lab.harness.shell import LabError, call, mounts

__all__ = ["all_gone", "cpu_seconds", "end", "join_command", "make"]

_OWN_MOUNT = Path("/run/gpuwizard-lab/cgroup")


def _unified() -> Path:
    """The cgroup2 hierarchy of this machine; mounted here when it has none."""
    for _, point, kind in mounts():
        if kind == "cgroup2":
            return Path(point)
    _OWN_MOUNT.mkdir(parents=True, exist_ok=True)
    call("mount", "-t", "cgroup2", "none", _OWN_MOUNT)
    return _OWN_MOUNT


def _tops() -> list[Path]:
    """The unified hierarchy first, then version 1's name=systemd where there is one."""
    named = Path("/sys/fs/cgroup/systemd")
    return [_unified(), *([named] if (named / "cgroup.procs").exists() else [])]


def make(group: str) -> None:
    """Create the empty group ``gpuwizard-lab/GROUP``. Raises LabError where groups cannot be made."""
    for top in _tops():
        try:
            (top / "gpuwizard-lab" / group).mkdir(parents=True)
        except OSError as problem:
            raise LabError(f"cannot make a control group below {top}: {problem}") from problem


def join_command(group: str) -> str:
    """Shell text that moves the shell into the group."""
    return "".join(f"echo $$ >{top}/gpuwizard-lab/{group}/cgroup.procs && " for top in _tops())


def cpu_seconds(group: str) -> float:
    """CPU seconds that the processes of the group have used so far."""
    first = (_unified() / "gpuwizard-lab" / group / "cpu.stat").read_text().split("\n", 1)[0]
    return int(first.removeprefix("usage_usec ")) / 1e6


def end(group: str, timeout: float = 30.0) -> None:
    """Kill every process of the group, wait until they are gone, and remove it (also when it never existed)."""
    unified, *others = (top / "gpuwizard-lab" / group for top in _tops())
    deadline = time.monotonic() + timeout
    if unified.exists():
        (unified / "cgroup.kill").write_text("1")
        _wait_until_empty(unified / "cgroup.events", deadline)
    for top in (unified, *others):
        while top.exists():
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
            if top.exists() and time.monotonic() > deadline:
                raise LabError(f"{top} does not go away")
            # the kernel says EBUSY for a moment after the last process is gone, and has no event for it
            time.sleep(0.005 if top.exists() else 0)


def all_gone(groups: str) -> None:
    """End every group of the lab whose groups lie in ``gpuwizard-lab/GROUPS``, then that one."""
    for top in _tops():
        folder = top / "gpuwizard-lab" / groups
        for host in sorted(p.name for p in folder.glob("*") if p.is_dir()):
            end(f"{groups}/{host}")
        with contextlib.suppress(OSError):
            folder.rmdir()
            folder.parent.rmdir()


def _wait_until_empty(events: Path, deadline: float) -> None:
    with events.open() as handle:
        poll = select.poll()
        poll.register(handle, select.POLLPRI)
        while "populated 1" in handle.read():
            left = deadline - time.monotonic()
            if left < 0:
                raise LabError(f"processes of {events.parent} do not end")
            poll.poll(left * 1000)
            handle.seek(0)
