"""Without colours everything can still be told apart."""

from collections.abc import Callable

import pytest
from textual.strip import Strip

from gpuwizard.session import Session
from screens.app import GpuwizardApp
from screens.terminal import can_run, no_color
from screens.widgets.rows import Rows
from tests.screens.driving import press, screen_text, settle


def drawn(app: GpuwizardApp) -> list[Strip]:
    return app.screen._compositor.render_strips()


async def test_no_color_draws_no_colour_and_the_cursor_is_seen(
    wizard: Callable[..., GpuwizardApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "f3", "f4", "down")
        strips = drawn(app)
        styles = [segment.style for strip in strips for segment in strip if segment.style]
        assert all(s.color is None or s.color.is_default for s in styles)
        assert all(s.bgcolor is None or s.bgcolor.is_default for s in styles)
        rows = app.screen.query_one(Rows)
        line = next(strip for strip in strips if str(rows.key) in strip.text)
        assert any(segment.style and segment.style.reverse for segment in line)


def test_an_empty_no_color_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "")
    assert not no_color()
    monkeypatch.setenv("NO_COLOR", "1")
    assert no_color()


async def test_a_diff_can_be_read_without_colours(wizard: Callable[..., GpuwizardApp], planned: Session) -> None:
    app = wizard(planned)
    async with app.run_test(size=(140, 40)) as pilot:
        await press(pilot, "f3", "f3", "f3", "down")
        lines = screen_text(app).splitlines()
    added = [line for line in lines if "runtimes.nvidia]" in line]
    assert added
    assert all("+    [plugins" in line for line in added)


@pytest.mark.parametrize("theme", ["ansi-dark", "ansi-light", "textual-light"])
async def test_other_themes_draw_every_page(wizard: Callable[..., GpuwizardApp], planned: Session, theme: str) -> None:
    app = wizard(planned)
    async with app.run_test(size=(80, 24)) as pilot:
        app.theme = theme
        for _ in range(3):
            await press(pilot, "f3")
        await settle(pilot)
        assert "Review" in screen_text(app)


def test_a_dumb_terminal_and_no_terminal_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_run() == "the wizard needs a terminal, and there is none"
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert "dumb" in str(can_run())
    monkeypatch.setenv("TERM", "xterm-256color")
    assert can_run() is None
