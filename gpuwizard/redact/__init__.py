"""Secrets out of anything shown or stored: a secret becomes ``‹redacted #4hex›`` of a keyed hash.

The same secret shows as the same mark within a run and as another one in the next, so that a changed secret is
still a visible change and the mark tells nothing (`safety.md`, secrets and foreign text).
"""

import functools
import secrets

from gpuwizard.redact.text import MARK, Redactor
from gpuwizard.secret import known_secrets

__all__ = [
    "Redactor",
    "hide_secrets",
    "is_redacted",
    "redact_document",
    "redact_object",
    "redact_text",
    "redact_value",
    "redacted_secret",
    "secrets_in",
    "without_passwords",
    "without_secrets",
]

_PROCESS = Redactor(secrets.token_bytes(32))


def redact_text(text: str) -> str:
    """`text` redacted with this process's own key."""
    return _PROCESS.text(text)


@functools.lru_cache(maxsize=256)
def redact_document(text: str, path: str) -> str:
    """The content of the file `path` redacted by what its keys and tables say, line by line as it was."""
    return _PROCESS.document(text, path)


def redact_value(key: str, value: str) -> str:
    """The value of the setting with that dotted key, redacted as if it stood in its file."""
    return _PROCESS.value(key, value)


def redact_object(value: object) -> object:
    """Parsed JSON or YAML with every secret in it replaced by its mark."""
    return _PROCESS.object(value)


def redacted_secret(value: str) -> str:
    """The mark of a text that is a secret as a whole."""
    return _PROCESS.mark(value)


def is_redacted(text: str) -> bool:
    """True when a secret was left out of `text`."""
    return MARK in text


@functools.lru_cache(maxsize=256)
def secrets_in(text: str, path: str) -> frozenset[str]:
    """The secrets that stand in the file `path`."""
    return _PROCESS.secrets_in(text, path)


def hide_secrets(text: str, known: frozenset[str]) -> str:
    """`text` redacted, and without those of the `known` secrets that it repeats."""
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, _PROCESS.mark(secret))
    return _PROCESS.text(text)


def without_secrets(text: str) -> str:
    """A text from anywhere without secrets: an error of a library, a traceback, a line of a log."""
    return hide_secrets(text, known_secrets())


def without_passwords(text: str) -> str:
    """A text of our own words, which may quote what a host said, without the passwords of this process."""
    for secret in sorted(known_secrets(), key=len, reverse=True):
        text = text.replace(secret, _PROCESS.mark(secret))
    return text
