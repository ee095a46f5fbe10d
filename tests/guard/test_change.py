"""The host's side of a guarded change, run by three shells in a folder that stands for a host."""

import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gpuwizard.secret import SecretBytes
from gpuwizard.work.guard_scripts import call, host_state
from tests.guard_tree import (
    CHECK,
    DROP_IN,
    MAIN,
    NVIDIA,
    PLAIN,
    SPEED,
    WITH_IMPORTS,
    Tree,
    change_of,
    dump_in,
    edit,
    leftovers,
    missing_shells,
    started,
    two_files,
)

pytestmark = pytest.mark.skipif(bool(missing_shells()), reason=f"shells not installed: {missing_shells()}")


def test_the_way_of_a_change_that_works(tree: Tree) -> None:
    started(tree, *two_files(), reads={MAIN: SecretBytes(PLAIN).sha256})
    watched = tree.guard("watch", "1")
    assert "step replace /etc/containerd/config.toml" in watched.stdout
    assert "step health containerd.service must come up" in watched.stdout
    assert tree.state() == "healthy"
    confirmed = tree.guard("confirm")
    assert confirmed.returncode == 0
    assert host_state(confirmed.stdout.splitlines()).word == "confirmed"  # type: ignore[union-attr]
    assert tree.path(MAIN).read_bytes() == WITH_IMPORTS
    assert tree.path(DROP_IN).read_bytes() == NVIDIA
    assert tree.path(DROP_IN).stat().st_mode & 0o777 == 0o644
    assert leftovers(tree) == []
    assert "stop gpuwizard-revert-run-1.timer" in tree.calls()
    assert not any("daemon-reload" in c for c in tree.calls())
    assert tree.calls().count("restart --no-block containerd.service") == 1


def test_prepare_changes_nothing_and_shows_what_the_runtime_will_see(one_shell: Tree) -> None:
    before = sorted((p, p.lstat().st_mtime_ns) for p in (one_shell.root / "etc").rglob("*"))
    done = one_shell.prepare(change_of(*two_files()))
    assert done.returncode == 0, done.stdout
    assert sorted((p, p.lstat().st_mtime_ns) for p in (one_shell.root / "etc").rglob("*")) == before
    assert dump_in(done.stdout, "before") == PLAIN
    assert dump_in(done.stdout, "after") == WITH_IMPORTS + NVIDIA
    assert not any(c.startswith("restart") for c in one_shell.calls())
    assert not list(one_shell.run_folder().glob("dump*")), "a configuration with passwords stays nowhere"


def test_the_manifest_lets_a_person_put_everything_back(one_shell: Tree) -> None:
    one_shell.path(MAIN).chmod(0o640)
    started(one_shell, *two_files())
    one_shell.wait_for("healthy")
    one_shell.guard("confirm")
    manifest = json.loads((one_shell.run_folder() / "manifest.json").read_text())
    assert [f["path"] for f in manifest["files"]] == [DROP_IN, MAIN]
    for file in reversed(manifest["files"]):
        subprocess.run(file["restore"], shell=True, check=True)
    assert not one_shell.path(DROP_IN).exists()
    assert one_shell.path(MAIN).read_bytes() == PLAIN
    assert one_shell.path(MAIN).stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"reads": {MAIN: "0" * 64}}, "stale"),
        ({"reads": {"/etc/containerd/other.toml": "0" * 64}}, "stale"),
        ({"boot_id": "boot-0"}, "stale"),
    ],
)
def test_facts_that_no_longer_hold_are_refused(one_shell: Tree, values: dict[str, object], word: str) -> None:
    done = one_shell.prepare(change_of(*two_files(), **values))  # type: ignore[arg-type]
    assert done.returncode == 3
    assert f"@refused {word}" in done.stdout
    assert not one_shell.run_folder().exists(), "a refusal leaves nothing behind"


def test_a_file_changed_between_plan_and_apply_is_refused(tree: Tree) -> None:
    tree.path(MAIN).write_bytes(PLAIN + b"# by hand\n")
    done = tree.prepare(change_of(*two_files()))
    assert done.returncode == 3
    assert f"@refused stale {MAIN}" in done.stdout
    assert tree.path(MAIN).read_bytes() == PLAIN + b"# by hand\n"


