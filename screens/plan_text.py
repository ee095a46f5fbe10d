"""A plan in words and diffs, for hosts that are alike or the cluster: what is done, what is refused, what the runtime
will see."""

from collections.abc import Iterable, Iterator, Sequence

from textual.content import Content

from gpuwizard.actions import Refusal, Restart
from gpuwizard.clean import clean
from gpuwizard.plan.blast import blast_list
from gpuwizard.plan.diff import DiffLine
from gpuwizard.plan.groups import HostGroup
from gpuwizard.plan.model import ClusterPlan, HostPlan, Plan
from gpuwizard.plan.words import MARKS, Effect, effects_of
from gpuwizard.show.plan_steps import Step, cluster_steps, group_state, group_steps, group_title
from screens.syntax import Kind, Piece, pieces
from screens.widgets.lines import Line, heading, text
from screens.words import counted, plain

__all__ = ["cluster_lines", "group_lines", "host_state", "plan_summary", "restarting", "word_lines"]

_INDENT = "   "
_FILLS = {"added": "lines--added", "removed": "lines--removed", "hunk": "lines--hunk", "header": "lines--hunk"}
_STYLES = {"added": "$text-success", "removed": "$text-error", "context": "", "note": "$quiet"}
_EFFECTS = {
    "added": "$text-success",
    "removed": "$text-error",
    "changed": "$text-warning",
    "unchanged": "$quiet",
}
_SYNTAX: dict[Kind, str] = {
    "": "",
    "comment": "$quiet italic",
    "table": "$foreground bold",
    "key": "$text-accent",
    "string": "$text-warning",
    "value": "$text-warning bold",
}


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


def group_lines(group: HostGroup, *, words: bool) -> Iterator[Line]:
    """Everything about hosts that are alike; without `words`, these stand beside it."""
    yield Line(plain(group_title(group), "bold $text-accent", 4000), 2)
    if len(group.hosts) > 1:
        yield text(plain(group_state(group), "bold"))
    yield from _refusals(group.refusals)
    if not group.first.refusals:
        yield _reason(group)
    if not group.first.actions and not group.first.refusals:
        yield text()
        yield text(Content.assemble(("✓ ", "$text-success"), "nothing to do here"))
    if words and group.actions:
        yield text()
        yield from word_lines(group, close=True)
    yield from _steps(group_steps(group))
    if len(group.hosts) == 1:
        yield from _pods(group.first)


def _pods(host: HostPlan) -> Iterator[Line]:
    """The pods of one host's node, whom its restart meets: a group is opened to read them host by host."""
    pods = list(blast_list(host.blast))
    if pods:
        yield text()
        yield heading(Content.styled("Pods on this node", "$text-accent"))
    for words in pods:
        yield Line(Content.assemble(_INDENT, plain(words, "$quiet", 4000)), 3)


def word_lines(group: HostGroup, *, close: bool = False) -> Iterator[Line]:
    """What the runtime will see of the change and what becomes of the pods, in words; `close` saves lines."""
    effects = effects_of(group.actions)
    if effects:
        yield heading(Content.styled("What the runtime will see", "$text-accent"))
    for effect in effects:
        yield _effect(effect)
    sentences = group.impact
    if sentences and not close:
        yield text()
        yield heading(Content.styled("What it does to the host", "$text-accent"))
    for sentence in sentences:
        yield Line(Content.assemble(("! ", "$text-warning"), plain(sentence)), 2)


def cluster_lines(cluster: ClusterPlan) -> Iterator[Line]:
    """Everything about the cluster's objects."""
    yield heading(Content.styled("Cluster", "$text-accent"))
    if cluster.server:
        yield text(plain(cluster.server, "$quiet"))
    yield from _refusals(cluster.refusals)
    if not cluster.actions and not cluster.refusals:
        yield text()
        yield text(Content.assemble(("✓ ", "$text-success"), "nothing to do here"))
    yield from _steps(cluster_steps(cluster))


def _reason(group: HostGroup) -> Line:
    strategy, reason = plain(group.first.strategy, "bold"), plain(group.first.reason, "$quiet", 2000)
    return Line(Content.assemble(strategy, ": ", reason), 2)


def _effect(effect: Effect) -> Line:
    style = _EFFECTS[effect.kind]
    subject = plain(effect.subject, "" if effect.kind == "unchanged" else "bold")
    words = Content.assemble(MARKS[effect.kind], " ", subject, ": ", plain(effect.words, limit=2000))
    return Line(words.stylize(style), 2)


def _refusals(refusals: Sequence[Refusal]) -> Iterator[Line]:
    for refusal in refusals:
        yield text()
        yield Line(Content.assemble(("✗ refused: ", "bold $text-error"), plain(refusal.why, limit=2000)), 2)
        if refusal.remedy:
            yield Line(Content.assemble(("  do  ", "$text-accent"), plain(refusal.remedy, limit=2000)), 6)


def _steps(steps: Iterable[Step]) -> Iterator[Line]:
    for number, step in enumerate(steps, 1):
        yield text()
        yield heading(Content.assemble((f"{number}  ", "$quiet"), plain(step.summary, limit=2000)))
        for line, body in zip(step.diff, pieces(step.diff, step.path), strict=True):
            yield _diff(line, body)
        for note in step.notes:
            yield Line(Content.assemble(_INDENT, plain(note, "$quiet", 4000)), 3)


def _diff(line: DiffLine, body: Sequence[Piece]) -> Line:
    style = _STYLES.get(line.kind, "$text-accent")
    parts = [(clean(part), _SYNTAX[kind] or style) for kind, part in body]
    return Line(Content.assemble(_INDENT, *parts), len(_INDENT) + 4, _FILLS.get(line.kind, ""), verbatim=True)
