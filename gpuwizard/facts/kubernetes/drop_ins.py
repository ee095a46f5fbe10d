"""Drop-ins of K3s and RKE2: which folders are imported, and what becomes of the files in them (`runtimes.md §2.3`)."""

import functools
import posixpath
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpuwizard.facts.kubernetes.template_text import read_template
from gpuwizard.facts.kubernetes.templates import (
    CRI_V2,
    IMAGES_V3,
    RUNTIME_V3,
    V2_TEMPLATE,
    V3_TEMPLATE,
    Rendering,
    found,
    judge,
    shown,
)
from gpuwizard.facts.model import HostFile, Template, TemplateProblem
from gpuwizard.facts.text import load_toml, value

__all__ = ["TemplateFiles", "read_templates", "rendered_imports"]

_FOLDERS = {2: "config.toml.d", 3: "config-v3.toml.d"}


@dataclass(frozen=True, slots=True)
class TemplateFiles:
    """What lies in the folder of the rendered file: the files, and the paths that are there and could not be read."""

    files: Mapping[str, HostFile]
    folder: str
    unread: Collection[str] = ()

    def content(self, name: str) -> str | None:
        """The text of the file `name` in the folder."""
        file = self.files.get(f"{self.folder}/{name}")
        return None if file is None or file.content is None else file.content.text()

    def has(self, name: str) -> bool:
        """Whether the file `name` is there, readable or not."""
        path = f"{self.folder}/{name}"
        file = self.files.get(path)
        return (file is not None and file.content is not None) or path in self.unread

    def changed(self, name: str) -> int | None:
        """When that file was last written."""
        file = self.files.get(f"{self.folder}/{name}")
        return None if file is None or file.content is None else file.mtime

    def in_folder(self, name: str) -> list[str]:
        """The TOML files in a folder below it, in order; those that could not be read as well."""
        inside = f"{self.folder}/{name}/"
        there = [path for path, file in self.files.items() if file.content is not None]
        return sorted(
            path
            for path in {*there, *self.unread}
            if path.startswith(inside) and path.endswith(".toml") and "/" not in path[len(inside) :]
        )


def rendered_imports(files: TemplateFiles) -> tuple[str, ...] | None:
    """The import patterns of the rendered file; None where it is not there or no TOML."""
    text = files.content("config.toml")
    document = load_toml(text) if text is not None else None
    if not isinstance(document, Mapping):
        return None
    imports = document.get("imports")
    entries = imports if isinstance(imports, list) else []
    return tuple(path for entry in entries if isinstance(entry, str) and (path := value(entry)))


def read_templates(files: TemplateFiles, rendering: Rendering) -> tuple[Template, ...]:
    """The state of every template and drop-in that is there."""
    judged = [*_templates(files, rendering)]
    for version, name in _FOLDERS.items():
        paths = files.in_folder(name)
        why_not = _not_imported(files, version, _active(files, rendering), rendering) if paths else None
        for path in paths:
            if path in files.unread:
                judged.append(Template(path, "unread"))
            elif why_not is not None:
                judged.append(Template(path, "ignored", (why_not,), (TemplateProblem("not-imported", why_not),)))
            else:
                judged.append(_drop_in(path, files.files[path], version, rendering))
    return tuple(judged)


def _templates(files: TemplateFiles, rendering: Rendering) -> Sequence[Template]:
    found_templates: list[Template] = []
    for name in (V3_TEMPLATE, V2_TEMPLATE):
        path = f"{files.folder}/{name}"
        if path in files.unread:
            found_templates.append(Template(path, "unread"))
        elif (text := files.content(name)) is not None:
            wins = name == V2_TEMPLATE and _active(files, rendering) == V3_TEMPLATE
            found_templates.append(judge(path, text, rendering, other_wins=wins))
    return found_templates


