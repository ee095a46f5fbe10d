"""What a plan does to the pods of a host, as far as it can know (`runtimes.md §1.3, §2.5, §6, §8`)."""

from collections.abc import Iterator, Sequence

from gpuwizard.actions import Action, Restart, WriteFile

__all__ = ["impact"]

_SERVERS = ("k3s", "rke2")


def impact(actions: Sequence[Action], *, control_plane: bool = False) -> Iterator[str]:
    """Sentences: what restarts, whether pods that run keep running, what is away or other then."""
    for action in actions:
        if isinstance(action, Restart):
            yield from _restart(action, control_plane=control_plane)
    for action in actions:
        for change in action.effective if isinstance(action, WriteFile | Restart) else ():
            if change.key == "default handler" and change.after is not None:
                yield f"pods that start afterwards and name no runtime class run under {change.after}"


def _restart(action: Restart, *, control_plane: bool) -> Iterator[str]:
    unit, verb = action.activation.unit, action.activation.verb
    if action.activation.stops_containers:
        yield f"{unit} restarts, and every container of it stops"
    elif verb == "watched":
        yield f"{unit} sees the new file and restarts its runtime by itself; pods that run keep running"
    else:
        yield f"{unit} restarts; pods that run keep running, new ones wait for a moment"
    if control_plane and unit.startswith(_SERVERS):
        yield "the Kubernetes API of this server is away meanwhile"
