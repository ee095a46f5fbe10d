"""One screen as text for snapshots, and applications at the two sizes that every page must fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from gpuwizard.session import Session
from screens.app import GpuwizardApp
from tests.screens import sessions

SIZES = [(80, 24), (140, 40)]


class ScreenText(SingleFileSnapshotExtension):
    """One screen as plain text: a reviewer reads it in the diff."""

    file_extension = "txt"
    _write_mode = WriteMode.TEXT


@pytest.fixture
def screen(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    """Compare with the screen's text kept in __snapshots__."""
    return snapshot.use_extension(ScreenText)


@pytest.fixture(params=SIZES, ids=["80x24", "140x40"])
def size(request: pytest.FixtureRequest) -> tuple[int, int]:
    """Both terminal sizes."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def wizard(tmp_path: Path) -> Callable[..., GpuwizardApp]:
    """Make an application over a session (default: the probed mixed fleet)."""

    def make(session: Session | None = None, **options: Any) -> GpuwizardApp:
        return GpuwizardApp(session or sessions.session(state_dir=tmp_path), **options)

    return make


@pytest.fixture
def planned(tmp_path: Path) -> Session:
    """The mixed fleet, probed, with the plan that the engine builds for it."""
    return sessions.planned(sessions.session(state_dir=tmp_path))
