"""One login attempt: what asyncssh asks while it happens, routed to the keys, the known passwords, the operator."""

import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import asyncssh

from gpuwizard.clean import clean, clean_line
from gpuwizard.errors import GpuwizardError
from gpuwizard.events import Asker, SecretPrompt
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.patience import Patience
from gpuwizard.remote.ssh.identities import KeyRing
from gpuwizard.remote.ssh.lean import lean_connection
from gpuwizard.remote.ssh.settings import HostSettings
from gpuwizard.secret import Secret

__all__ = ["Login"]

_NO_PASSWORD = re.compile(
    r"code|otp|one.?time|token|verif|\bpin\b|passcode|duo|yubi|option|new |retype|again|expired|change", re.IGNORECASE
)


class Login(asyncssh.SSHClient):
    """The callbacks of one connection. Each kind of secret is tried once: one failed login, then stop.

    `accepted` is a host key that the operator accepted; `shown` the key that was not known, `tried` the ways in that
    were tried, `failure` an error of our own that ended the login.
    """

    def __init__(
        self,
        settings: HostSettings,
        options: ConnectOptions,
        ask: Asker,
        keys: KeyRing,
        patience: Patience,
        accepted: asyncssh.SSHKey | None = None,
    ) -> None:
        self._settings = settings
        self._options = options
        self._ask = ask
        self._patience = patience
        self._accepted = accepted
        self._agent = asyncssh.SSHAgentClient(settings.agent) if settings.agent else None
        self._offers: AsyncIterator[list[asyncssh.SSHKeyPair]] = keys.offers(settings, self._agent, self._passphrase)
        self._password_sent = False
        self._challenged = False
        self._guess_failed = False
        self._typed: Secret | None = None
        self.shown: asyncssh.SSHKey | None = None
        self.take_unknown = False
        self.connected = False
        self._connection: asyncssh.SSHClientConnection | None = None
        self.lost = False
        self.tried: list[str] = []
        self.expired = False
        self.failure: GpuwizardError | None = None

    async def finish(self) -> None:
        """The attempt is over: leave the agent."""
        if self._agent is not None:
            self._agent.close()
            await self._agent.wait_closed()

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """The TCP connection stands."""
        lean_connection(conn)
        self.connected = True
        self._connection = conn

    @property
    def greeted(self) -> bool:
        """True once the host has said that it speaks SSH."""
        return self._connection is not None and bool(self._connection.get_extra_info("server_version"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The link is gone."""
        self.lost = True

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """A key that known_hosts does not vouch for: taken when the operator accepted exactly it, else noted."""
        self.shown = key
        return key == self._accepted or self.take_unknown

    async def public_key_auth_requested(self) -> list[asyncssh.SSHKeyPair] | None:
        """The next keys to offer."""
        try:
            offer = await anext(self._offers, None)
        except GpuwizardError as error:
            self.failure = error
            return None
        if offer and "key" not in self.tried:
            self.tried.append("key")
        return offer

    async def password_auth_requested(self) -> str | None:
        """The login password, unless a guess was already wrong."""
        if self._password_sent or self._guess_failed:
            return None
        self._password_sent = True
        secret = await self._login_password(f"Password of {self._account}", "")
        if secret is None:
            return None
        self.tried.append("password")
        return secret.reveal()

    def password_change_requested(self, prompt: str, lang: str) -> tuple[str, str]:
        """The password has expired: changing it is not ours to do."""
        self.expired = True
        return NotImplemented  # type: ignore[no-any-return]

    def kbdint_auth_requested(self) -> str | None:
        """Take part in keyboard-interactive once; being asked again means that it failed."""
        if self._challenged:
            self._guess_failed = True
            return None
        self._challenged = True
        return ""

    async def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str] | None:
        """Answer every prompt of a challenge: the password from what is known, the rest by the operator."""
        answers = []
        for text, echo in prompts:
            prompt = clean_line(text, 200)
            body = clean("\n".join(part for part in (name, instructions) if part)).strip()
            if not echo and not self._password_sent and not _NO_PASSWORD.search(prompt):
                self._password_sent = True
                secret = await self._login_password(f"{self._account}: {prompt}", body)
            else:
                question = SecretPrompt("challenge", f"{self._account}: {prompt}", body, self._settings.name, echo)
                secret = await self._typed_by_operator(question)
            if secret is None:
                return None
            answers.append(secret.reveal())
        if answers and "keyboard-interactive" not in self.tried:
            self.tried.append("keyboard-interactive")
        return answers

    def auth_completed(self) -> None:
        """We are in: keep a typed password for reconnecting, in memory."""
        if self._typed is not None:
            self._options.shared.passwords[self._account_key] = self._typed

    @property
    def _account(self) -> str:
        return f"{self._settings.user}@{self._settings.name}"

    @property
    def _account_key(self) -> tuple[str, str]:
        return self._settings.user, self._settings.name

    async def _login_password(self, title: str, body: str) -> Secret | None:
        if self._settings.endpoint is not None:
            return None
        known = self._options.password or self._options.shared.passwords.pop(self._account_key, None)
        self._typed = known or await self._typed_by_operator(SecretPrompt("password", title, body, self._settings.name))
        return self._typed

    async def _passphrase(self, path: Path, wrong: bool) -> Secret | None:
        body = "That was not the passphrase. Once more." if wrong else "The private key is encrypted."
        return await self._typed_by_operator(
            SecretPrompt("passphrase", f"Passphrase of {path}", body, self._settings.name)
        )

    async def _typed_by_operator(self, question: SecretPrompt) -> Secret | None:
        async with self._patience.paused():
            return await self._ask.secret(question)
