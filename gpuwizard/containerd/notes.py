"""What stands in the files and does nothing: every setting that this release silently ignores, with file and line."""

import fnmatch
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from gpuwizard.clean import clean_line
from gpuwizard.containerd import schema
from gpuwizard.containerd.judge import Decoded, decoded, disabled_plugins, first_leaf
from gpuwizard.containerd.merge import Merged
from gpuwizard.containerd.model import CRI_V2, IMAGES_V3, RUNTIME_V3
from gpuwizard.containerd.parse import ConfigFile, Leaf, plain
from gpuwizard.containerd.plugins import known_plugins, short_name
from gpuwizard.containerd.release import Release

__all__ = ["notes"]

_RUNC = "io.containerd.runc.v2"
_GONE_TYPES = ("io.containerd.runtime.v1.linux", "io.containerd.runc.v1")
_MOVED_SERVERS = ("grpc", "ttrpc", "metrics")
_LINES = ("1.3.10", "1.4.13", "1.5.18", "1.6.40", "1.7.40", "2.0.20", "2.1.20", "2.2.20", "2.3.20", "2.4.0")


def notes(merged: Merged, files: Mapping[str, bytes], main: str, release: Release) -> tuple[str, ...]:
    """One line per ignored setting or table, ``FILE:LINE: what and why``, in the order of the files."""
    found: list[tuple[str, int, str]] = []
    for file in merged.read:
        found += [(file.path, line, text) for line, text in _top_level(file, release)]
    found += _dead_tables(merged, release)
    for part in decoded(merged, release):
        if isinstance(part.table, dict):
            found += _unknown_keys(part, release)
            found += _handlers(part, release)
    found += _lost(merged, release)
    found += _names(merged, release)
    found += [(path, 0, text) for path, text in _never_read(merged, files, main)]
    order = {path: n for n, path in enumerate(merged.files)}
    found = sorted(dict.fromkeys(found), key=lambda n: (order.get(n[0], len(order)), n[0], n[1]))
    return tuple(f"{clean_line(path)}{f':{line}' if line else ''}: {text}" for path, line, text in found)


def _top_level(file: ConfigFile, release: Release) -> Iterator[tuple[int, str]]:
    """Unknown keys outside the plugins' tables, and the daemon's own tables that version 4 has no more."""
    for problem in file.ignored:
        name, line = clean_line(".".join(problem.path)), file.lines.get(problem.path, 0)
        yield line, f"{name}: ignored: {_why_unknown(problem.path, schema.top_level, release)}"
    if release.migrates_each_file and file.version >= release.config_version:
        for key in _MOVED_SERVERS:
            if file.tables.get(key):
                yield (
                    file.lines.get((key,), 0),
                    f"{key}: ignored: version 4 has these settings in io.containerd.server.v1 tables",
                )


def _why_unknown(path: tuple[str, ...], table_of: Any, release: Release) -> str:
    """What a key that `release` does not know is: later, former, fallen into the wrong table, or unknown for good."""
    lines = [Release.parse(text) for text in _LINES]
    knowing = [known for known in lines if known.major == release.major and _knows(table_of(known), path)]
    if len(path) > 1 and path[-1] in ("imports", "version", "disabled_plugins", "required_plugins", "root", "state"):
        return f"{path[-1]} stands behind a table header and so belongs to that table: move it above the first [table]"
    if not knowing:
        return f"containerd {release} does not know this key"
    first = min(knowing)
    if first.line > release.line or (first.line == release.line and first > release):
        return f"containerd {release} does not know this key; later releases do ({first.major}.{first.minor})"
    return f"containerd {release} does not know this key any more; {max(knowing).major}.{max(knowing).minor} did"


def _knows(table: schema.Table, path: tuple[str, ...]) -> bool:
    node: Any = table
    for part in path:
        node = node.of(part) if isinstance(node, schema.Table) else None
        if node is None:
            return False
    return True


def _unknown_keys(part: Decoded, release: Release) -> Iterator[tuple[str, int, str]]:
    for problem in schema.problems(plain(part.table), part.schema):
        if problem.wanted:
            continue
        why = _why_cri(part.uri, problem.path, release)
        for leaf, depth in _each_file(part.table, problem.path):
            written = leaf.path[: len(leaf.path) - depth]
            yield leaf.file, leaf.line, f"{clean_line('.'.join(written))}: ignored: {why}"