def test_a_file_changed_between_prepare_and_the_write_stops_the_change(one_shell: Tree) -> None:
    assert one_shell.prepare(change_of(*two_files())).returncode == 0
    one_shell.path(MAIN).write_bytes(PLAIN + b"# by hand\n")
    one_shell.guard("arm")
    one_shell.guard("begin")
    assert one_shell.wait_for("reverted", "revert-failed") == "reverted"
    assert one_shell.path(MAIN).read_bytes() == PLAIN + b"# by hand\n"
    assert not one_shell.path(DROP_IN).exists()
    assert not any(c.startswith("restart") for c in one_shell.calls()), "nothing had been activated"
    status = host_state(one_shell.guard("status").stdout.splitlines())
    assert status is not None
    assert "changed by somebody else" in status.failure


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ((edit(MAIN, PLAIN, PLAIN + b"SYNTAX\n"),), "expected newline"),
        ((edit(MAIN, PLAIN, PLAIN + NVIDIA.replace(b"nvidia", b"other")),), "the handler nvidia is not there"),
        ((edit(MAIN, PLAIN, (PLAIN + NVIDIA).replace(b'"runc"\n', b'"gone"\n', 1)),), "gone"),
        # the second prefix is good, the first one alone would take the node down
        (
            (
                edit(MAIN, PLAIN, WITH_IMPORTS.replace(b'= "runc"\n', b'= "nvidia"\n')),
                edit(DROP_IN, None, NVIDIA),
            ),
            "the default handler nvidia is not defined",
        ),
    ],
)
def test_the_hosts_own_runtime_refuses(one_shell: Tree, files: tuple[object, ...], says: str) -> None:
    done = one_shell.prepare(change_of(*files))  # type: ignore[arg-type]
    assert done.returncode == 3
    assert "@refused judge" in done.stdout
    assert says in done.stdout
    assert one_shell.path(MAIN).read_bytes() == PLAIN


@pytest.mark.parametrize(
    ("poison", "why"),
    [
        (b"# BREAKCRI\n", "its CRI plugin is error"),
        (b"# LATECRI\n", "went from ok to error"),
        (b"# CRASH\n", "did not stay up"),
    ],
)
def test_a_runtime_that_is_not_well_gets_the_exact_bytes_back(tree: Tree, poison: bytes, why: str) -> None:
    main = tree.path(MAIN)
    main.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(main, 12, 34)
    os.utime(main, (1_600_000_000, 1_600_000_000))
    before = main.stat()
    started(tree, edit(DROP_IN, None, NVIDIA), edit(MAIN, PLAIN, WITH_IMPORTS + poison), hold=10)
    assert tree.wait_for("reverted", "revert-failed", "healthy") == "reverted"
    after = main.stat()
    assert main.read_bytes() == PLAIN
    assert (after.st_mode, after.st_uid, after.st_gid, after.st_mtime) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
        before.st_mtime,
    )
    assert not tree.path(DROP_IN).parent.exists(), "the folder was ours as well"
    status = host_state(tree.guard("status").stdout.splitlines())
    assert status is not None
    assert why in status.failure
    assert leftovers(tree) == []
    assert tree.calls().count("restart --no-block containerd.service") == 2


def test_a_change_keeps_mode_owner_and_the_symlink(tree: Tree) -> None:
    real = tree.path("/srv/containerd/real.toml")
    real.parent.mkdir(parents=True)
    real.write_bytes(PLAIN)
    real.chmod(0o600)
    tree.path(MAIN).unlink()
    tree.path(MAIN).symlink_to("../../srv/containerd/real.toml")
    started(tree, edit(MAIN, PLAIN, PLAIN + NVIDIA))
    assert tree.wait_for("healthy", "reverted") == "healthy"
    assert tree.path(MAIN).is_symlink()
    assert real.read_bytes() == PLAIN + NVIDIA
    assert real.stat().st_mode & 0o777 == 0o600
    manifest = json.loads((tree.run_folder() / "manifest.json").read_text())
    assert manifest["files"][0]["symlink_to"] == "../../srv/containerd/real.toml"
    tree.guard("undo", "the test says so")
    assert tree.wait_for("reverted") == "reverted"
    assert tree.path(MAIN).is_symlink()
    assert real.read_bytes() == PLAIN


def test_a_link_out_of_the_tree_is_never_followed(one_shell: Tree, tmp_path: Path) -> None:
    outside = tmp_path / "real-machine.toml"
    outside.write_bytes(PLAIN)
    one_shell.path(MAIN).unlink()
    one_shell.path(MAIN).symlink_to(outside)
    done = one_shell.prepare(change_of(edit(MAIN, PLAIN, PLAIN + NVIDIA)))
    assert "@refused unsafe-path" in done.stdout


@pytest.mark.parametrize("trap", ["hard link", "writable by all", "folder"])
def test_paths_that_are_not_safe_to_replace_are_refused(one_shell: Tree, trap: str) -> None:
    main = one_shell.path(MAIN)
    match trap:
        case "hard link":
            os.link(main, main.with_name("other"))
        case "writable by all":
            main.parent.chmod(0o777)
        case _:
            main.unlink()
            main.mkdir()
    done = one_shell.prepare(change_of(edit(MAIN, PLAIN, PLAIN + NVIDIA)))
    assert done.returncode == 3, done.stdout
    assert "@refused unsafe-path" in done.stdout


