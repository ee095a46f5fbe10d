"""Single values out of text from hosts: one place that bounds and cleans them."""

import functools
import re
from typing import Any

from gpuwizard.clean import clean_line
from gpuwizard.facts.tables import parse_toml

__all__ = ["load_toml", "number", "value", "version_key", "version_of"]

_TOML_LIMIT = 256 * 1024
_TOML_DEPTH = 64
_TOML_DOTS = 100
"""In one line; a key of more parts takes the parser more than their square."""
_TOML_LARGEST = 1 << 63
_TOO_DEEP = "nested too deeply"
_VERSION = re.compile(r"\bv?(\d+(?:\.\d+)+(?:[-+~][0-9A-Za-z.+~-]+)?)")


def value(text: str | None) -> str | None:
    """The text on one line, cleaned; None when there is nothing."""
    if text is None:
        return None
    return clean_line(text) or None


def number(text: str | None) -> int | None:
    """A whole number of at most 18 digits, else None."""
    text = "" if text is None else text.strip()
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None


def version_of(text: str | None) -> str | None:
    """The first thing in `text` that looks like a version (``v1.31.4+k3s1``, ``1.7.24~ds1``), without its ``v``."""
    found = _VERSION.search(text or "")
    return value(found[1]) if found else None


def version_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key under which kernel releases and versions come in the order that people expect."""
    parts = re.findall(r"[0-9]{1,18}|[A-Za-z]+", text)
    return tuple((1, int(part), "") if part[0].isdecimal() else (0, 0, part) for part in parts)


def load_toml(raw: bytes | str) -> dict[str, Any] | str:
    """The document, or a sentence saying why it is none.

    Hosts of a fleet bring the same documents, so the answer is kept and shared: nobody may change it.
    """
    if len(raw) > _TOML_LIMIT:
        return f"larger than {_TOML_LIMIT >> 10} KiB"
    try:
        return _document(raw if isinstance(raw, str) else raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return clean_line(str(error))


@functools.lru_cache(maxsize=256)
def _document(text: str) -> dict[str, Any] | str:
    if any(line.count(".") > _TOML_DOTS for line in text.split("\n")):
        return _TOO_DEEP
    try:
        document = parse_toml(text)
    except ValueError as error:  # also a number with more digits than Python reads
        return clean_line(str(error))
    except RecursionError:
        return _TOO_DEEP
    return _refusal(document) or document


def _refusal(document: dict[str, Any]) -> str | None:
    """Why a document cannot be used although it is TOML. Without recursion, because ``[a.a.a…]`` has no end."""
    level: list[Any] = [document]
    for _ in range(_TOML_DEPTH):
        inner = [part for entry in level for part in (entry.values() if isinstance(entry, dict) else iter(entry))]
        if any(isinstance(part, int) and not -_TOML_LARGEST <= part < _TOML_LARGEST for part in inner):
            return "it has a number that is too large"
        level = [part for part in inner if isinstance(part, dict | list)]
        if not level:
            return None
    return _TOO_DEEP