def _why_cri(uri: str, path: tuple[str, ...], release: Release) -> str:
    """Why CRI ignores a key: it belongs to another of its tables, or is unknown."""
    tables = {CRI_V2: schema.server, RUNTIME_V3: schema.runtime, IMAGES_V3: schema.images}
    if release.major < 2:
        return _why_unknown(path, schema.cri_1, release) if uri == CRI_V2 else _plainly(release)
    if uri not in tables:
        return _plainly(release)
    for name, known in tables.items():
        if name != uri and _knows(known(release), path):
            return f"this belongs to the table {name}"
    if _knows(schema.cri_1(Release(1, 7, 40)), path):
        if uri == CRI_V2:
            return "a table of version 2 does nothing at this configuration version: its place is io.containerd.cri.v1"
        moved = {"sandbox_image": "pinned_images.sandbox", "containerd.snapshotter": "snapshotter"}.get(".".join(path))
        if moved:
            return f"version 3 has this as {moved} of {IMAGES_V3}"
        return f"containerd {release} does not know this key any more; 1.7 did"
    return _why_unknown(path, tables[uri], release)


def _plainly(release: Release) -> str:
    return f"containerd {release} does not know this key"


def _each_file(table: Any, path: tuple[str, ...]) -> Iterator[tuple[Leaf, int]]:
    """The first value at or below `path` of each file that sets one, and how deep below it lies."""
    for part in path:
        table = table.get(part) if isinstance(table, dict) else None
    seen: dict[str, tuple[Leaf, int]] = {}
    for leaf, depth in _deep(table, 0):
        if leaf.file not in seen or leaf.line < seen[leaf.file][0].line:
            seen[leaf.file] = (leaf, depth)
    yield from seen.values()


def _below(table: Any) -> Iterator[Leaf]:
    return (leaf for leaf, _ in _deep(table, 0))


def _deep(table: Any, depth: int) -> Iterator[tuple[Leaf, int]]:
    if isinstance(table, dict):
        for value in table.values():
            yield from _deep(value, depth + 1)
    elif isinstance(table, Leaf):
        yield table, depth


def _handlers(part: Decoded, release: Release) -> Iterator[tuple[str, int, str]]:
    """Options that the shim does not know or cannot decode, and shims that are gone."""
    containerd = part.table.get("containerd")
    runtimes = containerd.get("runtimes") if isinstance(containerd, dict) else None
    if part.uri not in (CRI_V2, RUNTIME_V3) or not isinstance(runtimes, dict):
        return
    for name, handler in runtimes.items():
        if not isinstance(handler, dict):
            continue
        shown, kind = clean_line(name), handler.get("runtime_type")
        if release.major >= 2 and isinstance(kind, Leaf) and kind.value in _GONE_TYPES:
            yield kind.file, kind.line, f"handler {shown}: containerd 2 has no {kind.value}, pods with it do not start"
        if isinstance(kind, Leaf) and kind.value != _RUNC:
            continue
        options = handler.get("options")
        for key, leaf in options.items() if isinstance(options, dict) else ():
            if trouble := _option_trouble(key, leaf, release):
                where = leaf if isinstance(leaf, Leaf) else first_leaf(leaf, ())
                if where is not None:
                    yield where.file, where.line, f"handler {shown}: option {clean_line(key)}: {trouble}"


def _option_trouble(key: str, leaf: Any, release: Release) -> str:
    wanted = schema.OPTIONS.get(key)
    if wanted is None:
        near = next((known for known in schema.OPTIONS if known.lower() == key.replace("_", "").lower()), None)
        if near and release.major >= 2 and near.lower() == key.lower():
            return ""
        return f"runc's shim has no such option{f', it has {near}' if near else ''}"
    value = leaf.value if isinstance(leaf, Leaf) else leaf
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        words = {bool: "true or false", str: "a string", int: "a whole number"}[wanted]
        return f"must be {words}: pods with this handler do not start"
    return ""


