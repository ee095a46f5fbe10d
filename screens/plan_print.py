"""`gpuwizard plan` for people: what the runtime will see in words, beside the diff where there is room for both."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gpuwizard.actions import Refusal
from gpuwizard.clean import clean, clean_line
from gpuwizard.plan.diff import DiffLine
from gpuwizard.plan.groups import HostGroup, group_hosts
from gpuwizard.plan.model import Plan
from gpuwizard.plan.words import MARKS, effects_of
from gpuwizard.show.plan import plan_total
from gpuwizard.show.plan_steps import Step, cluster_steps, group_state, group_steps, group_title
from screens.syntax import Kind, pieces

__all__ = ["print_plan"]

_BESIDE = 120
"""From this width on the words stand beside the diff, else above it."""
_WORDS = 38
_FURTHER = 4
_EFFECTS = {"added": "green", "removed": "red", "changed": "yellow", "unchanged": "dim"}
_LINES = {"added": "green", "removed": "red", "hunk": "cyan", "header": "cyan", "note": "dim", "context": ""}
_SYNTAX: dict[Kind, str] = {
    "": "",
    "comment": "italic dim",
    "table": "bold",
    "key": "cyan",
    "string": "magenta",
    "value": "magenta",
}


def print_plan(plan: Plan) -> None:
    """Print `plan` to stdout; colours follow the terminal, and with NO_COLOR the text is plain."""
    console = Console(highlight=False, color_system=None if os.environ.get("NO_COLOR") else "auto")
    for group in group_hosts(plan):
        console.print(_group(group, console.width))
        console.print()
    cluster = plan.cluster
    if cluster.actions or cluster.refusals or cluster.notes:
        console.print(Text(clean_line(f"cluster {cluster.server or ''}".rstrip()), "bold"))
        console.print(Group(*_refusals(cluster.refusals), *_notes(cluster.notes), *_steps(cluster_steps(cluster))))
        console.print()
    console.print(Text(plan_total(plan), "bold"))


def _group(group: HostGroup, width: int) -> RenderableType:
    kind = "red" if group.first.refusals else "cyan" if group.first.actions else "green"
    title = _indented(0, Text.assemble((group_title(group), "bold"), "  ", (group_state(group), kind)))
    if group.first.refusals:
        return Group(title, *_refusals(group.refusals))
    reason = clean_line(f"{group.first.strategy}: {group.first.reason}", 2000)
    if not group.actions:
        return Group(title, _indented(2, Text(reason, "dim")), *_steps(group_steps(group)))
    words, steps = Group(*_words(group)), Group(*_steps(group_steps(group)))
    if width < _BESIDE:
        return Group(title, _indented(2, Text(reason, "dim")), _indented(2, words), steps)
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(ratio=1, overflow="fold")
    grid.add_column(width=_WORDS)
    grid.add_row(steps, words)
    return Group(title, _indented(2, Text(reason, "dim")), grid)


def _words(group: HostGroup) -> Iterator[RenderableType]:
    """The effective difference, and what becomes of the pods."""
    for effect in effects_of(group.actions):
        style = _EFFECTS[effect.kind]
        subject = (effect.subject, "" if effect.kind == "unchanged" else "bold")
        yield _hanging(MARKS[effect.kind], Text.assemble(subject, ": ", effect.words, style=style), style)
    for sentence in group.impact:
        yield _hanging("!", Text(clean_line(sentence)), "yellow")


def _steps(steps: Iterable[Step]) -> Iterator[RenderableType]:
    for step in steps:
        yield _indented(2, Text.assemble("· ", (clean_line(step.summary, 2000), "bold")))
        for line, body in zip(step.diff, pieces(step.diff, step.path), strict=True):
            yield _indented(4, _diff_line(line, body))
        for note in step.notes:
            yield _indented(4, Text(clean_line(note, 4000), "dim"))


def _diff_line(line: DiffLine, body: Iterable[tuple[Kind, str]]) -> RenderableType:
    text = Text(style=_LINES[line.kind])
    for kind, part in body:
        text.append(part, _SYNTAX[kind])
    return _Folded(text)


@dataclass(frozen=True, slots=True)
class _Folded:
    """Text that is cut anywhere at the edge, not between words, and goes on a little further in."""

    text: Text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, rest, indent = max(options.max_width, 2 * _FURTHER), self.text, 0
        while cell_len(rest.plain) > width - indent:
            head = set_cell_size(rest.plain, width - indent).rstrip(" ") or rest.plain[:1]
            yield Padding(rest[: len(head)], (0, 0, 0, indent), expand=False)
            rest, indent = rest[len(head) :], _FURTHER
        yield Padding(rest, (0, 0, 0, indent), expand=False)


def _refusals(refusals: Iterable[Refusal]) -> Iterator[RenderableType]:
    for refusal in refusals:
        yield _hanging("✗", Text(clean_line(refusal.why, 2000)), "red", 2)
        for line in refusal.detail.splitlines():
            yield _indented(6, _Folded(Text(clean(line))))
        if refusal.remedy:
            yield _indented(4, Text(f"try: {clean_line(refusal.remedy, 2000)}"))


def _notes(notes: Iterable[str]) -> Iterator[RenderableType]:
    for note in notes:
        yield _hanging("·", Text(clean_line(note, 2000)), "dim", 2)


def _hanging(mark: str, text: Text, style: str, indent: int = 0) -> RenderableType:
    """`text` behind its mark; where it is wrapped it goes on below itself."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1, style=style)
    grid.add_column()
    grid.add_row(mark, text)
    return _indented(indent, grid)


def _indented(indent: int, body: RenderableType) -> RenderableType:
    return Padding(body, (0, 0, 0, indent), expand=False)
