"""A plan as the JSON document ``gpuwizard.plan/1`` (`cli.md`): redacted, without any file content."""

from collections.abc import Iterable
from typing import Any

from gpuwizard.actions import Action, ApplyObject, EffectiveChange, LabelNode, Refusal, Restart, WriteFile
from gpuwizard.plan.blast import blast_json
from gpuwizard.plan.diff import diff_text, file_diff, text_diff
from gpuwizard.plan.impact import impact
from gpuwizard.plan.model import HostPlan, Plan
from gpuwizard.plan.words import effects_of
from gpuwizard.redact import redact_text, redact_value

__all__ = ["plan_json"]


def plan_json(plan: Plan) -> dict[str, Any]:
    """The document that ``gpuwizard plan --json`` prints."""
    return {
        "schema": "gpuwizard.plan/1",
        "hash": plan.hash,
        "hosts": [_host(host) for host in plan.hosts],
        "cluster": {
            "server": plan.cluster.server,
            "actions": [_action(a) for a in plan.cluster.actions],
            "refusals": _refusals(plan.cluster.refusals),
            "notes": list(plan.cluster.notes),
        },
        "facts_fingerprint": plan.fingerprint,
    }


def _host(host: HostPlan) -> dict[str, Any]:
    """`effective_words` is the whole effective difference as a person reads it, `impact` what becomes of the pods,
    `blast_radius` who they are."""
    return {
        "name": host.name,
        "strategy": host.strategy,
        "reason": host.reason,
        "actions": [_action(a) for a in host.actions],
        "refusals": _refusals(host.refusals),
        "node_name": host.node_name,
        "effective_words": [str(effect) for effect in effects_of(host.actions)],
        "impact": list(impact(host.actions, control_plane=host.control_plane)),
        "blast_radius": blast_json(host.blast),
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
    return None if value is None else redact_value(key, value)


def _refusals(refusals: Iterable[Refusal]) -> list[dict[str, str]]:
    return [
        {"id": r.id, "why": redact_text(r.why), "remedy": redact_text(r.remedy), "diff": r.detail} for r in refusals
    ]
