"""What a plan does to the pods of a host, as far as it can know (`runtimes.md §1.3, §2.5, §6, §8`)."""

from collections.abc import Iterator, Sequence

from gpuwizard.actions import Action, Restart, WriteFile
from gpuwizard.clean import clean_line

__all__ = ["impact"]

_SERVERS = ("k3s", "rke2")


def impact(actions: Sequence[Action], *, control_plane: bool = False) -> Iterator[str]:
    """Sentences: what restarts, whether pods that run keep running, what is away or other then."""
    who, named = "pods", "runtime class"
    for action in actions:
        if isinstance(action, Restart):
            if action.check.kind == "docker":
                who, named = "containers", "runtime"
            yield from _restart(action, who, control_plane=control_plane)
    for action in actions:
        for change in action.effective if isinstance(action, WriteFile | Restart) else ():
            if change.key == "default handler" and change.after is not None:
                default = clean_line(change.after)
                yield f"{who} that start afterwards and name no {named} run under {default}"


def _restart(action: Restart, who: str, *, control_plane: bool) -> Iterator[str]:
    unit = action.activation.unit
    if action.activation.stops_containers:
        yield f"{unit} restarts, and every container of it stops"
    elif action.activation.verb == "watched":
        yield f"{unit} sees the new file and restarts its runtime by itself; {who} that run keep running"
    else:
        yield f"{unit} restarts; {who} that run keep running, new ones wait for a moment"
    if control_plane and unit.startswith(_SERVERS):
        yield "the Kubernetes API of this server is away meanwhile"
