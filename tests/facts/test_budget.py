"""What one look may cost a host: at most 100 processes, counted exactly in a pid namespace of its own."""

import functools
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuwizard.facts.parse import parse_probe
from gpuwizard.remote.script import render
from gpuwizard.work.probe import probe_script
from tests.facts.busy_hosts import crowded_node, k3s_node, kubeadm_node
from tests.probe_tree import SHELLS, Tree

LIMIT = 100
_IN_A_NAMESPACE = (shutil.which("unshare") or "unshare", "--pid", "--fork", "--kill-child", "--")
HOSTS = {"kubeadm": kubeadm_node, "k3s": k3s_node, "two containerds and Docker": crowded_node}


@functools.cache
def why_not() -> str | None:
    """Why processes cannot be counted here; None when they can."""
    if not shutil.which("unshare"):
        return "there is no unshare"
    done = subprocess.run([*_IN_A_NAMESPACE, "true"], capture_output=True, text=True, check=False)
    return f"no pid namespace of our own: {done.stderr.strip()}" if done.returncode else None


@pytest.fixture(autouse=True)
def _can_count() -> None:
    if why := why_not():
        assert os.environ.get("CI", "").lower() in ("", "0", "false") or os.geteuid(), why
        pytest.skip(why)


def counted(tree: Tree, script: bytes) -> tuple[int, bytes]:
    """How many processes `script` starts on the host, itself included, and what it prints.

    In a new namespace they are numbered from 1, which is the shell around it; the last one says how far they got.
    """
    file = tree.root / "script"
    file.write_bytes(script)
    command = shlex.join(tree.command())
    around = f"{command} <{shlex.quote(str(file))}; exec 2>/dev/null; sh -c 'echo; echo last $$'"
    done = subprocess.run(
        [*_IN_A_NAMESPACE, "/bin/sh", "-c", around], env=tree.environment(), capture_output=True, timeout=60, check=True
    )
    output, _, last = done.stdout.rpartition(b"\nlast ")
    return int(last) - 2, output.partition(b"TOKEN123\n")[2]


@pytest.mark.parametrize("login", ["root", "sudo"])
@pytest.mark.parametrize("build", HOSTS.values(), ids=HOSTS)
def test_a_probe_starts_few_processes(build: Callable[[Tree], None], login: str, tmp_path: Path) -> None:
    tree = Tree(tmp_path / "host")
    build(tree)
    if login == "sudo":
        tree.login(1000, "admin")
        tree.sudo()
    processes, raw = counted(tree, render(probe_script(), "TOKEN123"))
    facts = parse_probe(raw).facts
    assert len(facts.gpus) == 8
    assert facts.runtimes
    assert facts.kubernetes.flavour in ("kubeadm", "k3s")
    assert 20 < processes <= LIMIT


@pytest.mark.parametrize("shell", SHELLS)
def test_no_shell_starts_more(shell: str, tmp_path: Path) -> None:
    tree = Tree(tmp_path / "host", shell)
    crowded_node(tree)
    processes, _ = counted(tree, render(probe_script(), "TOKEN123"))
    assert 20 < processes <= LIMIT


def test_the_count_is_exact(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "host")
    tree.tool("tool", ":")
    assert counted(tree, b"echo TOKEN123\n:\n") == (1, b"")
    assert counted(tree, b"echo TOKEN123\ntool; x=$(tool); tool | tool\n") == (5, b"")
