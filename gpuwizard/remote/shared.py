"""What the logins of one run have in common, so that things are read, asked and opened once and not once a host."""

import asyncio
from typing import TYPE_CHECKING, Any

from gpuwizard.remote.sudo import SudoPasswords
from gpuwizard.secret import Secret

if TYPE_CHECKING:
    from gpuwizard.remote.ssh.state import SshState

__all__ = ["LOGINS_AT_ONCE", "Shared"]

LOGINS_AT_ONCE = 8
"""New logins at a time through one jump host or to one sshd: its MaxStartups drops more at random (`speed.md`)."""


class Shared:
    """Asked secrets, login slots, and the SSH side's caches. Belongs to one event loop."""

    __slots__ = ("_slots", "passwords", "read", "ssh", "sudo")

    def __init__(self) -> None:
        self.sudo = SudoPasswords()
        self.passwords: dict[tuple[str, str], Secret] = {}
        """Login passwords that were typed, by user and host, for reconnecting."""
        self.read: dict[tuple[str, str | None, int | None], Any] = {}
        """What asyncssh made of lines of the SSH configuration that say the same for many hosts, by them and by the
        user and the port that were asked for."""
        self.ssh: SshState | None = None
        self._slots: dict[str, asyncio.Semaphore] = {}

    def login_slot(self, through: str) -> asyncio.Semaphore:
        """The semaphore for new logins through the jump host, or to the sshd, that `through` names."""
        return self._slots.setdefault(through, asyncio.Semaphore(LOGINS_AT_ONCE))
