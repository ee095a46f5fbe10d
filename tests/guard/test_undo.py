"""Runs that are taken back on a host: one, an older one below others, all of them; by its script and by hand."""

import json
import os
import subprocess
from dataclasses import replace

import pytest

from gpuwizard.errors import GpuwizardError
from gpuwizard.facts.history import HostHistory, history_in
from gpuwizard.secret import SecretBytes
from gpuwizard.work.guard_scripts import history_script
from tests.guard_tree import (
    CHECK,
    DROP_IN,
    MAIN,
    NVIDIA,
    PLAIN,
    WITH_IMPORTS,
    Tree,
    change_of,
    edit,
    missing_shells,
    two_files,
)

pytestmark = pytest.mark.skipif(bool(missing_shells()), reason=f"shells not installed: {missing_shells()}")
OTHER = "/etc/containerd/other.toml"
BARE = replace(CHECK, handlers=("runc",))
MORE = NVIDIA + b"# more\n"


def did(tree: Tree, run_id: str, *files: object, by: str = "ada on laptop", **values: object) -> None:
    """A change (or the way back) that is confirmed."""
    change = change_of(*files, run_id=run_id, by=f"{by}, run {run_id}, since 2026-11-21 01:14:00 UTC", **values)  # type: ignore[arg-type]
    done = tree.prepare(change)
    assert done.returncode == 0, done.stdout + done.stderr
    for role in ("arm", "begin"):
        assert tree.guard(role, run_id=run_id).returncode == 0
    assert tree.wait_for("healthy", "reverted", run_id=run_id) == "healthy", (
        tree.run_folder(run_id) / "log"
    ).read_text()
    assert tree.guard("confirm", run_id=run_id).returncode == 0


def back(tree: Tree, *runs: str, run_id: str = "back", **values: object) -> str:
    """What the host says when the runs are to be put back."""
    change = change_of(run_id=run_id, restores=runs, unit=None, check=None, **values)
    return tree.prepare(change).stdout


def told(tree: Tree) -> HostHistory:
    done = tree.send(history_script())
    assert done.returncode == 0, done.stdout + done.stderr
    return history_in(done.stdout.splitlines())


def sha(content: bytes | None) -> str:
    return "absent" if content is None else SecretBytes(content).sha256


def aims(*rows: tuple[str, bytes | None, bytes | None]) -> tuple[tuple[str, str, str], ...]:
    return tuple((sha(before), sha(after), path) for path, before, after in rows)


def test_an_older_run_is_refused_with_who_changed_its_file_since(tree: Tree) -> None:
    did(tree, "one", *two_files())
    did(tree, "two", edit(DROP_IN, NVIDIA, MORE), by="bob on desk")
    did(tree, "three", edit(DROP_IN, MORE, MORE + b"#\n"))
    said = back(tree, "one")
    assert (
        f"@refused later three {DROP_IN} was changed again by a later run: "
        "three (ada on laptop, since 2026-11-21 01:14:00 UTC); two (bob on desk, since 2026-11-21 01:14:00 UTC)" in said
    )
    assert "@refused later three" in back(tree, "two")
    assert not tree.run_folder("back").exists()
    assert tree.path(DROP_IN).read_bytes() == MORE + b"#\n"


def test_a_later_run_that_touched_other_files_or_was_rolled_back_is_no_obstacle(tree: Tree) -> None:
    did(tree, "one", *two_files())
    did(tree, "two", edit(OTHER, None, b"# by itself\n"))
    did(tree, "three", edit(DROP_IN, NVIDIA, MORE))
    did(tree, "four", restores=("three",), unit=None, check=None)
    did(tree, "five", restores=("one",), unit=None, check=None)
    assert tree.path(MAIN).read_bytes() == PLAIN
    assert not tree.path(DROP_IN).exists()
    assert tree.path(OTHER).read_bytes() == b"# by itself\n"


def test_a_run_that_was_rolled_back_is_not_rolled_back_again_through_a_later_one_that_did_the_same(tree: Tree) -> None:
    did(tree, "one", edit(MAIN, PLAIN, PLAIN + NVIDIA))
    did(tree, "two", restores=("one",), unit=None, check=None, by="bob on desk")
    did(tree, "three", edit(MAIN, PLAIN, PLAIN + NVIDIA))
    said = back(tree, "one")
    assert "@nothing it was put back already by run two (bob on desk, since" in said
    assert tree.path(MAIN).read_bytes() == PLAIN + NVIDIA


