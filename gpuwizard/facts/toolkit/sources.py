"""Package sources that name NVIDIA's repository, and those over which apt stops (`hosts.md §6.2`)."""

import re
from collections.abc import Iterable, Iterator, Mapping

from gpuwizard.facts.text import value

__all__ = ["source_conflicts"]

_ONE_LINE = re.compile(r"^\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)")
_FIELD = re.compile(r"^([A-Za-z-]+):\s*(.*)$")
_ARCHITECTURE = re.compile(r"/(amd64|arm64|ppc64le)(?=/|$)")
_Entry = tuple[str, str, str | None, str]
"""Address, suite, key and the line that says so."""


def source_conflicts(texts: Mapping[str, str]) -> tuple[str, ...]:
    """Lines of active entries for the same place with unlike keys: apt then refuses every command with
    ``Conflicting values set for option Signed-By``. `texts` maps the file to its telling lines."""
    places: dict[tuple[str, str], dict[str | None, list[str]]] = {}
    for path, text in texts.items():
        if not path.startswith("/etc/apt/"):
            continue
        lines = text.splitlines()
        for address, suite, key, line in _deb822(lines) if path.endswith(".sources") else _one_line(lines):
            if "nvidia.github.io" in address:
                place = (_ARCHITECTURE.sub("/$(ARCH)", address.rstrip("/")), suite)
                places.setdefault(place, {}).setdefault(key, []).append(f"{path}: {value(line)}")
    return tuple(
        line for keys in places.values() if len(keys) > 1 for lines_of_key in keys.values() for line in lines_of_key
    )


def _one_line(lines: Iterable[str]) -> Iterator[_Entry]:
    for line in lines:
        match = _ONE_LINE.match(line)
        if match is not None:
            options = dict(word.lower().partition("=")[::2] for word in (match[1] or "").split())
            yield match[2], match[3], options.get("signed-by"), line.strip()


def _deb822(lines: Iterable[str]) -> Iterator[_Entry]:
    """Stanzas; the probe leaves out empty lines, so a field that comes again begins the next one."""
    stanza: dict[str, str] = {}
    last = ""
    for line in (*lines, "Types: "):
        match = _FIELD.match(line)
        if match is None:
            if last:
                stanza[last] += f" {line.strip()}"
            continue
        last = match[1].lower()
        if last in stanza or (last == "types" and stanza):
            yield from _stanza(stanza)
            stanza = {}
        stanza[last] = match[2].strip()


def _stanza(stanza: Mapping[str, str]) -> Iterator[_Entry]:
    if stanza.get("enabled", "yes").lower() in ("no", "false", "0", "off", "without", "disable"):
        return
    if "deb" not in stanza.get("types", "deb").split():
        return
    key = stanza.get("signed-by")
    for address in stanza.get("uris", "").split():
        for suite in stanza.get("suites", "").split():
            yield address, suite, key.lower() if key else None, f"URIs: {address}, Signed-By: {key or 'none'}"
