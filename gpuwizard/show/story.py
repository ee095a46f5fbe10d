"""The whole story of one rule: what it means, what comes of it, how it is known, what to do, where upstream says so."""

import difflib
import textwrap
from collections.abc import Iterator
from typing import Any

from gpuwizard.findings.rule import Rule

__all__ = ["near", "story", "story_json", "story_lines"]

_WIDTH = 100
_STORY = ("id", "severity", "title", "cause", "effect", "remedy", "detected", "messages", "sources", "instead_of")


def story(rule: Rule) -> list[tuple[str, tuple[str, ...]]]:
    """The chapters of the story that the rule has: a heading and its paragraphs."""
    from gpuwizard.findings import RULES

    chapters = (
        ("What it means", (rule.cause,)),
        ("If nothing is done", (rule.effect,)),
        ("What to do", (rule.remedy,)),
        ("How gpuwizard knows", (rule.detected,)),
        ("Messages that people meet", rule.messages),
        ("Told in place of", tuple(f"{other.id}: {other.title}" for other in RULES if other.id in rule.instead_of)),
        ("Where it is written", rule.sources),
    )
    return [(heading, kept) for heading, texts in chapters if (kept := tuple(t for t in texts if t))]


def story_lines(rule: Rule, width: int = 80) -> Iterator[str]:
    """The story as lines of at most `width` characters, single long words apart."""
    yield f"{rule.id}  {rule.title}"
    yield f"severity: {rule.severity}"
    for heading, texts in story(rule):
        yield ""
        yield heading
        for text in texts:
            mark = "  - " if len(texts) > 1 else "  "
            yield from textwrap.wrap(
                text,
                min(max(width, 40), _WIDTH),
                initial_indent=mark,
                subsequent_indent=" " * len(mark),
                break_long_words=False,
                break_on_hyphens=False,
            )


def story_json(rule: Rule) -> dict[str, Any]:
    """`gpuwizard.finding/1`: the rule's story as data."""
    told = {name: getattr(rule, name) for name in _STORY}
    return {"schema": "gpuwizard.finding/1"} | {k: list(v) if isinstance(v, tuple) else v for k, v in told.items()}


def near(wanted: str) -> list[str]:
    """Ids that may have been meant: alike in spelling (``DRIVER-3``), of an area, or of rules whose title or messages
    have the words."""
    from gpuwizard.findings import RULES

    ids = [rule.id for rule in RULES]
    asked = wanted.strip().upper().removeprefix("GW-")
    area, _, number = asked.partition("-")
    exact = f"GW-{area}-{number.zfill(3)}"
    if exact in ids:
        return [exact]
    alike = [f"GW-{name}" for name in difflib.get_close_matches(asked, [i.removeprefix("GW-") for i in ids], 3, 0.8)]
    told = {rule.id: "\n".join((rule.title, *rule.messages)).upper() for rule in RULES}
    named = [name for name in ids if area and (name.startswith(f"GW-{area}-") or asked in told[name])]
    return list(dict.fromkeys([*alike, *named]))[:6]