def test_what_somebody_else_changed_is_called_so_also_with_runs_on_top(one_shell: Tree) -> None:
    did(one_shell, "one", edit(MAIN, PLAIN, PLAIN + NVIDIA))
    did(one_shell, "two", edit(MAIN, PLAIN + NVIDIA, PLAIN + MORE))
    one_shell.path(MAIN).write_bytes(PLAIN + b"# mine\n")
    assert f"@refused foreign {MAIN} was changed by somebody else since run one (ada" in back(one_shell, "one")
    assert f"@refused foreign {MAIN} was changed by somebody else since run two (ada" in back(one_shell, "two")


def test_runs_are_put_in_order_although_the_clock_jumped(one_shell: Tree) -> None:
    did(one_shell, "one", edit(MAIN, PLAIN, PLAIN + NVIDIA))
    did(one_shell, "two", edit(MAIN, PLAIN + NVIDIA, PLAIN + MORE))
    (one_shell.run_folder("two") / "state").write_text("confirmed 1000000000 \n")
    assert [run.id for run in told(one_shell).runs] == ["two", "one"]
    assert "@refused later two" in back(one_shell, "one")


def test_all_runs_at_once_go_back_to_the_bytes_before_the_first(tree: Tree) -> None:
    main = tree.path(MAIN)
    main.chmod(0o604)
    os.utime(main, (1_500_000_000, 1_500_000_000))
    did(tree, "one", *two_files())
    did(tree, "two", edit(DROP_IN, NVIDIA, MORE), edit(OTHER, None, b"#\n"))
    did(tree, "three", edit(OTHER, b"#\n", b"##\n"))
    did(tree, "four", restores=("three",), unit=None, check=None)
    history = told(tree)
    assert [run.id for run in history.runs] == ["two", "one"]
    wanted = aims((OTHER, b"#\n", None), (MAIN, WITH_IMPORTS, PLAIN), (DROP_IN, MORE, None))
    restarts = tree.calls().count("restart --no-block containerd.service")
    did(tree, "back", restores=("two", "one"), aims=wanted, unit=None, check=None)
    assert main.read_bytes() == PLAIN
    assert main.stat().st_mode & 0o777 == 0o604
    assert main.stat().st_mtime == 1_500_000_000
    assert not tree.path(OTHER).exists()
    assert not tree.path(DROP_IN).parent.exists(), "the folder was the run's as well"
    assert tree.calls().count("restart --no-block containerd.service") == restarts + 1
    log = (tree.run_folder("back") / "log").read_text()
    places = [log.index(f"step replace {path}") for path in (OTHER, MAIN, DROP_IN)]
    assert places == sorted(places), "what names a file goes before the file"
    assert told(tree).runs == ()


@pytest.mark.parametrize("wanted", [aims((MAIN, PLAIN + NVIDIA, b"")), aims((OTHER, None, b""))])
def test_a_plan_that_comes_to_other_files_is_stale(one_shell: Tree, wanted: tuple[tuple[str, str, str], ...]) -> None:
    did(one_shell, "one", edit(MAIN, PLAIN, PLAIN + NVIDIA))
    assert "@refused stale its files or its runs were changed since the plan was made" in back(
        one_shell, "one", aims=wanted
    )


def test_an_edit_that_stood_by_for_a_revert_is_made_by_a_rollback_and_unmade_by_all(one_shell: Tree) -> None:
    did(one_shell, "one", undo=(edit(OTHER, None, b"# without nvidia\n"),), check=BARE)
    assert not one_shell.path(OTHER).exists()
    did(one_shell, "two", restores=("one",), unit=None, check=None)
    assert one_shell.path(OTHER).read_bytes() == b"# without nvidia\n"
    assert [run.id for run in told(one_shell).runs] == ["two"], "its file is still there"
    did(one_shell, "three", restores=("two",), aims=aims((OTHER, b"# without nvidia\n", None)), unit=None, check=None)
    assert not one_shell.path(OTHER).exists()
    assert told(one_shell).runs == ()


