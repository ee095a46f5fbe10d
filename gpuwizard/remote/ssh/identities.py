"""The keys that a login may offer: from the agent, from files, and from encrypted files whose passphrase is asked."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import asyncssh

from gpuwizard.errors import UsageError
from gpuwizard.remote.ssh.settings import HostSettings
from gpuwizard.secret import Secret

__all__ = ["KeyRing"]

_Offer: TypeAlias = list[asyncssh.SSHKeyPair]
AskPassphrase: TypeAlias = Callable[[Path, bool], Awaitable[Secret | None]]


@dataclass(slots=True)
class _File:
    """One key file, read once. `key` is None while it is encrypted, or when it holds only the public half."""

    path: Path
    raw: bytes = field(repr=False)
    key: asyncssh.SSHKey | None
    public: bytes | None
    certificate: asyncssh.SSHCertificate | None
    encrypted: bool
    given_up: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)


class KeyRing:
    """Key files, parsed once a run."""

    def __init__(self) -> None:
        self._files: dict[Path, _File | None] = {}
        self._endpoint_keys: dict[str, asyncssh.SSHKey] = {}

    async def offers(
        self, settings: HostSettings, agent: asyncssh.SSHAgentClient | None, ask: AskPassphrase
    ) -> AsyncIterator[_Offer]:
        """What to offer to one host, in the order of OpenSSH: the agent, plain files, files that need a passphrase.

        Raises UsageError when a key file that was named cannot be used.
        """
        if settings.endpoint is not None:
            yield _pairs(self._endpoint_key(settings.endpoint.client_key), None)
            return
        files = [f for path in settings.key_files if (f := await self._file(path, settings)) is not None]
        certificates = [c for path in settings.certificates if (c := await asyncio.to_thread(_certificate, path))]
        held: set[bytes] = set()
        wanted = {f.public for f in files if f.public} if settings.identities_only else None
        if agent is not None and (wanted is None or wanted):
            pairs = await _agent_keys(agent, wanted)
            held = {pair.public_data for pair in pairs}
            if pairs:
                yield pairs
        for file in files:
            if file.key is not None and file.public not in held:
                yield _pairs(file.key, file.certificate or _matching(file.key, certificates))
        for file in files:
            if file.encrypted and file.key is None and file.public not in held:
                key = await _unlock(file, ask)
                if key is not None:
                    yield _pairs(key, file.certificate or _matching(key, certificates))

    def _endpoint_key(self, text: str) -> asyncssh.SSHKey:
        if text not in self._endpoint_keys:
            self._endpoint_keys[text] = asyncssh.import_private_key(text)
        return self._endpoint_keys[text]

    async def _file(self, path: Path, settings: HostSettings) -> _File | None:
        if path not in self._files:
            try:
                self._files[path] = await asyncio.to_thread(_read, path)
            except (OSError, ValueError) as error:
                if settings.optional_keys:
                    self._files[path] = None
                else:
                    reason = error.strerror if isinstance(error, OSError) else str(error)
                    raise UsageError(
                        f"the private key cannot be used: {reason}",
                        where=str(path),
                        remedy="name another with --identity; it is a key file as ssh-keygen writes it",
                    ) from error
        return self._files[path]


async def _agent_keys(agent: asyncssh.SSHAgentClient, wanted: set[bytes] | None) -> _Offer:
    """The agent's keys; an agent that does not answer has none."""
    try:
        pairs = await agent.get_keys()
    except (OSError, ValueError):
        return []
    return [p for p in pairs if wanted is None or p.public_data in wanted]


def _read(path: Path) -> _File:
    raw = path.read_bytes()
    certificate = _certificate(path.with_name(f"{path.name}-cert.pub"))
    try:
        key = asyncssh.import_private_key(raw)
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as error:
        if not isinstance(error, asyncssh.KeyEncryptionError) and "Passphrase" not in str(error):
            public = asyncssh.import_public_key(raw).public_data  # agent and hardware keys are named by it
            return _File(path, raw, None, public, certificate, encrypted=False)
        return _File(path, raw, None, _public_half(path), certificate, encrypted=True)
    return _File(path, raw, key, key.public_data, certificate, encrypted=False)


def _public_half(path: Path) -> bytes | None:
    try:
        return asyncssh.read_public_key(path.with_name(f"{path.name}.pub")).public_data
    except (OSError, ValueError):
        return None


def _certificate(path: Path) -> asyncssh.SSHCertificate | None:
    try:
        return asyncssh.read_certificate(path)
    except (OSError, ValueError):
        return None


def _matching(key: asyncssh.SSHKey, certificates: list[asyncssh.SSHCertificate]) -> asyncssh.SSHCertificate | None:
    return next((c for c in certificates if c.key.public_data == key.public_data), None)


def _pairs(key: asyncssh.SSHKey, certificate: asyncssh.SSHCertificate | None) -> _Offer:
    """New key pairs for each connection: asyncssh notes the chosen algorithm in them."""
    return list(asyncssh.load_keypairs([(key, certificate)] if certificate else [key]))


async def _unlock(file: _File, ask: AskPassphrase) -> asyncssh.SSHKey | None:
    """Ask for the passphrase, once more after a wrong one; other hosts wait for the answer and share it."""
    async with file.lock:
        wrong = False
        while file.key is None and not file.given_up:
            passphrase = await ask(file.path, wrong)
            if passphrase is None:
                file.given_up = True
                break
            try:
                file.key = await asyncio.to_thread(asyncssh.import_private_key, file.raw, passphrase.reveal())
            except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError):
                file.given_up = wrong
                wrong = True
    if file.key is not None:
        file.public = file.key.public_data
    return file.key
