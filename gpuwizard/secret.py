"""Values that must not appear in a log, a traceback, a diff or a worker's description."""

import os
import weakref
from dataclasses import dataclass
from hashlib import sha256

__all__ = ["SUDO_PASSWORD_VARIABLE", "Secret", "SecretBytes", "inherited_secret", "known_secrets"]

SUDO_PASSWORD_VARIABLE = "GPUWIZARD_SUDO_PASSWORD"  # noqa: S105 - a name, not a password
_SHORTEST = 4
"""A shorter one is not looked for in other texts, which it would make unreadable."""
_known: "weakref.WeakSet[Secret]" = weakref.WeakSet()


class Secret:
    """A password or one-time code. `repr` and `str` hide it; `reveal()` is the only way in."""

    __slots__ = ("__weakref__", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        _known.add(self)

    def reveal(self) -> str:
        """Return the text itself: call it only where the value leaves the process on a channel's stdin."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def known_secrets() -> frozenset[str]:
    """The passwords of this process, for the last look at a text before it is shown."""
    return frozenset(value for secret in tuple(_known) if len(value := secret.reveal()) >= _SHORTEST)


def inherited_secret(variable: str) -> Secret | None:
    """Take a secret out of the environment, for children and, where the system allows it, for whoever looks at it from
    outside: what a process was started with is overwritten in its memory."""
    value = os.environ.get(variable)
    if value is None:
        return None
    _overwrite(variable)
    del os.environ[variable]
    return Secret(value) if value else None


def _overwrite(variable: str) -> None:
    import ctypes

    try:
        find = ctypes.CDLL(None).getenv
    except (OSError, AttributeError, TypeError):
        return  # no C library to be found: the variable still goes for every child
    find.argtypes, find.restype = [ctypes.c_char_p], ctypes.c_void_p
    place = find(os.fsencode(variable))
    if place is not None:
        ctypes.memset(place, 0, len(os.fsencode(os.environ[variable])))


@dataclass(frozen=True, slots=True, repr=False)
class SecretBytes:
    """The content of a file read with root's rights: compared and hashed freely, shown only redacted."""

    raw: bytes

    @property
    def sha256(self) -> str:
        """Hexadecimal sha256 of the content."""
        return sha256(self.raw).hexdigest()

    def text(self) -> str:
        """The content as text; bytes that are not UTF-8 survive as surrogates, so that encoding gives them back."""
        return self.raw.decode("utf-8", "surrogateescape")

    @classmethod
    def of_text(cls, text: str) -> "SecretBytes":
        """The reverse of `text()`."""
        return cls(text.encode("utf-8", "surrogateescape"))

    def __len__(self) -> int:
        return len(self.raw)

    def __repr__(self) -> str:
        return f"SecretBytes({len(self.raw)} bytes, sha256 {self.sha256[:12]})"
