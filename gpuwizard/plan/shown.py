"""A Kubernetes object as it is shown and compared: without what the server keeps for itself."""

from collections.abc import Mapping
from typing import Any

import yaml

from gpuwizard.redact import redact_object, redact_text, redacted_secret

__all__ = ["cleaned", "shown_yaml"]

_METADATA = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
)
_ANNOTATIONS = ("kubectl.kubernetes.io/last-applied-configuration", "deprecated.daemonset.template.generation")
_FIRST = ("apiVersion", "kind", "metadata")


def cleaned(obj: Mapping[str, Any]) -> dict[str, Any]:
    """`obj` without status and the server's bookkeeping (uid, versions, times, field owners), keys sorted."""
    rest = {key: value for key, value in obj.items() if key not in (*_FIRST, "status")}
    ordered: dict[str, Any] = {key: _sorted(obj[key]) for key in _FIRST if key in obj}
    if "metadata" in ordered:
        ordered["metadata"] = _metadata(ordered["metadata"])
    template = rest.get("spec", {}).get("template") if isinstance(rest.get("spec"), Mapping) else None
    if isinstance(template, Mapping) and isinstance(template.get("metadata"), Mapping):
        rest["spec"] = {**rest["spec"], "template": {**template, "metadata": _metadata(template["metadata"])}}
    ordered.update(_sorted(rest))
    return ordered


def shown_yaml(obj: Mapping[str, Any]) -> str:
    """`obj` cleaned, redacted and as YAML in a stable order."""
    safe = cleaned(obj)
    if safe.get("kind") == "Secret":
        for part in ("data", "stringData"):
            values = safe.get(part)
            if isinstance(values, dict):
                safe[part] = {key: redacted_secret(str(value)) for key, value in values.items()}
    text: str = yaml.dump(redact_object(safe), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return redact_text(text)


def _metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in metadata.items() if key not in _METADATA}
    annotations = {k: v for k, v in (kept.pop("annotations", None) or {}).items() if k not in _ANNOTATIONS}
    if annotations:
        kept["annotations"] = annotations
    return dict(sorted(kept.items()))


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _sorted(value[key]) for key in sorted(value, key=str)}
    return [_sorted(v) for v in value] if isinstance(value, list | tuple) else value


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block, as people write it."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)
