"""The walls round a simulated host: which files, which user, which system calls; applied by a process to itself.

`reason_against` says why this machine cannot have such walls. Stands alone (standard library only).
"""

import ctypes
import os
import resource
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpuwizard.fleet import landlock, seccomp

__all__ = ["Walls", "command_prefix", "enclose", "enclose_further", "needs_capability", "reason_against"]

_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_PR_CAPBSET_READ, _PR_SET_SECUREBITS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 23, 28, 47, 2
_NO_SETUID_FIXUP = 1 << 2
_CAP_VERSION = 0x20080522

_SYSTEM = (  # where a machine keeps its programs and their libraries
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store", "/run/current-system/sw",
    "/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld-musl-x86_64.path",
    "/dev/urandom", "/dev/random", "/proc/uptime",
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero")


@dataclass(frozen=True)
class Walls:
    """What a simulated host may do on the real machine.

    Everything below `tree` may be read and written; programs of the system may be run. `uid` and `gid` are the
    unused user that a root parent becomes first; `capability` is kept then, so that the way to the tree can be walked.
    """

    tree: str
    uid: int | None = None
    gid: int | None = None
    capability: int | None = None
    landlock: int = 0
    seccomp: bool = False

    def as_json(self) -> dict[str, Any]:
        """For the process that applies it."""
        return asdict(self)


def reason_against() -> str | None:
    """Why simulated hosts cannot be kept away from this machine; None when they can."""
    if shutil.which("flock") is None:
        return "the program flock (util-linux) is not installed, and changes of a host are made under its locks"
    system = os.uname().sysname
    if system == "Darwin":
        return None if shutil.which("sandbox-exec") else "this macOS has no sandbox-exec"
    if system != "Linux":
        return f"there is no sandbox for {system}"
    if landlock.abi() < 1:
        return "this kernel has no Landlock (Linux 5.13 or newer, with landlock among its security modules)"
    if not seccomp.available():
        return "this kernel does not filter system calls (seccomp)"
    return None


def needs_capability(tree: str) -> int | None:
    """The capability with which an unused user can walk to `tree`; None when anybody can."""
    if all(folder.stat().st_mode & 0o001 for folder in Path(tree).absolute().parents):
        return None
    for capability in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
        if _libc().prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) == 1:
            return capability
    return _CAP_DAC_READ_SEARCH


def enclose(walls: Walls) -> None:
    """Put this process behind `walls` for good. Raises OSError when a wall cannot be built."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if walls.uid is not None and walls.gid is not None:
        _become(walls.uid, walls.gid, walls.capability)
    if walls.landlock:
        landlock.restrict([walls.tree, *_DEVICES], _SYSTEM, version=walls.landlock)
    if walls.seccomp:
        same_user = walls.uid is None
        seccomp.install(signals=same_user and walls.landlock < 6, truncation=walls.landlock < 3)


def enclose_further(write: list[str], read: list[str], version: int) -> None:
    """Inside the walls: keep a login user without root's rights out of what is root's on its host."""
    landlock.restrict([*write, *_DEVICES], [*read, *_SYSTEM], version=version)


def command_prefix(tree: str) -> list[str]:
    """On macOS, what stands before a command to keep it below `tree`; nothing elsewhere."""
    if os.uname().sysname != "Darwin" or shutil.which("sandbox-exec") is None:
        return []
    quoted = os.path.realpath(tree).replace("\\", "\\\\").replace('"', '\\"')
    profile = (
        "(version 1)(allow default)(deny network*)(deny signal)(allow signal (target same-sandbox))"
        f'(deny file-write* (require-not (subpath "{quoted}")))'
        '(allow file-write* (literal "/dev/null") (literal "/dev/zero"))'
        '(deny file-read-data (require-all (subpath "/Users") '
        f'(require-not (subpath "{quoted}"))))(deny mach-lookup)(deny process-info* (target others))'
    )
    return ["sandbox-exec", "-p", profile]


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _become(uid: int, gid: int, capability: int | None) -> None:
    libc = _libc()
    os.setgroups([])
    # without the fix-up access(2) counts the capability too, by which `sort` and `test` judge; ours are set below
    if capability is not None and libc.prctl(_PR_SET_SECUREBITS, _NO_SETUID_FIXUP, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "capabilities cannot be kept")
    os.setgid(gid)
    os.setuid(uid)
    if capability is not None:
        _keep_only(libc, capability)


def _keep_only(libc: ctypes.CDLL, capability: int) -> None:
    header = (ctypes.c_uint32 * 2)(_CAP_VERSION, 0)
    bit = 1 << capability
    data = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)  # effective, permitted, inheritable; twice
    if libc.capset(header, data) != 0 or libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the way to the tree cannot be walked by another user")
