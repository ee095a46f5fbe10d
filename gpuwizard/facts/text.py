"""Single values out of text from hosts: one place that bounds and cleans them."""

import re
import tomllib
from typing import Any

from gpuwizard.clean import clean_line

__all__ = ["load_toml", "number", "value", "version_key", "version_of"]

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
    """The document, or a sentence saying why it is none."""
    try:
        return tomllib.loads(raw if isinstance(raw, str) else raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return clean_line(str(error))
    except RecursionError:
        return "nested too deeply"
