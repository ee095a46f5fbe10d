"""CRI settings out of one containerd document: a dump, a rendered K3s file or the files themselves
(`runtimes.md §1.1`)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

from gpuwizard.facts.model import Handler
from gpuwizard.facts.runtimes.config_files import ConfigFile, root_version, table
from gpuwizard.facts.runtimes.release import Release
from gpuwizard.facts.text import value

__all__ = ["CRI_V2", "IMAGES_V3", "RUNTIME_V3", "CriConfig", "merge_files", "plugin_state", "read_cri", "settings_of"]

CriState = Literal["ok", "error", "disabled"]
RUNTIME_V3 = "io.containerd.cri.v1.runtime"
IMAGES_V3 = "io.containerd.cri.v1.images"
CRI_V2 = "io.containerd.grpc.v1.cri"
_RUNC = "io.containerd.runc.v2"
_DIRS = ("/etc/cdi", "/var/run/cdi")
_DEEPEST = 16
"""No configuration nests deeper; dotted keys let a hostile one do so."""


@dataclass(frozen=True, slots=True)
class CriConfig:
    """What the document says about handlers, CDI, images. `disabled` is true when it switches the CRI plugin off.
    `cdi` is None where the document leaves it to the release."""

    handlers: Mapping[str, Handler] = field(default_factory=dict)
    default_handler: str | None = None
    disabled: bool = False
    error: str | None = None
    cdi: bool | None = None
    cdi_spec_dirs: tuple[str, ...] = ()
    snapshotter: str | None = None
    sandbox_image: str | None = None


def read_cri(document: Mapping[str, Any], release: Release | None = None, *, complete: bool = True) -> CriConfig:
    """The settings from the tables that belong to the document's version. The default handler is ``runc`` where none
    is set, as in every release; None in a dump without these tables, as 1.x prints it when CRI is switched off.

    A document that is not `complete` (files without the defaults that a dump holds) gets what `release` builds in: the
    handler runc (1.x: where the files have no table of handlers at all), CDI and its folders.
    """
    version = root_version(document)
    main, images = _tables(document, version)
    containerd = table(main, "containerd")
    handlers = _handlers(table(containerd, "runtimes"))
    cdi, dirs = main.get("enable_cdi"), main.get("cdi_spec_dirs")
    default = containerd.get("default_runtime_name")
    config = CriConfig(
        handlers=handlers,
        default_handler=_string(default) or ("runc" if containerd or not complete else None),
        disabled=_disabled(document),
        cdi=cdi if isinstance(cdi, bool) else None,
        cdi_spec_dirs=_strings(dirs),
        snapshotter=_string(images.get("snapshotter") if version > 2 else containerd.get("snapshotter")),
        sandbox_image=_string(
            table(images, "pinned_images").get("sandbox") if version > 2 else main.get("sandbox_image")
        ),
    )
    if not complete:
        return _with_defaults(config, "runtimes" in containerd, release, isinstance(dirs, list))
    return replace(config, cdi=False) if release is not None and release.line < (1, 7) else config


def _with_defaults(config: CriConfig, has_table: bool, release: Release | None, has_dirs: bool) -> CriConfig:
    handlers = dict(config.handlers)
    if release is not None and (release.major >= 2 or not has_table):
        handlers.setdefault("runc", Handler(_RUNC))
    cdi, dirs = config.cdi, config.cdi_spec_dirs
    if release is not None and cdi is None:
        cdi = release.major >= 2
    if release is not None and release.line < (1, 7):
        cdi, dirs = False, ()
    elif release is not None and not has_dirs:
        dirs = _DIRS
    return replace(config, handlers=handlers, cdi=cdi, cdi_spec_dirs=dirs)


def _tables(document: Mapping[str, Any], version: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The table with the handlers and the one with the images; up to version 2 it is one."""
    plugins = table(document, "plugins")
    if version > 2:
        return table(plugins, RUNTIME_V3), table(plugins, IMAGES_V3)
    main = table(plugins, "cri" if version < 2 else CRI_V2)
    return main, main


