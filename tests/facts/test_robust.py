"""Whatever a host prints: from its bytes to the last line shown there is no exception, no delay, and no wrong "ok".

Real probes are spoiled in every way that a host, a shell, a network or an attacker can think of.
"""

import json
import re
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gpuwizard import show
from gpuwizard.facts.frames import Section, read_frames
from gpuwizard.facts.jsonable import facts_json
from gpuwizard.facts.parse import parse_probe
from gpuwizard.facts.text import load_toml
from gpuwizard.findings import find
from gpuwizard.remote.target import parse_targets
from gpuwizard.session import HostRecord
from gpuwizard.work.probe import probe_script
from tests.captured import edit
from tests.facts.busy_hosts import crowded_node, k3s_node
from tests.facts.spoiling import DATA, DOCUMENTS, HOSTILE, ready, replaced, spoiled, with_config, written
from tests.pace import walk
from tests.probe_tree import Tree

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
WALKS_FOR_A_MEGABYTE = 40.0
"""What a megabyte may cost, in `walk`s: three seconds where one takes 0.08 s. What takes its square costs hundreds."""
PROFILE = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Probes of real hosts, and of hosts in a folder that show everything."""
    found = [path.read_bytes() for path in sorted(DATA.glob("*.probe"))]
    for build in (k3s_node, crowded_node):
        tree = Tree(tmp_path_factory.mktemp("robust") / "host")
        build(tree)
        found.append(tree.run(probe_script()))
    return [*found, ready()]


def strings(entry: Any) -> Iterator[str]:
    """Every text of a JSON document, keys too."""
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        for key, inner in entry.items():
            yield key
            yield from strings(inner)
    elif isinstance(entry, list | tuple):
        for inner in entry:
            yield from strings(inner)


def shown(raw: bytes) -> list[str]:
    """The whole way of a probe, and the ids of what was found. Fails where anything of it is not fit to be shown."""
    probe = parse_probe(raw, seconds=0.5, received=1_800_000_000.0)
    findings = find(probe)
    document = {"facts": facts_json(probe.facts), "findings": [asdict(finding) for finding in findings]}
    json.dumps(document, allow_nan=False).encode()
    (target,) = parse_targets(("host",))
    record = HostRecord(target, probe=probe, findings=findings)
    lines = [*show.finding_lines(record), *show.fact_lines(record)]
    for text in (*strings(document), *lines):
        assert not CONTROL.search(text), ascii(text[:300])
        text.encode()  # no half of a surrogate pair: it could not be printed
    return [finding.id for finding in findings]


PACE = [walk()]
"""The shortest walk so far."""


def timed(raw: bytes) -> float:
    """CPU seconds that the whole way takes, of this thread alone."""
    began = time.thread_time()
    shown(raw)
    return time.thread_time() - began


def forget() -> None:
    """Drop the answers that are kept between hosts, so that a second measurement measures."""
    for name, module in list(sys.modules.items()):
        if name.startswith("gpuwizard"):
            for entry in vars(module).values():
                if callable(clear := getattr(entry, "cache_clear", None)):
                    clear()


def slow(raw: bytes, megabytes: float = 1.0) -> float | None:
    """How many walks the whole way costs, where that is more than so many `megabytes` may cost; None where it is not.
    What seems slow is measured three times more, each beside walks of its own: the best one counts."""
    limit = WALKS_FOR_A_MEGABYTE * megabytes
    if timed(raw) / PACE[0] <= limit:
        return None
    found = []
    for _ in range(3):
        forget()
        shown(ready())  # tables and patterns are read once for all hosts
        before, took, after = walk(), timed(raw), walk()
        PACE[0] = min(PACE[0], before, after)
        found.append(round(took / max(before, after), 1))
    return min(found) if min(found) > limit else None


@pytest.mark.parametrize(("walks", "found"), [(5, False), (60, True)])
def test_what_is_slow_is_found(walks: int, found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measure itself: a way that costs so many walks more, on whatever machine."""

    whole = parse_probe

    def parse(raw: bytes, **more: Any) -> Any:
        for _ in range(walks):
            walk()
        return whole(raw, **more)

    monkeypatch.setitem(globals(), "parse_probe", parse)
    assert (slow(ready()) is not None) == found


