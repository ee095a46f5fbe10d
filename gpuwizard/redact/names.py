"""Which keys hold secrets, in every file that a runtime or Kubernetes reads (`safety.md`, secrets and foreign text)."""

import re
from collections.abc import Iterable, Sequence

__all__ = ["KEY", "in_scalar", "is_secret_key", "is_secret_path", "split_key"]

KEY = (
    r"(?:[\w.-]{0,80}(?:pass(?:word|wd|phrase)|pwd|secret|token|private[_-]?key|client[_-]?key(?:[_-]?data)?|"
    r"api[_-]?key|access[_-]?key|secret[_-]?key|credential|license[_-]?key|serial)s?|"
    r"(?:identity|registry)[_-]?token|auth|authorization|proxy-authorization|cookie|x-registry-auth|x-auth-token)"
)
"""The names as a pattern: what ends in one of these words, and a few whole names."""
_WHOLE = re.compile(rf"(?i){KEY}")
_ALL_BELOW = frozenset(("auth", "auths", "header", "headers", "http-headers", "http_headers", "httpheaders"))
"""Tables whose every value is taken for a secret: credentials of a registry, and headers that are sent to it."""
_PARTS = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'([^']*)'|([^.\"']+)")
_IN_SCALAR = re.compile(rf"(?i)(?<![\w.-])(?:-{{0,2}}{KEY}[ \t]*[=:][ \t]*|--{KEY},?[ \t]+)(?=\S)")


def is_secret_key(name: str) -> bool:
    """True for a key that holds a secret by its name: ``password``, ``agent-token``, ``identitytoken``, ``auth``."""
    return _WHOLE.fullmatch(name.strip()) is not None


def is_secret_path(path: Sequence[str]) -> bool:
    """True for a value that is a secret because of its own key or of a table that it is in."""
    return bool(path) and (is_secret_key(path[-1]) or any(part.lower() in _ALL_BELOW for part in path[:-1]))


def split_key(key: str) -> tuple[str, ...]:
    """The parts of a dotted key; dots in quotes do not count."""
    return tuple(next(part for part in found if part) for found in _PARTS.findall(key) if any(found))


def in_scalar(text: str) -> Iterable[int]:
    """Where a secret begins inside one value: behind ``PASSWORD=`` or ``--token=``."""
    return (found.end() for found in _IN_SCALAR.finditer(text))
