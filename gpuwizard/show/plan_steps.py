"""The steps of a plan as all front ends show them: a line of words, the diff, and what else is to be said."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gpuwizard.actions import Action, ApplyObject, LabelNode, Restart, WriteFile
from gpuwizard.clean import clean_line
from gpuwizard.plan.diff import DiffLine, file_diff, text_diff
from gpuwizard.plan.groups import HostGroup
from gpuwizard.plan.model import ClusterPlan
from gpuwizard.show.words import count, folded

__all__ = ["Step", "cluster_steps", "group_state", "group_steps", "group_title"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `path` tells the language of the diff; `notes` are sentences below it."""

    summary: str
    path: str = ""
    diff: tuple[DiffLine, ...] = ()
    notes: tuple[str, ...] = ()


def group_title(group: HostGroup) -> str:
    """``gpu[01-12]``, or the one host's name."""
    return clean_line(folded(group.names), 4000)


def group_state(group: HostGroup) -> str:
    """``12 hosts, the same change``, ``3 hosts: the same refusal``, ``refused``, ``nothing to do``, ``3 actions``."""
    hosts, many = count(len(group.hosts), "host"), len(group.hosts) > 1
    if group.first.refusals:
        return f"{hosts}: the same refusal" if many else "refused"
    if not group.first.actions:
        return f"{hosts}, nothing to do" if many else "nothing to do"
    if many:
        return f"{hosts}, the same change"
    return count(len(group.first.actions), "action")


def group_steps(group: HostGroup) -> Iterator[Step]:
    """What is done on each of these hosts, in order; the labels of their nodes at last, or first where they go."""
    gone = [label for label in group.labels if label.after is None]
    yield from _together(gone)
    for action in group.actions:
        yield _step(action)
    yield from _together([label for label in group.labels if label.after is not None])


def _together(group: Sequence[LabelNode]) -> Iterator[Step]:
    """Labels that are set, or go, on many nodes in the same way."""
    alike: dict[tuple[str, str | None, str | None], list[LabelNode]] = {}
    for label in group:
        alike.setdefault((label.key, label.before, label.after), []).append(label)
    for labels in alike.values():
        yield _labels(labels)


def cluster_steps(cluster: ClusterPlan) -> Iterator[Step]:
    """What is done through the Kubernetes API."""
    for action in cluster.actions:
        yield _step(action)


def _step(action: Action) -> Step:
    match action:
        case WriteFile():
            return Step(action.summary, action.change.path, file_diff(action.change))
        case Restart():
            return Step(action.summary, notes=(action.prediction,) if action.prediction else ())
        case LabelNode():
            return _labels((action,))
        case ApplyObject():
            notes = (f"not checked by the server: {action.unchecked}",) if action.unchecked else ()
            return Step(action.summary, "object.yaml", text_diff(action.before, action.after, str(action.key)), notes)


def _labels(labels: Sequence[LabelNode]) -> Step:
    """Labels of the same key and value, each on its own node."""
    first = labels[0]
    lines: list[DiffLine] = []
    if first.before is not None:
        lines.append(DiffLine("removed", clean_line(f"-{first.key}={first.before}")))
    if first.after is not None:
        lines.append(DiffLine("added", clean_line(f"+{first.key}={first.after}")))
    if len(labels) == 1:
        return Step(first.summary, diff=tuple(lines))
    nodes = clean_line(folded([label.node for label in labels], ", "), 4000)
    words = f"{first.key}={first.after}" if first.after is not None else f"{first.key}-"
    return Step(f"label {len(labels)} nodes {words}", diff=tuple(lines), notes=(nodes,))
