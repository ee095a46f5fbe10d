"""Files of ``KEY=value`` lines in shell quoting, read without a shell: os-release(5), dgx-release, fastos-release."""

import functools
import re
from collections.abc import Mapping

from gpuwizard.facts.text import value

__all__ = ["parse_os_release"]

_LINE = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_PLAIN = re.compile(r"""\s*(?:"([^"\\]*)"|'([^']*)'|([^\s"'\\#]*))\s*""")
_LONGEST_TEXT, _LONGEST_LINE = 65536, 4096
"""Characters; real files have less than 2,000."""
_IN_QUOTES = '"\\$`'
"""What a backslash takes the meaning from inside double quotes; before anything else it stands for itself."""


@functools.lru_cache(maxsize=256)
def parse_os_release(text: str) -> Mapping[str, str]:
    """The assignments of `text`; of a key that comes twice the last one counts (dgx-release appends). Never raises.

    Lines that are no assignment are left out, as are comments and lines that are too long; nothing is expanded. The
    answer is shared: nobody may change it.
    """
    found: dict[str, str] = {}
    for line in text[:_LONGEST_TEXT].removeprefix("\ufeff").split("\n"):
        match = _LINE.fullmatch(line.rstrip("\r")) if len(line) <= _LONGEST_LINE else None
        if match is not None:
            found[match[1]] = value(_unquoted(match[2])) or ""
    return found


def _unquoted(text: str) -> str:
    """The value behind the equals sign. A quote that is never closed is closed by the end of the line."""
    plain = _PLAIN.fullmatch(text)
    if plain is not None:
        return plain[1] or plain[2] or plain[3] or ""
    found: list[str] = []
    quote = ""
    letters = iter(text)
    before = " "
    for letter in letters:
        if letter == "\\" and quote != "'":
            escaped = next(letters, "")
            found.append(escaped if not quote or escaped in _IN_QUOTES else letter + escaped)
        elif letter == quote:
            quote = ""
        elif not quote and letter in "\"'":
            quote = letter
        elif not quote and letter == "#" and before.isspace():
            break
        else:
            found.append(letter)
        before = letter
    return "".join(found).strip() if not quote else "".join(found)
