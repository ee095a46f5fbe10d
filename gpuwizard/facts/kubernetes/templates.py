"""What K3s or RKE2 makes of a containerd template (`runtimes.md §2.3`, `§2.6`)."""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gpuwizard.clean import clean_line
from gpuwizard.facts.kubernetes.release import KubeRelease
from gpuwizard.facts.kubernetes.template_text import Header, TemplateText, read_template
from gpuwizard.facts.model import Template, TemplateProblem, TemplateProblemKind

__all__ = ["CRI_V2", "IMAGES_V3", "NVIDIA_NAMES", "RUNTIME_V3", "V2_TEMPLATE", "V3_TEMPLATE", "Rendering", "judge"]

V2_TEMPLATE, V3_TEMPLATE = "config.toml.tmpl", "config-v3.toml.tmpl"
CRI_V2 = "io.containerd.grpc.v1.cri"
RUNTIME_V3 = "io.containerd.cri.v1.runtime"
IMAGES_V3 = "io.containerd.cri.v1.images"
NVIDIA_NAMES = ("nvidia", "nvidia-cdi", "nvidia-experimental")
"""Handlers that K3s adds by itself."""
_OPERATOR = "/usr/local/nvidia/toolkit/nvidia-container-runtime"
_GO = frozenset(("and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or", "print"))
_GO_TOO = frozenset(("printf", "println", "slice", "urlquery"))
_FUNCTIONS = _GO | _GO_TOO | {"deschemify", "toJson", "filepathjoin"}
_NEWEST = KubeRelease(1, 37, 10**6)  # releases after this one may have more functions
_LIMIT = 256 * 1024
_TWICE = re.compile(r"Cannot (?:declare|overwrite|mutate)")
Weight = Literal["dangerous", "ignored", "stale", "note"]
Judged = tuple[Weight, TemplateProblem]


@dataclass(frozen=True, slots=True)
class Rendering:
    """What decides how a template is rendered. `release` is None where the version is not known; `default_runtime`
    says whether the option of that name is set, `flannel` whether the base writes CNI directories."""

    release: KubeRelease | None
    default_runtime: bool = False
    flannel: bool = False

    @property
    def containerd_2(self) -> bool | None:
        """containerd is 2.0 or newer; None where the release is not known."""
        return None if self.release is None else self.release.has_v3_template


def judge(path: str, text: str, rendering: Rendering, *, other_wins: bool) -> Template:
    """The state of the template `path`, whose content is `text`. `other_wins` is true where another one is used."""
    name = path.rpartition("/")[2]
    release = rendering.release
    if len(text) > _LIMIT:
        return Template(path, "unread", (f"larger than {_LIMIT >> 10} KiB",))
    if other_wins:
        problem = TemplateProblem("other-wins", f"{V3_TEMPLATE} is used instead")
        return Template(path, "ignored", (problem.text,), (problem,))
    if name == V3_TEMPLATE and release is not None and not release.has_v3_template:
        problem = TemplateProblem("other-wins", f"this release reads {V2_TEMPLATE} only")
        return Template(path, "ignored", (problem.text,), (problem,))
    return _state(path, _judged(name, text, rendering))


def _state(path: str, judged: tuple[Judged, ...]) -> Template:
    weights = {weight for weight, _ in judged}
    problems = tuple(problem for _, problem in judged)
    why = tuple(shown(problem) for problem in problems)
    if "dangerous" in weights:
        return Template(path, "dangerous", why, problems)
    if "ignored" in weights:
        return Template(path, "ignored", why, problems)
    return Template(path, "stale" if "stale" in weights else "fresh", why, problems)


def shown(problem: TemplateProblem) -> str:
    """A problem as a line for people."""
    return f"line {problem.line}: {problem.text}" if problem.line is not None else problem.text


def found(kind: TemplateProblemKind, text: str, line: int | None = None) -> TemplateProblem:
    """A problem whose text comes from the host."""
    return TemplateProblem(kind, clean_line(text, 160), line)


