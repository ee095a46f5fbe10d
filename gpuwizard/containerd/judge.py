"""Whether the daemon and its CRI plugin would take the merged tables."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gpuwizard.clean import clean_line
from gpuwizard.containerd import schema
from gpuwizard.containerd.merge import Merged
from gpuwizard.containerd.model import CRI_V2, IMAGES_V3, RUNTIME_V3
from gpuwizard.containerd.parse import Leaf, plain
from gpuwizard.containerd.plugins import SNAPSHOTTER, cri_needs, known_plugins, short_name
from gpuwizard.containerd.release import Release

__all__ = ["Decoded", "decoded", "disabled_plugins", "refused_plugins", "refused_start", "undecodable"]

_BOLT = "io.containerd.metadata.v1.bolt"
# Without these the CRI service fails while its image part works.
_OF_SERVICE = (
    RUNTIME_V3,
    IMAGES_V3,
    "io.containerd.podsandbox.controller.v1.podsandbox",
    "io.containerd.sandbox.controller.v1.shim",
)
_DIFF = "io.containerd.service.v1.diff-service"
_DIFFER = "io.containerd.differ.v1."
_DIFF_TYPES = ("diff", _DIFFER.rstrip("."))
_PROXIES = {
    "snapshot": "io.containerd.snapshotter.v1",
    "content": "io.containerd.content.v1",
    "sandbox": "io.containerd.sandbox.controller.v1",
    "diff": "io.containerd.differ.v1",
}
_DIFF_PROXIES = Release(1, 7, 4)
_LEVELS = ("", "trace", "debug", "info", "warn", "warning", "error", "fatal", "panic")
# These load only where somebody set them up, so a daemon that requires one of them does not start.
_NEEDS_SETTING = {
    f"{SNAPSHOTTER}devmapper": "pool_name",
    f"{SNAPSHOTTER}blockfile": "scratch_file",
    "io.containerd.internal.v1.tracing": "endpoint",
    "io.containerd.tracing.processor.v1.otlp": "endpoint",
}


@dataclass(frozen=True, slots=True)
class Decoded:
    """A plugin's table that the daemon decodes: the plugin's full name, the key in `plugins`, the table as the files
    set it (a `Leaf` for each value; the keys under the names that the decoder takes), and what it may hold."""

    uri: str
    key: str
    table: Any
    schema: schema.Table


def decoded(merged: Merged, release: Release) -> Iterator[Decoded]:
    """Every table that some plugin of `release` reads; a disabled plugin reads none."""
    disabled = disabled_plugins(merged, release)
    tables: dict[str, schema.Table | None] = {**schema.other(release)}
    if release.major < 2:
        tables[CRI_V2] = schema.cri_1(release)
    else:
        tables |= {
            CRI_V2: schema.server(release),
            RUNTIME_V3: schema.runtime(release),
            IMAGES_V3: schema.images(release),
        }
    for uri, known in tables.items():
        key = short_name(uri) if _short(merged, release) else uri
        if key not in merged.placed or uri in disabled or uri not in known_plugins(release):
            continue
        table: Any = merged.placed[key]
        if known is None:
            known = schema.Table(keys=dict.fromkeys(table, "anything") if isinstance(table, dict) else {})
        if isinstance(table, dict):
            table = schema.canonical(table, known, release)
        yield Decoded(uri, key, table, known)


def undecodable(merged: Merged, release: Release) -> str | None:
    """The first known key whose value a plugin cannot decode: the daemon then refuses to start."""
    for name, proxy in merged.other.get("proxy_plugins", {}).items():
        kind = _proxy_kind(proxy, release)
        if kind is None:
            return f"proxy_plugins.{clean_line(name)}: there is no proxy plugin of type {proxy.get('type', '')!r}"
        if f"{kind}.{name}" in known_plugins(release):
            return f"proxy_plugins.{clean_line(name)}: containerd has a plugin of this name already"
    for part in decoded(merged, release):
        if not isinstance(part.table, dict):
            return f"plugins.{part.key} must be a table"
        for problem in schema.problems(plain(part.table), part.schema):
            if problem.wanted:
                leaf = first_leaf(part.table, problem.path)
                where = f"{leaf.file}: line {leaf.line}: " if leaf else ""
                return f"{where}plugins.{part.key}.{clean_line('.'.join(problem.path))} must be {problem.wanted}"
    return None


def first_leaf(table: Any, path: tuple[str, ...]) -> Leaf | None:
    """The value at `path`, or the first one below it."""
    for part in path:
        if not isinstance(table, dict) or part not in table:
            break
        table = table[part]
    while isinstance(table, dict):
        table = next(iter(table.values()), None)
    return table if isinstance(table, Leaf) else None


def disabled_plugins(merged: Merged, release: Release) -> frozenset[str]:
    """The full names of the plugins that are off. A version-1 file on 1.x names plugins by their short name."""
    names = set(merged.disabled)
    if _short(merged, release):
        return frozenset(uri for uri in known_plugins(release) if short_name(uri) in names)
    return frozenset(uri for uri in known_plugins(release) if uri in names)


def refused_start(merged: Merged, broken: frozenset[str], why: str | None, release: Release) -> str | None:
    """Why the daemon would not come up although its files load; `broken` are the CRI plugins that fail, and `why`."""
    other = merged.other
    for name, value in other.get("timeouts", {}).items():
        if not schema.is_duration(value):
            return f"timeouts.{clean_line(name)}: {clean_line(value)!r} is no duration"
    if other.get("root") and other["root"] == other.get("state"):
        return "root and state must be different folders"
    debug, metrics = other.get("debug", {}), other.get("metrics", {}).get("address", "")
    if debug.get("level", "").lower() not in _LEVELS:
        return f"debug.level: there is no level {clean_line(debug['level'])!r}"
    if debug.get("format", "") not in ("", "text", "json"):
        return f"debug.format: {clean_line(debug['format'])!r} is neither text nor json"
    if metrics and ":" not in metrics:
        return f"metrics.address: {clean_line(metrics)!r} has no port"
    return next(_unmet(merged, broken, why, release), None)


def _unmet(merged: Merged, broken: frozenset[str], why: str | None, release: Release) -> Iterator[str]:
    """Required plugins that are not there or do not work."""
    disabled = disabled_plugins(merged, release)
    proxies = {f"{_proxy_kind(p, release)}.{name}" for name, p in merged.other.get("proxy_plugins", {}).items()}
    for name in merged.required:
        short = _short(merged, release)
        found = {uri for uri in known_plugins(release) | proxies if (short_name(uri) if short else uri) == name}
        shown = clean_line(name)
        if not found:
            yield f"the required plugin {shown} is none of containerd {release}"
        elif found <= disabled:
            yield f"the required plugin {shown} is disabled"
        elif found & broken:
            yield f"the required plugin {shown} does not load: {why}"
        elif any(_NEEDS_SETTING[u] not in _settings(merged, u, short) for u in found if u in _NEEDS_SETTING):
            yield f"the required plugin {shown} does not load: it is not set up"
        elif f"{SNAPSHOTTER}aufs" in found:
            yield f"the required plugin {shown} does not load on any kernel of today"


def _settings(merged: Merged, uri: str, short: bool) -> Mapping[str, Any]:
    """What the files set of a plugin."""
    return merged.plugins.get(short_name(uri) if short else uri, {})


def refused_plugins(merged: Merged, release: Release, snapshotter: str) -> Iterator[tuple[str, str]]:
    """Each CRI plugin that fails for want of another plugin, and why: one is disabled, or a snapshotter does not
    exist."""
    images = IMAGES_V3 if release.major >= 2 else CRI_V2
    for uri in sorted(cri_needs(release) & disabled_plugins(merged, release)):
        yield CRI_V2 if uri in _OF_SERVICE else images, f"the CRI plugin cannot do without the disabled {uri}"
    if problem := _storage(merged, release, snapshotter):
        yield images, problem


def _storage(merged: Merged, release: Release, snapshotter: str) -> str | None:
    """Why there is no place for images: the snapshotter, the content or metadata store, or the diff service."""
    disabled = disabled_plugins(merged, release)
    proxies = merged.other.get("proxy_plugins", {})
    for name, proxy in proxies.items():
        if release.major >= 2 and _proxy_kind(proxy, release) == _PROXIES["content"]:
            return f"proxy_plugins.{clean_line(name)} is a second content store: CRI takes one only"
    short, uri = _short(merged, release), SNAPSHOTTER + snapshotter
    bolt, diff = (_settings(merged, uri, short) for uri in (_BOLT, _DIFF))
    if bolt.get("content_sharing_policy", "") not in ("", "shared", "isolated"):
        return "content_sharing_policy must be shared or isolated: without the metadata store CRI fails"
    differs = {d.removeprefix(_DIFFER) for d in known_plugins(release) - disabled if d.startswith(_DIFFER)}
    differs |= {name for name, p in proxies.items() if p.get("type") in _DIFF_TYPES}
    for name in diff.get("default", ()):
        if name not in differs:
            return f"diff-service: there is no differ {clean_line(name)!r}: without that service CRI fails"
    if snapshotter == "" and release.major < 2:
        return None
    if snapshotter == "aufs" and uri in known_plugins(release):
        return "the snapshotter aufs loads on no kernel of today"
    if uri in disabled:
        return f"the snapshotter {clean_line(snapshotter)} is disabled"
    proxy = proxies.get(snapshotter)
    if uri not in known_plugins(release) and (proxy is None or _proxy_kind(proxy, release) != _PROXIES["snapshot"]):
        return f"there is no snapshotter {clean_line(snapshotter)!r}: no plugin and no proxy plugin has this name"
    setting = _NEEDS_SETTING.get(uri)
    if setting and not _settings(merged, uri, short).get(setting):
        return f"the snapshotter {clean_line(snapshotter)} is not set up: {uri} has no {setting}"
    return None


def _short(merged: Merged, release: Release) -> bool:
    """True when plugins go by their short names: version 1 on containerd 1.x."""
    return release.major < 2 and merged.version == 1


def _proxy_kind(proxy: Mapping[str, Any], release: Release) -> str | None:
    """The plugin type of a proxy plugin, None when `release` knows none of that name."""
    kinds = _PROXIES if release.major >= 2 else {k: v for k, v in _PROXIES.items() if k in ("snapshot", "content")}
    if release >= _DIFF_PROXIES:
        kinds |= {"diff": _PROXIES["diff"]}
    kind = proxy.get("type", "")
    return kind if kind in kinds.values() else kinds.get(kind)
