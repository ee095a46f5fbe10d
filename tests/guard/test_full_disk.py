"""A revert on a host whose disk is full, or that lets nothing be written: what it can do all the same, what it says."""

import os
import shutil
import time
from pathlib import Path

import pytest

from gpuwizard.work.guard_scripts import HostState, host_state
from tests.guard_tree import (
    DROP_IN,
    IMPORTS,
    MAIN,
    NVIDIA,
    PLAIN,
    WITH_IMPORTS,
    Tree,
    change_of,
    edit,
    leftovers,
    missing_shells,
    started,
    two_files,
)

pytestmark = pytest.mark.skipif(bool(missing_shells()), reason=f"shells not installed: {missing_shells()}")

FULL = "cp: error writing '%s': No space left on device"


def no_copies(tree: Tree, words: str = FULL) -> Path:
    """From now on no byte can be added below /etc; returns what has to go so that it can again."""
    program = tree.root / "bin/cp"
    program.write_text(
        f"""#!/bin/sh
for last; do :; done
case $last in
    "$GPUWIZARD_FLEET_ROOT"/etc/*) printf "{words}\\n" "$last" >&2; exit 1 ;;
esac
exec {shutil.which("cp")} "$@"
"""
    )
    program.chmod(0o755)
    return program


def no_links(tree: Tree) -> None:
    """A file system without hard links."""
    program = tree.root / "bin/ln"
    program.write_text(
        f'#!/bin/sh\n[ "$1" = -sf ] || {{ echo "ln: Operation not permitted" >&2; exit 1; }}\n'
        f'exec {shutil.which("ln")} "$@"\n'
    )
    program.chmod(0o755)


def links(tree: Tree) -> list[str]:
    """The hard links to former files, relative to the root."""
    found = (tree.root / "etc").rglob(".gpuwizard.*")
    return sorted(str(path.relative_to(tree.root)) for path in found)


def status(tree: Tree) -> HostState:
    """What the host says of the run."""
    state = host_state(tree.guard("status").stdout.splitlines())
    assert state is not None
    return state


def test_the_former_file_comes_back_without_any_space(tree: Tree) -> None:
    main = tree.path(MAIN)
    main.chmod(0o604)
    os.utime(main, (1_500_000_000, 1_500_000_000))
    before = main.stat()
    started(tree, *two_files())
    tree.wait_for("healthy")
    assert links(tree) == ["etc/containerd/.gpuwizard.run-1.002"]
    no_copies(tree)
    tree.guard("undo", "node not ready")
    assert tree.wait_for("reverted", "revert-failed") == "reverted", status(tree).reason
    assert main.read_bytes() == PLAIN
    assert (main.stat().st_ino, main.stat().st_mode, main.stat().st_mtime) == (
        before.st_ino, before.st_mode, before.st_mtime
    )  # fmt: skip
    assert main.stat().st_nlink == 1
    assert not tree.path(DROP_IN).exists()
    assert leftovers(tree) == []


def test_a_removed_file_comes_back_without_any_space(one_shell: Tree) -> None:
    drop_in = one_shell.path(DROP_IN)
    drop_in.parent.mkdir()
    drop_in.write_bytes(b"# nothing\n")
    one_shell.path(MAIN).write_bytes(WITH_IMPORTS + NVIDIA)
    started(one_shell, edit(DROP_IN, b"# nothing\n", None))
    one_shell.wait_for("healthy")
    assert not drop_in.exists()
    assert links(one_shell) == ["etc/containerd/.gpuwizard.run-1.001"], "not where drop-ins are read"
    no_copies(one_shell)
    one_shell.guard("undo", "asked for")
    assert one_shell.wait_for("reverted", "revert-failed") == "reverted", status(one_shell).reason
    assert drop_in.read_bytes() == b"# nothing\n"
    assert leftovers(one_shell) == []


def test_a_confirmed_run_leaves_no_link(tree: Tree) -> None:
    started(tree, *two_files())
    tree.wait_for("healthy")
    assert tree.guard("confirm").returncode == 0
    assert links(tree) == []
    assert not list(tree.run_folder().glob("spare.*"))


def test_a_file_system_without_hard_links_is_put_back_by_copies(tree: Tree) -> None:
    no_links(tree)
    started(tree, *two_files())
    tree.wait_for("healthy")
    assert links(tree) == []
    tree.guard("undo", "asked for")
    assert tree.wait_for("reverted", "revert-failed") == "reverted"
    assert tree.path(MAIN).read_bytes() == PLAIN


