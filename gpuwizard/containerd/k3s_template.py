"""Edits of K3s' and RKE2's containerd templates: only what is custom stands behind "base" (`runtimes.md §2.3`, `§2.7`).

A template holds Go actions and is no TOML, so that blocks are cut out by their lines; everything else stays as it is.
"""

import re
import tomllib
from collections.abc import Collection, Mapping
from typing import Any

from gpuwizard.clean import clean_line
from gpuwizard.containerd.edit import literal
from gpuwizard.containerd.k3s_base import (
    CRI_OF,
    DETECTABLE,
    NodeState,
    base_document,
    dialect_of,
    own_tables,
    read_document,
)
from gpuwizard.containerd.k3s_release import V2_TEMPLATE, V3_TEMPLATE, Dialect
from gpuwizard.containerd.k3s_render import NextStart, filled_text
from gpuwizard.containerd.model import CRI_V2, RUNTIME_V3
from gpuwizard.containerd.statements import flat_path
from gpuwizard.errors import RefusedError
from gpuwizard.facts.kubernetes.template_text import table_path

__all__ = ["BASE", "KEPT", "converted", "handlers_of", "with_handler", "without_handlers"]

BASE = '{{ template "base" . }}\n'
"""The whole of a template that adds nothing."""
KEPT = "90-gpuwizard-kept.toml"
"""The drop-in that takes what cannot stand next to "base"."""

_HEADER = re.compile(r"\s*\[([^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]\s*(?:#.*)?")
_PLUGINS = ("cri", CRI_V2, RUNTIME_V3)
_FROM_OPTIONS = (  # what the built-in template writes from K3s' own options and from registries.yaml
    "io.containerd.snapshotter.v1.stargz",
    "io.containerd.snapshotter.v1.nix",
    "stargz",
)
_GONE = ("linux", "io.containerd.runtime.v1.linux")


def handlers_of(document: Mapping[str, Any]) -> frozenset[str]:
    """The names of all handlers that a document defines, in whatever dialect."""
    plugins = document.get("plugins")
    found: set[str] = set()
    for plugin in _PLUGINS:
        node: Any = plugins
        for part in (plugin, "containerd", "runtimes"):
            node = node.get(part) if isinstance(node, Mapping) else None
        found |= set(node) if isinstance(node, Mapping) else set()
    return frozenset(found)


def without_handlers(text: str, names: Collection[str]) -> str:
    """The template without the tables of these handlers; every other byte stays."""
    kept: list[str] = []
    held: list[str] = []  # comments and blank lines at the end of a removed table: they belong to what follows
    removing = False
    for line in text.splitlines(keepends=True):
        if (header := _HEADER.fullmatch(line.rstrip("\r\n"))) is not None:
            path = table_path(header[1])
            removing = _is_handler(path, names)
        elif "{{" in line and "=" not in line.partition("{{")[0]:
            removing = False
        if not removing:
            kept += _following(kept, held)
            held = []
            kept.append(line)
        elif not line.strip() or line.lstrip().startswith("#"):
            held.append(line)
        else:
            held = []
    return "".join(kept + _following(kept, held))


def _is_handler(path: tuple[str, ...], names: Collection[str]) -> bool:
    return len(path) >= 5 and path[0] == "plugins" and path[1] in _PLUGINS and path[4] in names


def _following(kept: list[str], held: list[str]) -> list[str]:
    """Of the lines behind a removed table: its comments, and no second blank line where there is one already."""
    blank = not kept or not kept[-1].strip()
    while held and blank and not held[0].strip():
        held = held[1:]
    return held if any(line.strip() for line in held) else []


def with_handler(text: str, dialect: Dialect, name: str, path: str, default: str | None = None) -> str:
    """The template with handler `name` behind it, for a runtime that K3s does not find by itself.

    The block steps back as soon as K3s finds one, because the same table twice is fatal. `default` makes a handler the
    default one (version 3 alone: with version 2 the built-in template has that table).
    """
    quote = "'" if dialect == 3 else '"'
    table = flat_path(("plugins", CRI_OF[dialect], "containerd"), quote)
    lines = ["{{- /* Written by gpuwizard: it is not where K3s looks for it, and yields to one that is. */}}"]
    if default is not None:
        lines += [
            "{{ if not .NodeConfig.DefaultRuntime }}",
            f"[{table}]",
            f"  default_runtime_name = {literal(default)}",
        ]
        lines += ["{{ end }}"]
    runtime = f"{table}.runtimes.{quote}{name}{quote}"
    lines += [
        f'{{{{ if not (index .ExtraRuntimes "{name}").BinaryName }}}}',
        f"[{runtime}]",
        '  runtime_type = "io.containerd.runc.v2"',
        f"[{runtime}.options]",
        f"  BinaryName = {literal(path)}",
        "  SystemdCgroup = {{ .SystemdCgroup }}",
        "{{ end }}",
    ]
    newline = "\r\n" if "\r\n" in text else "\n"
    head = text if not text or text.endswith("\n") else text + newline
    return head + newline.join(lines) + newline


