"""A kernel module file that `modinfo` reads and nothing loads: an ELF object with a ``.modinfo`` section only."""

import platform
import struct

__all__ = ["module_file"]

_MACHINES = {"x86_64": 62, "aarch64": 183}


def module_file(**fields: str) -> bytes:
    """The bytes of a module with the given ``.modinfo`` fields (``version``, ``license``)."""
    info = b"".join(f"{key}={value}\0".encode() for key, value in fields.items())
    names = b"\0.modinfo\0.shstrtab\0"
    head = 64
    table = (head + len(info) + len(names) + 7) & ~7
    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    machine = _MACHINES[platform.machine()]
    header = ident + struct.pack("<HHIQQQIHHHHHH", 1, machine, 1, 0, 0, table, 0, head, 0, 0, 64, 3, 2)
    sections = (
        bytes(64),
        _section(names.index(b".modinfo"), 1, 2, head, len(info)),
        _section(names.index(b".shstrtab"), 3, 0, head + len(info), len(names)),
    )
    body = header + info + names
    return body + bytes(table - len(body)) + b"".join(sections)


def _section(name: int, kind: int, flags: int, offset: int, size: int) -> bytes:
    return struct.pack("<IIQQQQIIQQ", name, kind, flags, 0, offset, size, 0, 0, 1, 0)
