"""What the operator writes to name hosts, as data: ``[user@]name[:port]``, ``@FILE``, ``local``."""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuwizard.errors import UsageError

__all__ = ["LOCAL", "HostTarget", "parse_targets"]

LOCAL = "local"

_NAME = re.compile(r"\w[\w.+%~-]*")
_USER = re.compile(r"[^\s:/'\"\x00-\x1f-][^\s:/'\"\x00-\x1f]*")
_SYNTAX = "a host is [user@]name[:port], [IPv6]:port, @FILE, or local"


@dataclass(frozen=True, slots=True)
class HostTarget:
    """One host. `name` is what tables, plans and the SSH configuration call it; `spec` is what was written.

    `user` and `port` are None where the SSH configuration or the options decide.
    """

    name: str
    user: str | None
    port: int | None
    spec: str

    @property
    def is_local(self) -> bool:
        """True for this machine, which is reached without SSH."""
        return self.name == LOCAL


def parse_targets(specs: Sequence[str]) -> tuple[HostTarget, ...]:
    """Read `specs` in order; a host named twice is kept once, ``@FILE`` stands for the lines of that file.

    Raises UsageError, with file and line, for what is no host, and for one name with two users or ports.
    """
    targets: dict[str, HostTarget] = {}
    for spec, where in _written(specs):
        target = _parse(spec, where)
        known = targets.setdefault(target.name, target)
        if (known.user, known.port) != (target.user, target.port):
            raise UsageError(
                f"{target.name} is named twice, as {known.spec} and as {target.spec}",
                where=where,
                remedy="name it once, or give each a Host entry of its own in the SSH configuration",
            )
    return tuple(targets.values())


def _written(specs: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each host as written, with where it was written."""
    for spec in specs:
        text = spec.strip()
        if text.startswith("@"):
            yield from _lines(Path(text[1:]).expanduser())
        else:
            yield text, ""


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The hosts of a file: one a line; blank lines and what follows ``#`` do not count."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(
            f"the host file cannot be read: {reason}", where=str(path), remedy="@FILE is a file with one host a line"
        ) from error
    for number, line in enumerate(text.splitlines(), 1):
        host = line.partition("#")[0].strip()
        if host.startswith("@"):
            raise UsageError(
                "a host file cannot name another one", where=f"{path}:{number}", remedy="give both as arguments"
            )
        if host:
            yield host, f"{path}:{number}"


def _parse(spec: str, where: str) -> HostTarget:
    if spec == LOCAL:
        return HostTarget(LOCAL, None, None, spec)
    user, at, rest = spec.rpartition("@")
    if at and not _USER.fullmatch(user):
        raise _unknown(spec, where)
    name, port = _split_port(rest, spec, where)
    if name == LOCAL:
        raise UsageError(f"{spec}: local is this machine and takes no user and no port", where=where, remedy=_SYNTAX)
    return HostTarget(name, user or None, port, spec)


def _split_port(text: str, spec: str, where: str) -> tuple[str, int | None]:
    """Name and port of ``name``, ``name:port``, ``[v6]``, ``[v6]:port`` or a bare IPv6 address."""
    if text.startswith("["):
        name, bracket, tail = text[1:].partition("]")
        if not bracket or not _is_ipv6(name) or (tail and not tail.startswith(":")):
            raise _unknown(spec, where)
        return name, _port(tail[1:], spec, where) if tail else None
    if _is_ipv6(text):
        return text, None
    name, colon, port = text.partition(":")
    if not _NAME.fullmatch(name):
        raise _unknown(spec, where)
    return name, _port(port, spec, where) if colon else None


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _port(text: str, spec: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise UsageError(f"{spec!r} has no valid port", where=where, remedy="a port is a number from 1 to 65535")
    return int(text)


def _unknown(spec: str, where: str) -> UsageError:
    remedy = "separate hosts by spaces, or one a line" if "," in spec else _SYNTAX
    return UsageError(f"{spec!r} is no host" if spec else "an empty word is no host", where=where, remedy=remedy)
