"""Text from hosts made safe to show: it can neither drive the terminal nor hide what it says.

Applied at the border (transport, Kubernetes access), so everything inside is plain text (`textual.md §5.1`).
"""

import functools
import re

__all__ = ["clean", "clean_line"]

_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]"  # any other escape
    r"|\x9b[0-?]*[ -/]*[@-~]",  # 8-bit CSI
    re.DOTALL,
)
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_SHORT = 100
_REDRAWN = re.compile(r"^[^\n]*\r(?!\n)", re.MULTILINE)  # a progress bar that redraws itself: keep its last state


def clean(text: str) -> str:
    """Drop escape sequences and redrawn progress bars; show other control characters as U+FFFD."""
    if text.isprintable():  # all that is dropped or shown otherwise below is not: the quick way for most text
        return text
    text = _SEQUENCE.sub("", text).replace("\r\n", "\n")
    text = _REDRAWN.sub("", text)
    return _UNSAFE.sub("\ufffd", text).expandtabs(4)


def clean_line(text: str, limit: int = 500) -> str:
    """Return `text` cleaned, on one line and at most `limit` characters long."""
    if len(text) <= _SHORT <= limit:
        return _short_line(text)
    line = " ".join(clean(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


@functools.lru_cache(maxsize=4096)
def _short_line(text: str) -> str:
    """Kept, because the hosts of a fleet say the same words again and again."""
    return " ".join(clean(text).split())
