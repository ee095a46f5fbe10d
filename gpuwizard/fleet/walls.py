"""Choosing the walls of simulated hosts: which unused user they become, and how they get to their trees."""

import os
import pwd
from collections.abc import Iterable
from pathlib import Path

from gpuwizard.fleet import landlock, seccomp
from gpuwizard.fleet.sandbox import Walls, needs_capability

__all__ = ["walls_for"]

_USERS = range(61210, 64000)  # above what systems give to people and services, below 65534


def walls_for(hosts: Path, names: Iterable[str], reason: str | None) -> dict[str, Walls]:
    """The walls of each host whose tree lies in `hosts`; `reason` is why there can be no sandbox.

    A root parent gives its hosts an unused user; where that cannot be had, the sandbox alone has to do.
    """
    hosts.mkdir(mode=0o711, parents=True, exist_ok=True)
    user = _unused_user(hosts) if os.geteuid() == 0 else None
    capability = needs_capability(str(hosts / "any")) if user is not None else None
    version = 0 if reason is not None else landlock.abi()
    return {
        name: Walls(
            tree=str(hosts.resolve() / name),
            uid=user,
            gid=user,
            capability=capability,
            landlock=version,
            seccomp=reason is None and seccomp.available(),
        )
        for name in names
    }


def _unused_user(hosts: Path) -> int | None:
    """A user number that nobody has, the one that the trees belong to already if it is still free."""
    owners = [path.stat().st_uid for path in hosts.iterdir() if path.is_dir()]
    for number in [*(o for o in owners if o in _USERS), *_USERS]:
        try:
            pwd.getpwuid(number)
        except KeyError:
            return number if _can_be_given(hosts, number) else None
    return None


def _can_be_given(hosts: Path, number: int) -> bool:
    """Whether files can belong to that user here: a container may know a few users only."""
    trial = hosts / ".owner"
    trial.touch(mode=0o600)
    try:
        os.chown(trial, number, number)
    except OSError:
        return False
    finally:
        trial.unlink()
    return True
