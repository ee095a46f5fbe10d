"""Disruption budgets as data: what each allows, and which pods it guards (policy/v1)."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from gpuwizard.clean import clean_line
from gpuwizard.facts.cluster import Budget

__all__ = ["budget_view", "budgets_of", "is_refused_by_budget", "named_budget", "selects", "two_budgets"]

Json = Mapping[str, Any]

_NAMED = re.compile(r"[Tt]he disruption budget (\S+)")


def budget_view(budget: Json) -> Budget:
    """The view of a PodDisruptionBudget. Numbers that its controller has not written yet are 0."""
    meta, status = budget["metadata"], budget.get("status") or {}
    return Budget(
        namespace=clean_line(str(meta.get("namespace", ""))),
        name=clean_line(str(meta["name"])),
        allowed=int(status.get("disruptionsAllowed") or 0),
        healthy=int(status.get("currentHealthy") or 0),
        desired=int(status.get("desiredHealthy") or 0),
        always_unready=budget.get("spec", {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow",
    )


def budgets_of(pod: Json, budgets: Iterable[Json]) -> tuple[Budget, ...]:
    """The budgets that guard a pod, by name."""
    namespace, labels = pod["metadata"].get("namespace"), pod["metadata"].get("labels") or {}
    found = (
        budget_view(b)
        for b in budgets
        if b["metadata"].get("namespace") == namespace and selects(b.get("spec", {}).get("selector"), labels)
    )
    return tuple(sorted(found, key=lambda b: b.name))


def selects(selector: Json | None, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector takes `labels`: an empty one takes all, an absent one none."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_holds(expression, labels) for expression in selector.get("matchExpressions") or ())


def _holds(expression: Json, labels: Mapping[str, str]) -> bool:
    key, values = expression.get("key", ""), expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:
            return False


def is_refused_by_budget(status: Json) -> bool:
    """Whether a Status says that a disruption budget, and not a busy server, refuses an eviction."""
    causes = (status.get("details") or {}).get("causes") or ()
    return any(cause.get("reason") == "DisruptionBudget" for cause in causes)


def named_budget(status: Json) -> tuple[str, str]:
    """The name of the budget that refuses and the server's words on it; the name is empty where it is not said."""
    causes = (status.get("details") or {}).get("causes") or ()
    words = next((str(c.get("message") or "") for c in causes if c.get("reason") == "DisruptionBudget"), "")
    found = _NAMED.search(words)
    return (clean_line(found[1]) if found else ""), clean_line(words)


def two_budgets(message: str) -> bool:
    """Whether the server refuses for good because more than one budget guards the pod."""
    return "more than one PodDisruptionBudget" in message