def _dead_tables(merged: Merged, release: Release) -> Iterator[tuple[str, int, str]]:
    """Tables of plugins that do not exist, are disabled, or have no settings."""
    read = {part.key for part in decoded(merged, release)}
    disabled = disabled_plugins(merged, release)
    names = {uri: uri for uri in known_plugins(release)}
    if release.major < 2 and merged.version == 1:
        names = {short_name(uri): uri for uri in names}
    for key, table in merged.placed.items():
        if key in read:
            continue
        uri = names.get(key)
        if key in (RUNTIME_V3, IMAGES_V3) and release.major < 2:
            why = f"a table of version 3, which containerd {release} does not know"
        elif uri in disabled:
            why = "this plugin is disabled"
        elif uri is not None:
            why = "this plugin has no settings"
        elif "." not in key:
            why = "a version-1 table does nothing in files of a later version"
        elif release.major < 2 and merged.version == 1:
            why = "a version-2 table does nothing in files without a version: write version = 2"
        else:
            why = f"containerd {release} has no plugin of this name"
        for leaf, depth in _each_file(table, ()):
            written = clean_line(".".join(leaf.path[: len(leaf.path) - depth]))
            yield leaf.file, leaf.line, f"{written}: ignored: {why}"


def _lost(merged: Merged, release: Release) -> Iterator[tuple[str, int, str]]:
    """Values that vanish although no later file sets them: a drop-in replaced the whole table of their plugin (1.x),
    or the migration found the place taken (2.x)."""
    alive = {(leaf.file, leaf.path) for leaf in _below(merged.placed)}
    last = {name: file.path for file in merged.read for name in file.plugins}
    set_again = {leaf.path for leaf in _below(merged.placed)}
    for file in merged.read:
        for name, table in file.plugins.items():
            gone = [leaf for leaf in _below(table) if (leaf.file, leaf.path) not in alive]
            if release.replaces_plugin_tables:
                gone = [leaf for leaf in gone if leaf.path not in set_again]
                if gone and last[name] != file.path:
                    keys = _keys(gone, 2)
                    why = f"lost: {clean_line(last[name])} replaces the whole table of this plugin ({keys})"
                    yield file.path, min(leaf.line for leaf in gone), f"plugins.{clean_line(name)}: {why}"
                continue
            for leaf in gone:
                if not _overridden(leaf, merged):
                    key = clean_line(".".join(leaf.path))
                    yield leaf.file, leaf.line, f"{key}: lost: the tables of version 3 are there already and win"


def _keys(leaves: list[Leaf], depth: int) -> str:
    names = list(dict.fromkeys(clean_line(".".join(leaf.path[depth:])) for leaf in leaves))
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _overridden(leaf: Leaf, merged: Merged) -> bool:
    """A later file sets the same key: that is what drop-ins are for."""
    later = False
    for file in merged.read:
        if later and leaf.path in file.lines:
            return True
        later = later or file.path == leaf.file
    return False


def _names(merged: Merged, release: Release) -> Iterator[tuple[str, int, str]]:
    """Entries of disabled_plugins that disable nothing."""
    short = release.major < 2 and merged.version == 1
    known = {short_name(uri) if short else uri for uri in known_plugins(release)}
    known |= {short_name(uri) for uri in known_plugins(release)} if release.major >= 2 else set()
    for file in merged.read:
        leaf = file.tables.get("disabled_plugins")
        for name in file.disabled:
            if name not in known and isinstance(leaf, Leaf):
                hint = " (without a version plugins go by their short names)" if short and "." in name else ""
                yield (
                    leaf.file,
                    leaf.line,
                    f"disabled_plugins: {clean_line(name)} is no plugin of containerd {release}{hint}",
                )


def _never_read(merged: Merged, files: Mapping[str, bytes], main: str) -> Iterator[tuple[str, str]]:
    """Drop-ins beside the root file that no file imports."""
    if merged.error is not None and not merged.dumps:
        return
    folder = posixpath.dirname(main)
    for path in sorted(files):
        below = path.removeprefix(folder.rstrip("/") + "/")
        if path not in merged.files and fnmatch.fnmatchcase(below, "*.d/*.toml") and below.count("/") == 1:
            pattern = clean_line(f"{posixpath.dirname(path)}/*.toml")
            yield path, f'never read: no file imports it; {clean_line(main)} needs imports = ["{pattern}"]'
