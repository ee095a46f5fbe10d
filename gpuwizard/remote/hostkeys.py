"""Host keys: what known_hosts files say, the question for an unknown key, and the new line under a lock.

A key that differs from the recorded one is always refused.
"""

import base64
import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import asyncssh

from gpuwizard.errors import LoginError
from gpuwizard.events import Asker, Choice

__all__ = [
    "HostKeys",
    "KnownHosts",
    "Verdict",
    "append_host_key",
    "ask_about",
    "changed_key",
    "described",
    "unknown_key",
]

Verdict: TypeAlias = Literal["accept", "accept-and-save", "refuse"]
HostKeys: TypeAlias = tuple[Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey]]


class KnownHosts:
    """Several known_hosts files, parsed once; hashed names, patterns, ports, @cert-authority and @revoked work.

    A line that cannot be read is passed over, as ssh does.
    """

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self._entries = asyncssh.SSHKnownHosts()
        for text in texts:
            for line in text.splitlines():
                self.add(line)

    @classmethod
    def read(cls, paths: Sequence[Path]) -> "KnownHosts":
        """Parse `paths`; a file that is not there is empty. Blocks."""
        texts = []
        for path in paths:
            try:
                texts.append(path.read_text(encoding="utf-8", errors="replace"))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise LoginError(
                    f"the known hosts cannot be read: {error.strerror}",
                    where=str(path),
                    remedy="make the file readable, or name another with --known-hosts",
                ) from error
        return cls(texts)

    def add(self, line: str) -> None:
        """Take one more line."""
        try:
            self._entries.load(line)
        except ValueError:
            return

    def keys(self, host: str, port: int) -> HostKeys:
        """Trusted host keys, trusted certificate authorities and revoked keys, ssh's way: for another port than 22
        the entry without a port counts when there is none with it."""
        found = self._entries.match(host.lower(), "", port if port != 22 else None)
        return found[0], found[1], found[2]

    def recorded(self, host: str, port: int) -> Sequence[asyncssh.SSHKey]:
        """The keys recorded for exactly this host and port."""
        name = host.lower() if port == 22 else f"[{host.lower()}]:{port}"
        return self._entries.match(name, "", None)[0]


def described(key: asyncssh.SSHKey) -> str:
    """Type and SHA256 fingerprint of a key."""
    return f"{key.get_algorithm()} {key.get_fingerprint()}"


async def ask_about(host: str, address: str, key: asyncssh.SSHKey, ask: Asker, *, savable: bool) -> Verdict:
    """Let the operator decide about a key that is not known."""
    options: tuple[tuple[Verdict, str], ...] = (
        ("accept", "accept it this time"),
        *((("accept-and-save", "accept it and remember it"),) if savable else ()),
        ("refuse", "refuse"),
    )
    answer = await ask.choose(
        Choice(
            "host-key",
            f"{host} is not known yet",
            f"{address} shows the host key\n{described(key)}\n"
            "Compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host's console.",
            options,
            "refuse",
            host,
        )
    )
    match answer:
        case "accept" | "accept-and-save":
            return answer
        case _:
            return "refuse"


def unknown_key(host: str, address: str, key: asyncssh.SSHKey | None, *, refused: bool = False) -> LoginError:
    """The error for a key that nobody vouched for."""
    what = "the host key was refused" if refused else "the host key is not known"
    return LoginError(
        f"{what}: {described(key)}" if key else what,
        where=host,
        remedy=f"`ssh {address}` once and accept the key, or --host-keys ask, or --host-keys accept-new",
    )


def changed_key(host: str, name: str, key: asyncssh.SSHKey, recorded: Sequence[asyncssh.SSHKey]) -> LoginError:
    """The error for a key that differs from the recorded one: both fingerprints, never accepted."""
    known = ", ".join(described(k) for k in recorded)
    return LoginError(
        f"the host key has CHANGED: it is {described(key)}, known is {known}",
        where=host,
        remedy=f"someone may be in between; if the host was installed anew: `ssh-keygen -R '{name}'`, then try again",
    )


def append_host_key(path: Path, host: str, port: int, key: asyncssh.SSHKey) -> str:
    """Append a hashed entry under a lock and return its line; the file and its folder are made if need be. Blocks.

    Raises LoginError when the file cannot be written.
    """
    name = host.lower() if port == 22 else f"[{host.lower()}]:{port}"
    kind, public = key.export_public_key("openssh").decode().split()[:2]
    line = f"{_hashed(name)} {kind} {public}"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with open(handle, "rb+") as file:  # noqa: PTH123 - an open descriptor
            fcntl.flock(file, fcntl.LOCK_EX)
            existing = file.read()
            if key in KnownHosts([existing.decode("utf-8", "replace")]).recorded(host, port):
                return line
            newline = b"\n" if existing and not existing.endswith(b"\n") else b""
            file.write(newline + line.encode() + b"\n")
    except OSError as error:
        raise LoginError(
            f"the host key cannot be saved: {error.strerror}",
            where=str(path),
            remedy="make the file writable, or name another with --known-hosts",
        ) from error
    return line


def _hashed(name: str) -> str:
    """A host's name as known_hosts keeps it when it shall not be readable: ``|1|salt|hash``."""
    salt = secrets.token_bytes(20)
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