def test_a_link_whose_bytes_somebody_changed_is_not_taken(one_shell: Tree) -> None:
    started(one_shell, *two_files())
    one_shell.wait_for("healthy")
    (one_shell.root / links(one_shell)[0]).write_bytes(b"other\n")
    one_shell.guard("undo", "asked for")
    assert one_shell.wait_for("reverted", "revert-failed") == "reverted"
    assert one_shell.path(MAIN).read_bytes() == PLAIN
    assert leftovers(one_shell) == []


@pytest.mark.parametrize("pattern", ["/etc/containerd/*", "/etc/containerd/.*", "/etc/containerd/conf.d/*.t*"])
def test_where_a_pattern_might_take_the_link_there_is_none(one_shell: Tree, pattern: str) -> None:
    text = f'imports = ["/etc/containerd/conf.d/*.toml", "{pattern}"]\n'.encode() + PLAIN
    one_shell.path(MAIN).write_bytes(text)
    done = one_shell.prepare(change_of(edit(MAIN, text, text + NVIDIA)))
    assert done.returncode == 0, done.stdout
    assert not (one_shell.run_folder() / "kept").exists()


def test_the_usual_pattern_is_no_hindrance(one_shell: Tree) -> None:
    text = IMPORTS + PLAIN
    one_shell.path(MAIN).write_bytes(text)
    assert one_shell.prepare(change_of(edit(MAIN, text, text + NVIDIA))).returncode == 0
    assert (one_shell.run_folder() / "kept").exists()


def test_a_folder_of_drop_ins_that_is_a_mount_gets_no_link(one_shell: Tree) -> None:
    """CRI-O reads every file of it, and nothing else is on its file system."""
    drop_in = one_shell.path(DROP_IN)
    drop_in.parent.mkdir()
    drop_in.write_bytes(b"# nothing\n")
    one_shell.path(MAIN).write_bytes(WITH_IMPORTS)
    folder = one_shell.root / "proc/self"
    folder.mkdir()
    (folder / "mountinfo").write_text(f"1 1 0:1 / {drop_in.parent.resolve()} rw - tmpfs tmpfs rw\n")
    assert one_shell.prepare(change_of(edit(DROP_IN, b"# nothing\n", NVIDIA))).returncode == 0
    assert not (one_shell.run_folder() / "kept").exists()


def test_a_state_that_cannot_be_added_is_written_over_a_spare(tree: Tree) -> None:
    started(tree, *two_files())
    tree.wait_for("healthy")
    (tree.run_folder() / "state.new").mkdir()  # no byte can go into a new state
    tree.guard("undo", "node not ready")
    assert tree.wait_for("reverted", "revert-failed") == "reverted"
    assert status(tree).reason == "node not ready"
    assert tree.path(MAIN).read_bytes() == PLAIN
    assert leftovers(tree) == []


def test_a_state_that_cannot_be_written_at_all_keeps_nothing_from_coming_back(tree: Tree) -> None:
    started(tree, *two_files())
    tree.wait_for("healthy")
    (tree.run_folder() / "state.new").mkdir()
    for spare in tree.run_folder().glob("spare.*"):
        spare.unlink()
    tree.guard("revert", "the timer")
    assert tree.path(MAIN).read_bytes() == PLAIN
    assert not tree.path(DROP_IN).exists()
    assert (tree.run_folder() / "armed").exists(), "whoever asks again finds it unfinished"
    (tree.run_folder() / "state.new").rmdir()
    tree.guard("revert", "asked again")
    assert tree.state() == "reverted"
    assert leftovers(tree) == []