def _handlers(runtimes: Mapping[str, Any]) -> dict[str, Handler]:
    handlers: dict[str, Handler] = {}
    for name, entry in runtimes.items():
        if not isinstance(entry, Mapping):
            continue
        handlers[value(name) or name] = Handler(
            runtime_type=_string(entry.get("runtime_type")),
            options={value(k) or k: _plain(v) for k, v in table(entry, "options").items()},
        )
    return handlers


def _string(entry: object) -> str | None:
    return value(entry) if isinstance(entry, str) else None


def _strings(entry: object) -> tuple[str, ...]:
    if not isinstance(entry, list):
        return ()
    return tuple(shown for part in entry if isinstance(part, str) and (shown := value(part)))


def _plain(entry: object) -> object:
    return (value(entry) or "") if isinstance(entry, str) else entry


def _disabled(document: Mapping[str, Any]) -> bool:
    disabled = document.get("disabled_plugins", [])
    return isinstance(disabled, list) and any(name in ("cri", CRI_V2, RUNTIME_V3) for name in disabled)


def merge_files(files: Sequence[ConfigFile], release: Release | None) -> Mapping[str, Any] | None:
    """Files of one version and dialect laid over one another as `release` does it: 1.x replaces the whole table of a
    plugin, 2.x merges (`runtimes.md §0` fact 1). None where one of them is no TOML, where there is none, where they are
    of unlike versions, or where the release is not known and would decide.
    """
    if not files or any(file.document is None for file in files):
        return None
    if len(files) == 1:
        return files[0].document
    if release is None or len({file.version for file in files} - {None}) > 1:
        return None  # what becomes of two versions is told by their warnings (`runtimes.md §1.3`)
    merged: dict[str, Any] = {}
    for file in files:
        document = dict(file.document or {})
        names = [*merged.get("disabled_plugins", []), *_strings(document.get("disabled_plugins"))]
        if release.replaces_plugin_tables:
            document["plugins"] = {**table(merged, "plugins"), **file.plugins}
            merged["plugins"] = {}
        merged = _laid_over(merged, document)
        merged["disabled_plugins"] = names
    return merged


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any], depth: int = _DEEPEST) -> dict[str, Any]:
    """A new mapping; documents are shared and never changed."""
    out = dict(below)
    for key, entry in above.items():
        existing = out.get(key)
        if depth and isinstance(existing, Mapping) and isinstance(entry, Mapping):
            out[key] = _laid_over(existing, entry, depth - 1)
        else:
            out[key] = entry
    return out


def settings_of(plugins: Mapping[str, Any], *names: str) -> dict[str, object]:
    """The CRI settings of the plugin tables `names`, flat, under the same words in every dialect: ``sandbox_image``,
    ``containerd.runtimes.runc.options.SystemdCgroup``, ``registry.config_path``, ``cni.bin_dir``."""
    found: dict[str, object] = {}
    for name in names:
        for path, entry in _flat(table(plugins, name)):
            found[_common(name, path)] = entry
    return found


def _common(name: str, path: str) -> str:
    if name == IMAGES_V3:
        renamed = {"pinned_images.sandbox": "sandbox_image", "snapshotter": "containerd.snapshotter"}
        return renamed.get(path, path)
    return "cni.bin_dir" if path == "cni.bin_dirs" else path


def _flat(node: Mapping[str, Any], prefix: str = "", depth: int = _DEEPEST) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for key, entry in node.items():
        path = f"{prefix}.{key}" if prefix else str(key)
        if depth and isinstance(entry, Mapping):
            found += _flat(entry, path, depth - 1)
        elif path.endswith(("cni.bin_dirs", "cni.bin_dir")):
            found.append((path, tuple(entry) if isinstance(entry, list) else (entry,)))
        else:
            found.append((path, tuple(entry) if isinstance(entry, list) else entry))
    return found


@lru_cache(maxsize=256)
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
