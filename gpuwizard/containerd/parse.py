"""One configuration file from bytes, judged as strictly as the release's own parser does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpuwizard.clean import clean_line
from gpuwizard.containerd.release import Release
from gpuwizard.containerd.schema import Problem, canonical, problems, top_level
from gpuwizard.containerd.toml import Path, TomlError, read

__all__ = ["ConfigFile", "Leaf", "LoadError", "parse_file", "plain"]

_BOM = b"\xef\xbb\xbf"


class LoadError(Exception):
    """The daemon would refuse to start on these files. `missing` is the path of a file that does not exist."""

    def __init__(self, text: str, *, missing: str | None = None) -> None:
        super().__init__(text)
        self.missing = missing


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """One value that a file sets, with the place where it stands; `path` is its key in that file."""

    value: Any
    file: str
    line: int
    path: Path


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """One parsed file: `version` is 0 when it has none; `tables` are its tables with a `Leaf` for each value, and
    `plugins` among them maps plugin id to table. `ignored` are its unknown keys outside the plugins' tables."""

    path: str
    version: int
    imports: tuple[str, ...]
    disabled: tuple[str, ...]
    required: tuple[str, ...]
    plugins: dict[str, Any]
    tables: dict[str, Any]
    lines: Mapping[Path, int]
    ignored: tuple[Problem, ...]


def parse_file(raw: bytes, path: str, release: Release) -> ConfigFile:
    """Parse `raw`. A byte order mark is fatal on 2.x and skipped by 1.x, which also takes any bytes in comments.

    Raises LoadError: syntax, a table or key defined twice, a known top-level key of the wrong type.
    """
    document = _load(raw, path, release)
    schema = top_level(release)
    data = canonical(document.data, schema, release)
    found = tuple(problems(data, schema))
    wrong = next((p for p in found if p.wanted), None)
    if wrong is not None:
        line = document.lines.get(wrong.path, 0)
        raise LoadError(f"{path}: line {line}: {clean_line('.'.join(wrong.path))} must be {wrong.wanted}")
    if release.major < 2:
        _check_plugins(data.get("plugins", {}), path)
    tables = canonical(_leaves(document.data, document.lines, path, ()), schema, release)
    imports, disabled, required = (tuple(data.get(k, ())) for k in ("imports", "disabled_plugins", "required_plugins"))
    ignored = tuple(p for p in found if not p.wanted)
    plugins = tables.get("plugins", {})
    return ConfigFile(
        path, data.get("version", 0), imports, disabled, required, plugins, tables, document.lines, ignored
    )


def plain(table: Any) -> Any:
    """The values without their places."""
    if isinstance(table, dict):
        return {key: plain(value) for key, value in table.items()}
    if isinstance(table, Leaf):
        return table.value
    if isinstance(table, list):
        return [plain(value) for value in table]
    return table


def _leaves(value: Any, lines: Mapping[Path, int], file: str, path: Path) -> Any:
    if isinstance(value, dict):
        return {key: _leaves(inner, lines, file, (*path, key)) for key, inner in value.items()}
    return Leaf(value, file, lines.get(path, 0), path)


def _check_plugins(plugins: Mapping[str, Any], path: str) -> None:
    for name, table in plugins.items():
        if not isinstance(table, dict):
            raise LoadError(f"{path}: plugins.{clean_line(name)} is not a table")


def _load(raw: bytes, path: str, release: Release) -> Any:
    old = release.major < 2
    if raw.startswith(_BOM):
        if not old:
            raise LoadError(f"{path}: starts with a byte order mark, which containerd {release} refuses")
        raw = raw[len(_BOM) :]
    try:
        text = raw.decode("utf-8", "replace" if old else "strict")
        return read(text, old=old, new=release.line >= (2, 4))
    except UnicodeDecodeError as error:
        raise LoadError(f"{path}: byte {error.start} is not UTF-8") from error
    except TomlError as error:
        raise LoadError(f"{path}: {error}") from error
