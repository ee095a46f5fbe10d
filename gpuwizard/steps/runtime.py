"""What a flavour wants for one host, as actions in order: the files, then the restart."""

from collections.abc import Iterator
from typing import assert_never

from gpuwizard.actions import Activation, FileChange, HostAction, HostChange, Restart, WriteFile

__all__ = ["actions"]


def actions(name: str, change: HostChange) -> Iterator[HostAction]:
    """The actions of host `name`.

    The announced effective difference stands on the action that brings it about: the last file, or the restart
    where the runtime renders its own file.
    """
    on_restart = change.prediction is not None or not change.files
    for number, file in enumerate(change.files, start=1):
        last = number == len(change.files) and not on_restart
        yield WriteFile(f"{name}:file:{file.path}", file, _summary(file), change.effective if last else ())
    if change.activation is not None:
        assert change.check is not None
        yield Restart(
            f"{name}:restart:{change.activation.unit}",
            change.activation,
            change.check,
            activation_words(change.activation),
            change.effective if on_restart else (),
            change.prediction,
            change.undo,
        )


def activation_words(activation: Activation) -> str:
    """How a change is made live, in the words of a summary."""
    match activation.verb:
        case "restart":
            return f"restart {activation.unit}"
        case "snap-restart":
            return f"snap restart {activation.snap or activation.unit}"
        case "watched":
            return f"wait until {activation.unit} restarts its runtime by itself"
        case _:
            assert_never(activation.verb)


def _summary(file: FileChange) -> str:
    if file.before is None:
        return f"write {file.path}"
    return f"remove {file.path}" if file.after is None else f"change {file.path}"
