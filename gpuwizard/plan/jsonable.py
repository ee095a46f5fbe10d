"""A plan as the JSON document ``gpuwizard.plan/1`` (`cli.md`): redacted, without any file content."""

from collections.abc import Iterable
from typing import Any

from gpuwizard.actions import Action, ApplyObject, EffectiveChange, LabelNode, Refusal, Restart, WriteFile
from gpuwizard.plan.diff import diff_text, file_diff, text_diff
from gpuwizard.plan.model import Plan
from gpuwizard.redact import redact_text

__all__ = ["plan_json"]


def plan_json(plan: Plan) -> dict[str, Any]:
    """The document that ``gpuwizard plan --json`` prints."""
    return {
        "schema": "gpuwizard.plan/1",
        "hash": plan.hash,
        "hosts": [
            {
                "name": host.name,
                "strategy": host.strategy,
                "reason": host.reason,
                "actions": [_action(a) for a in host.actions],
                "refusals": _refusals(host.refusals),
                "node_name": host.node_name,
            }
            for host in plan.hosts
        ],
        "cluster": {
            "server": plan.cluster.server,
            "actions": [_action(a) for a in plan.cluster.actions],
            "refusals": _refusals(plan.cluster.refusals),
        },
        "facts_fingerprint": plan.fingerprint,
    }


def _action(action: Action) -> dict[str, Any]:
    """`restarts` is the unit that is restarted, or null."""
    shared: dict[str, Any] = {
        "id": action.id,
        "kind": action.kind,
        "summary": action.summary,
        "path": None,
        "diff": None,
        "effective_diff": [],
        "restarts": None,
        "disruptive": False,
    }
    match action:
        case WriteFile():
            return shared | {
                "path": action.change.path,
                "diff": diff_text(file_diff(action.change)),
                "effective_diff": _effective(action.effective),
            }
        case Restart():
            return shared | {
                "effective_diff": _effective(action.effective),
                "restarts": action.activation.unit,
                "disruptive": True,
                "prediction": action.prediction,
            }
        case LabelNode():
            return shared | {
                "path": f"Node {action.node}",
                "diff": diff_text(text_diff(_label(action.key, action.before), _label(action.key, action.after), "")),
            }
        case ApplyObject():
            return shared | {
                "path": str(action.key),
                "diff": diff_text(text_diff(action.before, action.after, str(action.key))),
                "unchecked": action.unchecked,
            }


def _label(key: str, value: str | None) -> str:
    return "" if value is None else f"{key}: {value}\n"


def _effective(changes: Iterable[EffectiveChange]) -> list[dict[str, str | None]]:
    return [{"key": c.key, "before": _shown(c.key, c.before), "after": _shown(c.key, c.after)} for c in changes]


def _shown(key: str, value: str | None) -> str | None:
    """The value redacted as if it stood behind its key."""
    if value is None:
        return None
    head = f"{key.rpartition('.')[2]} = "
    return redact_text(f"{head}{value}").removeprefix(head)


def _refusals(refusals: Iterable[Refusal]) -> list[dict[str, str]]:
    return [{"id": r.id, "why": r.why, "remedy": r.remedy} for r in refusals]