def test_all_without_a_file_leaves_the_edit_for_a_revert_alone(one_shell: Tree) -> None:
    did(one_shell, "one", undo=(edit(OTHER, None, b"# without nvidia\n"),), check=BARE)
    said = back(one_shell, "one", aims=aims((MAIN, PLAIN, PLAIN)))
    assert "@nothing the run changed no file on this host, it only restarted containerd.service" in said


def test_the_history_is_told_whole_with_its_bytes_and_changes_nothing(tree: Tree) -> None:
    assert told(tree) == HostHistory()
    assert not tree.path("/var/lib/gpuwizard").exists()
    did(tree, "one", *two_files())
    before = sorted((p, p.lstat().st_mtime_ns) for p in (tree.root / "var").rglob("*"))
    done = tree.send(history_script())
    assert sorted((p, p.lstat().st_mtime_ns) for p in (tree.root / "var").rglob("*")) == before
    history = history_in(done.stdout.splitlines())
    (run,) = history.runs
    assert [(row.path, row.before, row.after) for row in run.rows] == [
        (DROP_IN, "absent", sha(NVIDIA)),
        (MAIN, sha(PLAIN), sha(WITH_IMPORTS)),
    ]
    assert run.who == "run one (ada on laptop, since 2026-11-21 01:14:00 UTC)"
    assert {c.raw for c in history.contents.values()} == {NVIDIA, PLAIN, WITH_IMPORTS}
    with pytest.raises(GpuwizardError, match="not tell its runs to the end"):
        history_in(done.stdout.splitlines()[:-1])


def test_a_run_that_is_not_over_is_told_as_such(one_shell: Tree) -> None:
    one_shell.prepare(change_of(*two_files()))  # type: ignore[arg-type]
    assert one_shell.guard("arm").returncode == 0
    (seen,) = told(one_shell).open
    assert (seen.id, seen.state) == ("run-1", "armed")
    assert 100 < seen.seconds <= 200
    assert told(one_shell).runs == ()


def by_hand(text: str) -> str:
    """The commands of the last paragraph that tells of a confirmed run."""
    part = text[text.index("Once it is confirmed") :]
    return "\n".join(line for line in part.splitlines() if line.startswith("  "))


def test_the_text_in_the_run_folder_lets_a_person_put_it_back(tree: Tree) -> None:
    tree.path(MAIN).chmod(0o640)
    quirky = "/etc/containerd/it's.toml"
    did(tree, "one", *two_files(), edit(quirky, None, b"secret = 'pa55word'\n"))
    file = tree.run_folder("one") / "README.txt"
    text = file.read_text()
    assert text.startswith("gpuwizard run one\nby ada on laptop, run one, since 2026-11-21 01:14:00 UTC\n")
    assert f"  writes {DROP_IN}, which did not exist\n  changes {MAIN}\n" in text
    assert "pa55word" not in text
    assert file.stat().st_mode & 0o777 == 0o600
    subprocess.run(by_hand(text), shell=True, check=True, env=tree.env())
    assert tree.path(MAIN).read_bytes() == PLAIN
    assert tree.path(MAIN).stat().st_mode & 0o777 == 0o640
    assert not tree.path(DROP_IN).parent.exists()
    assert not tree.path(quirky).exists()
    assert tree.calls().count("restart containerd.service") == 1
    for file in json.loads((tree.run_folder("one") / "manifest.json").read_text())["files"]:
        subprocess.run(file["restore"], shell=True, check=True)


def test_the_text_of_a_way_back_undoes_that_as_well(one_shell: Tree) -> None:
    did(one_shell, "one", *two_files())
    did(one_shell, "two", restores=("one",), unit=None, check=None)
    text = (one_shell.run_folder("two") / "README.txt").read_text()
    assert "It takes back: one\n" in text
    subprocess.run(by_hand(text), shell=True, check=True, env=one_shell.env())
    assert one_shell.path(MAIN).read_bytes() == WITH_IMPORTS
    assert one_shell.path(DROP_IN).read_bytes() == NVIDIA