@pytest.mark.parametrize(
    ("words", "cause", "remedy"),
    [
        (FULL, "no space is left on the file system of /etc/containerd", "df -h /etc/containerd"),
        ("cp: cannot create '%s': Read-only file system", "the file system of /etc/containerd is read-only", "dmesg"),
        ("cp: cannot create '%s': Operation not permitted", "it or its folder is immutable", "chattr -i -a"),
        ("cp: %s: Device or resource busy", "something is mounted on it", f"umount {MAIN}"),
        ("cp: %s: Input/output error", "Input/output error", "mend what it says"),
    ],
)
def test_a_revert_that_fails_says_why_what_mends_it_and_where_the_instructions_are(
    one_shell: Tree, words: str, cause: str, remedy: str
) -> None:
    no_links(one_shell)
    started(one_shell, *two_files())
    one_shell.wait_for("healthy")
    lid = no_copies(one_shell, words)
    one_shell.guard("undo", "node not ready")
    assert one_shell.wait_for("reverted", "revert-failed") == "revert-failed"
    reason = status(one_shell).reason
    assert f"{MAIN} could not be put back: " in reason
    assert cause in reason
    assert remedy in reason
    assert "sh /var/lib/gpuwizard/runs/run-1/guard.sh undo run-1" in reason
    assert "by hand: /var/lib/gpuwizard/runs/run-1/README.txt" in reason
    lid.unlink()
    asked = one_shell.guard("undo", "asked again")
    first = host_state(asked.stdout.splitlines())
    assert first is not None
    assert first.word != "revert-failed", "what failed before is no answer"
    assert one_shell.wait_for("reverted", "revert-failed") == "reverted"
    assert one_shell.path(MAIN).read_bytes() == PLAIN
    assert leftovers(one_shell) == []


def test_a_change_that_cannot_be_written_says_why(one_shell: Tree) -> None:
    no_links(one_shell)
    no_copies(one_shell)
    started(one_shell, edit(MAIN, PLAIN, PLAIN + NVIDIA))
    assert one_shell.wait_for("reverted", "revert-failed") == "reverted"
    assert f"{MAIN} could not be written: no space is left on the file system" in status(one_shell).failure


def test_a_unit_that_stays_away_is_named_with_its_journal(one_shell: Tree) -> None:
    started(one_shell, *two_files())
    one_shell.wait_for("healthy")
    one_shell.path("bin/containerd").write_text("#!/bin/sh\nexit 1\n")
    one_shell.guard("undo", "node not ready")
    assert one_shell.wait_for("reverted", "revert-failed") == "revert-failed"
    assert one_shell.path(MAIN).read_bytes() == PLAIN
    reason = status(one_shell).reason
    assert "containerd.service failed to start" in reason
    assert "journalctl -e -u containerd.service" in reason


def test_a_revert_that_was_killed_is_noticed(one_shell: Tree) -> None:
    started(one_shell, *two_files())
    one_shell.wait_for("healthy")
    state = one_shell.run_folder() / "state"
    state.write_text("reverting 1 node not ready\n")
    began = time.monotonic()
    found = host_state(one_shell.guard("watch", "1").stdout.splitlines())
    assert found is not None
    assert (found.word, found.stopped) == ("reverting", True)
    assert time.monotonic() - began < 20


def test_a_full_run_folder_is_the_reason_that_is_told(tree: Tree) -> None:
    """The restart was seen to be well, but that could not be written down."""
    done = tree.prepare(change_of(*two_files()))
    assert done.returncode == 0, done.stdout
    (tree.run_folder() / "up").mkdir()
    for role in ("arm", "begin"):
        assert tree.guard(role).returncode == 0
    assert tree.wait_for("reverted", "revert-failed") == "reverted"
    state = status(tree)
    assert "the run folder cannot be written any more: no space is left (df -h /var/lib/gpuwizard/runs/run-1)" in (
        state.failure or state.reason
    )


def test_what_a_power_cut_left_beside_the_files_goes_with_the_revert(tree: Tree) -> None:
    started(tree, *two_files())
    tree.wait_for("healthy")
    half_written = tree.path("/etc/containerd/.gpuwizard.run-1.new")
    half_written.write_bytes(PLAIN[:20])
    (tree.root / "proc/sys/kernel/random/boot_id").write_text("boot-2\n")
    tree.guard("boot")
    assert tree.state() == "reverted"
    assert leftovers(tree) == []


def test_a_host_that_dies_while_it_is_disarmed_keeps_no_link(tree: Tree) -> None:
    """Once the mark is gone nobody comes back to clear away the rest."""
    started(tree, *two_files())
    tree.wait_for("healthy")
    program = tree.root / "bin/rm"
    program.write_text(f'#!/bin/sh\n{shutil.which("rm")} "$@"\ncase $* in */armed*) kill -KILL "$PPID" ;; esac\n')
    program.chmod(0o755)
    assert tree.guard("confirm").returncode != 0
    assert tree.state() == "confirmed"
    assert not (tree.run_folder() / "armed").exists()
    assert links(tree) == []
