"""A seccomp filter for what Landlock does not see: sockets of any kind, changes of files by path, other processes.

Landlock rules neither chmod, chown and time stamps by path nor connections to unix sockets. Calls that a simulated
host's tools make as a matter of course answer "done" and do nothing (the tree's own `chmod` goes another way); the
rest is refused. Stands alone (standard library only).
"""

import ctypes
import errno
import os
import struct
from dataclasses import dataclass

__all__ = ["available", "install"]

_PR_SET_SECCOMP, _PR_GET_SECCOMP, _MODE_FILTER = 22, 21, 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NR, _ARCH = 0, 4  # offsets in seccomp_data; the arguments follow at 16, eight bytes each
_X32 = 0x40000000


@dataclass(frozen=True)
class _Calls:
    """Numbers of one architecture.

    `pretended` do nothing and say 0; of `by_descriptor` only those with a path in argument 1. `unsupported` say that
    the file system cannot do it. `own_only` are refused for any process but the caller (argument 0 is not 0).
    """

    audit: int
    pretended: tuple[int, ...]
    by_descriptor: tuple[int, ...]
    unsupported: tuple[int, ...]
    refused: tuple[int, ...]
    own_only: tuple[int, ...]
    signals: tuple[int, ...]
    truncate: int


_NEW = (425, 426, 427, 434, 438, 424, 452, 469)
# io_uring_*, pidfd_open, pidfd_getfd, pidfd_send_signal, fchmodat2, file_setattr

_X86_64 = _Calls(
    audit=0xC000003E,
    pretended=(90, 92, 94, 268, 260, 132, 235, 261, 452),  # chmod chown lchown fchmodat fchownat utime utimes futimesat
    by_descriptor=(280,),  # utimensat
    unsupported=(188, 189, 197, 198, 463, 466),  # setxattr lsetxattr removexattr lremovexattr, and their …at forms
    refused=(
        *(41, 53),  # socket socketpair
        *(101, 310, 311),  # ptrace process_vm_readv process_vm_writev
        *(272, 308, 165, 166, 155, 161),  # unshare setns mount umount2 pivot_root chroot
        *(
            141,
            142,
            144,
            203,
            251,
            314,
        ),  # setpriority sched_setparam …setscheduler …setaffinity ioprio_set sched_setattr
        *(248, 249, 250),  # add_key request_key keyctl
        *(29, 64, 68, 240),  # shmget semget msgget mq_open
        *(298, 321, 323),  # perf_event_open bpf userfaultfd
        *(428, 429, 430, 432, 442),  # open_tree move_mount fsopen fsmount mount_setattr
        *(c for c in _NEW if c != 452),
    ),
    own_only=(302,),  # prlimit64
    signals=(62, 200, 234, 129, 297),  # kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo
    truncate=76,
)
_GENERIC = _Calls(
    audit=0,
    pretended=(53, 54, 452),
    by_descriptor=(88,),
    unsupported=(5, 6, 14, 15, 463, 466),
    refused=(
        *(198, 199),
        *(117, 270, 271),
        *(97, 268, 40, 39, 41, 51),
        *(140, 118, 119, 122, 30, 274),
        *(217, 218, 219),
        *(194, 190, 186, 180),
        *(241, 280, 282),
        *(428, 429, 430, 432, 442),
        *(c for c in _NEW if c != 452),
    ),
    own_only=(261,),
    signals=(129, 130, 131, 138, 240),
    truncate=45,
)
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "riscv64": 0xC00000F3}

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def available() -> bool:
    """True when this kernel and processor are known to filter system calls."""
    machine = os.uname()
    return machine.sysname == "Linux" and machine.machine in _AUDIT and _libc.prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) >= 0


def install(*, signals: bool, truncation: bool) -> None:
    """Filter this process and all that it starts. no_new_privs must be set already.

    `signals` and `truncation` also refuse kill and truncate, for kernels whose Landlock cannot keep them inside.
    Raises OSError when the kernel refuses.
    """
    machine = os.uname().machine
    calls = _X86_64 if machine == "x86_64" else _GENERIC
    code = _program(calls, _AUDIT[machine], signals=signals, truncation=truncation)
    program = _Program(len(code) // 8, code)
    if _libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the system call filter was refused")


def _program(calls: _Calls, audit: int, *, signals: bool, truncation: bool) -> bytes:
    refuse = _op(_RETURN, _ERRNO | errno.EPERM)
    steps = [_op(_LOAD, _ARCH), _op(_EQUAL, audit, 1, 0), refuse, _op(_LOAD, _NR)]
    if calls.audit == _X86_64.audit:
        steps += [_op(_AT_LEAST, _X32, 0, 1), refuse]
    refused = [*calls.refused, *(calls.signals if signals else ()), *((calls.truncate,) if truncation else ())]
    for number in refused:
        steps += [_op(_EQUAL, number, 0, 1), refuse]
    for number in calls.unsupported:
        steps += [_op(_EQUAL, number, 0, 1), _op(_RETURN, _ERRNO | errno.EOPNOTSUPP)]
    for number in calls.pretended:
        steps += [_op(_EQUAL, number, 0, 1), _op(_RETURN, _ERRNO)]
    for number in calls.by_descriptor:
        steps += _argument_decides(number, 1, _op(_RETURN, _ERRNO))
    for number in calls.own_only:
        steps += _argument_decides(number, 0, refuse)
    return b"".join([*steps, _op(_RETURN, _ALLOW)])


def _argument_decides(number: int, argument: int, otherwise: bytes) -> list[bytes]:
    """Let the call through when both halves of its argument are 0."""
    low, high = 16 + 8 * argument, 20 + 8 * argument
    return [
        _op(_EQUAL, number, 0, 6),
        _op(_LOAD, low),
        _op(_EQUAL, 0, 0, 3),
        _op(_LOAD, high),
        _op(_EQUAL, 0, 0, 1),
        _op(_RETURN, _ALLOW),
        otherwise,
    ]


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)
