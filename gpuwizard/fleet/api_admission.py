"""What the simulated server refuses: unknown runtime classes, changed immutable fields, impossible quantities."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from gpuwizard.fleet.api_objects import containers
from gpuwizard.fleet.api_status import Cause, Refused, forbidden, invalid
from gpuwizard.kube.paths import Kind

__all__ = ["check"]

Json = dict[str, Any]
Lookup = Callable[[str, str, str], Json | None]  # kind, namespace, name

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_BUILT_IN = ("cpu", "memory", "ephemeral-storage")


def check(kind: Kind, obj: Json, live: Json | None, lookup: Lookup, shown_name: str) -> None:
    """Raise Refused when the server would not take `obj` (`live`: what it replaces; None: it is new)."""
    causes = list(_field_errors(kind, obj, live))
    if kind.kind == "Pod" and live is None:
        wanted = obj["spec"].get("runtimeClassName")
        if wanted and lookup("RuntimeClass", "", wanted) is None:
            raise forbidden(kind, shown_name, f'pod rejected: RuntimeClass "{wanted}" not found')
    if causes:
        raise invalid(kind, obj["metadata"].get("name") or shown_name, causes)
    if live is None and kind.namespaced:
        _check_namespace(kind, obj["metadata"], lookup, shown_name)


def _check_namespace(kind: Kind, meta: Json, lookup: Lookup, shown_name: str) -> None:
    namespace = lookup("Namespace", "", meta["namespace"])
    if namespace is None:
        name = meta["namespace"]
        raise Refused(404, "NotFound", f'namespaces "{name}" not found', {"name": name, "kind": "namespaces"})
    if "deletionTimestamp" in namespace["metadata"]:
        why = f"unable to create new content in namespace {meta['namespace']} because it is being terminated"
        raise forbidden(kind, shown_name, why)


def _field_errors(kind: Kind, obj: Json, live: Json | None) -> Iterator[Cause]:
    name = obj["metadata"].get("name")
    if name is not None and not _SUBDOMAIN.fullmatch(name):
        yield Cause(
            "FieldValueInvalid",
            f"Invalid value: {json.dumps(name)}: a lowercase RFC 1123 subdomain "
            "must consist of lower case alphanumeric characters, '-' or '.'",
            "metadata.name",
        )
    match kind.kind:
        case "RuntimeClass":
            yield from _runtime_class_errors(obj, live)
        case "DaemonSet" | "ReplicaSet":
            yield from _template_errors(obj, live)
        case "Pod" if live is None:
            for index, container in enumerate(obj["spec"].get("containers") or ()):
                yield from _resource_errors(container, f"spec.containers[{index}].resources")
        case "Pod":
            before, after = (_frozen_part(o["spec"]) for o in (live or {}, obj))
            if before != after:
                yield Cause(
                    "FieldValueForbidden",
                    "Forbidden: pod updates may not change fields other than "
                    "`spec.containers[*].image`,`spec.tolerations` (only additions)",
                    "spec",
                )
        case _:
            pass


def _runtime_class_errors(obj: Json, live: Json | None) -> Iterator[Cause]:
    handler = obj.get("handler")
    if live is not None and handler != live.get("handler"):
        yield Cause("FieldValueInvalid", f"Invalid value: {json.dumps(handler)}: field is immutable", "handler")
    elif not handler:
        yield Cause("FieldValueRequired", "Required value", "handler")
    elif not _LABEL.fullmatch(str(handler)):
        yield Cause(
            "FieldValueInvalid",
            f"Invalid value: {json.dumps(handler)}: a lowercase RFC 1123 label must "
            "consist of lower case alphanumeric characters or '-'",
            "handler",
        )


def _template_errors(obj: Json, live: Json | None) -> Iterator[Cause]:
    spec = obj["spec"]
    selector = spec.get("selector")
    if live is not None and selector != live["spec"].get("selector"):
        shown = json.dumps(selector)
        yield Cause("FieldValueInvalid", f"Invalid value: {shown}: field is immutable", "spec.selector")
    labels = spec["template"].get("metadata", {}).get("labels", {})
    wanted = (selector or {}).get("matchLabels", {})
    if not wanted or any(labels.get(k) != v for k, v in wanted.items()):
        yield Cause(
            "FieldValueInvalid",
            f"Invalid value: {json.dumps(labels)}: `selector` does not match template `labels`",
            "spec.template.metadata.labels",
        )
    if not spec["template"]["spec"].get("containers"):
        yield Cause("FieldValueRequired", "Required value", "spec.template.spec.containers")


def _resource_errors(container: Json, field: str) -> Iterator[Cause]:
    """The rules for extended resources, in the server's words (`kubernetes.md`, appendix E)."""
    resources = container.get("resources", {})
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    for name in sorted({*limits, *requests}):
        if name in _BUILT_IN or name.startswith("hugepages-"):
            continue
        for part, values in (("limits", limits), ("requests", requests)):
            if name in values and not values[name].isdigit():
                yield Cause(
                    "FieldValueInvalid",
                    f'Invalid value: "{values[name]}": must be an integer',
                    f"{field}.{part}.{name}",
                )
        if name not in limits:
            yield Cause(
                "FieldValueRequired",
                "Required value: Limit must be set for non overcommitable resources",
                f"{field}.limits",
            )
        elif requests.get(name, limits[name]) != limits[name]:
            yield Cause(
                "FieldValueInvalid",
                f'Invalid value: "{requests[name]}": must be equal to {name} limit of {limits[name]}',
                f"{field}.requests",
            )


def _frozen_part(spec: Json) -> Json:
    kept = {k: v for k, v in spec.items() if k not in ("tolerations", "nodeName")}
    kept["containers"] = [{k: v for k, v in c.items() if k != "image"} for c in containers(spec)]
    return kept
