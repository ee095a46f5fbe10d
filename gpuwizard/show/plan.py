"""A plan as lines of plain text, with every diff."""

from collections.abc import Iterator

from gpuwizard.actions import Action, ApplyObject, FileChange, LabelNode, Restart, WriteFile
from gpuwizard.plan.diff import file_diff, text_diff
from gpuwizard.plan.model import HostPlan, Plan
from gpuwizard.show.words import count

__all__ = ["plan_lines"]


def plan_lines(plan: Plan) -> Iterator[str]:
    """The whole plan: per host strategy, refusals, actions with their diffs; then the cluster's objects."""
    for host in plan.hosts:
        yield from _host_lines(host)
    if plan.cluster.actions or plan.cluster.refusals:
        yield f"cluster {plan.cluster.server or ''}".rstrip()
        for refusal in plan.cluster.refusals:
            yield f"  ✗ refused: {refusal.why}"
            yield from _remedy(refusal.remedy)
        for action in plan.cluster.actions:
            yield from _action_lines(action)
    yield f"plan {plan.hash[:16]}: {_count(plan)}"


def _host_lines(host: HostPlan) -> Iterator[str]:
    if host.refusals:
        yield f"{host.name}: refused"
    else:
        state = count(len(host.actions), "action") if host.actions else "nothing to do"
        yield f"{host.name}: {state} · {host.strategy}: {host.reason}"
    for refusal in host.refusals:
        yield f"  ✗ {refusal.why}"
        yield from _remedy(refusal.remedy)
    for action in host.actions:
        yield from _action_lines(action)


def _remedy(text: str) -> Iterator[str]:
    if text:
        yield f"    try: {text}"


def _action_lines(action: Action) -> Iterator[str]:
    yield f"  · {action.summary}"
    match action:
        case WriteFile():
            yield from _file_lines(action.change)
            yield from _effective_lines(action)
        case Restart():
            yield from _effective_lines(action)
            if action.prediction:
                yield f"      {action.prediction}"
        case ApplyObject():
            if action.unchecked:
                yield f"      not checked by the server: {action.unchecked}"
            for line in text_diff(action.before, action.after, str(action.key)):
                yield f"      {line.text}"
        case LabelNode():
            yield f"      {action.key}: {action.before or '(none)'} → {action.after}"


def _file_lines(change: FileChange) -> Iterator[str]:
    for line in file_diff(change):
        yield f"      {line.text}"


def _effective_lines(action: WriteFile | Restart) -> Iterator[str]:
    for change in action.effective:
        yield f"      effective {change.key}: {change.before or '(none)'} → {change.after or '(none)'}"


def _count(plan: Plan) -> str:
    if plan.empty:
        return "no changes"
    hosts = sum(1 for h in plan.hosts if h.changes)
    return f"{count(len(plan.actions), 'action')}, {count(hosts, 'host')} {'changes' if hosts == 1 else 'change'}"