@functools.lru_cache(maxsize=256)
def _judged(name: str, text: str, rendering: Rendering) -> tuple[Judged, ...]:
    """Everything that is the matter with a template that is used."""
    parts = read_template(text)
    if parts.broken is not None:  # nothing comes out of it, so nothing else can be said of it
        return (("dangerous", found("unknown-word", parts.broken[1], parts.broken[0])),)
    dialect = 3 if name == V3_TEMPLATE else 2
    judged = list(_words(parts, rendering))
    judged += _with_base(parts, dialect, rendering) if parts.base is not None else _without_base(name, parts, rendering)
    if parts.base is None and _OPERATOR in text and not parts.filled:
        judged.append(("stale", TemplateProblem("operator", f"BinaryName below {_OPERATOR.rpartition('/')[0]}")))
    if parts.toml_error is not None and not _TWICE.search(parts.toml_error):
        judged.append(("dangerous", found("not-toml", parts.toml_error)))
    return tuple(judged)


def _words(parts: TemplateText, rendering: Rendering) -> Iterator[Judged]:
    """Go's parser panics on what it does not know, and K3s with it."""
    release = rendering.release
    for name, line in parts.fields:
        if name == "SELinuxEnabled":
            yield "dangerous", found("unknown-word", f".{name}: K3s has no such field since 2020", line)
    for name, line in parts.functions:
        if release is None:
            continue
        if name == "filepathjoin" and not release.has_imports:
            yield "dangerous", found("unknown-word", f"{name}: a function that came with drop-in folders", line)
        elif name not in _FUNCTIONS and release <= _NEWEST:
            yield "dangerous", found("unknown-word", f"{name}: there is no such function", line)


def _with_base(parts: TemplateText, dialect: int, rendering: Rendering) -> Iterator[Judged]:
    base = parts.base or 0
    if rendering.release is not None and not rendering.release.has_base:
        yield "dangerous", TemplateProblem("no-base", 'this release has no template "base"', base)
    above = next((header for header in parts.headers if header.line < base), None)
    if above is not None:
        yield "dangerous", found("no-version", f"{above.text} above the base takes its version line", above.line)
    for key in parts.keys:
        if key.line < base and key.table is None and key.name in ("version", "root", "state"):
            yield "dangerous", found("table-twice", f"{key.text}: the base sets it, too", key.line)
        elif key.line > base and key.name in ("version", "imports"):
            yield "note", found("after-base", key.text, key.line)
    yield from _tables(parts, dialect, rendering)
    yield from _twice(parts.headers)


def _tables(parts: TemplateText, dialect: int, rendering: Rendering) -> Iterator[Judged]:
    """Tables next to those of the base."""
    taken = _base_tables(dialect, rendering)
    own = CRI_V2 if dialect == 2 else RUNTIME_V3
    for header in parts.headers:
        if (name := _handler(header, own)) in NVIDIA_NAMES:
            yield "dangerous", found("nvidia-twice", header.text, header.line)
        elif header.path in taken and not header.array:
            yield "dangerous", found("table-twice", header.text, header.line)
        elif _is_old(header):
            yield _old(header, rendering)
        elif name is None and _other_dialect(header, dialect):
            yield _misplaced(header, dialect, rendering), found("wrong-dialect", header.text, header.line)


def _base_tables(dialect: int, rendering: Rendering) -> frozenset[tuple[str, ...]]:
    """The tables that the built-in template certainly writes (`runtimes.md §2.3`)."""
    own = CRI_V2 if dialect == 2 else RUNTIME_V3
    runc = ("plugins", own, "containerd", "runtimes", "runc")
    tables = {("plugins", own), runc, (*runc, "options"), ("plugins", "io.containerd.internal.v1.opt")}
    if dialect == 2 or rendering.default_runtime:
        tables.add(("plugins", own, "containerd"))
    if dialect == 3:
        tables |= {("plugins", IMAGES_V3), ("plugins", IMAGES_V3, "pinned_images"), ("plugins", IMAGES_V3, "registry")}
    if rendering.containerd_2:
        tables.add(("grpc",))
    if rendering.flannel:
        tables.add(("plugins", own, "cni"))
    return frozenset(tables)


def _handler(header: Header, plugin: str) -> str | None:
    """The handler whose table, or whose options, this is."""
    path = header.path
    if path[:4] == ("plugins", plugin, "containerd", "runtimes") and len(path) >= 5:
        return path[4]
    return None


def _is_old(header: Header) -> bool:
    """A table of configuration version 1: a plugin without a full name."""
    return header.path[0] == "plugins" and len(header.path) > 1 and "." not in header.path[1]


