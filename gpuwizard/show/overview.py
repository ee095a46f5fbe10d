"""All hosts of a session at a glance: a line each, trouble on top, filtered; worked out anew only where one changed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gpuwizard.session import HostRecord, Session
from gpuwizard.show.hosts import (
    driver_summary,
    flavour_summary,
    gpu_summary,
    runtime_words,
    system_summary,
    system_words,
)
from gpuwizard.show.words import count, natural

__all__ = ["GROUPS", "KINDS", "SHOWN", "Group", "HostLine", "Overview", "Wanted", "host_line", "waiting_for"]

Group = Literal["failed", "error", "mended", "warning", "running", "ok", "waiting"]
GROUPS: tuple[Group, ...] = ("failed", "error", "mended", "warning", "running", "ok", "waiting")
"""Hosts by how they stand, trouble first. ``failed`` gave no answer; of ``mended`` the plan mends every error."""

KINDS: Mapping[Group, str] = {
    "failed": "error",
    "error": "error",
    "mended": "warning",
    "warning": "warning",
    "running": "running",
    "ok": "ok",
    "waiting": "waiting",
}
"""The mark of each group (`words.MARKS`)."""

SHOWN: Mapping[str, tuple[Group, ...]] = {
    "all": GROUPS,
    "errors": ("failed", "error", "mended"),
    "trouble": ("failed", "error", "mended", "warning"),
    "plan mends": ("mended",),
    "unfinished": ("running", "waiting"),
    "ok": ("ok",),
}
"""What can be shown alone, by name; ``trouble`` is errors and warnings."""

_SPOKEN: Mapping[Group, str] = {
    "failed": "failed no answer unreachable error",
    "error": "error",
    "mended": "error plan mends",
    "warning": "warning",
    "running": "running looking unfinished",
    "ok": "ok",
    "waiting": "waiting unfinished",
}
_STEPS = {
    "system": "looking at the system",
    "gpus": "looking at the GPUs",
    "driver": "looking at the driver",
    "toolkit": "looking at the toolkit",
    "services": "looking at services",
    "runtimes": "looking at runtimes",
    "kubernetes": "looking at Kubernetes",
    "files": "reading configurations",
    "reach": "trying its registries",
    "nvidia-smi": "waiting for nvidia-smi",
    "probe": "looking",
}


@dataclass(frozen=True, slots=True)
class HostLine:
    """One host in one line. `words` name its worst finding, or say why it gave no answer or what is being waited for;
    `short` says as much in a word or two, and `more` is how many further errors and warnings there are. `text` is what
    a filter looks at, in lower case."""

    name: str
    group: Group
    short: str
    words: str
    system: str = ""
    distribution: str = ""
    gpus: str = ""
    driver: str = ""
    kubernetes: str = ""
    runtime: str = ""
    more: int = 0
    text: str = ""

    @property
    def kind(self) -> str:
        """Its mark."""
        return KINDS[self.group]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A filter: every word of `text` must be there, one that begins with ``!`` must not; `shown` is one of `SHOWN`."""

    text: str = ""
    shown: str = "all"

    def takes(self, line: HostLine) -> bool:
        """True for a host that is to be shown."""
        return line.group in SHOWN[self.shown] and self.matches(line.text)

    def matches(self, text: str) -> bool:
        """True when `text`, in lower case, has the wanted words."""
        for word in self.text.lower().split():
            if word.startswith("!") and len(word) > 1:
                if word[1:] in text:
                    return False
            elif word not in text:
                return False
        return True


def waiting_for(record: HostRecord) -> str:
    """What a host that is not finished waits for."""
    match record.state:
        case "connecting":
            return "logging in"
        case "probing":
            return _STEPS.get(record.step or "", "becoming root")
        case "queued":
            return "waits for its turn"
        case _:
            return "not looked at yet"


def host_line(record: HostRecord) -> HostLine:
    """One host, as it stands now."""
    if record.error is not None:
        words = str(record.error)
        return HostLine(record.name, "failed", "no answer", words, text=_text(record, "failed", words))
    if record.probe is None:
        group: Group = "running" if record.running else "waiting"
        return HostLine(record.name, group, group, waiting_for(record), text=_text(record, group))
    facts = record.probe.facts
    group, short, words, more = _verdict(record)
    shown = (
        system_summary(facts),
        system_words(facts),
        gpu_summary(facts),
        driver_summary(facts),
        flavour_summary(facts),
        runtime_words(facts),
    )
    found = (f"{f.id} {f.title} {f.severity}" for f in record.findings)
    return HostLine(record.name, group, short, words, *shown, more, text=_text(record, group, words, *shown, *found))


def _text(record: HostRecord, group: Group, *more: str) -> str:
    return "\n".join((record.name, record.target.spec, _SPOKEN[group], *more)).lower()


def _verdict(record: HostRecord) -> tuple[Group, str, str, int]:
    """The group of a host that answered, its findings counted, its worst one in words, and how many more there are."""
    errors = [f for f in record.findings if f.severity == "error"]
    warnings = [f for f in record.findings if f.severity == "warning"]
    if not errors and not warnings:
        notes = [f.title for f in record.findings if f.severity == "info"]
        healthy = any(f.severity == "ok" for f in record.findings)
        return "ok", "ok", "ok" if healthy or not notes else f"ok: {notes[0]}", 0
    left = [f for f in errors if not f.fixable]
    worst = (left or errors or warnings)[0]
    more = len(errors) + len(warnings) - 1
    if left:
        return "error", count(len(errors), "error"), worst.title, more
    if errors:
        return "mended", "plan mends", f"plan mends: {worst.title}", more
    return "warning", count(len(warnings), "warning"), worst.title, more


class Overview:
    """The hosts of a session in their order. `refresh` looks which of them changed; all else is as it was then."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._seen: dict[str, tuple[object, ...]] = {}
        self._keys: dict[str, object] = {}
        self.lines: dict[str, HostLine] = {}
        self.order: tuple[HostLine, ...] = ()

    def refresh(self) -> bool:
        """Take in what changed; False when nothing did."""
        hosts = self._session.hosts
        changed = self.lines.keys() != hosts.keys()
        if changed:
            self.lines = {name: line for name, line in self.lines.items() if name in hosts}
        for name, record in hosts.items():
            now = (record.state, record.probe, record.findings, record.error)
            before = self._seen.get(name)
            if name in self.lines and before is not None and all(a is b for a, b in zip(now, before, strict=True)):
                continue
            self._seen[name] = now
            self.lines[name] = host_line(record)
            changed = True
        if changed:
            self.order = tuple(sorted(self.lines.values(), key=self._rank))
        return changed

    def _rank(self, line: HostLine) -> tuple[int, float, object]:
        """Trouble first; of the hosts that are being looked at those that have taken longest; else by name."""
        if line.name not in self._keys:
            self._keys[line.name] = natural(line.name)
        began = self._session.hosts[line.name].began if line.group == "running" else None
        return GROUPS.index(line.group), began or 0.0, self._keys[line.name]

    def select(self, wanted: Wanted) -> list[HostLine]:
        """The hosts that are to be shown, in their order."""
        return [line for line in self.order if wanted.takes(line)]

    def tally(self) -> dict[Group, int]:
        """How many hosts there are of each group that has any, in the order of `GROUPS`."""
        found = Counter(line.group for line in self.order)
        return {group: found[group] for group in GROUPS if found[group]}

    def slowest(self) -> HostRecord | None:
        """The host that is being looked at and has taken longest."""
        running = [r for r in self._session.hosts.values() if r.running and r.began is not None]
        return min(running, key=lambda r: r.began or 0.0, default=None)
