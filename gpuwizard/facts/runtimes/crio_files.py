"""CRI-O's files laid over one another, as it does itself (`runtimes.md §9`)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuwizard.facts.runtimes.config_files import table
from gpuwizard.facts.runtimes.crio_types import wrong_type
from gpuwizard.facts.text import load_toml

__all__ = ["CrioFiles", "in_order", "merged"]


@dataclass(frozen=True, slots=True)
class CrioFiles:
    """All files laid over one another: `crio` is the table of that name. `error` says why CRI-O does not take the file
    `broken`: no TOML, or a value of another type than it wants."""

    crio: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    broken: str = ""


def in_order(main: str, paths: Iterable[str]) -> list[str]:
    """Paths as CRI-O reads them: `main` first, then those of its folder in the order of its walk."""
    return sorted(paths, key=lambda path: (path != main, path.split("/")))


def merged(files: Mapping[str, bytes]) -> CrioFiles:
    """The files in their order: the last one wins, and a handler's table replaces an earlier one of that name."""
    crio: dict[str, Any] = {}
    for path, raw in files.items():
        document = load_toml(raw)
        if isinstance(document, str):
            return CrioFiles(error=document, broken=path)
        if (wrong := wrong_type(document)) is not None:
            return CrioFiles(error=f"{wrong}{_line_of(wrong, raw)}", broken=path)
        for name, section in table(document, "crio").items():
            if not isinstance(section, Mapping):
                crio[name] = section
                continue
            former = table(crio, name)
            crio[name] = {**former, **section}
            if isinstance(section.get("runtimes"), Mapping):
                crio[name]["runtimes"] = {**table(former, "runtimes"), **section["runtimes"]}
    return CrioFiles(crio)


def _line_of(wrong: str, raw: bytes) -> str:
    """Where the key that `wrong` begins with stands: the first line with its last word."""
    last = wrong.partition(" is ")[0].rpartition(".")[2]
    key = re.compile(rf"[\s\[]*(?:[\w.\"'-]+\.)?[\"']?{re.escape(last)}\b")
    lines = raw.decode("utf-8", "replace").split("\n")
    number = next((i for i, line in enumerate(lines, 1) if key.match(line)), 0)
    return f" (at line {number})" if number else ""
