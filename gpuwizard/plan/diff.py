"""Unified diffs as data, redacted: what the review shows and the JSON plan holds."""

import difflib
from dataclasses import dataclass
from typing import Literal

from gpuwizard.actions import FileChange
from gpuwizard.clean import clean
from gpuwizard.redact import redact_text
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


def file_diff(change: FileChange) -> tuple[DiffLine, ...]:
    """The diff of one file change; a file that does not exist is ``/dev/null``."""
    return unified_diff(change.before, change.after, change.path)


def text_diff(before: str, after: str, path: str) -> tuple[DiffLine, ...]:
    """The diff of two texts; an empty one counts as absent."""
    return unified_diff(before or None, after or None, path)


def unified_diff(before: SecretBytes | str | None, after: SecretBytes | str | None, path: str) -> tuple[DiffLine, ...]:
    """The unified diff with three lines of context, secrets and control characters made safe; empty when equal."""
    old, new = _lines(before), _lines(after)
    hunks = list(difflib.SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(_CONTEXT))
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
                for offset, text in enumerate(old[old_from:old_to]):
                    lines += _line("context", " ", text, old_from + offset + 1, new_from + offset + 1)
                continue
            for number, text in enumerate(old[old_from:old_to], start=old_from + 1):
                lines += _line("removed", "-", text, number, None)
            for number, text in enumerate(new[new_from:new_to], start=new_from + 1):
                lines += _line("added", "+", text, None, number)
    return tuple(lines)


def diff_text(lines: tuple[DiffLine, ...]) -> str:
    """The diff as one text, as the JSON plan holds it."""
    return "".join(f"{line.text}\n" for line in lines)


def _lines(content: SecretBytes | str | None) -> list[str]:
    if content is None:
        return []
    text = content if isinstance(content, str) else content.raw.decode("utf-8", "replace")
    parts = redact_text(text).split("\n")
    return [f"{p}\n" for p in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


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
