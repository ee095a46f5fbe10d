"""CRI handlers out of one containerd document: a dump, a rendered K3s file or the file itself (`runtimes.md §1.1`)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gpuwizard.facts.model import Handler
from gpuwizard.facts.text import load_toml, value

__all__ = ["CriConfig", "merge_deep", "plugin_state", "read_cri", "root_imports", "root_version"]

CriState = Literal["ok", "error", "disabled"]
_RUNTIME_V3 = "io.containerd.cri.v1.runtime"
_CRI_V2 = "io.containerd.grpc.v1.cri"


@dataclass(frozen=True, slots=True)
class CriConfig:
    """What the document says about handlers. `disabled` is true when it switches the CRI plugin off."""

    handlers: Mapping[str, Handler] = field(default_factory=dict)
    default_handler: str | None = None
    disabled: bool = False
    error: str | None = None


def _table(document: object, *keys: str) -> Mapping[str, Any]:
    for key in keys:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document if isinstance(document, Mapping) else {}


def root_version(document: Mapping[str, Any]) -> int:
    """The configuration version; a file without one is version 1."""
    version = document.get("version", 1)
    return version if isinstance(version, int) and not isinstance(version, bool) else 1


def root_imports(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The import patterns as written."""
    imports = document.get("imports", [])
    if not isinstance(imports, list):
        return ()
    return tuple(shown for entry in imports if isinstance(entry, str) and (shown := value(entry)))


def read_cri(document: Mapping[str, Any]) -> CriConfig:
    """Handlers and default handler from the tables that belong to the document's version. The default is ``runc``
    where none is set, as in every release."""
    plugins = _table(document, "plugins")
    match root_version(document):
        case 1:
            tables = _table(plugins, "cri", "containerd")
        case 2:
            tables = _table(plugins, _CRI_V2, "containerd")
        case _:
            tables = _table(plugins, _RUNTIME_V3, "containerd")
    handlers: dict[str, Handler] = {}
    for name, entry in _table(tables, "runtimes").items():
        if not isinstance(entry, Mapping):
            continue
        kind = entry.get("runtime_type")
        handlers[value(name) or name] = Handler(
            runtime_type=value(kind) if isinstance(kind, str) else None,
            options={value(k) or k: _plain(v) for k, v in _table(entry, "options").items()},
        )
    default = tables.get("default_runtime_name")
    return CriConfig(
        handlers=handlers,
        default_handler=(value(default) if isinstance(default, str) else None) or "runc",
        disabled=_disabled(document),
    )


def _plain(entry: object) -> object:
    return (value(entry) or "") if isinstance(entry, str) else entry


def _disabled(document: Mapping[str, Any]) -> bool:
    disabled = document.get("disabled_plugins", [])
    return isinstance(disabled, list) and any(name in ("cri", _CRI_V2, _RUNTIME_V3) for name in disabled)


def merge_deep(documents: Iterable[bytes]) -> dict[str, Any] | str:
    """The documents laid over one another as containerd 2.x does; a sentence when one does not parse."""
    merged: dict[str, Any] = {}
    for raw in documents:
        document = load_toml(raw)
        if isinstance(document, str):
            return document
        _lay_over(merged, document)
    return merged


def _lay_over(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, entry in above.items():
        existing = below.get(key)
        if isinstance(existing, dict) and isinstance(entry, Mapping):
            _lay_over(existing, entry)
        else:
            below[key] = entry


def plugin_state(text: str) -> tuple[CriState | None, str | None]:
    """The CRI plugin's state (ok, error, disabled) from ``ctr plugins ls``, and the line that says so.

    containerd 2.x has three of them, and an error of any counts. A table without the plugin that serves CRI means
    that it is switched off; an empty table means nothing.
    """
    rows = [line for line in text.splitlines() if re.match(r"io\.containerd\.\S+\s", line)]
    cri = [
        (columns, line)
        for line in rows
        if len(columns := line.split()) >= 3
        and ((columns[0], columns[1]) == ("io.containerd.grpc.v1", "cri") or columns[0] == "io.containerd.cri.v1")
    ]
    if not rows:
        return None, None
    for columns, line in cri:
        if columns[-1] == "error":
            return "error", value(line)
    served = [(columns, line) for columns, line in cri if columns[0] == "io.containerd.grpc.v1"]
    if not served or served[0][0][-1] == "skip":
        return "disabled", value(served[0][1]) if served else None
    return ("ok", value(served[0][1])) if served[0][0][-1] == "ok" else (None, None)
