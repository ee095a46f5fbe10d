"""How a guarded change is undone or confirmed: by timer, at boot, on request, and never both."""

import os
import signal
import subprocess
import time
from dataclasses import replace

import pytest

from gpuwizard.work.guard_scripts import host_state
from tests.guard_tree import (
    CHECK,
    DROP_IN,
    MAIN,
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


def test_foreign_bytes_are_left_alone_and_reported(tree: Tree) -> None:
    started(tree, *two_files())
    tree.wait_for("healthy")
    tree.path(MAIN).write_bytes(b"version = 2\n# somebody else\n")
    tree.guard("undo", "node not ready")
    assert tree.wait_for("reverted") == "reverted"
    assert tree.path(MAIN).read_bytes() == b"version = 2\n# somebody else\n"
    assert not tree.path(DROP_IN).exists()
    status = host_state(tree.guard("status").stdout.splitlines())
    assert status is not None
    assert "node not ready" in status.reason
    assert f"foreign change left alone: {MAIN}" in status.reason


def test_without_a_confirmation_the_host_reverts_by_itself(tree: Tree) -> None:
    started(tree, *two_files(), timeout=30)
    assert tree.wait_for("reverted") == "reverted"
    assert tree.path(MAIN).read_bytes() == PLAIN
    assert not tree.path(DROP_IN).exists()
    assert leftovers(tree) == []
    assert tree.guard("confirm").returncode != 0, "what was reverted cannot be confirmed"
    assert tree.state() == "reverted"


def test_confirm_and_revert_race_and_exactly_one_wins(tree: Tree) -> None:
    started(tree, *two_files())
    tree.wait_for("healthy")
    script = str(tree.run_folder() / "guard.sh")
    shell = str(tree.root / "bin/sh")
    racers = [
        subprocess.Popen([shell, script, *role], env=tree.env(), stdout=subprocess.DEVNULL)
        for role in (
            ("confirm", "run-1"),
            ("revert", "run-1", "race"),
            ("confirm", "run-1"),
            ("revert", "run-1", "race"),
        )
    ]
    for racer in racers:
        racer.wait(30)
    state = tree.wait_for("confirmed", "reverted")
    expected = WITH_IMPORTS if state == "confirmed" else PLAIN
    assert tree.path(MAIN).read_bytes() == expected
    words = [line.split()[2] for line in (tree.run_folder() / "log").read_text().splitlines() if " state " in line]
    assert len({"confirmed", "reverted"} & set(words)) == 1


def test_a_confirmed_run_is_not_reverted_by_its_timer(one_shell: Tree) -> None:
    started(one_shell, *two_files())
    one_shell.wait_for("healthy")
    assert one_shell.guard("confirm").returncode == 0
    one_shell.guard("revert", "the timer that was not stopped")
    assert one_shell.state() == "confirmed"
    assert one_shell.path(MAIN).read_bytes() == WITH_IMPORTS


def test_nothing_is_written_once_a_revert_has_begun(one_shell: Tree) -> None:
    assert one_shell.prepare(change_of(*two_files())).returncode == 0
    one_shell.guard("arm")
    one_shell.guard("revert", "before the change began")
    assert one_shell.state() == "reverted"
    one_shell.guard("go")
    assert one_shell.path(MAIN).read_bytes() == PLAIN
    assert not one_shell.path(DROP_IN).exists()


def test_a_unit_that_restarted_after_it_was_healthy_is_not_confirmed(one_shell: Tree) -> None:
    started(one_shell, *two_files())
    one_shell.wait_for("healthy")
    (one_shell.root / "standin/units/containerd.service/pid").write_text("9999\n")
    assert one_shell.guard("confirm").returncode != 0
    assert one_shell.wait_for("reverted") == "reverted"


def test_the_boot_unit_restores_files_and_calls_no_systemctl(tree: Tree) -> None:
    started(tree, *two_files())
    tree.wait_for("healthy")
    unit = (tree.root / "etc/systemd/system/gpuwizard-boot-run-1.service").read_text()
    for line in (
        f"ConditionPathExists={tree.run_folder()}/armed",
        "TimeoutStartSec=60",
        "Before=containerd.service",
        "WantedBy=multi-user.target",
    ):
        assert line in unit
    assert "RequiredBy" not in unit
    assert f'"{tree.path(MAIN).parent}"' in next(line for line in unit.splitlines() if "RequiresMountsFor" in line)
    calls = len(tree.calls())
    tree.guard("boot")
    assert tree.state() == "healthy", "the same boot: somebody started the unit by hand"
    (tree.root / "proc/sys/kernel/random/boot_id").write_text("boot-2\n")
    tree.guard("boot")
    assert tree.state() == "reverted"
    assert tree.calls()[calls:] == []
    assert tree.path(MAIN).read_bytes() == PLAIN
    assert not tree.path(DROP_IN).exists()
    assert leftovers(tree) == []
    status = host_state(tree.guard("status").stdout.splitlines())
    assert status is not None
    assert "restarted before the change was confirmed" in status.reason


def test_a_restart_only_change_names_the_edit_of_its_revert(one_shell: Tree) -> None:
    config = "/etc/rancher/k3s/config.yaml.d/50-gpuwizard.yaml"
    rendered = one_shell.path("/var/lib/rancher/k3s/agent/etc/containerd/config.toml")
    rendered.parent.mkdir(parents=True)
    undo = edit(config, None, b"default-runtime: runc\n")
    check = replace(
        CHECK, binary=None, config_path=None, rendered="/var/lib/rancher/k3s/agent/etc/containerd/config.toml"
    )
    rendered.write_bytes(PLAIN)
    started(one_shell, undo=(undo,), check=check)
    assert one_shell.wait_for("healthy", "reverted", "revert-failed") == "reverted"
    status = host_state(one_shell.guard("status").stdout.splitlines())
    assert status is not None
    assert "the handler nvidia is not there" in status.failure
    assert one_shell.path(config).read_bytes() == b"default-runtime: runc\n"


def test_without_an_armed_revert_nothing_begins(one_shell: Tree) -> None:
    assert one_shell.prepare(change_of(*two_files())).returncode == 0
    one_shell.environment["STANDIN_NO_RUN"] = "1"
    armed = one_shell.guard("arm")
    assert armed.returncode == 3
    assert "@refused not-armed" in armed.stdout
    assert leftovers(one_shell) == []
    assert one_shell.guard("begin").returncode == 1
    assert one_shell.path(MAIN).read_bytes() == PLAIN


@pytest.mark.parametrize("everything", [False, True], ids=["its shell", "all of it"])
def test_arming_that_is_cut_off_leaves_nothing_or_a_revert(one_shell: Tree, everything: bool) -> None:
    assert one_shell.prepare(change_of(*two_files())).returncode == 0
    command = [str(one_shell.root / "bin/sh"), str(one_shell.run_folder() / "guard.sh"), "arm", "run-1"]
    slow = {**one_shell.env(), "STANDIN_SLOW_RUN": "10"}
    arming = subprocess.Popen(command, env=slow, stdout=subprocess.DEVNULL, start_new_session=True)
    while not (one_shell.run_folder() / "armed").exists():
        time.sleep(0.01)
    (os.killpg if everything else os.kill)(arming.pid, signal.SIGKILL)
    arming.wait()
    undone = one_shell.guard("undo", "interrupted")
    word = host_state(undone.stdout.splitlines()).word  # type: ignore[union-attr]
    if word != "none":
        assert one_shell.wait_for("reverted") == "reverted"
    assert leftovers(one_shell) == []
    assert one_shell.path(MAIN).read_bytes() == PLAIN
    assert one_shell.run_folder().exists() == (word != "none"), "what was never armed leaves no folder either"


def test_a_run_that_is_rolled_back_later_is_byte_exact(tree: Tree) -> None:
    main = tree.path(MAIN)
    main.chmod(0o604)
    os.utime(main, (1_500_000_000, 1_500_000_000))
    started(tree, *two_files())
    tree.wait_for("healthy")
    tree.guard("confirm")
    back = change_of(run_id="run-2", restores=("run-1",), unit=None, check=None)
    done = tree.prepare(back)
    assert done.returncode == 0, done.stdout + done.stderr
    for role in ("arm", "begin"):
        assert tree.guard(role, run_id="run-2").returncode == 0
    assert tree.wait_for("healthy", "reverted", run_id="run-2") == "healthy"
    assert tree.guard("confirm", run_id="run-2").returncode == 0
    assert main.read_bytes() == PLAIN
    assert main.stat().st_mode & 0o777 == 0o604
    assert main.stat().st_mtime == 1_500_000_000
    assert not tree.path(DROP_IN).parent.exists(), "the folder was the run's as well"
    again = tree.prepare(change_of(run_id="run-3", restores=("run-1",), unit=None, check=None))
    assert "@nothing" in again.stdout
    assert not tree.run_folder("run-3").exists()


def test_a_rollback_leaves_what_somebody_else_changed_since(one_shell: Tree) -> None:
    started(one_shell, *two_files())
    one_shell.wait_for("healthy")
    one_shell.guard("confirm")
    one_shell.path(MAIN).write_bytes(WITH_IMPORTS + b"# mine\n")
    done = one_shell.prepare(change_of(run_id="run-2", restores=("run-1",), unit=None, check=None))
    assert done.returncode == 3
    assert f"@refused foreign {MAIN}" in done.stdout


def test_a_rollback_of_an_unknown_run_is_refused(one_shell: Tree) -> None:
    done = one_shell.prepare(change_of(run_id="run-2", restores=("run-9",), unit=None, check=None))
    assert "@refused unknown-run" in done.stdout


def test_two_reverts_at_once_do_the_work_once(one_shell: Tree) -> None:
    started(one_shell, *two_files())
    one_shell.wait_for("healthy")
    command = [str(one_shell.root / "bin/sh"), str(one_shell.run_folder() / "guard.sh"), "revert", "run-1", "twice"]
    both = [subprocess.Popen(command, env=one_shell.env()) for _ in range(2)]
    for one in both:
        one.wait(30)
    assert one_shell.state() == "reverted"
    assert one_shell.calls().count("restart --no-block containerd.service") == 2


def test_what_somebody_else_wrote_during_the_health_checks_is_not_confirmed(tree: Tree) -> None:
    started(tree, *two_files())
    tree.wait_for("healthy")
    tree.path(DROP_IN).write_bytes(b"# somebody else\n")
    assert tree.guard("confirm").returncode != 0
    assert tree.wait_for("reverted") == "reverted"
    assert tree.path(MAIN).read_bytes() == PLAIN
    assert tree.path(DROP_IN).read_bytes() == b"# somebody else\n"
    status = host_state(tree.guard("status").stdout.splitlines())
    assert status is not None
    assert f"{DROP_IN} was changed by somebody else after it was written" in status.reason


def test_a_run_that_died_while_it_was_armed_is_cleared_away_at_the_next_boot(tree: Tree) -> None:
    """Power was lost between the mark, the boot unit and the state: nothing was changed, nothing may stay."""
    tree.prepare(change_of(*two_files()))  # type: ignore[arg-type]
    run = tree.run_folder()
    unit = tree.root / "etc/systemd/system/gpuwizard-boot-run-1.service"
    unit.parent.mkdir(parents=True, exist_ok=True)
    unit.write_text("[Unit]\n")
    (run / "armed").write_text("1\n")
    (run / "boot").write_text("boot-1\n")
    (tree.root / "proc/sys/kernel/random/boot_id").write_text("boot-2\n")
    tree.guard("boot")
    assert tree.state() == "prepared"
    assert leftovers(tree) == []
    assert tree.path(MAIN).read_bytes() == PLAIN


def test_a_host_that_was_rebooted_before_it_was_armed_is_stale(tree: Tree) -> None:
    boot = tree.root / "proc/sys/kernel/random/boot_id"
    done = tree.prepare(change_of(*two_files(), boot_id=boot.read_text().strip()))  # type: ignore[arg-type]
    assert done.returncode == 0, done.stdout
    boot.write_text("boot-2\n")
    done = tree.guard("arm")
    assert done.returncode == 3
    assert "@refused stale the host was restarted since the plan was made" in done.stdout
    assert tree.state() == "abandoned"
    assert leftovers(tree) == []


def test_the_next_run_sweeps_away_what_a_run_that_was_never_armed_left(tree: Tree) -> None:
    started(tree, *two_files())
    tree.wait_for("healthy")
    tree.guard("confirm")
    dead = tree.run_folder("run-0")
    (dead / "judge").mkdir(parents=True)
    (dead / "params").write_text("unit=containerd.service\n")
    (dead / "judge/config.toml").write_text("password = 1\n")
    done = tree.prepare(change_of(edit(MAIN, WITH_IMPORTS, WITH_IMPORTS + b"# more\n"), run_id="run-2"))
    assert done.returncode == 0, done.stdout
    assert not dead.exists()
    assert tree.state() == "confirmed", "a run that changed something keeps its record"


def test_space_is_held_back_for_the_end_of_a_run(tree: Tree) -> None:
    started(tree, *two_files())
    tree.wait_for("healthy")
    assert (tree.run_folder() / "reserve").stat().st_size == 256 * 1024
    tree.guard("confirm")
    assert not (tree.run_folder() / "reserve").exists()
