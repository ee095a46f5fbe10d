"""What k0s makes of the drop-ins in /etc/k0s/containerd.d, per release (`runtimes.md §6`).

Up to 1.35 k0s itself lays every drop-in with a CRI table over its complete default table and hands the others to
containerd as imports. From 1.36 on containerd imports all of them, and k0s refuses to start with one that is not of
version 3.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpuwizard.clean import clean_line
from gpuwizard.containerd import Effective, Release, effective
from gpuwizard.containerd.edit import literal
from gpuwizard.containerd.merge import deep_merge
from gpuwizard.containerd.model import CRI_V2, RUNTIME_V3
from gpuwizard.containerd.statements import flat_path
from gpuwizard.errors import RefusedError, UsageError

__all__ = [
    "CRI_FILE",
    "FOLDER",
    "MAIN",
    "K0sRelease",
    "drop_ins",
    "is_managed",
    "later_handler",
    "model",
    "rejected",
    "wrong_now",
]

MAIN = "/etc/k0s/containerd.toml"
FOLDER = "/etc/k0s/containerd.d"
CRI_FILE = "/run/k0s/containerd-cri.toml"
"""Where k0s up to 1.35 writes the CRI configuration that it merged."""
_MAGIC = b"# k0s_managed=true"


@dataclass(frozen=True, slots=True)
class K0sRelease:
    """A release of k0s, and how it takes drop-ins."""

    parts: tuple[int, int, int]

    @classmethod
    def parse(cls, version: str) -> "K0sRelease":
        """From ``v1.33.4+k0s.0``. Raises UsageError for a text that is no version."""
        try:
            release = Release.parse(version.partition("+")[0])
        except (UsageError, ValueError) as error:
            raise UsageError(f"not a version of k0s: {clean_line(version)}") from error
        return cls((release.major, release.minor, release.patch))

    @property
    def reads_drop_ins(self) -> bool:
        """Since 1.27.1."""
        return self.parts >= (1, 27, 1)

    @property
    def merges_itself(self) -> bool:
        """Up to 1.35 k0s merges the CRI tables, in version 2; afterwards containerd does, in version 3."""
        return self.parts < (1, 36, 0)


def is_managed(files: Mapping[str, bytes]) -> bool:
    """Whether k0s writes its own containerd.toml: while there is none, or its first line is exactly the magic one."""
    raw = files.get(MAIN)
    return raw is None or raw.split(b"\n", 1)[0].removesuffix(b"\r") == _MAGIC


def drop_ins(files: Mapping[str, bytes]) -> list[str]:
    """The drop-ins in the order in which they are taken."""
    return sorted(
        p for p in files if p.startswith(f"{FOLDER}/") and p.endswith(".toml") and "/" not in p[len(FOLDER) + 1 :]
    )


def rejected(files: Mapping[str, bytes], release: K0sRelease) -> dict[str, str]:
    """The drop-ins with which k0s of that release does not start (or does not merge), and why."""
    found: dict[str, str] = {}
    for path in drop_ins(files):
        try:
            document = _parsed(path, files[path])
        except RefusedError as error:
            found[path] = error.what
            continue
        if release.merges_itself:
            continue
        version = document.get("version", 3)
        if type(version) is not int or version != 3:
            found[path] = (
                f"version = {literal(version) if isinstance(version, int | str) else '?'}, and k0s takes 3 alone"
            )
        elif CRI_V2 in _plugins(document):
            found[path] = f'a table plugins."{CRI_V2}", which k0s does not take any more'
    return found


def model(files: Mapping[str, bytes], release: K0sRelease, containerd: str) -> Effective:
    """What containerd of version `containerd` gets to see. Raises RefusedError for a drop-in that is no TOML."""
    if not release.merges_itself:
        return effective({**files, MAIN: _root_v3(files)}, MAIN, containerd)
    cri, imports = _default_table(files), []
    for path in drop_ins(files):
        document = _parsed(path, files[path])
        if CRI_V2 in _plugins(document):
            cri = deep_merge(cri, document)
        else:
            imports.append(path)
    nested = cri.pop("imports", [])
    text = _toml({"version": 2, "imports": [*imports, *(nested if isinstance(nested, list) else [])]} | cri)
    return effective({**files, MAIN: text.encode("utf-8", "surrogateescape")}, MAIN, containerd)


def wrong_now(files: Mapping[str, bytes], release: K0sRelease) -> dict[str, str]:
    """Drop-ins that are taken and do something else than they say (`runtimes.md §6`, traps)."""
    found: dict[str, str] = {}
    if not release.merges_itself:
        return found
    broken = rejected(files, release)
    for path in (p for p in drop_ins(files) if p not in broken):
        document = _parsed(path, files[path])
        if document.get("imports"):
            found[path] = (
                "imports of its own, which go past k0s' merge: what they import takes the place of the whole CRI table"
            )
        elif document.get("version", 2) != 2 and not _is_ours(files[path]):
            found[path] = f"version = {document.get('version')!r}, and this k0s writes version 2"
    return found


def later_handler(files: Mapping[str, bytes], own: str, name: str) -> str | None:
    """The last drop-in that is taken after `own` and defines handler `name`: what it says holds."""
    for path in reversed([p for p in drop_ins(files) if p > own]):
        plugins = _plugins(_parsed(path, files[path]))
        for plugin in (CRI_V2, RUNTIME_V3):
            table = plugins.get(plugin, {})
            if isinstance(table, dict) and name in table.get("containerd", {}).get("runtimes", {}):
                return path
    return None


def _is_ours(raw: bytes) -> bool:
    return raw.startswith(b"# Written by gpuwizard")


def _default_table(files: Mapping[str, bytes]) -> dict[str, Any]:
    """The table that k0s starts from, as far as it matters: of the file that it wrote, what no drop-in can have put
    there (its pause image); the rest are containerd's defaults."""
    cri: dict[str, Any] = {
        "containerd": {
            "default_runtime_name": "runc",
            "runtimes": {"runc": {"runtime_type": "io.containerd.runc.v2", "options": {"SystemdCgroup": False}}},
        }
    }
    try:
        written = _plugins(_parsed(CRI_FILE, files.get(CRI_FILE, b""))).get(CRI_V2, {})
    except RefusedError:
        written = {}
    if isinstance(written, dict) and isinstance(written.get("sandbox_image"), str):
        cri["sandbox_image"] = written["sandbox_image"]
    return {"plugins": {CRI_V2: cri}}


