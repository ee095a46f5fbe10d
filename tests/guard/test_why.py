"""Why a unit is not up: the host shows the result of its process, its last complaint, and what its CRI plugin says."""

import subprocess
from pathlib import Path

import pytest

from gpuwizard.events import Waiting
from gpuwizard.work.guard_lines import event_of
from tests.guard_tree import MAIN, NVIDIA, PLAIN, Tree, edit, missing_shells, started

pytestmark = pytest.mark.skipif(bool(missing_shells()), reason=f"shells not installed: {missing_shells()}")
JOURNAL = """#!/bin/sh
case "$*" in *--since=@[0-9]*) ;; *) exit 64 ;; esac
echo 'level=info msg="all quiet"'
echo 'level=error msg="failed to load plugin" password=hunter2'
echo 'time=1 level=warning msg="starting cri plugin" with config {secret}'
"""


def waits(tree: Tree) -> list[Waiting]:
    """The waits of the run's log, as a watcher gets them."""
    found = (event_of(f"@log {line}", "a", "apply") for line in (tree.run_folder() / "log").read_text().splitlines())
    return [event for event in found if isinstance(event, Waiting)]


def program(tree: Tree, name: str, text: str) -> Path:
    path = tree.root / "bin" / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_a_slow_unit_shows_its_last_complaint(tree: Tree) -> None:
    program(tree, "journalctl", JOURNAL)
    started(tree, edit(MAIN, PLAIN, PLAIN + NVIDIA + b"# SLOWSTART\n"), hold=30)
    assert tree.wait_for("healthy", "reverted") == "healthy"
    starting = [w for w in waits(tree) if w.condition == "containerd.service is up"]
    assert starting[-1].last_seen.startswith("activating (")
    assert "failed to load plugin" in starting[-1].likely
    assert "hunter2" not in str(starting)
    assert "with config" not in (tree.run_folder() / "log").read_text()
    holding = [w for w in waits(tree) if w.condition == "containerd.service stays up"]
    assert holding
    assert all("nothing is wrong" in w.likely for w in holding)


def test_the_result_of_its_process_is_shown(one_shell: Tree) -> None:
    unit = one_shell.root / "standin/units/containerd.service"
    (unit / "result").write_text("exit-code\n")
    (unit / "status").write_text("2\n")
    started(one_shell, edit(MAIN, PLAIN, PLAIN + NVIDIA + b"# SLOWSTART\n"))
    one_shell.wait_for("healthy")
    told = [w.likely for w in waits(one_shell) if "ExecMainStatus=2" in w.likely]
    assert told
    assert told[0].startswith("its process ended by itself")


def test_a_plugin_in_error_is_quoted(tree: Tree) -> None:
    started(tree, edit(MAIN, PLAIN, PLAIN + NVIDIA + b"# BREAKCRI\n"))
    assert tree.wait_for("reverted", "healthy") == "reverted"
    failure = (tree.run_folder() / "failure").read_text()
    assert 'its CRI plugin is error: failed to create CRI service: snapshotter "broken" was not found' in failure


def test_a_step_that_waits_for_the_state_says_who_holds_it(one_shell: Tree) -> None:
    started(one_shell, edit(MAIN, PLAIN, PLAIN + NVIDIA + b"# SLOWSTART\n"), hold=60)
    lock = one_shell.run_folder() / "state.lock"
    hold = ["flock", str(lock), "sh", "-c", f"echo 'confirm of run run-1' >{lock}; echo held; exec sleep 2"]
    with subprocess.Popen(hold, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        done = one_shell.guard("undo", "the test wants it")
    assert done.returncode == 0, done.stderr
    one_shell.wait_for("reverted")
    told = {w.last_seen for w in waits(one_shell) if w.condition == "the state of the run is free"}
    assert "confirm of run run-1 holds it" in told


def test_who_asks_for_the_revert_is_told_that_it_is_waited_for(one_shell: Tree) -> None:
    started(one_shell, edit(MAIN, PLAIN, PLAIN + NVIDIA + b"# SLOWSTART\n"))
    said = one_shell.guard("undo", "the test wants it").stdout
    told = [event for line in said.splitlines() if isinstance(event := event_of(line, "a", "apply"), Waiting)]
    assert told
    assert told[0].condition == "the revert begins"
    assert told[0].last_seen in ("the run is armed", "the run is applying")
    assert one_shell.wait_for("reverted") == "reverted"
