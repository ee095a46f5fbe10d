"""A table that draws only the lines one sees: hosts, nodes, pods, at any number, fitted to the width."""

from collections.abc import Callable, Hashable, Sequence
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

__all__ = ["Column", "LazyRows", "Row", "Rows"]

GAP = 2
_KEPT_STRIPS = 2000
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
    """Rows with a cursor. A row is a key and a `Content` per column (fewer: the last one takes the rest of the line).

    When the rows come in another order the cursor follows its key, and its line on the screen stays where it is.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--head", "rows--cursor", "rows--empty"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "first", "First", show=False),
        Binding("end", "move(1000000)", "Last", show=False),
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
        self._strips: dict[Hashable, Strip] = {}
        self._chosen: str | None = None
        self._showing = False

    @property
    def key(self) -> str | None:
        """The key of the row under the cursor."""
        return self.rows[self.cursor][0] if self.rows else None

    def show(self, rows: Sequence[Row], key: str | None = None) -> None:
        """Draw these rows; the cursor goes to `key`, or stays on the key it was on."""
        drawn = tuple(rows)
        if drawn == self.rows and key is None:
            return
        if drawn != self.rows:
            self.outdated()
        seen, line = self._anchor()
        wanted = key if key is not None else self.wanted()
        self.rows = drawn
        self._measure()
        places = {row[0]: index for index, row in enumerate(self.rows)}
        self._showing = True
        self.cursor = places.get(wanted or "", 0 if wanted is None else min(self.cursor, max(len(drawn) - 1, 0)))
        self._showing = False
        if key is None and seen in places:
            self.scroll_to(y=places[seen] - line, animate=False, immediate=True)
        elif seen:
            self._to_cursor()
        self.refresh()

    def wanted(self) -> str | None:
        """The key that the cursor stays on; None for the first row, whichever it is."""
        return self._chosen if self._chosen is not None else self.key

    def outdated(self) -> None:
        """Other rows are about to be shown: forget how the old ones looked."""
        self._strips.clear()

    def _anchor(self) -> tuple[str, int]:
        """The row that must not move on the screen, and its line: the one under the cursor, or the uppermost one."""
        if not self.rows:
            return "", 0
        top, height = self.scroll_offset.y, self.scrollable_content_region.height - self.head
        at = self.cursor if top <= self.cursor < top + height else min(top, len(self.rows) - 1)
        return self.rows[at][0], at - top

    def _measure(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, len(self.rows) + self.head)

    def on_resize(self) -> None:
        self._measure()
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
        if self._showing or not self.rows or not self.is_mounted:
            return
        self._to_cursor()
        self._chosen = self.rows[new][0]
        if old != new:
            self.post_message(self.Highlighted(self, self.rows[new][0]))

    def _to_cursor(self) -> None:
        self.scroll_to_region(Region(0, self.cursor, 1, 1 + self.head), animate=False, x_axis=False)

    def go_to(self, key: str) -> None:
        """Put the cursor on that row, if it is shown."""
        for index, row in enumerate(self.rows):
            if row[0] == key:
                self.cursor = index
                self._chosen = key

    def action_move(self, lines: int) -> None:
        self.cursor += lines

    def action_first(self) -> None:
        self.cursor = 0

    def action_page(self, pages: int) -> None:
        self.cursor += pages * max(self.size.height - self.head - 1, 1)

    def action_choose(self) -> None:
        if self.key is not None:
            self._chosen = self.key
            self.post_message(self.Chosen(self, self.key))

    def on_click(self, event: events.Click) -> None:
        inside = event.get_content_offset(self)
        if inside is None or inside.y < self.head:
            return
        row = self.scroll_offset.y + inside.y - self.head
        if row >= len(self.rows):
            return
        self.cursor = row
        self._chosen = self.rows[row][0]
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
        key = (self.stamp(index), index == self.cursor, self.has_focus, width)
        if key not in self._strips:
            if len(self._strips) > _KEPT_STRIPS:
                self._strips.clear()
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

    def stamp(self, index: int) -> Hashable:
        """What the looks of a row depend on: a row of the same stamp is not drawn again until `outdated`."""
        return index

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


class LazyRows(Rows):
    """Rows whose cells are made when they come into sight: thousands of rows cost as much as those one sees.

    `make` gives the cells of a key, `stamp_of` what they depend on. Until somebody has moved it the cursor stays on
    the first row, so that trouble that rises to the top is seen; the Home key lets it do so again.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        make: Callable[[str], tuple[Content, ...]],
        stamp_of: Callable[[str], Hashable],
        *,
        empty: str = "",
        id: str | None = None,
        classes: str = "",
    ) -> None:
        super().__init__(columns, empty=empty, id=id, classes=classes)
        self._make = make
        self._stamp_of = stamp_of

    def show_keys(self, keys: Sequence[str], key: str | None = None) -> None:
        """Draw the rows of these keys, in this order, and what has changed in those in sight."""
        self.show([(name, ()) for name in keys], key)
        self.refresh()

    def wanted(self) -> str | None:
        return self._chosen

    def outdated(self) -> None:
        """Nothing to forget: a row's stamp says whether it looks as before."""

    def _anchor(self) -> tuple[str, int]:
        if self._chosen is None and self.scroll_offset.y == 0:
            return "", 0
        return super()._anchor()

    def action_first(self) -> None:
        super().action_first()
        self._chosen = None

    def cells(self, index: int) -> tuple[Content, ...]:
        return self._make(self.rows[index][0])

    def stamp(self, index: int) -> Hashable:
        name = self.rows[index][0]
        return name, self._stamp_of(name)
