"""The probe's output taken apart: sections ``@@ name[:key] status bytes``, whatever lies between, before or after."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Frames", "Section", "read_frames"]

_HEADER = re.compile(rb"^@@ ([a-z0-9][a-z0-9-]*)(?::(\S[^\n]*?))? (\d{1,3}) (\d{1,9})\n", re.MULTILINE)
_NEXT = re.compile(rb"\n@@ ([a-z0-9][a-z0-9-]*)(?::(\S[^\n]*?))? (\d{1,3}) (\d{1,9})\n")
"""The header where it is expected: right behind a section, with the newline that ends it."""


@dataclass(slots=True)
class Section:
    """One section. `status` is the exit status of the command behind it; `cut` is true when bytes are missing.

    Not frozen: there are a hundred of them a host, and a frozen one takes three times as long to make.
    """

    name: str
    key: str
    status: int
    data: bytes
    cut: bool = False
    _decoded: str | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def text(self) -> str:
        """The content as text; bytes that are not UTF-8 show as U+FFFD."""
        text = self._decoded
        if text is None:
            text = self.data.decode("utf-8", "replace")
            self._decoded = text
        return text

    @property
    def lines(self) -> list[str]:
        """The lines that are not empty."""
        return [line for line in self.text.split("\n") if line.strip()]


@dataclass(frozen=True, slots=True)
class Frames:
    """All sections in order. Where a name and key come twice the first one counts: it had more rights."""

    sections: tuple[Section, ...]
    _by_name: dict[str, dict[str, Section]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for section in self.sections:
            self._by_name.setdefault(section.name, {}).setdefault(section.key, section)

    def get(self, name: str, key: str = "") -> Section | None:
        """The section of that name and key."""
        named = self._by_name.get(name)
        return None if named is None else named.get(key)

    def text(self, name: str, key: str = "") -> str | None:
        """The text of that section, None when it is missing."""
        section = self.get(name, key)
        return None if section is None else section.text

    def good(self, name: str, key: str = "") -> str | None:
        """The text of that section when its command ended with status 0."""
        section = self.get(name, key)
        return section.text if section is not None and section.status == 0 else None

    def lines(self, name: str, key: str = "") -> list[str]:
        """The lines of that section; none when it is missing."""
        section = self.get(name, key)
        return [] if section is None else section.lines

    def all(self, name: str) -> Iterator[Section]:
        """Every section of that name, one per key."""
        yield from self._by_name.get(name, {}).values()

    @property
    def complete(self) -> bool:
        """True when the script came to its end."""
        return self.get("end") is not None


def read_frames(raw: bytes) -> Frames:
    """Take the output apart. The announced length decides, so that no content can pose as a header; where the
    length does not fit (cut off, or a byte was changed on the way) the next header line does. Never raises.
    """
    sections: list[Section] = []
    header = _HEADER.search(raw)
    while header is not None:
        name, key, status, length = header.groups()
        start = header.end()
        end = start + int(length)
        following = _NEXT.match(raw, end)
        fits = following is not None or (
            end < len(raw) and raw[end : end + 1] == b"\n" and raw[end + 1 : end + 4] in (b"@@ ", b"@@", b"@", b"")
        )
        if not fits:
            following = _HEADER.search(raw, start)
            end = len(raw) if following is None else max(start, following.start() - 1)
        elif following is None:
            following = _HEADER.search(raw, end)
        sections.append(
            Section(
                name=name.decode("ascii"),
                key=key.decode("utf-8", "replace") if key else "",
                status=int(status),
                data=raw[start:end],
                cut=not fits,
            )
        )
        header = following
    return Frames(tuple(sections))
