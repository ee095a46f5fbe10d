"""A plan in words and diffs, for one host or the cluster: what is done, what is refused, what the runtime will see."""

from collections.abc import Iterator, Sequence
from typing import assert_never

from textual.content import Content

from gpuwizard.actions import (
    Action,
    Activation,
    ApplyObject,
    EffectiveChange,
    LabelNode,
    Refusal,
    Restart,
    WriteFile,
)
from gpuwizard.clean import clean
from gpuwizard.plan.diff import DiffLine, file_diff, text_diff
from gpuwizard.plan.model import ClusterPlan, HostPlan, Plan
from screens.widgets.lines import Line, heading, text
from screens.words import counted, plain

__all__ = ["cluster_lines", "host_lines", "host_state", "plan_summary", "restarting"]

_INDENT = "   "
_FILLS = {"added": "lines--added", "removed": "lines--removed", "hunk": "lines--hunk", "header": "lines--hunk"}


def restarting(plan: Plan) -> list[tuple[str, str]]:
    """Hosts whose runtime restarts, each with the unit."""
    return [
        (host.name, action.activation.unit)
        for host in plan.hosts
        if host.changes
        for action in host.actions
        if isinstance(action, Restart)
    ]


def plan_summary(plan: Plan) -> str:
    """``plan 3f9a1c…: 3 hosts change (2 restart), 4 objects, 1 refused``."""
    parts = []
    changing = sum(1 for h in plan.hosts if h.changes)
    if changing:
        restarts = len(restarting(plan))
        parts.append(f"{counted(changing, 'host')} {'changes' if changing == 1 else 'change'}, {restarts} restart")
    if plan.cluster.actions:
        parts.append(counted(len(plan.cluster.actions), "object"))
    refused = sum(1 for h in plan.hosts if h.refusals) + bool(plan.cluster.refusals)
    if refused:
        parts.append(f"{refused} refused")
    return f"plan {plan.hash[:12]} · {' · '.join(parts) if parts else 'nothing to change'}"


def host_state(host: HostPlan) -> tuple[str, str]:
    """The kind and the words for a row of the list."""
    if host.refusals:
        return "error", "refused"
    if not host.actions:
        return "ok", "no change"
    restarts = any(isinstance(a, Restart) for a in host.actions)
    return "running", f"{counted(len(host.actions), 'step')}{', restart' if restarts else ''}"


def host_lines(host: HostPlan) -> Iterator[Line]:
    """Everything about one host."""
    yield heading(plain(host.name, "$text-accent"))
    yield from _refusals(host.refusals)
    if not host.refusals:
        yield Line(Content.assemble(plain(host.strategy, "bold"), ": ", plain(host.reason, "$quiet", 2000)), 2)
    if not host.actions and not host.refusals:
        yield text()
        yield text(Content.assemble(("✓ ", "$text-success"), "nothing to do here"))
    yield from _actions(host.actions, control_plane=host.control_plane)


def cluster_lines(cluster: ClusterPlan) -> Iterator[Line]:
    """Everything about the cluster's objects."""
    yield heading(Content.styled("Cluster", "$text-accent"))
    if cluster.server:
        yield text(plain(cluster.server, "$quiet"))
    yield from _refusals(cluster.refusals)
    if not cluster.actions and not cluster.refusals:
        yield text()
        yield text(Content.assemble(("✓ ", "$text-success"), "nothing to do here"))
    yield from _actions(cluster.actions)


def _refusals(refusals: Sequence[Refusal]) -> Iterator[Line]:
    for refusal in refusals:
        yield text()
        yield Line(Content.assemble(("✗ refused: ", "bold $text-error"), plain(refusal.why, limit=2000)), 2)
        if refusal.remedy:
            yield Line(Content.assemble(("  do  ", "$text-accent"), plain(refusal.remedy, limit=2000)), 6)


def _actions(actions: Sequence[Action], *, control_plane: bool = False) -> Iterator[Line]:
    for number, action in enumerate(actions, 1):
        yield text()
        yield heading(Content.assemble((f"{number}  ", "$quiet"), plain(action.summary)))
        if control_plane and isinstance(action, Restart) and action.activation.unit.startswith(("k3s", "rke2")):
            words = "the Kubernetes API of this server is away meanwhile"
            yield Line(Content.assemble(("   ! ", "$text-warning"), words), 5)
        yield from _action(action)


def _restart_words(activation: Activation) -> str:
    if activation.stops_containers:
        return f"restarts {activation.unit}, and every container of it stops"
    if activation.verb == "watched":
        return f"{activation.unit} restarts its runtime; containers that run go on running"
    return f"restarts {activation.unit}; containers that run go on running"


def _action(action: Action) -> Iterator[Line]:
    match action:
        case WriteFile():
            yield from _diff(file_diff(action.change))
            yield from _effective(action.effective)
        case Restart():
            yield Line(Content.assemble(("   ! ", "$text-warning"), plain(_restart_words(action.activation))), 5)
            yield from _effective(action.effective)
            if action.prediction:
                yield Line(Content.assemble("   ", plain(action.prediction, "$quiet", 2000)), 3)
        case LabelNode():
            yield from _diff(
                tuple(
                    DiffLine(kind, f"{mark}{action.key}={value}")  # type: ignore[arg-type]
                    for kind, mark, value in (("removed", "-", action.before), ("added", "+", action.after))
                    if value is not None
                )
            )
        case ApplyObject():
            if action.unchecked:
                words = f"not checked by the server: {action.unchecked}"
                yield Line(Content.assemble(("   · ", "$quiet"), plain(words, "$quiet")), 5)
            yield from _diff(text_diff(action.before, action.after, str(action.key)))
        case _:
            assert_never(action)


def _diff(lines: Sequence[DiffLine]) -> Iterator[Line]:
    styles = {"added": "$text-success", "removed": "$text-error", "context": "", "note": "$quiet"}
    for line in lines:
        style = styles.get(line.kind, "$text-accent")
        shown = Content.styled(_INDENT + clean(line.text), style)
        yield Line(shown, len(_INDENT) + 4, _FILLS.get(line.kind, ""), verbatim=True)


def _effective(changes: Sequence[EffectiveChange]) -> Iterator[Line]:
    if not changes:
        return
    yield text()
    yield Line(Content.styled("   What the runtime will see", "$text-accent"))
    for change in changes:
        for mark, value, style, fill in (
            ("-", change.before, "$text-error", "lines--removed"),
            ("+", change.after, "$text-success", "lines--added"),
        ):
            if value is not None:
                shown = Content.assemble(_INDENT, mark, " ", plain(change.key, "bold"), ": ", plain(value, limit=2000))
                yield Line(shown.stylize(style), 7, fill)
