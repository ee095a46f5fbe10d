"""Becoming root through sudo over one channel (`safety.md`, Scripts), and the password that hosts of a run share."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gpuwizard.errors import LoginError
from gpuwizard.events import Asker, SecretPrompt
from gpuwizard.secret import Secret

__all__ = ["PLAIN_COMMAND", "SudoPasswords", "SudoTurn", "sudo_command", "sudo_problem"]

PLAIN_COMMAND = "exec /bin/sh -s"
"""Runs a script from stdin; the same in every login shell, fish and csh included (`hosts.md §8.2`)."""


def sudo_command(prompt: str, mark: str) -> str:
    """The command that becomes root: sudo asks with `prompt`, root's shell prints `mark` and reads the script."""
    return f"exec sudo -S -k -p {prompt} -- /bin/sh -c 'echo {mark}; exec /bin/sh -s'"


_PROBLEMS = (
    (
        r"must have a tty|requiretty",
        "sudo demands a terminal",
        "allow it without one: `Defaults:{user} !requiretty` in sudoers",
    ),
    (
        r"not in the sudoers|may not run sudo|not allowed to (run sudo|execute)|is not allowed to",
        "{user} may not become root with sudo",
        "log in as another user (--user), or add {user} to sudoers on this host",
    ),
    (
        r"sudo: (command )?not found|not found: sudo|sudo: No such file",
        "there is no sudo",
        "log in as root (--user root) or install sudo on this host",
    ),
    (
        r"account (validation failure|management error)|password (has )?expired|account .*(expired|locked)",
        "the account or its password has expired",
        "renew it: log in by hand and change the password of {user}",
    ),
    (
        r"timed out reading password|no password was provided",
        "sudo waited too long for the password",
        "try again; -K asks for it before anything is opened",
    ),
    (
        r"incorrect password|[Aa]uthentication fail|try again",
        "sudo refused the password of {user}",
        "check it by hand with `sudo -v` on this host; -K asks for it at the start",
    ),
)


def sudo_problem(said: str, status: int | None, *, host: str, user: str) -> LoginError:
    """Why sudo ended before it gave a root shell, from its messages (`hosts.md §8.2`); `said` is cleaned text."""
    for pattern, what, remedy in _PROBLEMS:
        if re.search(pattern, said):
            return LoginError(what.format(user=user), where=host, remedy=remedy.format(user=user))
    lines = [line for line in said.splitlines() if line.strip()]
    reason = lines[-1].strip()[:200] if lines else f"exit status {status}"
    return LoginError(
        f"sudo gave no root shell: {reason}", where=host, remedy=f"try `sudo true` by hand as {user} on this host"
    )


class SudoPasswords:
    """The sudo password of a run: asked once, proven on one host before the others use it, so that a typing error
    costs one failed login and not one a host."""

    def __init__(self) -> None:
        self._shared: Secret | None = None
        self._proven = False
        self._own: dict[str, Secret] = {}
        self._declined = 0
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, host: str, ask: Asker, given: Secret | None) -> AsyncIterator["SudoTurn"]:
        """One host's dialogue. `given` is the password that the run was started with. While none is proven, the
        hosts take turns."""
        if self._shared is None:
            self._shared = given
        if self._proven or host in self._own:
            yield SudoTurn(self, host, ask, self._declined)
            return
        declined = self._declined
        async with self._lock:
            yield SudoTurn(self, host, ask, declined)

    def known(self, host: str) -> Secret | None:
        """The password that would be tried on `host`."""
        return self._own.get(host) or self._shared

    def accepted(self, host: str, password: Secret) -> None:
        """sudo on `host` took `password`."""
        if not self._proven:
            self._shared, self._proven = password, True
        elif password != self._shared:
            self._own[host] = password

    def refused(self, host: str) -> None:
        """The password of this host alone is wrong; the shared one may still be right elsewhere."""
        self._own.pop(host, None)

    @property
    def declined(self) -> int:
        """How often the operator gave no password."""
        return self._declined

    def decline(self) -> None:
        """The operator gave none: hosts that wait for this answer are not to ask again."""
        self._declined += 1


class SudoTurn:
    """Which password to try next on one host: the known one, then one that is asked for, then no more."""

    def __init__(self, passwords: SudoPasswords, host: str, ask: Asker, declined: int) -> None:
        self._passwords = passwords
        self._host = host
        self._ask = ask
        self._declined = declined
        self._tried = 0

    async def next(self) -> Secret | None:
        """The password to try; None when there is no other."""
        known = self._passwords.known(self._host)
        if self._tried == 0 and known is not None:
            self._tried = 1
            return known
        if self._tried > 1 or self._declined != self._passwords.declined:
            return None
        title = f"sudo password on {self._host}"
        body = (
            "The password was not accepted on this host."
            if self._tried
            else "Becoming root needs a password. It is used for all hosts that take it, and kept in memory only."
        )
        self._tried += 1
        secret = await self._ask.secret(SecretPrompt("sudo", title, body, self._host))
        if secret is None:
            self._passwords.decline()
        return secret

    def accepted(self, password: Secret) -> None:
        """sudo took it."""
        self._passwords.accepted(self._host, password)

    def refused(self) -> None:
        """sudo did not take it."""
        self._passwords.refused(self._host)
