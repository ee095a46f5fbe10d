"""Processes that a simulated host seems to have: entries below its /proc, where the probe looks for runtimes."""

from collections.abc import Sequence

from gpuwizard.fleet.tree import Tree

__all__ = ["ProcTable"]


class ProcTable:
    """The process entries in one tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def show(self, pid: int, comm: str, arguments: Sequence[str], exe: str, unit: str) -> None:
        """Make the entries of a process of root that belongs to `unit`."""
        folder = f"/proc/{pid}"
        self._tree.write(f"{folder}/comm", f"{comm[:15]}\n".encode(), 0o444)
        self._tree.write(f"{folder}/cmdline", b"".join(a.encode() + b"\0" for a in arguments), 0o444)
        status = f"Name:\t{comm[:15]}\nState:\tS (sleeping)\nPid:\t{pid}\nPPid:\t1\nUid:\t0\t0\t0\t0\nNSpid:\t{pid}\n"
        self._tree.write(f"{folder}/status", status.encode(), 0o444)
        self._tree.write(f"{folder}/cgroup", f"0::/system.slice/{unit}\n".encode(), 0o444)
        self._tree.link(f"{folder}/exe", exe)

    def hide(self, pid: int) -> None:
        """Take the entries away."""
        self._tree.remove_folder(f"/proc/{pid}")
