"""Hosts in a folder, one for each shell that gpuwizard's scripts must run under."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guard_tree import SHELLS, Tree


@pytest.fixture(params=SHELLS, ids=list(SHELLS))
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tree]:
    root = tmp_path / "host"
    root.mkdir()
    yield Tree(root, SHELLS[request.param]).build()
    for process in (root / "standin/units").glob("*.timer/process"):
        subprocess.run(["kill", process.read_text().strip()], capture_output=True)


@pytest.fixture
def one_shell(tmp_path: Path) -> Tree:
    root = tmp_path / "host"
    root.mkdir()
    return Tree(root, SHELLS["dash"]).build()
