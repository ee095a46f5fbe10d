"""A pane of text to read: findings, diffs, logs. Long lines are folded, only visible ones are drawn."""

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


@dataclass(frozen=True, slots=True)
class Line:
    """One line: `hang` cells of indent where it is folded, `fill` a component class that colours it to the edge,
    `verbatim` for text that is cut at the edge anywhere and not between words."""

    content: Content
    hang: int = 0
    fill: str = ""
    verbatim: bool = False


def text(content: Content | str = "", indent: int = 0, hang: int | None = None) -> Line:
    """A line of prose, `indent` cells in."""
    body = content if isinstance(content, Content) else Content(content)
    return Line(Content(" " * indent) + body, indent if hang is None else hang)


def heading(content: Content | str) -> Line:
    """A line that opens a paragraph."""
    body = content if isinstance(content, Content) else Content(content)
    return Line(body.stylize("bold"))


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
        self._width = 0

    def show(self, lines: Iterable[Line], *, keep: bool = False) -> None:
        """Replace the text; `keep` stays at the scroll position."""
        self._lines = list(lines)[-self.most :]
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
            self._drawn.extend(self._folded(line))
        self._measure()
        if self.follow and at_end:
            self.scroll_end(animate=False)

    @property
    def plain(self) -> str:
        """The text as it was given, for tests and for copying."""
        return "\n".join(line.content.plain for line in self._lines)

    def on_resize(self) -> None:
        if self.scrollable_content_region.width != self._width:
            self._fold_all()

    def _fold_all(self) -> None:
        self._width = self.scrollable_content_region.width
        self._drawn = [drawn for line in self._lines for drawn in self._folded(line)]
        self._measure()

    def _measure(self) -> None:
        self.virtual_size = Size(self._width, len(self._drawn))
        self.refresh()

    def _folded(self, line: Line) -> list[tuple[Content, str]]:
        width = self._width
        if width <= 4 or line.content.cell_length <= width:
            return [(line.content, line.fill)]
        hang = min(line.hang, width // 2)
        cut = Content.fold if line.verbatim else Content.wrap
        head = cut(line.content, width)[0]
        rest = line.content[len(head.plain) :]
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
