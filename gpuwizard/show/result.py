"""How a run ended, host by host, as lines of plain text."""

from collections.abc import Iterator

from gpuwizard.session import Session
from gpuwizard.show.words import MARKS

__all__ = ["summary_lines"]


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
