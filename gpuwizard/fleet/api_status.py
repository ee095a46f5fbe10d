"""What the simulated API server says when it refuses: Status objects in the words of the real one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuwizard.kube.paths import Kind

__all__ = [
    "Cause",
    "Refused",
    "absent",
    "conflicting",
    "exists",
    "expired",
    "forbidden",
    "invalid",
    "outdated",
    "resource_name",
]


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason inside a Status: ``FieldValueInvalid``, its message, and the field."""

    reason: str
    message: str
    field: str


@dataclass(slots=True)
class Refused(Exception):
    """The server refuses a request with this code, reason and message."""

    code: int
    reason: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """The Status object of the answer (`samples/kubernetes/*_4??.json`)."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details:
            status["details"] = self.details
        status["code"] = self.code
        return status


def resource_name(kind: Kind) -> str:
    """``daemonsets.apps``, ``pods``: how messages name a resource."""
    return f"{kind.plural}.{kind.group}" if kind.group else kind.plural


def _details(kind: Kind, name: str) -> dict[str, Any]:
    details = {"name": name, "kind": kind.plural}
    return {**details, "group": kind.group} if kind.group else details


def absent(kind: Kind, name: str) -> Refused:
    """404 for one object."""
    return Refused(404, "NotFound", f'{resource_name(kind)} "{name}" not found', _details(kind, name))


def exists(kind: Kind, name: str) -> Refused:
    """409 at creation."""
    return Refused(409, "AlreadyExists", f'{resource_name(kind)} "{name}" already exists', _details(kind, name))


def outdated(kind: Kind, name: str, why: str) -> Refused:
    """409: the object is not what the request took it for."""
    text = f'Operation cannot be fulfilled on {resource_name(kind)} "{name}": {why}'
    return Refused(409, "Conflict", text, _details(kind, name))


def forbidden(kind: Kind, name: str, why: str) -> Refused:
    """403 by admission."""
    return Refused(403, "Forbidden", f'{resource_name(kind)} "{name}" is forbidden: {why}', _details(kind, name))


def invalid(kind: Kind, name: str, causes: Sequence[Cause]) -> Refused:
    """422 with one or several field errors."""
    said = [f"{c.field}: {c.message}" for c in causes]
    text = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    shown = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    details: dict[str, Any] = {"name": name, "kind": kind.kind}
    if kind.group:
        details["group"] = kind.group
    details["causes"] = [{"reason": c.reason, "message": c.message, "field": c.field} for c in causes]
    return Refused(422, "Invalid", f'{shown} "{name}" is invalid: {text}', details)


def conflicting(owners: Sequence[tuple[str, str]]) -> Refused:
    """409 of server-side apply. `owners` are (manager as the server prints it, field)."""
    plural = "" if len(owners) == 1 else "s"
    if len(owners) == 1:
        text = f"conflict with {owners[0][0]}: {owners[0][1]}"
    else:
        parts = []
        for manager in dict.fromkeys(m for m, _ in owners):
            fields = [f for m, f in owners if m == manager]
            parts.append(f"conflicts with {manager}:\n" + "\n".join(f"- {f}" for f in fields))
        text = "\n".join(parts)
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": path}
        for manager, path in owners
    ]
    return Refused(409, "Conflict", f"Apply failed with {len(owners)} conflict{plural}: {text}", {"causes": causes})


def expired(asked: int, oldest: int) -> Refused:
    """410: a watch from a version that is no longer kept."""
    return Refused(410, "Expired", f"too old resource version: {asked} ({oldest})")