def converted(start: NextStart, path: str, text: str) -> dict[str, bytes | None]:
    """What takes the place of the stale template `path`: "base" and only what it has of its own, or nothing.

    Raises RefusedError where the template cannot be evaluated, or holds something that cannot stand next to "base".
    """
    document = _parsed(start, path, text)
    dialect = dialect_of(document)
    if dialect == 3 and not start.release.has_v3_template:
        raise RefusedError(f"{path} is written for containerd 2, which this release does not run", remedy=_BY_HAND)
    target: Dialect = 3 if dialect == 3 else 2
    custom = _custom(read_document(document), target, path)
    node = NodeState(target, {**read_document(document).values, **start.fresh, "default_runtime": None})
    base = base_document(node, start.release, target, start.detected, start.folder)
    both = sorted(own_tables(custom) & own_tables(base))
    v2, v3 = f"{start.folder}/{V2_TEMPLATE}", f"{start.folder}/{V3_TEMPLATE}"
    # Without the version 3 template the other one would come to life.
    instead = BASE.encode() if path == v3 and v2 in start.files else None
    at_top = any(not isinstance(value, Mapping) for value in custom.values())
    if (both or at_top) and target == 3 and start.release.has_imports:
        return {f"{start.folder}/config-v3.toml.d/{KEPT}": _as_drop_in(custom, path), path: instead}
    if both:
        names = ", ".join(f"[{flat_path(table)}]" for table in both)
        raise RefusedError(f"{path} adds keys to {clean_line(names)}, which the base writes, too", remedy=_BY_HAND)
    if not custom:
        return {path: instead}
    place = v3 if target == 3 else v2
    changes: dict[str, bytes | None] = {place: _beside_base(custom, target).encode("utf-8", "surrogateescape")}
    return changes if path in changes else {**changes, path: None}


_BY_HAND = 'write it as {{ template "base" . }} and what is your own by hand, or move it away, then plan again'


def _parsed(start: NextStart, path: str, text: str) -> dict[str, Any]:
    from gpuwizard.containerd.k3s_release import Applying

    dialect: Dialect = 3 if path.endswith(V3_TEMPLATE) else 2
    filled = filled_text(start, Applying(path, text, dialect))
    try:
        return tomllib.loads(filled.removeprefix("\ufeff"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RefusedError(f"{path} gives no TOML: {clean_line(str(error))}", remedy=_BY_HAND) from error


def _custom(node: NodeState, target: Dialect, path: str) -> dict[str, Any]:
    """What of a stale copy the built-in template does not write by itself, in the dialect of the new template."""
    rest = {key: value for key, value in node.rest.items() if key != "plugins"}
    plugins = node.rest.get("plugins")
    kept: dict[str, Any] = {}
    for name, table in plugins.items() if isinstance(plugins, Mapping) else ():
        if name in _FROM_OPTIONS or name in _GONE or (name == "cri" and node.dialect != 1):
            continue  # its own options, what containerd has no more, and tables that had no effect
        if node.dialect == 1 and name != "cri":
            raise RefusedError(f"{path}: plugins.{clean_line(name)} has no place in version {target}", remedy=_BY_HAND)
        inner = _without_known(table) if isinstance(table, dict) else table
        if inner:
            kept[CRI_OF[target] if name == "cri" else name] = inner
    return {**rest, "plugins": kept} if kept else rest


def _without_known(table: Mapping[str, Any]) -> dict[str, Any]:
    """A plugin's table without registries (they come from registries.yaml), what is no longer there, and runtimes
    that K3s looks for itself."""
    kept = {key: value for key, value in table.items() if key not in ("registry", "systemd_cgroup")}
    containerd = kept.get("containerd")
    if isinstance(containerd, Mapping):
        inner = {k: v for k, v in containerd.items() if k not in ("default_runtime", "untrusted_workload_runtime")}
        runtimes = inner.get("runtimes")
        if isinstance(runtimes, Mapping):
            inner["runtimes"] = {name: one for name, one in runtimes.items() if name not in DETECTABLE}
        kept["containerd"] = {key: value for key, value in inner.items() if value != {}}
    return {key: value for key, value in kept.items() if value != {}}


def _as_drop_in(custom: Mapping[str, Any], path: str) -> bytes:
    """A file that the built-in template imports: it may add keys to tables that the base writes."""
    lines = [f"# Written by gpuwizard: what {path} had of its own.", "version = 3"]
    lines += [f"{flat_path((key,))} = {literal(one)}" for key, one in custom.items() if not isinstance(one, Mapping)]
    for key, value in custom.items():
        if isinstance(value, Mapping):
            lines += _tables((key,), value, "'", cgroup=None)
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def _beside_base(custom: Mapping[str, Any], dialect: Dialect) -> str:
    quote = "'" if dialect == 3 else '"'
    lines: list[str] = []
    top = [key for key, value in custom.items() if not isinstance(value, Mapping)]
    if top:
        raise RefusedError(f"{', '.join(map(clean_line, top))} cannot stand behind the base", remedy=_BY_HAND)
    for key, value in custom.items():
        lines += _tables((key,), value, quote)
    text = "\n".join(lines) + "\n"
    if "{{" in text.replace("{{ .SystemdCgroup }}", ""):
        raise RefusedError("a value holds {{, which a template would take for an action", remedy=_BY_HAND)
    return BASE + text


def _tables(
    path: tuple[str, ...], table: Mapping[str, Any], quote: str, cgroup: str | None = "{{ .SystemdCgroup }}"
) -> list[str]:
    """Tables as text; `cgroup` is written in place of each SystemdCgroup."""
    own = [(key, value) for key, value in table.items() if not isinstance(value, Mapping)]
    lines = [f"[{flat_path(path, quote)}]"] if own or not table else []
    for key, value in own:
        written = cgroup if key == "SystemdCgroup" and cgroup is not None else literal(value)
        lines.append(f"  {flat_path((key,))} = {written}")
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _tables((*path, key), value, quote, cgroup)
    return lines
