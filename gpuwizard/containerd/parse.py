"""One configuration file from bytes, judged as strictly as the release's own parser does."""

import tomllib
from dataclasses import dataclass
from typing import Any

from gpuwizard.clean import clean_line
from gpuwizard.containerd.release import Release

__all__ = ["ConfigFile", "LoadError", "parse_file"]

_BOM = b"\xef\xbb\xbf"
_LISTS = ("imports", "disabled_plugins", "required_plugins")
_TABLES = ("plugins", "grpc", "debug", "metrics", "timeouts", "proxy_plugins", "stream_processors", "ttrpc", "cgroup")


class LoadError(Exception):
    """The daemon would refuse to start on these files. `missing` is the path of a file that does not exist."""

    def __init__(self, text: str, *, missing: str | None = None) -> None:
        super().__init__(text)
        self.missing = missing


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """One parsed file: `version` is 0 when it has none; `plugins` maps plugin id to its table."""

    path: str
    version: int
    imports: tuple[str, ...]
    disabled: tuple[str, ...]
    required: tuple[str, ...]
    plugins: dict[str, dict[str, Any]]
    other: dict[str, Any]


def parse_file(raw: bytes, path: str, release: Release) -> ConfigFile:
    """Parse `raw`. A byte order mark is fatal on 2.x and skipped by 1.x, which also takes any bytes in comments.

    Raises LoadError: syntax, a table or key defined twice, a known top-level key of the wrong type.
    """
    data = _load(raw, path, release)
    version = data.get("version", 0)
    if not isinstance(version, int) or isinstance(version, bool):
        raise LoadError(f"{path}: version is not a number")
    imports, disabled, required = (_strings(data, key, path) for key in _LISTS)
    for key in _TABLES:
        if not isinstance(data.get(key, {}), dict):
            raise LoadError(f"{path}: {key} is not a table")
    plugins = data.get("plugins", {})
    for name, table in plugins.items():
        if not isinstance(table, dict):
            raise LoadError(f"{path}: plugins.{clean_line(name)} is not a table")
    known = ("version", "plugins", *_LISTS)
    other = {k: v for k, v in data.items() if k not in known}
    return ConfigFile(path, version, imports, disabled, required, plugins, other)


def _strings(data: dict[str, Any], key: str, path: str) -> tuple[str, ...]:
    value = data.get(key, [])
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise LoadError(f"{path}: {key} is not a list of strings")
    return tuple(value)


def _load(raw: bytes, path: str, release: Release) -> dict[str, Any]:
    if raw.startswith(_BOM):
        if release.major >= 2:
            raise LoadError(f"{path}: starts with a byte order mark, which containerd {release} refuses")
        raw = raw[len(_BOM) :]
    try:
        text = raw.decode("utf-8", "strict" if release.major >= 2 else "replace")
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LoadError(f"{path}: {clean_line(str(error))}") from error
