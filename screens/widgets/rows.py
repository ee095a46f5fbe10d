"""A table that draws only the lines one sees: hosts, nodes, pods, at any number, fitted to the width."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.style import Style as RichStyle
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.style import Style
from textual.visual import Visual

__all__ = ["Column", "Row", "Rows"]

GAP = 2
Row = tuple[str, tuple[Content, ...]]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: least `width` in cells, its share (`flex`) of what is left, and from which width of the table it
    is shown at all."""

    title: str
    width: int
    flex: int = 0
    right: bool = False
    shown_from: int = 0


class Rows(ScrollView, can_focus=True):
    """Rows with a cursor. A row is a key and a `Content` per column (fewer: the last one takes the rest of the line);
    the cursor follows its key."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--head", "rows--cursor", "rows--empty"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "move(-100000)", "First", show=False),
        Binding("end", "move(100000)", "Last", show=False),
        Binding("enter", "choose", "Open", show=False),
    ]
    cursor: reactive[int] = reactive(0, repaint=True)

    @dataclass
    class Highlighted(Message):
        """The cursor moved to another row."""

        rows: "Rows"
        key: str

        @property
        def control(self) -> "Rows":
            return self.rows

    @dataclass
    class Chosen(Message):
        """Enter or a double click on a row."""

        rows: "Rows"
        key: str

        @property
        def control(self) -> "Rows":
            return self.rows

    def __init__(
        self, columns: Sequence[Column], *, head: bool = True, empty: str = "", id: str | None = None, classes: str = ""
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.columns = tuple(columns)
        self.head = 1 if head else 0
        self.empty = empty
        self.rows: tuple[Row, ...] = ()
        self._strips: dict[tuple[int, bool, bool, int], Strip] = {}

    @property
    def key(self) -> str | None:
        """The key of the row under the cursor."""
        return self.rows[self.cursor][0] if self.rows else None

    def show(self, rows: Sequence[Row], key: str | None = None) -> None:
        """Draw these rows; the cursor goes to `key`, or stays on the key it was on."""
        if tuple(rows) == self.rows and key is None:
            return
        wanted = key if key is not None else self.key
        if tuple(rows) != self.rows:
            self._strips.clear()
        self.rows = tuple(rows)
        self.virtual_size = Size(self.scrollable_content_region.width, len(self.rows) + self.head)
        places = {row[0]: index for index, row in enumerate(self.rows)}
        with self.prevent(Rows.Highlighted):
            self.cursor = places.get(wanted or "", min(self.cursor, max(len(self.rows) - 1, 0)))
        self.refresh()

    def on_resize(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, len(self.rows) + self.head)
        self._to_cursor()

    def notify_style_update(self) -> None:
        self._strips.clear()
        super().notify_style_update()

    def forget(self) -> None:
        """Draw every row anew: what the cells are made of has changed."""
        self._strips.clear()
        self.refresh()

    def validate_cursor(self, cursor: int) -> int:
        return max(0, min(cursor, len(self.rows) - 1))

    def watch_cursor(self, old: int, new: int) -> None:
        if not self.rows or not self.is_mounted:
            return
        self._to_cursor()
        if old != new:
            self.post_message(self.Highlighted(self, self.rows[new][0]))

    def _to_cursor(self) -> None:
        self.scroll_to_region(Region(0, self.cursor, 1, 1 + self.head), animate=False, x_axis=False)

    def action_move(self, lines: int) -> None:
        self.cursor += lines

    def action_page(self, pages: int) -> None:
        self.cursor += pages * max(self.size.height - self.head - 1, 1)

    def action_choose(self) -> None:
        if self.key is not None:
            self.post_message(self.Chosen(self, self.key))

    def on_click(self, event: events.Click) -> None:
        inside = event.get_content_offset(self)
        if inside is None or inside.y < self.head:
            return
        row = self.scroll_offset.y + inside.y - self.head
        if row >= len(self.rows):
            return
        self.cursor = row
        if event.chain > 1:
            self.action_choose()

    def widths(self) -> list[int]:
        """The width of each column in cells, 0 for one that is not shown now."""
        total = self.scrollable_content_region.width
        shown = [c.width if total >= c.shown_from else 0 for c in self.columns]
        spare = total - sum(shown) - GAP * (sum(1 for w in shown if w) - 1)
        shares = sum(c.flex for c, w in zip(self.columns, shown, strict=True) if w)
        for index, column in enumerate(self.columns):
            if shown[index] and column.flex and spare > 0:
                shown[index] += spare * column.flex // shares
        return shown

    def render_line(self, y: int) -> Strip:
        base = self.visual_style
        width = self.scrollable_content_region.width
        index = self.scroll_offset.y + y - self.head
        if self.head and y == 0:
            style = self.get_visual_style("rows--head")
            titles = tuple(Content(c.title) for c in self.columns)
            return self._strip(self._line(titles), base + style, width)
        if not self.rows and y == self.head:
            return self._strip(Content(self.empty), base + self.get_visual_style("rows--empty"), width)
        if not 0 <= index < len(self.rows):
            return Strip.blank(width, base.rich_style)
        key = (index, index == self.cursor, self.has_focus, width)
        if key not in self._strips:
            self._strips[key] = self._row_strip(index, base, width)
        return self._strips[key]

    def _row_strip(self, index: int, base: Style, width: int) -> Strip:
        if index == self.cursor:
            base += self.get_visual_style("rows--cursor")
        strip = self._strip(self._line(self.cells(index)), base, width)
        if index == self.cursor and self.get_component_styles("rows--cursor").text_style.reverse:
            return strip.apply_style(RichStyle(reverse=True))  # a visual style of Textual leaves `reverse` out
        return strip

    def cells(self, index: int) -> tuple[Content, ...]:
        """The cells of one row; called only for rows in sight."""
        return self.rows[index][1]

    def _line(self, cells: tuple[Content, ...]) -> Content:
        """One row, fitted. With fewer cells than columns the last cell takes the rest of the line."""
        widths, spans = self.widths(), len(cells) < len(self.columns)
        if spans:
            rest = [w for w in widths[len(cells) - 1 :] if w]
            widths[len(cells) - 1] = sum(rest) + GAP * (len(rest) - 1)
        parts = []
        for index, (width, cell) in enumerate(zip(widths, cells, strict=False)):
            if not width:
                continue
            fitted = cell.truncate(width, ellipsis=True)
            missing = width - fitted.cell_length
            parts.append(
                fitted.pad_left(missing) if self.columns[index].right and not spans else fitted.pad_right(missing)
            )
        return Content(" " * GAP).join(parts)

    def _strip(self, line: Content, style: Style, width: int) -> Strip:
        fitted = line.truncate(width, ellipsis=True, pad=True)
        strips = Visual.to_strips(self, fitted, width, 1, style, apply_selection=False, pad=True)
        return strips[0] if strips else Strip.blank(width)
