"""What was seen of each node before its runtime restarted, on disk: a run that was cut judges by it when it goes on.

``runs/ID/nodes.jsonl``: one JSON line a look, each on the disk before the restart; the last one of a host counts.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NODES", "NodeLook", "last_look", "write_look"]

NODES = "nodes.jsonl"


@dataclass(frozen=True, slots=True)
class NodeLook:
    """One node: was it Ready, and which pods ran on it, by uid."""

    host: str
    node: str
    ready: bool
    pods: frozenset[str] = frozenset()


def write_look(folder: Path, look: NodeLook) -> None:
    """Add a look to those of the run in `folder`. Raises OSError."""
    entry = {"host": look.host, "node": look.node, "ready": look.ready, "pods": sorted(look.pods)}
    descriptor = os.open(folder / NODES, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:  # the line before may have been cut: a new one stands alone
        file.write(f"\n{json.dumps(entry)}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def last_look(folder: Path, host: str, node: str) -> NodeLook | None:
    """The last look at the `node` of `host`; None when none was written down. A line that was cut is none."""
    try:
        lines = (folder / NODES).read_bytes().splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        try:
            entry = json.loads(line)
            look = NodeLook(entry["host"], entry["node"], entry["ready"] is True, frozenset(entry["pods"]))
        except (ValueError, KeyError, TypeError):
            continue
        if (look.host, look.node) == (host, node):
            return look
    return None