def _old(header: Header, rendering: Rendering) -> Judged:
    """1.x refuses it in a file that has a version, 2.x takes no notice of it."""
    return "note" if rendering.containerd_2 else "dangerous", found("old-tables", header.text, header.line)


def _other_dialect(header: Header, dialect: int) -> bool:
    other = (RUNTIME_V3, IMAGES_V3) if dialect == 2 else (CRI_V2,)
    return header.path[0] == "plugins" and len(header.path) > 2 and header.path[1] in other


def _misplaced(header: Header, dialect: int, rendering: Rendering) -> Weight:
    """Handlers of version 3 in a file of version 2 keep containerd 2.x from taking over those of version 2."""
    return "dangerous" if dialect == 2 and rendering.containerd_2 and "containerd" in header.path else "note"


def _twice(headers: tuple[Header, ...]) -> Iterator[Judged]:
    """A table that the file itself defines twice, outside of branches and loops."""
    seen: set[tuple[str, ...]] = set()
    for header in headers:
        if header.depth == 0 and not header.array:
            if header.path in seen:
                nvidia = any(name in header.path for name in NVIDIA_NAMES)
                kind: TemplateProblemKind = "nvidia-twice" if nvidia else "table-twice"
                yield "dangerous", found(kind, f"{header.text} a second time", header.line)
            seen.add(header.path)


def _without_base(name: str, parts: TemplateText, rendering: Rendering) -> Iterator[Judged]:
    """A template that has to say everything itself."""
    renders = any(field == "ExtraRuntimes" for field, _ in parts.fields)
    by_hand = rendering.release is not None and not rendering.release.detects_nvidia and parts.filled
    if not renders and not by_hand:
        yield "stale", TemplateProblem("full-copy", 'it does not include the built-in template "base"')
    elif renders:
        for header in parts.headers:
            if header.depth == 0 and any(_handler(header, plugin) == "nvidia" for plugin in (CRI_V2, RUNTIME_V3)):
                yield "dangerous", found("nvidia-twice", header.text, header.line)
    yield from _twice(parts.headers)
    version = parts.top_level("version")
    if version is None:
        yield from _unversioned(parts, rendering)
    elif version.value in ("2", "3", "4"):
        yield from _versioned(name, parts, int(version.value), version.line, rendering)
    if name == V3_TEMPLATE and (missing := _missing_state(parts)):
        yield "dangerous", TemplateProblem("no-state", f"it does not set {', '.join(missing)}")


def _unversioned(parts: TemplateText, rendering: Rendering) -> Iterator[Judged]:
    """Version 1: read up to containerd 1.7 and from 2.3 on, its CRI part ignored between (`runtimes.md §1.1`)."""
    old = next((header for header in parts.headers if _is_old(header)), None)
    new = next((h for h in parts.headers if h.path[0] == "plugins" and not _is_old(h) and len(h.path) > 2), None)
    release = rendering.release
    telling = old or new
    where = f": {telling.text}" if telling is not None else ""
    line = telling.line if telling is not None else None
    ignored = release is not None and release.has_v3_template and not release.containerd_2_3
    if ignored or (new is not None and old is None and rendering.containerd_2 is False):
        yield "dangerous", found("no-version", f'there is no "version" line{where}', line)
    elif old is not None:
        yield "stale", found("old-tables", old.text, old.line)


def _versioned(name: str, parts: TemplateText, version: int, line: int, rendering: Rendering) -> Iterator[Judged]:
    expected = 3 if name == V3_TEMPLATE else 2
    if version != expected:
        refused = version > 2 and rendering.containerd_2 is False
        weight: Weight = "dangerous" if refused else "stale"
        yield weight, found("wrong-version", f"version = {version} in {name}", line)
    for header in parts.headers:
        if _is_old(header):
            yield _old(header, rendering)
        elif _other_dialect(header, 2 if version == 2 else 3):
            yield _misplaced(header, version, rendering), found("wrong-dialect", header.text, header.line)


def _missing_state(parts: TemplateText) -> tuple[str, ...]:
    """K3s passes only ``-c`` to a containerd with a v3 template (`runtimes.md §2.3`)."""
    missing = [name for name in ("root", "state") if parts.top_level(name) is None]
    servers = (("grpc",), ("plugins", "io.containerd.server.v1.grpc"))
    if not any(key.name == "address" and key.table in servers for key in parts.keys):
        missing.append("[grpc] address")
    return tuple(missing)