def _root_v3(files: Mapping[str, bytes]) -> bytes:
    """The root file of 1.36 and later. One that an older k0s wrote is written anew at the next start."""
    raw = files.get(MAIN, b"")
    try:
        if _parsed(MAIN, raw).get("version") == 3:
            return raw
    except RefusedError as error:
        raise RefusedError(error.what, remedy="remove it: k0s writes it anew at its start") from error
    return f'version = 3\nimports = ["{FOLDER}/*.toml"]\n'.encode()


def _parsed(path: str, raw: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(f"{path} is not valid TOML: {clean_line(str(error))}", remedy="repair it first") from error


def _plugins(document: Mapping[str, Any]) -> dict[str, Any]:
    found = document.get("plugins")
    return found if isinstance(found, dict) else {}


def _toml(document: Mapping[str, Any]) -> str:
    """A document as TOML: enough for what drop-ins hold. Raises RefusedError for other values."""
    lines: list[str] = []

    def table(path: tuple[str, ...], content: Mapping[str, Any]) -> None:
        if path:
            lines.append(f"[{flat_path(path)}]")
        lines.extend(f"{flat_path((k,))} = {_inline(v)}" for k, v in content.items() if not isinstance(v, dict))
        for key, value in content.items():
            if isinstance(value, dict):
                table((*path, key), value)

    table((), document)
    return "\n".join([*lines, ""])


def _inline(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_inline(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flat_path((k,))} = {_inline(v)}" for k, v in value.items()) + "}"
    return literal(value)