def test_the_caller_asks_a_host_that_knows_nothing(one_shell: Tree) -> None:
    state = host_state(one_shell.send(call("status", "run-7")).stdout.splitlines())
    assert state is not None
    assert state.word == "none"


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9, 0.999])
def test_a_guard_cut_on_its_way_runs_nothing(one_shell: Tree, cut: float) -> None:
    from gpuwizard.work.guard_scripts import stored_guard

    whole = stored_guard()
    piece = whole[: int(len(whole) * cut)]
    done = subprocess.run(
        [one_shell.root / "bin/sh", "-s", "prepare", "run-1"], input=piece, env=one_shell.env(), capture_output=True
    )
    assert done.returncode != 0
    assert not one_shell.path("/var/lib/gpuwizard").exists()


def test_waiting_is_told_in_host_seconds(one_shell: Tree) -> None:
    began = time.monotonic()
    started(one_shell, *two_files(), hold=20)
    one_shell.wait_for("healthy")
    assert time.monotonic() - began < 20, f"the clock of the tree runs {SPEED} times faster"
    assert " wait 1" in (one_shell.run_folder() / "log").read_text()


def test_extended_attributes_go_with_the_file_there_and_back(one_shell: Tree) -> None:
    main = one_shell.path(MAIN)
    try:
        os.setxattr(main, "user.owner", b"somebody")
    except OSError as error:
        pytest.skip(f"the file system of this machine has no extended attributes: {error.strerror}")
    started(one_shell, *two_files())
    one_shell.wait_for("healthy")
    assert main.read_bytes() == WITH_IMPORTS
    assert os.getxattr(main, "user.owner") == b"somebody", "of the new bytes as well"
    one_shell.guard("undo", "the test wants it")
    one_shell.wait_for("reverted")
    assert main.read_bytes() == PLAIN
    assert os.getxattr(main, "user.owner") == b"somebody"


OPTIONS = ("nvidia.BinaryName=/usr/bin/nvidia-container-runtime", "nvidia.SystemdCgroup=false")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (OPTIONS, ""),
        (("nvidia.BinaryName=/opt/other",), "nvidia.BinaryName is /usr/bin/nvidia-container-runtime, not /opt/other"),
        (("nvidia.SystemdCgroup=true",), "the handler nvidia.SystemdCgroup is not true: it is not set"),
    ],
)
def test_the_options_of_the_handler_are_looked_at(tree: Tree, options: tuple[str, ...], says: str) -> None:
    done = tree.prepare(change_of(*two_files(), check=replace(CHECK, options=options)))
    assert (done.returncode == 3) is bool(says), done.stdout
    assert says in done.stdout


@pytest.mark.parametrize(("binary", "word"), [("/usr/bin/nvidia-container-runtime", "healthy"), ("/o", "reverted")])
def test_an_option_that_only_the_running_configuration_has_otherwise_is_no_success(
    one_shell: Tree, binary: str, word: str
) -> None:
    """K3s renders the file that counts itself, when it starts: nothing could be judged before."""
    path = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml"
    rendered = one_shell.path(path)
    rendered.parent.mkdir(parents=True)
    rendered.write_bytes(PLAIN + NVIDIA)
    check = replace(CHECK, binary=None, rendered=path, options=(f"nvidia.BinaryName={binary}",))
    started(one_shell, edit(DROP_IN, None, NVIDIA), check=check)
    assert one_shell.wait_for("healthy", "reverted") == word
    if word == "reverted":
        assert "nvidia.BinaryName is /usr/bin/nvidia-container-runtime, not /o" in one_shell.guard("status").stdout


def test_the_judge_runs_the_runtime_with_its_real_arguments(one_shell: Tree) -> None:
    process = one_shell.path("/proc/1000")
    process.mkdir()
    words = ["/usr/bin/containerd", "--config", MAIN, "--log-level", "warn"]
    (process / "cmdline").write_bytes("".join(f"{w}\0" for w in words).encode())
    (process / "comm").write_text("containerd\n")
    kept = one_shell.root / "bin/containerd"
    kept.rename(one_shell.root / "bin/containerd-real")
    kept.write_text('#!/bin/sh\necho "$*" >>"$GPUWIZARD_FLEET_ROOT/standin/asked"\nexec containerd-real "$@"\n')
    kept.chmod(0o755)
    done = one_shell.prepare(change_of(*two_files()))
    assert done.returncode == 0, done.stdout
    asked = set((one_shell.root / "standin/asked").read_text().splitlines())
    assert asked == {f"--config {one_shell.root}{MAIN} --log-level warn config dump"}


def test_a_change_that_is_begun_twice_is_done_once(one_shell: Tree) -> None:
    """The answer to the first call may have been lost."""
    started(one_shell, *two_files())
    again = one_shell.guard("begin")
    assert again.returncode == 0, again.stdout
    assert one_shell.wait_for("healthy", "reverted") == "healthy"
    later = one_shell.guard("begin")
    assert (later.returncode, later.stdout.split()[:2]) == (0, ["@state", "healthy"])
    restarts = [call for call in one_shell.calls() if call.startswith("restart ")]
    assert len(restarts) == 1
