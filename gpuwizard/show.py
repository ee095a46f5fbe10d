"""Plans, findings and results as lines of plain text, for the front ends without a screen."""

from collections.abc import Iterator

from gpuwizard.actions import Action, ApplyObject, FileChange, LabelNode, Restart, WriteFile
from gpuwizard.facts.model import HostFacts
from gpuwizard.plan.diff import file_diff, text_diff
from gpuwizard.plan.model import HostPlan, Plan
from gpuwizard.session import HostRecord, Session

__all__ = ["count", "finding_lines", "gpu_summary", "plan_lines", "runtime_summary", "summary_lines"]

MARKS = {"error": "✗", "warning": "!", "info": "·", "ok": "✓"}


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


def count(number: int, what: str) -> str:
    """``1 host``, ``3 hosts``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def finding_lines(record: HostRecord) -> Iterator[str]:
    """One host's findings, trouble first."""
    if record.error is not None:
        yield f"✗ {record.name}: {record.error}"
        yield from _remedy(record.error.remedy)
        return
    assert record.probe is not None
    facts = record.probe.facts
    system = facts.os.pretty_name or facts.os.id or "unknown system"
    yield f"{record.name}: {system} · {gpu_summary(facts)} · {runtime_summary(facts)}"
    for finding in record.findings:
        yield f"  {MARKS[finding.severity]} {finding.id} {finding.title}"
        for evidence in finding.evidence:
            yield f"      {evidence}"
        if finding.severity in ("error", "warning") and finding.remedy:
            yield f"      try: {finding.remedy}"


def gpu_summary(facts: HostFacts) -> str:
    """``2 × NVIDIA L40S``; models in order of first appearance."""
    if not facts.gpus:
        return "no GPU"
    names: dict[str, int] = {}
    for gpu in facts.gpus:
        names[gpu.name or gpu.pci_id or "GPU"] = names.get(gpu.name or gpu.pci_id or "GPU", 0) + 1
    return ", ".join(f"{count} × {name}" for name, count in names.items())


def runtime_summary(facts: HostFacts) -> str:
    """Kubernetes flavour and the runtime that the kubelet uses."""
    runtime = facts.kubelet_runtime
    flavour = facts.kubernetes.flavour
    words = [flavour if flavour not in ("none", "unknown") else f"Kubernetes: {flavour}"]
    if runtime is not None:
        words.append(f"{runtime.kind} {runtime.version or '?'}")
    return ", ".join(words)


def summary_lines(session: Session, *, undo: bool = True) -> Iterator[str]:
    """How a run ended, host by host, trouble named; with `undo` also how to take it back."""
    yield "result:"
    for name in sorted(session.hosts):
        mark, text = _ended(session, name)
        reason = session.validation.get(name)
        if name in session.validation:
            text += f" · validation: {'passed' if reason is None else reason}"
        yield f"  {mark if reason is None else MARKS['error']} {name}: {text}"
    if session.cluster_view is not None and session.cluster_view.error:
        yield f"  ✗ cluster: {session.cluster_view.error}"
    if session.report is not None and session.report.cluster_error:
        yield f"  ✗ cluster: {session.report.cluster_error}"
    if session.run_id and undo and _touched(session):
        yield f"run {session.run_id}: `{session.rollback_command} {session.run_id}` puts everything back"


def _touched(session: Session) -> bool:
    """Whether the run may have left anything anywhere; without hosts it may have changed the cluster."""
    outcomes = session.report.outcomes.values() if session.report else ()
    touched = any(o.outcome not in ("unchanged", "refused", "unreachable", "rolled-back") for o in outcomes)
    cluster = session.report is not None and session.report.cluster_error is None
    return touched or (cluster and session.plan is not None and bool(session.plan.cluster.actions))


def _ended(session: Session, name: str) -> tuple[str, str]:
    """The mark and the words for one host."""
    if name in session.unreachable:
        return MARKS["error"], f"unreachable: {session.unreachable[name]}"
    outcome = session.report.outcomes.get(name) if session.report else None
    planned = next((h for h in session.plan.hosts if h.name == name), None) if session.plan else None
    if outcome is None and planned is not None and planned.refusals:
        return MARKS["error"], "refused: " + "; ".join(r.why for r in planned.refusals)
    if outcome is None:
        return MARKS["ok"], f"unchanged: {planned.reason}" if planned else "looked at"
    text = outcome.outcome + (f": {outcome.reason}" if outcome.reason else "")
    if outcome.outcome == "unchanged" and planned is not None and planned.actions:
        return MARKS["info"], text
    return MARKS["ok"] if outcome.outcome in ("confirmed", "unchanged") else MARKS["error"], text
