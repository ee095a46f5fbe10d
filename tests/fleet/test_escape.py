"""A simulated host cannot touch the real machine, whatever runs on it and whoever runs the fleet (testing.md)."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuwizard.fleet import landlock
from gpuwizard.fleet.sandbox import reason_against
from gpuwizard.remote.transport import Script

from .conftest import OpenFleet, log_in

NOBODY = 65534

pytestmark = [
    pytest.mark.skipif(reason_against() is not None, reason=f"no sandbox here: {reason_against()}"),
    pytest.mark.skipif(shutil.which("perl") is None, reason="the attempts need perl"),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user can walk to."""
    made = Path(tempfile.mkdtemp(prefix="gpuwizard-escape-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def attempt(folder: Path, *, user: int | None, abi: int | None = None) -> dict[str, Any]:
    """Run escape.py as ourselves or as `user`, and read what it found."""
    program = [sys.executable, str(Path(__file__).with_name("escape.py")), str(folder)]
    program += [str(abi)] if abi is not None else []
    if user is not None:
        os.chown(folder, user, user)
        # the interpreter may lie where that user cannot go: it keeps the right to read, and nothing else
        keep = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
        program = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *keep, *program]
    home = folder / "home"
    home.mkdir()
    if user is not None:
        os.chown(home, user, user)
    env = {**os.environ, "HOME": str(home), "REAL_HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(program, capture_output=True, text=True, timeout=100, env=env, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def kept_inside(found: dict[str, Any]) -> None:
    """Every attempt works without walls and none within them."""
    control = found["control"]
    needless = [name for name, worked in control.items() if not worked and name != "chmod-stand-in"]
    assert not needless, f"these attempts prove nothing here: {needless}"
    for who in ("root", "user"):
        side = found[who]
        assert len(side["done"]) == len(control), side["errors"]
        assert not [name for name, worked in side["done"].items() if worked], who
        assert side["alive"], "a process outside was killed"
        assert side["can_apply"] is None
    assert found["dies"], "something outlived the fleet"


@pytest.mark.skipif(os.geteuid() == 0, reason="this is the ordinary user's test; root runs it by setpriv")
def test_nothing_escapes_from_an_ordinary_user(folder: Path) -> None:
    kept_inside(attempt(folder, user=None))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("mode", [0o755, 0o700], ids=["open", "private"])
def test_nothing_escapes_from_root(folder: Path, mode: int) -> None:
    """In a private folder the hosts keep the one capability with which they can walk to their trees."""
    folder.chmod(mode)
    found = attempt(folder, user=None)
    kept_inside(found)
    assert found["root"]["tree_user"] not in (0, NOBODY), "root must hand its hosts to an unused user"


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_nothing_escapes_from_nobody(folder: Path) -> None:
    found = attempt(folder, user=NOBODY)
    kept_inside(found)
    assert found["root"]["tree_user"] == NOBODY


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
@pytest.mark.skipif(landlock.abi() < 1, reason="needs Landlock")
def test_nothing_escapes_on_an_old_kernel(folder: Path) -> None:
    """Landlock's first version knows neither signals nor sockets nor truncate: the filter has to do it."""
    kept_inside(attempt(folder, user=NOBODY, abi=1))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_what_a_process_of_a_host_is_left_with(fleet_of: OpenFleet, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    async with fleet_of('[hosts.node]\ncontainerd = "2.1.4"\n') as fleet:
        transport = await log_in(fleet, "node")
        process = await transport.start(Script('main() { echo "$$"; read -r line; }'), root=True)
        lines = process.lines()
        pid = int(await anext(lines))
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
        )
        await process.write_line("done")
        await process.wait()
        await transport.close()
    assert status["Uid"].split()[0] not in ("0", str(NOBODY))
    assert len(set(status["Uid"].split())) == 1
    assert status["Groups"].strip() == ""
    assert int(status["CapEff"], 16) & ~(1 << 2) == 0, "reading and searching, at most"
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
