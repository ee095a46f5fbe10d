"""What the simulated server says about itself: version, groups, resources (`samples/kubernetes/apis.json`)."""

from typing import Any

from gpuwizard.kube.paths import KINDS

__all__ = ["discovery", "version_info"]

Json = dict[str, Any]

_SHORT = {"nodes": ["no"], "pods": ["po"], "events": ["ev"], "configmaps": ["cm"], "namespaces": ["ns"],
          "daemonsets": ["ds"], "serviceaccounts": ["sa"], "replicasets": ["rs"],
          "poddisruptionbudgets": ["pdb"]}  # fmt: skip
_VERBS = ["create", "delete", "get", "list", "patch", "watch"]


def version_info(version: str) -> Json:
    """The answer of ``/version`` for ``v1.36.2`` or ``v1.34.1+k3s1``."""
    major, minor = version.lstrip("v").split(".")[:2]
    return {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1),
        "gitVersion": version,
        "gitCommit": "0" * 40,
        "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z",
        "goVersion": "go1.26",
        "compiler": "gc",
        "platform": "linux/amd64",
    }


def discovery(path: str) -> Json | None:
    """The answer for a discovery path; None when it is none."""
    versions = {k.api_version for k in KINDS}
    match path.strip("/").split("/"):
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            groups = [_group(v) for v in sorted(versions) if "/" in v]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["api", "v1"]:
            return _resources("v1")
        case ["apis", group, version] if f"{group}/{version}" in versions:
            return _resources(f"{group}/{version}")
        case ["apis", group]:
            found = next((v for v in versions if v.startswith(f"{group}/")), None)
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(found)} if found else None
        case _:
            return None


def _group(api_version: str) -> Json:
    name, _, version = api_version.partition("/")
    entry = {"groupVersion": api_version, "version": version}
    return {"name": name, "versions": [entry], "preferredVersion": entry}


def _resources(api_version: str) -> Json:
    listed: list[Json] = []
    for kind in KINDS:
        if kind.api_version != api_version:
            continue
        entry: Json = {
            "name": kind.plural,
            "singularName": kind.kind.lower(),
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": _VERBS,
        }
        if kind.plural in _SHORT:
            entry["shortNames"] = _SHORT[kind.plural]
        listed.append(entry)
    if api_version == "v1":
        eviction = {"group": "policy", "version": "v1", "kind": "Eviction", "verbs": ["create"]}
        listed.append({"name": "pods/eviction", "singularName": "", "namespaced": True, **eviction})
        listed.append({"name": "pods/log", "singularName": "", "namespaced": True, "kind": "Pod", "verbs": ["get"]})
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": listed}
