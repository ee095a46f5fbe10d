"""Every fact of a host in words, in groups: what is not known says so, with the reason where the probe has one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

from gpuwizard.facts.model import Gpu, HostFacts, RuntimeFacts, Unseen
from gpuwizard.session import HostRecord
from gpuwizard.show.fact_words import INSTEAD, LABELS, NOTHING, OMITTED, ONLY_FOR, label, telling, words_of
from gpuwizard.show.words import count

__all__ = ["Fact", "FactGroup", "fact_groups", "fact_lines"]

_NAME = 24

_EVERYTHING = ("everything", "the rest of the host")
_AS_ROOT = "of root"
_ROOTS = ("state", "driver", "toolkit", "runtimes", "kubernetes", "operator")


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: `value` is None when it is not known, `why` then says why, if the probe does."""

    name: str
    value: str | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class FactGroup:
    """Facts that belong together. `id` stays the same from host to host, so that one can compare them."""

    id: str
    title: str
    facts: tuple[Fact, ...]


def fact_groups(facts: HostFacts) -> Iterator[FactGroup]:
    """All facts, what is asked for most first. What is empty or as usual is left out, unless it has a label of its own
    (`fact_words.LABELS`)."""
    read = _Reader(facts.unseen).read
    machine = (facts, ("hostname", "memory_bytes", "boot_id"))
    yield FactGroup("system", "System", read("system", facts.os, facts.kernel, machine, facts.privilege))
    yield from _gpus(facts)
    yield FactGroup("driver", "Driver", read("driver", facts.driver))
    yield FactGroup("toolkit", "Container toolkit", read("toolkit", facts.toolkit))
    for number, runtime in enumerate(facts.runtimes):
        yield FactGroup(f"runtime {number}", _runtime_title(runtime), read("runtimes", runtime))
    if not facts.runtimes:
        yield FactGroup("runtime 0", "Container runtimes", (Fact("runtimes", "none seen"),))
    yield FactGroup("kubernetes", "Kubernetes", read("kubernetes", facts.kubernetes))
    yield FactGroup("operator", "GPU components in place", read("operator", facts.operator, (facts, ("components",))))
    yield FactGroup("state", "State of the machine", read("state", facts.state))
    if facts.unseen:
        yield FactGroup("unseen", "Could not be seen", tuple(Fact(u.what, u.why) for u in facts.unseen))


def fact_lines(record: HostRecord) -> Iterator[str]:
    """Every fact of a host as lines of plain text."""
    for group in fact_groups(record.probe.facts) if record.probe is not None else ():
        yield f"  {group.title}"
        for fact in group.facts:
            value = "not known" if fact.value is None else fact.value
            yield f"    {fact.name:<{_NAME}} {value}{f' ({fact.why})' if fact.why else ''}"


def _gpus(facts: HostFacts) -> Iterator[FactGroup]:
    reader = _Reader(facts.unseen)
    if not facts.gpus:
        why = reader.why("gpus", "pci")
        yield FactGroup("gpu 0", "GPUs", (Fact("GPUs", None if why else "none seen", why),))
    for number, gpu in enumerate(facts.gpus):
        yield FactGroup(f"gpu {number}", _gpu_title(gpu, number), reader.read("gpus", gpu))
    others = [Fact(device.pci, words_of(device)) for device in facts.other_devices]
    if others:
        title = f"{count(len(others), 'NVIDIA device')} that count{'s' if len(others) == 1 else ''} as no GPU"
        yield FactGroup("others", title, tuple(others))


def _gpu_title(gpu: Gpu, number: int) -> str:
    return f"GPU {gpu.index if gpu.index is not None else number}: {gpu.name or gpu.pci_id or 'unknown'}"


def _runtime_title(runtime: RuntimeFacts) -> str:
    used = {True: ", used by the kubelet", False: ", not used by the kubelet"}
    words = "" if runtime.used_by_kubelet is None else used[runtime.used_by_kubelet]
    return f"Runtime {runtime.kind} {runtime.version or ''}".rstrip() + words


