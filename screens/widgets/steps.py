"""The list of steps, always in sight: a column where there is room, one line where there is not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from textual import events
from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

__all__ = ["Step", "StepList", "StepState"]

StepState = Literal["done", "current", "ahead", "trouble"]
_MARKS: dict[StepState, str] = {"done": "✓", "current": "▶", "ahead": "·", "trouble": "!"}


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `open` when the operator may go there now."""

    page: str
    title: str
    state: StepState
    open: bool


class _StepLabel(Static):
    """One step; a click goes there when it is open."""

    ALLOW_SELECT = False

    def __init__(self, step: Step, number: int) -> None:
        self.step = step
        label = Content.assemble((_MARKS[step.state], f"$step-{step.state}"), " ", step.title)
        super().__init__(label, classes=f"step -{step.state}")
        self.set_class(step.open, "-open")
        self.tooltip = f"{number} · {step.title}" if step.open else "not yet: the steps before come first"

    def on_click(self, event: events.Click) -> None:
        event.stop()
        if self.step.open:
            self.post_message(StepList.Chosen(self.step.page))


class StepList(Container):
    """All steps; not focusable: the keys 1 to 6, F2 and F3 do the same."""

    @dataclass
    class Chosen(Message):
        """The operator clicked a step that is open."""

        page: str

    def __init__(self, steps: Sequence[Step], id: str | None = None) -> None:
        super().__init__(id=id)
        self.steps = tuple(steps)

    def compose(self) -> ComposeResult:
        for number, step in enumerate(self.steps, 1):
            yield _StepLabel(step, number)

    async def show(self, steps: Sequence[Step]) -> None:
        """Draw other states."""
        if tuple(steps) != self.steps:
            self.steps = tuple(steps)
            await self.recompose()
