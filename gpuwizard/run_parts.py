"""What of a plan is written down about the files of its hosts, and where each host keeps the copies."""

from collections.abc import Iterable
from typing import Any

from gpuwizard.actions import Action, FileChange, Restart, WriteFile
from gpuwizard.plan.model import HostPlan
from gpuwizard.run_record import RunPart
from gpuwizard.secret import SecretBytes

__all__ = ["files_of", "part_id", "part_in", "parts_of"]

Json = dict[str, Any]


def files_of(actions: Iterable[Action]) -> list[Json]:
    """The files of these actions by their hashes."""
    changes = (a.change for a in actions if isinstance(a, WriteFile))
    return [{"path": c.path, "before": _sha(c.before), "after": _sha(c.after)} for c in changes]


def part_in(data: Json) -> RunPart:
    """Read what `parts_of` wrote."""
    rows = {key: tuple((path, before, after) for path, before, after in data[key]) for key in ("files", "undo")}
    return RunPart(data["id"], unit=data["unit"], verb=data["verb"], snap=data["snap"], **rows)


def parts_of(run_id: str, host: HostPlan) -> list[Json]:
    """Where the copies of this host's files will lie: one run folder for each guarded change."""
    restart = next((a for a in host.actions if isinstance(a, Restart)), None)
    rows = _rows(a.change for a in host.actions if isinstance(a, WriteFile))
    changes = [(rows, _rows(restart.undo) if restart else [], restart.activation if restart else None)]
    if host.takes_back:
        changes = [
            ([[path, before, after] for before, after, path in back.aims], [], back.activation)
            for back in host.takes_back
        ]
    return [
        {
            "id": part_id(run_id, number),
            "files": files,
            "undo": undo,
            "unit": activation.unit if activation else None,
            "verb": activation.verb if activation else "restart",
            "snap": activation.snap if activation else None,
        }
        for number, (files, undo, activation) in enumerate(changes, start=1)
        if files or undo or activation
    ]


def part_id(run_id: str, number: int) -> str:
    """The name of the host's run folder for the guarded change of that number, of a run that needs more than one."""
    return run_id if number == 1 else f"{run_id}-{number}"


def _rows(changes: Iterable[FileChange]) -> list[list[str]]:
    return [[c.path, _sha(c.before), _sha(c.after)] for c in changes]


def _sha(content: SecretBytes | None) -> str:
    return "absent" if content is None else content.sha256