def _ordered(record: object, only: Sequence[str]) -> list[str]:
    """The fields to tell of, without those that say nothing by themselves."""
    labels = LABELS.get(type(record), {})
    names = only or [f.name for f in fields(record)]  # type: ignore[arg-type]
    flavour = getattr(record, "flavour", None)
    kept = [
        name
        for name in names
        if name not in OMITTED.get(type(record), ())
        and not getattr(record, INSTEAD.get(name, ""), None)
        and flavour in ONLY_FOR.get(name, (flavour,))
    ]
    return [name for name in labels if name in kept] + [name for name in kept if name not in labels]


class _Reader:
    """Takes records apart into facts; knows what could not be seen."""

    def __init__(self, unseen: Sequence[Unseen]) -> None:
        self._unseen = unseen

    def read(self, area: str, *records: object) -> tuple[Fact, ...]:
        """The facts of these records; of a pair (record, fields) those fields alone. Labelled ones come first, in the
        order of the labels; what is not known and has no label comes last, together."""
        found: list[Fact] = []
        missing: dict[str, list[str]] = {}
        for record in records:
            of, only = record if isinstance(record, tuple) else (record, ())
            labels = LABELS.get(type(of), {})
            for name in _ordered(of, only):
                value = getattr(of, name)
                if name == "memory_bytes" and isinstance(of, Gpu) and of.unified_memory:
                    found.append(Fact("memory", "one memory with the CPU: N/A"))
                elif value is not None:
                    found += self._lines(label(of, name), name, value) if name in labels or telling(name, value) else ()
                elif name in labels:
                    found.append(Fact(label(of, name), None, self.why(area, name)))
                elif name not in NOTHING and f"{type(of).__name__}.{name}" not in NOTHING:
                    missing.setdefault(self.why(area, name), []).append(label(of, name))
        return (*found, *(Fact("not known", ", ".join(absent), why) for why, absent in missing.items()))

    def _lines(self, title: str, name: str, value: object) -> Iterator[Fact]:
        """Lists of records or sentences, and mappings of mappings, have a line an entry; everything else has one."""
        lines: list[str] = []
        if isinstance(value, tuple) and any(not isinstance(entry, str) or " " in entry for entry in value):
            lines = [words_of(entry) for entry in value]
        elif isinstance(value, Mapping) and any(isinstance(entry, Mapping) for entry in value.values()):
            lines = [f"{key}: {words_of(entry)}" for key, entry in value.items()]
        yield Fact(title, lines[0] if lines else words_of(value, name) if value not in ((), {}) else "none seen")
        yield from (Fact("", line) for line in lines[1:])

    def why(self, area: str, name: str) -> str:
        """The reason that the probe has for not knowing a field; empty when it has none."""
        spoken = name.replace("_", " ").lower()
        for unseen in self._unseen:
            what = unseen.what.lower()
            if spoken in what or (len(what) > 3 and what in spoken) or any(t in what for t in _TOPICS.get(name, ())):
                return unseen.why
        general = [u for u in self._unseen if u.what in _EVERYTHING or (area in _ROOTS and _AS_ROOT in u.what)]
        return general[0].why if general else ""


_TOPICS = {
    "secure_boot": ("firmware",),
    "on_disk": ("module on disk",),
    "disk_flavour": ("module on disk",),
    "next_kernel": ("module on disk",),
    "log": ("kernel log", "kernel's log", "dmesg", "journal"),
    "mig_devices": ("mig devices",),
    "mig_instances": ("mig devices",),
    "compute_capability": ("compute capability",),
    "persistenced": ("services",),
    "fabric_manager": ("services",),
    "imex": ("services",),
    "refresh_path": ("services",),
    "refresh_service": ("services",),
    "service": ("services",),
    "unit": ("services",),
    "clock_offset_seconds": ("clock",),
    "restarts": ("services",),
    "pci": ("pci devices",),
}
"""Words under which the probe's own list of what could not be seen speaks of a field."""
