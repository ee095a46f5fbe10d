"""Label and field selectors of the API, as predicates."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from gpuwizard.fleet.api_status import Refused

__all__ = ["matches_labels", "selected"]

Json = dict[str, Any]

_SET = re.compile(r"(?P<key>\S+)\s+(?P<verb>in|notin)\s+\((?P<values>[^)]*)\)")
_SPLIT = re.compile(r",(?![^(]*\))")


def selected(label_selector: str, field_selector: str) -> Callable[[Json], bool]:
    """A predicate over objects. Raises Refused (400) for a selector that cannot be read."""
    labels = [_label_rule(part.strip()) for part in _SPLIT.split(label_selector) if part.strip()]
    fields = [_field_rule(part.strip()) for part in field_selector.split(",") if part.strip()]

    def holds(obj: Json) -> bool:
        own = obj["metadata"].get("labels") or {}
        return all(rule(own) for rule in labels) and all(rule(obj) for rule in fields)

    return holds


def matches_labels(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether labels satisfy a LabelSelector or node selector term (``matchLabels``, ``matchExpressions``)."""
    wanted = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or ()
    return all(labels.get(k) == v for k, v in wanted.items()) and all(_expression(e, labels) for e in expressions)


def _expression(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return False


def _label_rule(text: str) -> Callable[[Mapping[str, str]], bool]:
    found = _SET.fullmatch(text)
    if found:
        key, verb = found["key"], found["verb"]
        values = {v.strip() for v in found["values"].split(",")}
        return lambda labels: (labels.get(key) in values) == (verb == "in")
    if "!=" in text:
        key, _, value = text.partition("!=")
        return lambda labels: labels.get(key.strip()) != value.strip()
    if "=" in text:
        key, _, value = text.partition("=")
        return lambda labels: labels.get(key.strip()) == value.lstrip("=").strip()
    if text.startswith("!"):
        return lambda labels: text[1:] not in labels
    return lambda labels: text in labels


def _field_rule(text: str) -> Callable[[Json], bool]:
    negative = "!=" in text
    path, separator, value = text.partition("!=" if negative else "=")
    if not separator:
        message = f"Unable to find \"{text}\" that match label selector, field selector: invalid selector: '{text}'"
        raise Refused(400, "BadRequest", message)
    value = value.lstrip("=")

    def holds(obj: Json) -> bool:
        found: Any = obj
        for part in path.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return (str(found if found is not None else "") == value) != negative

    return holds
