"""The fleet itself stays inside a host's tree, whatever symlinks a script has put there."""

import os
from pathlib import Path

import pytest

from gpuwizard.fleet.tree import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root = tmp_path / "host"
    root.mkdir()
    return Tree(root)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file").write_text("untouched")
    return folder


def test_files_are_written_and_read_by_the_hosts_own_paths(tree: Tree) -> None:
    tree.write("/etc/containerd/config.toml", b"version = 2\n", 0o640)
    assert tree.read("/etc/containerd/config.toml") == b"version = 2\n"
    assert (tree.root / "etc/containerd/config.toml").stat().st_mode & 0o777 == 0o640
    assert tree.read("/etc/containerd") is None
    assert tree.read("/nowhere/file") is None
    assert tree.files("/etc") == {"/etc/containerd/config.toml": b"version = 2\n"}


def test_absolute_symlinks_mean_the_tree(tree: Tree) -> None:
    tree.write("/usr/lib/os-release", b"ID=debian\n")
    tree.link("/etc/os-release", "/usr/lib/os-release")
    tree.link("/etc/with-root", f"{tree.root}/usr/lib/os-release")
    assert tree.read("/etc/os-release") == b"ID=debian\n"
    assert tree.read("/etc/with-root") == b"ID=debian\n"


@pytest.mark.parametrize("target", ["{outside}/file", "../../../../../../../../../../../..{outside}/file"])
def test_no_symlink_leads_out(tree: Tree, outside: Path, target: str) -> None:
    tree.make_folder("/etc")
    (tree.root / "etc/file").symlink_to(target.format(outside=outside))
    (tree.root / "etc/folder").symlink_to(str(Path(target.format(outside=outside)).parent))
    assert tree.read("/etc/file") is None
    assert tree.read("/etc/folder/file") is None
    assert tree.names("/etc/folder") == []
    assert not tree.chmod("/etc/file", 0o777)
    for path in ("/etc/file", "/etc/folder/new"):
        with pytest.raises(OSError, match="/etc"):
            tree.write(path, b"written")
    assert (outside / "file").read_text() == "untouched"
    assert sorted(p.name for p in outside.iterdir()) == ["file"]


def test_dots_stop_at_the_root(tree: Tree, outside: Path) -> None:
    tree.write("/../../../etc/motd", b"hello")
    assert (tree.root / "etc/motd").read_bytes() == b"hello"
    assert tree.read(f"/..{outside}/file") is None


def test_a_loop_of_symlinks_and_a_pipe_are_no_files(tree: Tree) -> None:
    tree.link("/one", "/two")
    tree.link("/two", "/one")
    assert tree.read("/one") is None
    os.mkfifo(tree.root / "pipe")
    assert tree.read("/pipe") is None


def test_folders_are_removed_with_what_is_in_them_and_links_are_not_followed(tree: Tree, outside: Path) -> None:
    tree.write("/proc/12/comm", b"containerd\n")
    (tree.root / "proc/12/cwd").symlink_to(outside)
    tree.remove_folder("/proc/12")
    assert not tree.exists("/proc/12")
    assert (outside / "file").exists()
