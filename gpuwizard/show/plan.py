"""A plan as lines of plain text, with every diff."""

from collections.abc import Iterable, Iterator

from gpuwizard.plan.groups import HostGroup, group_hosts
from gpuwizard.plan.model import Plan
from gpuwizard.plan.words import MARKS, effects_of
from gpuwizard.show.plan_steps import Step, cluster_steps, group_state, group_steps, group_title
from gpuwizard.show.words import count

__all__ = ["plan_lines", "plan_total"]


def plan_lines(plan: Plan) -> Iterator[str]:
    """The whole plan: strategy, refusals, what the runtime will see and steps with their diffs, once for all hosts
    that are alike; then the cluster's objects."""
    for group in group_hosts(plan):
        yield from _group_lines(group)
    if plan.cluster.actions or plan.cluster.refusals or plan.cluster.notes:
        yield f"cluster {plan.cluster.server or ''}".rstrip()
        for refusal in plan.cluster.refusals:
            yield f"  ✗ refused: {refusal.why}"
            yield from _remedy(refusal.remedy)
        yield from (f"  · {note}" for note in plan.cluster.notes)
        yield from _steps(cluster_steps(plan.cluster))
    yield plan_total(plan)


def plan_total(plan: Plan) -> str:
    """``plan 3f9a…: 12 actions, 3 hosts change``."""
    if plan.empty:
        return f"plan {plan.hash[:16]}: no changes"
    hosts = sum(1 for h in plan.hosts if h.changes)
    words = f"{count(len(plan.actions), 'action')}, {count(hosts, 'host')} {'changes' if hosts == 1 else 'change'}"
    return f"plan {plan.hash[:16]}: {words}"


def _group_lines(group: HostGroup) -> Iterator[str]:
    title = f"{group_title(group)}: {group_state(group)}"
    yield title if group.first.refusals else f"{title} · {group.first.strategy}: {group.first.reason}"
    for refusal in group.refusals:
        yield f"  ✗ {refusal.why}"
        yield from (f"      {line}" for line in refusal.detail.splitlines())
        yield from _remedy(refusal.remedy)
    if group.first.refusals:
        return
    for effect in effects_of(group.actions):
        yield f"  {MARKS[effect.kind]} {effect}"
    for sentence in group.impact:
        yield f"  ! {sentence}"
    yield from _steps(group_steps(group))


def _remedy(text: str) -> Iterator[str]:
    if text:
        yield f"    try: {text}"


def _steps(steps: Iterable[Step]) -> Iterator[str]:
    for step in steps:
        yield f"  · {step.summary}"
        for line in step.diff:
            yield f"      {line.text}"
        for note in step.notes:
            yield f"      {note}"