def test_a_second_measurement_is_not_answered_from_memory() -> None:
    text = "a = 1\n"
    first = load_toml(text)
    assert load_toml(text) is first
    forget()
    assert load_toml(text) is not first


@settings(PROFILE, max_examples=400)
@given(st.data())
def test_spoiled_probes(bases: list[bytes], data: st.DataObject) -> None:
    raw = spoiled(data.draw, data.draw(st.sampled_from(bases)))
    assert slow(raw) is None


@settings(PROFILE, max_examples=60)
@given(st.binary(max_size=3000))
@example(b"@@ begin 0 17\n")
@example(b"@@ begin 0 999999999\n@@ begin 0 0\n\n" * 50)
@example(b"@@ a:" + b" 0 0" * 500 + b"\n")
def test_bytes_that_are_no_probe(raw: bytes) -> None:
    assert slow(raw) is None
    assert "GW-OK-001" not in shown(raw)


@pytest.mark.parametrize("share", range(4))
def test_cut_off_everywhere(bases: list[bytes], share: int) -> None:
    """At every boundary of a section, and around it: never an exception, never ok, and it says that more is missing."""
    raw = ready()
    places = {0}
    for header in re.finditer(rb"(?m)^@@ [^\n]*\n", raw):
        places |= {header.start(), header.start() - 1, header.start() + 4, header.end(), header.end() + 5}
    for place in sorted(p for p in places if 0 <= p < len(raw) - len("@@ end 0 0\n\n"))[share::4]:
        assert "GW-OK-001" not in shown(raw[:place]), raw[max(place - 80, 0) : place]
        unseen = parse_probe(raw[:place]).facts.unseen
        assert any(u.what in ("everything", "the rest of the host") for u in unseen)


# Ok is said only of what was really seen

