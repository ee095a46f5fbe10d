"""A pane of text to read: findings, diffs, logs. Long lines are folded, only what is seen is drawn, words are found."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

__all__ = ["Line", "Lines", "heading", "text"]

_MOST_FOUND = 1000
_FOUND = "underline $text-warning"
_FOUND_HERE = "bold reverse $text-warning"


@dataclass(frozen=True, slots=True)
class Line:
    """One line: `hang` cells of indent where it is folded, `fill` a component class that colours it to the edge,
    `verbatim` for text that is cut at the edge anywhere and not between words. `anchor` names a line that one can
    go to."""

    content: Content
    hang: int = 0
    fill: str = ""
    verbatim: bool = False
    anchor: str = ""


def text(content: Content | str = "", indent: int = 0, hang: int | None = None) -> Line:
    """A line of prose, `indent` cells in."""
    body = content if isinstance(content, Content) else Content(content)
    return Line(Content(" " * indent) + body, indent if hang is None else hang)


def heading(content: Content | str, anchor: str = "") -> Line:
    """A line that opens a paragraph."""
    body = content if isinstance(content, Content) else Content(content)
    return Line(body.stylize("bold"), anchor=anchor)


class Lines(ScrollView, can_focus=True):
    """Read-only text. `follow` keeps the end in sight as lines are added, unless one has scrolled up."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"lines--added", "lines--removed", "lines--hunk"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "scroll_up", show=False),
        Binding("j,enter", "scroll_down", show=False),
        Binding("space", "page_down", show=False),
    ]

    def __init__(self, *, follow: bool = False, most: int = 20_000, id: str | None = None, classes: str = "") -> None:
        super().__init__(id=id, classes=classes)
        self.follow = follow
        self.most = most
        self._lines: list[Line] = []
        self._drawn: list[tuple[Content, str]] = []
        self._starts: list[int] = []
        self._width = 0
        self._wanted = ""
        self._found: list[tuple[int, int]] = []
        self._here = -1

    def show(self, lines: Iterable[Line], *, keep: bool = False) -> None:
        """Replace the text; `keep` stays at the scroll position."""
        self._lines = list(lines)[-self.most :]
        self._search()
        self._fold_all()
        if self.follow:
            self.scroll_end(animate=False)
        elif not keep:
            self.scroll_home(animate=False)

    def add(self, lines: Sequence[Line]) -> None:
        """Append lines; the oldest are dropped beyond `most`."""
        if len(self._lines) + len(lines) > self.most:
            self.show([*self._lines, *lines][-(self.most * 3 // 4) :])
            return
        at_end = self.scroll_offset.y >= self.max_scroll_y - 1
        self._lines.extend(lines)
        for line in lines:
            self._starts.append(len(self._drawn))
            self._drawn.extend(self._folded(line))
        self._measure()
        if self.follow and at_end:
            self.scroll_end(animate=False)

    @property
    def plain(self) -> str:
        """The text as it was given, for tests and for copying."""
        return "\n".join(line.content.plain for line in self._lines)

    # Looking for words

    def find(self, wanted: str) -> int:
        """Mark every place of `wanted`, in any case of letters, and go to the first from here on; how many there
        are."""
        self._wanted = wanted.lower()
        self._search()
        top = self.scroll_offset.y
        starts = [self._starts[at] for at, _ in self._found if at < len(self._starts)]
        self._here = next((n for n, start in enumerate(starts) if start >= top), 0) if self._found else -1
        self._fold_all()
        self._show_found()
        return len(self._found)

    def find_next(self, step: int = 1) -> None:
        """To the next place, or with -1 to the one before; from the last to the first."""
        if self._found:
            self._here = (self._here + step) % len(self._found)
            self._fold_all()
            self._show_found()

    @property
    def found(self) -> tuple[int, int]:
        """Which place one is at, from 1, and how many there are; zeros when nothing was found."""
        return self._here + 1, len(self._found)

    def _search(self) -> None:
        self._found = []
        if self._wanted:
            for number, line in enumerate(self._lines):
                low, at = line.content.plain.lower(), -1
                while (at := low.find(self._wanted, at + 1)) >= 0 and len(self._found) < _MOST_FOUND:
                    self._found.append((number, at))
        self._here = min(self._here, len(self._found) - 1)

    def _show_found(self) -> None:
        if not 0 <= self._here < len(self._found):
            return
        number, _ = self._found[self._here]
        first = self._starts[number]
        last = self._starts[number + 1] if number + 1 < len(self._starts) else len(self._drawn)
        row = next((r for r in range(first, last) if _is_here(self._drawn[r][0])), first)
        height = self.scrollable_content_region.height
        if not self.scroll_offset.y <= row < self.scroll_offset.y + height:
            self.scroll_to(y=max(row - height // 3, 0), animate=False)

    def _marked(self) -> dict[int, Content]:
        """The lines in which something was found, with the places marked."""
        marked: dict[int, Content] = {}
        for index, (number, at) in enumerate(self._found):
            content = marked.get(number, self._lines[number].content)
            style = _FOUND_HERE if index == self._here else _FOUND
            marked[number] = content.stylize(style, at, at + len(self._wanted))
        return marked

    # Places with a name

    def anchor_here(self) -> str:
        """The name of the last anchor at or above the top of what is seen."""
        top, name = self.scroll_offset.y, ""
        for line, start in zip(self._lines, self._starts, strict=False):
            if start > top:
                break
            name = line.anchor or name
        return name

    def go_to(self, anchor: str) -> bool:
        """Put the line of that name on top; False when there is none."""
        for line, start in zip(self._lines, self._starts, strict=False):
            if line.anchor == anchor:
                self.scroll_to(y=start, animate=False)
                return True
        return False

    # Drawing

    def on_resize(self) -> None:
        if self.scrollable_content_region.width != self._width:
            self._fold_all()

    def _fold_all(self) -> None:
        self._width = self.scrollable_content_region.width
        self._drawn, self._starts = [], []
        marked = self._marked()
        for number, line in enumerate(self._lines):
            self._starts.append(len(self._drawn))
            self._drawn.extend(self._folded(line, marked.get(number)))
        self._measure()

    def _measure(self) -> None:
        self.virtual_size = Size(self._width, len(self._drawn))
        self.refresh()

    def _folded(self, line: Line, marked: Content | None = None) -> list[tuple[Content, str]]:
        width, content = self._width, line.content if marked is None else marked
        if width <= 4 or content.cell_length <= width:
            return [(content, line.fill)]
        hang = min(line.hang, width // 2)
        cut = Content.fold if line.verbatim else Content.wrap
        head = cut(content, width)[0]
        rest = content[len(head.plain) :]
        if not line.verbatim:
            rest = rest[len(rest.plain) - len(rest.plain.lstrip()) :]
        parts = [head, *(Content(" " * hang) + part for part in cut(rest, width - hang))]
        return [(part, line.fill) for part in parts]

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        base = self.visual_style
        index = self.scroll_offset.y + y
        if index >= len(self._drawn):
            return Strip.blank(width, base.rich_style)
        content, fill = self._drawn[index]
        if fill:
            base += self.get_visual_style(fill)
        strips = Visual.to_strips(self, content.truncate(width), width, 1, base, apply_selection=False, pad=True)
        return strips[0] if strips else Strip.blank(width, base.rich_style)


def _is_here(content: Content) -> bool:
    return any(span.style == _FOUND_HERE for span in content.spans)
