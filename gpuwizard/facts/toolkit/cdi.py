"""CDI specifications: what the probe's filter told of each, and whole documents of a form that it does not know."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from gpuwizard.facts.model import CdiSpec, HostFile
from gpuwizard.facts.text import number, value

__all__ = ["cdi_paths", "read_specs"]


@dataclass(slots=True)
class _Told:
    """The lines about one file, by their first letter (`probe-cdi.sh`)."""

    path: str
    mtime: int | None = None
    size: int | None = None
    scanned: bool = False
    lines: dict[str, list[str]] = field(default_factory=dict)

    def all(self, what: str) -> tuple[str, ...]:
        return tuple(self.lines.get(what, ()))

    def one(self, what: str) -> str | None:
        found = self.lines.get(what)
        return found[0] if found else None


@dataclass(frozen=True, slots=True)
class _Document:
    """A whole document: what it says, or why it is none."""

    kind: str | None = None
    version: str | None = None
    devices: tuple[str, ...] = ()
    paths: frozenset[str] = frozenset()
    error: str | None = None


def cdi_paths(lines: Iterable[str]) -> tuple[str, ...]:
    """The specification files. One that shows twice because ``/var/run`` is ``/run`` counts once."""
    found: dict[str, str] = {}
    for line in lines:
        shown = value(line)
        if shown:
            found.setdefault(shown.replace("/var/run/", "/run/", 1), shown)
    return tuple(found.values())


def read_specs(text: str | None, files: Mapping[str, HostFile], *, cut: bool = False) -> tuple[CdiSpec, ...]:
    """The specifications out of the section ``cdi-scan``. `files` holds those that the probe sent whole; `cut` says
    that the section did not arrive whole, so that its last file is not understood."""
    told: dict[str, _Told] = {}
    current: _Told | None = None
    for line in (text or "").split("\n"):
        what, _, rest = line.partition(" ")
        if what == "s":
            mtime, _, rest = rest.partition(" ")
            size, _, path = rest.partition(" ")
            told.setdefault(path, _Told(path, number(mtime), number(size)))
        elif what == "f":
            current = told.setdefault(rest, _Told(rest))
            current.scanned = True
        elif current is not None and rest and (shown := value(rest)):
            current.lines.setdefault(what, []).append(shown)
    if cut and current is not None:
        current.lines["o"] = ["cut"]
    return tuple(_spec(one, files.get(one.path)) for one in told.values() if one.path.startswith("/"))


def _spec(told: _Told, file: HostFile | None) -> CdiSpec:
    path = value(told.path) or "?"
    if told.size == 0:
        return CdiSpec(path, mtime=told.mtime, error="it is empty")
    kind, version, devices, missing = told.one("k"), told.one("v"), told.all("d"), told.all("m")
    error = told.one("b")
    if told.one("o") is not None:
        if file is None or file.content is None:
            return CdiSpec(path, kind=kind, mtime=told.mtime, understood=False)
        whole = _document(file.content.raw)
        kind, version, devices, error = whole.kind, whole.version, whole.devices, whole.error
        missing = tuple(m for m in missing if m in whole.paths)
    elif not told.scanned:
        return CdiSpec(path, mtime=told.mtime, understood=False)
    drivers = told.all("l")
    return CdiSpec(
        path=path,
        kind=kind,
        cdi_version=version,
        devices=devices,
        driver_version=drivers[0] if len(drivers) == 1 else None,
        uuids=tuple(name for name in devices if name.startswith(("GPU-", "MIG-"))),
        missing=missing,
        mtime=told.mtime,
        error=error or _invalid(kind, version, devices),
    )


def _invalid(kind: str | None, version: str | None, devices: tuple[str, ...]) -> str | None:
    """Why a runtime passes over it (container-device-interface: pkg/cdi/spec.go)."""
    if version is None:
        return "it has no cdiVersion"
    if kind is None:
        return "it has no kind"
    vendor, slash, name = kind.partition("/")
    if not (vendor and slash and name):
        return f"kind {kind!r} is not VENDOR/CLASS"
    if not devices:
        return "it has no devices"
    twice = next((device for device in devices if devices.count(device) > 1), None)
    return None if twice is None else f"it names the device {twice} twice"


@lru_cache(maxsize=64)
def _document(raw: bytes) -> _Document:
    """Read YAML or JSON whole. Every scalar stays text, as nothing here is a number."""
    import yaml  # rarely needed, and slow to load

    try:
        loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
        documents = list(yaml.load_all(raw.decode("utf-8"), Loader=loader))  # of several Go takes the first
    except UnicodeDecodeError:
        return _Document(error="it is not text")
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        return _Document(error=value(f"{where}{problem.problem or 'no YAML'}"))
    except yaml.reader.ReaderError:
        return _Document(error="it is not text")
    except (yaml.YAMLError, RecursionError, ValueError) as problem:
        return _Document(error=value(str(problem)) or "it cannot be read")
    document = documents[0] if documents else None
    if not isinstance(document, dict):
        return _Document(error="it is not a table of keys and values")
    entries = _list(document, "devices")
    return _Document(
        kind=_string(document, "kind"),
        version=_string(document, "cdiVersion"),
        devices=tuple(name for entry in entries if (name := _string(entry, "name"))),
        paths=frozenset(_paths(document)).union(*(_paths(entry) for entry in entries)),
    )


def _paths(owner: Any) -> set[str]:
    """What its edits take from the host."""
    edits = owner.get("containerEdits") if isinstance(owner, dict) else None
    found: set[str | None] = set()
    for node in _list(edits, "deviceNodes"):
        found.add(_string(node, "hostPath") or _string(node, "path"))
    found.update(_string(mount, "hostPath") for mount in _list(edits, "mounts"))
    found.update(_string(hook, "path") for hook in _list(edits, "hooks"))
    return {path for path in found if path}


def _list(owner: Any, key: str) -> list[Any]:
    entries = owner.get(key) if isinstance(owner, dict) else None
    return entries if isinstance(entries, list) else []


def _string(owner: Any, key: str) -> str | None:
    text = owner.get(key) if isinstance(owner, dict) else None
    return value(text) if isinstance(text, str) else None