def _active(files: TemplateFiles, rendering: Rendering) -> str | None:
    """The template that is rendered at the next start; None for the built-in one."""
    release = rendering.release
    knows_v3 = (
        release.has_v3_template if release is not None else "version = 2" not in (files.content("config.toml") or "")
    )
    there = [name for name in (V3_TEMPLATE, V2_TEMPLATE) if files.has(name)]
    return next((name for name in there if knows_v3 or name == V2_TEMPLATE), None)


def _not_imported(files: TemplateFiles, version: int, active: str | None, rendering: Rendering) -> str | None:
    """Why the drop-in folder of that version is not read; None where it is, or where that is not known."""
    name, release = _FOLDERS[version], rendering.release
    text = files.content(active) if active is not None else None
    if text is not None and read_template(text).base is None:
        return None if f"{name}/" in text else f"{active} does not import {name}"
    rendered = _of_this_template(files, active)
    if rendered is not None:
        folder = f"{files.folder}/{name}"
        return None if any(posixpath.dirname(p) == folder for p in rendered) else f"config.toml does not import {name}"
    used = 2 if active == V2_TEMPLATE or (release is not None and not release.has_v3_template) else 3
    if used != version:
        return f"version {used} is rendered, which imports {_FOLDERS[used]}"
    return None if release is None or release.has_imports else "this release imports no drop-in folders"


def _of_this_template(files: TemplateFiles, active: str | None) -> tuple[str, ...] | None:
    """The imports of the rendered file where it was rendered from the template that is there now."""
    rendered, template = files.changed("config.toml"), files.changed(active) if active is not None else None
    if active is not None and (rendered is None or template is None or template > rendered):
        return None
    return rendered_imports(files)


def _drop_in(path: str, file: HostFile, root: int, rendering: Rendering) -> Template:
    assert file.content is not None
    document = load_toml(file.content.raw)
    if isinstance(document, str):
        problem = found("not-toml", document)
        return Template(path, "dangerous", (shown(problem),), (problem,))
    state, problems = _judged(_Dialect.of(document), root, rendering)
    return Template(path, state, tuple(shown(problem) for problem in problems), problems)


@dataclass(frozen=True, slots=True)
class _Dialect:
    """What decides how a drop-in is taken. `version` is 0 where it has none."""

    version: int
    v2: bool
    v3: bool
    old: tuple[str, ...]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "_Dialect":
        version, plugins = document.get("version", 0), document.get("plugins")
        names = tuple(str(name) for name in plugins) if isinstance(plugins, Mapping) else ()
        cri = plugins.get(CRI_V2) if isinstance(plugins, Mapping) else None
        moved = isinstance(cri, Mapping) and any(
            key in cri for key in ("containerd", "cni", "registry", "sandbox_image")
        )
        return cls(
            version if isinstance(version, int) and not isinstance(version, bool) else 0,
            moved,
            RUNTIME_V3 in names or IMAGES_V3 in names,
            tuple(name for name in names if "." not in name),
        )


@functools.lru_cache(maxsize=256)
def _judged(dialect: _Dialect, root: int, rendering: Rendering) -> tuple[Any, tuple[TemplateProblem, ...]]:
    """State and problems of a drop-in below a root file of version `root` (`runtimes.md §1.3`, measured matrix)."""
    migrates = rendering.release is not None and rendering.release.containerd_2_3
    if dialect.version > root:
        text = f"version = {dialect.version} below a file of version {root}"
        return "dangerous", (TemplateProblem("wrong-version", text),)
    if root == 2 and dialect.v3:
        return "dangerous", (TemplateProblem("wrong-dialect", "plugin names of version 3 below a file of version 2"),)
    if dialect.old and not (dialect.v2 or dialect.v3):
        return "ignored", (found("old-tables", f"[plugins.{dialect.old[0]}]: a table of version 1"),)
    if root == 3 and dialect.version == 2 and not migrates and (dialect.v2 or dialect.v3):
        return "ignored", (TemplateProblem("wrong-version", "version = 2 below a file of version 3"),)
    if root == 3 and dialect.v2 and not (migrates and dialect.version < 3):
        return "ignored", (TemplateProblem("wrong-dialect", "plugin names of version 2 below a file of version 3"),)
    return "fresh", ()
