"""Values that must not appear in a log, a traceback, a diff or a worker's description."""

from dataclasses import dataclass
from hashlib import sha256

__all__ = ["Secret", "SecretBytes"]


class Secret:
    """A password or one-time code. `repr` and `str` hide it; `reveal()` is the only way in."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

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