ESSENTIAL = {
    "the bus": ("pci",),
    "the driver": ("nvrm-version", "module-version"),
    "the GPUs": ("smi-core",),
    "the toolkit": ("toolkit-runtime",),
    "which containerd": ("containerd:700", "process:700"),
    "what containerd does": ("containerd-plugins:700",),
    "the kubelet": ("units", "process:800"),
}
SPOILED: dict[str, Callable[[bytes], tuple[bytes, int]]] = {
    "empty": lambda data: (b"", 0),
    "half": lambda data: (data[: len(data) // 2], 0),
    "failed": lambda data: (data, 1),
    "timed out": lambda data: (b"", 124),
    "binary": lambda data: (bytes(range(256)), 0),
    "an error instead": lambda data: (b"sh: 1: cannot fork: Resource temporarily unavailable\n", 2),
}


STILL_KNOWN = {
    ("half", "the kubelet"),
    *(("failed", what) for what in ("the bus", "the driver", "the toolkit", "which containerd", "the kubelet")),
}
"""No command stands behind these sections: the probe always says status 0 with them."""


def test_the_ready_host_is_ready() -> None:
    assert "GW-OK-001" in shown(ready())


def named(section: Section) -> str:
    return f"{section.name}:{section.key}".rstrip(":")


@pytest.mark.parametrize(
    ("how", "what"), [(how, what) for how in SPOILED for what in ESSENTIAL if (how, what) not in STILL_KNOWN]
)
def test_no_ok_without_what_is_essential(how: str, what: str) -> None:
    """Each thing that ok is said of is known from these sections alone: with them spoiled it is not known."""
    sections = list(read_frames(ready()).sections)
    for at, section in enumerate(sections):
        if named(section) in ESSENTIAL[what]:
            data, status = SPOILED[how](section.data)
            sections = replaced(sections, at, data, status)
    assert "GW-OK-001" not in shown(written(sections))


@pytest.mark.parametrize("what", [*ESSENTIAL, "the end"])
def test_no_ok_where_something_essential_is_missing(what: str) -> None:
    gone = ESSENTIAL.get(what, ("end",))
    assert "GW-OK-001" not in shown(written([s for s in read_frames(ready()).sections if named(s) not in gone]))


@pytest.mark.parametrize("how", ["half", "binary", "empty"])
def test_no_ok_with_a_garbled_configuration(how: str) -> None:
    """What containerd itself says of its configuration counts; where that is no document, nothing else is guessed."""
    sections = list(read_frames(ready()).sections)
    (at,) = [i for i, s in enumerate(sections) if s.name == "containerd-dump"]
    data, status = SPOILED[how](sections[at].data)
    assert "GW-OK-001" not in shown(written(replaced(sections, at, data, status)))


# A megabyte of the worst


MEGABYTE = 1 << 20


def with_much(raw: bytes, at: int, kind: str, length: int, way: int) -> bytes:
    """The probe with that much of a kind of text in a section: alone, behind what is there, or before it."""
    sections = list(read_frames(raw).sections)
    text, data = HOSTILE[kind] * (length // len(HOSTILE[kind])), sections[at].data
    return written(replaced(sections, at, (text, data + text, text + b"\n" + data)[way % 3]))


def one_of_each(bases: list[bytes]) -> list[tuple[bytes, int, str]]:
    """Every kind of section once: the probe that has it, its place there, its name."""
    found: dict[str, tuple[bytes, int, str]] = {}
    for raw in bases:
        for at, section in enumerate(read_frames(raw).sections):
            if section.name != "step":
                found.setdefault(section.name, (raw, at, section.name))
    return list(found.values())


@pytest.mark.parametrize("kind", HOSTILE)
def test_much_of_one_kind_in_any_section(bases: list[bytes], kind: str) -> None:
    """A quarter of a megabyte in every section in turn, a whole one in some. What takes its square is far too slow."""
    places = one_of_each(bases)
    assert len(places) > 50
    first = list(HOSTILE).index(kind)
    too_slow = {}
    for number, (raw, at, name) in enumerate(places):
        parts = 1 if number % len(HOSTILE) == first else 4
        if (walks := slow(with_much(raw, at, kind, MEGABYTE // parts, number + first), 1 / parts)) is not None:
            too_slow[name] = walks
    assert not too_slow


# Documents that grow when they are read


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_that_grow(bases: list[bytes], name: str) -> None:
    """In every file and every section that holds a document."""
    text = DOCUMENTS[name]
    for raw in bases:
        frames = read_frames(raw)
        for section in frames.sections:
            if re.search(r"config|dump|cdi|toml|yaml|json|kubelet|daemon|template", f"{section.name}:{section.key}"):
                key = f"{section.name}:{section.key}".rstrip(":")
                changed = (
                    edit(key, text, section.status, raw)
                    if section.name != "file"
                    else with_config(raw, text, section.key)
                )
                assert slow(changed) is None, key
    for path in ("/etc/containerd/config.toml", "/etc/docker/daemon.json", "/etc/rancher/k3s/config.yaml"):
        assert slow(with_config(ready(), text, path)) is None, path


def test_files_that_import_each_other_in_a_circle() -> None:
    raw = ready()
    for number in range(70):
        text = f'version = 2\nimports = ["/etc/containerd/{(number + 1) % 70}.toml", "/etc/containerd/*.toml"]\n'
        raw = with_config(raw, text, f"/etc/containerd/{number}.toml")
    raw = with_config(raw, 'version = 2\nimports = ["/etc/containerd/*.toml"]\n')
    assert slow(raw) is None


def test_what_is_shared_between_hosts_is_not_changed(bases: list[bytes]) -> None:
    """Answers about texts are kept for the next host, so that nobody may change them."""
    documents = [config_of(raw) for raw in bases if config_of(raw)]
    for raw in bases:
        shown(raw)
        shown(raw)
    assert documents
    for text in documents:
        assert load_toml(text) is load_toml(text)
        assert load_toml(text) == tomllib.loads(text)


def config_of(raw: bytes) -> str:
    """What containerd makes of its configuration, where the probe has it."""
    return next((section.text for section in read_frames(raw).all("containerd-dump")), "")
