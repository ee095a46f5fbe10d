"""Unified diffs as data, redacted: what the review shows and the JSON plan holds."""

import difflib
import functools
from dataclasses import dataclass
from typing import Literal

from gpuwizard.actions import FileChange
from gpuwizard.clean import clean
from gpuwizard.redact import redact_document
from gpuwizard.secret import SecretBytes

__all__ = ["DiffLine", "diff_text", "file_diff", "text_diff", "unified_diff"]

_CONTEXT = 3


@dataclass(frozen=True, slots=True)
class DiffLine:
    """One line with its mark (``+``, ``-``, blank, ``@@``, ``---``). `old` and `new` are its 1-based line numbers."""

    kind: Literal["header", "hunk", "context", "added", "removed", "note"]
    text: str
    old: int | None = None
    new: int | None = None


@functools.lru_cache(maxsize=256)
def file_diff(change: FileChange) -> tuple[DiffLine, ...]:
    """The diff of one file change; a file that does not exist is ``/dev/null``. Kept: many hosts have the same."""
    return unified_diff(change.before, change.after, change.path)


def text_diff(before: str, after: str, path: str) -> tuple[DiffLine, ...]:
    """The diff of two texts; an empty one counts as absent."""
    return unified_diff(before or None, after or None, path)


def unified_diff(before: SecretBytes | str | None, after: SecretBytes | str | None, path: str) -> tuple[DiffLine, ...]:
    """The unified diff with three lines of context, secrets and control characters made safe; empty when equal.

    The contents themselves are compared, so that a secret that changes is a change even where its mark is the same.
    """
    old, new = _Text.of(before, path), _Text.of(after, path)
    hunks = list(difflib.SequenceMatcher(None, old.raw, new.raw, autojunk=False).get_grouped_opcodes(_CONTEXT))
    if not hunks:
        return ()
    lines = [
        DiffLine("header", f"--- {path if before is not None else '/dev/null'}"),
        DiffLine("header", f"+++ {path if after is not None else '/dev/null'}"),
    ]
    for hunk in hunks:
        first, last = hunk[0], hunk[-1]
        lines.append(
            DiffLine("hunk", f"@@ -{_range(first[1], last[2])} +{_range(first[3], last[4])} @@", first[1], first[3])
        )
        for tag, old_from, old_to, new_from, new_to in hunk:
            if tag == "equal":
                for offset, text in enumerate(old.shown[old_from:old_to]):
                    lines += _line("context", " ", text, old_from + offset + 1, new_from + offset + 1)
                continue
            for number, text in enumerate(old.shown[old_from:old_to], start=old_from + 1):
                lines += _line("removed", "-", text, number, None)
            for number, text in enumerate(new.shown[new_from:new_to], start=new_from + 1):
                lines += _line("added", "+", text, None, number)
    return tuple(lines)


def diff_text(lines: tuple[DiffLine, ...]) -> str:
    """The diff as one text, as the JSON plan holds it."""
    return "".join(f"{line.text}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class _Text:
    """A content as lines with their ends: as they are, and as they may be shown."""

    raw: list[str]
    shown: list[str]

    @classmethod
    def of(cls, content: SecretBytes | str | None, path: str) -> "_Text":
        if content is None:
            return cls([], [])
        raw = content if isinstance(content, str) else content.text()
        text = raw if isinstance(content, str) else content.raw.decode("utf-8", "replace")
        return cls(_lines(raw), _lines(redact_document(text, path)))


def _lines(text: str) -> list[str]:
    parts = text.split("\n")
    return [f"{part}\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _line(
    kind: Literal["context", "added", "removed"], mark: str, text: str, old: int | None, new: int | None
) -> list[DiffLine]:
    body = text.removesuffix("\n")
    shown = f"{clean(body[:-1])}␍" if body.endswith("\r") else clean(body)
    lines = [DiffLine(kind, mark + shown, old, new)]
    if not text.endswith("\n"):
        lines.append(DiffLine("note", "\\ no newline at the end"))
    return lines


def _range(start: int, stop: int) -> str:
    length = stop - start
    if length == 1:
        return str(start + 1)
    return f"{start + 1 if length else start},{length}"
