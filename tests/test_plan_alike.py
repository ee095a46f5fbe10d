"""Hosts that are alike are planned once, and only those: a thousand of them cost what twenty cost."""

import ast
import time
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwizard.actions import HostPlanned
from gpuwizard.answers.model import Answers, HostOverride, Runtime
from gpuwizard.facts.model import Gpu, HostFacts, Probe
from gpuwizard.flavours import plan_host
from gpuwizard.plan import alike
from gpuwizard.plan.alike import FORGOTTEN, AlikeHosts, anonymous
from gpuwizard.plan.build import build_plan
from gpuwizard.secret import SecretBytes
from tests.bench import planning
from tests.plan_probes import K3S_RENDERED, MAIN, containerd_host, k3s_host

ENGINE = Path(__file__).parent.parent / "gpuwizard"


class Counted:
    """`plan_host` with a count."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, name: str, probe: Probe, answers: Answers) -> HostPlanned:
        self.asked.append(name)
        return plan_host(name, probe, answers)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Count how often a flavour is asked within `build_plan`."""
    counter = Counted()
    monkeypatch.setattr(alike.AlikeHosts.__init__, "__defaults__", (counter,))
    return counter


def test_a_thousand_hosts_of_twenty_kinds_are_planned_twenty_times(counted: Counted) -> None:
    probes = planning.fleet()
    plan, seconds = planning.planned(probes)
    assert len(counted.asked) == planning.SETS
    assert seconds < 10, "the bar is 2 s; tests/bench/planning.py measures it"
    assert Counter(bool(host.refusals) for host in plan.hosts) == {False: 800, True: 200}
    assert [host.name for host in plan.hosts] == sorted(probes)
    for number in (1, 500, 1000):
        host = plan.hosts[number - 1]
        assert (host.boot_id, host.node_name) == (f"boot-{number}", host.name)
        assert all(host.name in action.id for action in host.actions)


def test_sharing_changes_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    probes = planning.fleet(60)
    shared, _ = planning.planned(probes)

    def alone(self: AlikeHosts, name: str, probe: Probe) -> HostPlanned:
        return plan_host(name, probe, Answers())

    monkeypatch.setattr(AlikeHosts, "planned", alone)
    assert planning.planned(probes)[0] == shared


BASE = (planning.DATA / "containerd_defaults" / "debian.toml").read_text()


def other(**facts: object) -> Probe:
    host = containerd_host("1.7.24", {MAIN: BASE}, node="n2")
    return replace(host, facts=replace(host.facts, **facts))  # type: ignore[arg-type]


HOST = containerd_host("1.7.24", {MAIN: BASE}, node="n1")
DIFFERENT = {
    "one byte of a file": containerd_host("1.7.24", {MAIN: BASE + "#"}),
    "a file more": containerd_host("1.7.24", {MAIN: BASE, "/etc/containerd/conf.d/x.toml": ""}),
    "mode of a file": replace(HOST, files={**HOST.files, MAIN: replace(HOST.files[MAIN], mode=0o600)}),
    "link": replace(HOST, files={**HOST.files, MAIN: replace(HOST.files[MAIN], target="/srv/config.toml")}),
    "release": containerd_host("1.7.25", {MAIN: BASE}),
    "no GPU": other(gpus=()),
    "driver": other(driver=replace(HOST.facts.driver, loaded=None)),
    "toolkit": other(toolkit=replace(HOST.facts.toolkit, runtime_path="/opt/nvidia-container-runtime")),
    "unit": other(runtimes=(replace(HOST.facts.runtimes[0], unit="other.service"),)),
    "role": other(kubernetes=replace(HOST.facts.kubernetes, role="control-plane")),
    "system": other(os=replace(HOST.facts.os, immutable=True)),
    "rights": replace(HOST, readable=False),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_hosts_that_differ_in_what_matters_share_nothing(what: str, counted: Counted) -> None:
    build_plan({"n1": HOST, "n2": DIFFERENT[what]}, Answers(), None)
    assert counted.asked == ["n1", "n2"]


def test_who_a_host_is_does_not_matter(counted: Counted) -> None:
    twin = other(
        hostname="elsewhere",
        boot_id="b2",
        gpus=(replace(HOST.facts.gpus[0], uuid="GPU-9", temperature_c=80),),
        runtimes=(replace(HOST.facts.runtimes[0], pid=17),),
        memory_bytes=1,
    )
    build_plan({"n1": HOST, "n2": twin}, Answers(), None)
    assert counted.asked == ["n1"]


def test_answers_for_one_host_are_its_own(counted: Counted) -> None:
    answers = Answers(
        host={"n2": HostOverride(default_runtime="nvidia"), "n3": HostOverride(default_runtime="nvidia")},
        runtime=Runtime(default_runtime="leave"),
    )
    plan = build_plan(dict.fromkeys(("n1", "n2", "n3", "n4"), HOST), answers, None)
    assert counted.asked == ["n1", "n2"]
    writes = [next(a.change.after for a in host.actions if a.kind == "file") for host in plan.hosts]
    assert writes[0] == writes[3] != writes[1] == writes[2]


def test_a_file_that_changed_after_the_start_is_told_apart_by_its_time(counted: Counted) -> None:
    template = f"{K3S_RENDERED}.tmpl"
    host = k3s_host(planning._RENDERED, files={template: '{{ template "base" . }}\n'})
    started = host.files[K3S_RENDERED].mtime or 0
    hosts = {}
    for name, seconds in (("n1", -86_400), ("n2", -3600), ("n3", 5), ("n4", 6), ("n5", 90), ("n6", 1_000_000)):
        later = replace(host.files[template], mtime=started + seconds)
        hosts[name] = replace(host, files={**host.files, template: later})
    plan = build_plan(hosts, Answers(), None)
    assert {h.name: [r.id for r in h.refusals] for h in plan.hosts} == {
        "n1": [],
        "n2": [],
        "n3": [],
        "n4": ["latent-change"],
        "n5": ["latent-change"],
        "n6": ["latent-change"],
    }
    assert counted.asked == ["n1", "n3", "n4", "n5"], "an hour before is as good as a day before"


@given(st.lists(st.integers(0, 2_000_000_000), min_size=2, max_size=6), st.integers(0, 59))
def test_times_keep_their_order_and_their_distance_up_to_a_minute(times: list[int], tolerance: int) -> None:
    host = containerd_host("1.7.24", {f"/f{number}": "" for number in range(len(times))})
    files = {f"/f{n}": replace(host.files[f"/f{n}"], mtime=t) for n, t in enumerate(times)}
    blank = anonymous(replace(host, files=files))
    for n, one in enumerate(times):
        for m, two in enumerate(times):
            a, b = blank.files[f"/f{n}"].mtime, blank.files[f"/f{m}"].mtime
            assert a is not None
            assert b is not None
            assert (one > two + tolerance) == (a > b + tolerance)


def test_no_flavour_reads_what_was_taken_away() -> None:
    taken = set().union(*FORGOTTEN.values())
    read: dict[str, set[str]] = {}
    for path in [*(ENGINE / "flavours").glob("*.py"), *(ENGINE / "containerd").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in taken - {"index"}:  # lists have an index, too
                read.setdefault(path.name, set()).add(node.attr)
    assert read == {}, "take it out of FORGOTTEN in gpuwizard/plan/alike.py"


def test_nothing_that_is_forgotten_is_left_and_all_else_is_kept() -> None:
    blank = anonymous(HOST).facts
    assert (blank.hostname, blank.boot_id, blank.gpus[0].uuid) == (None, None, None)
    assert blank.gpus[0].name == HOST.facts.gpus[0].name
    for field in fields(HostFacts):
        if field.name not in {*FORGOTTEN[HostFacts], "gpus", "kubernetes", "driver", "state", "runtimes", "toolkit"}:
            assert getattr(blank, field.name) == getattr(HOST.facts, field.name)
    assert anonymous(replace(HOST, seconds=9.0)) == anonymous(HOST)
    assert isinstance(blank.gpus[0], Gpu)


def test_no_plan_names_its_host() -> None:
    for probe in planning.kinds():
        planned = plan_host("a-name-of-its-own", anonymous(probe), Answers())
        assert "a-name-of-its-own" not in repr(planned)


def test_many_kinds_with_equal_files_cost_no_search_without_end() -> None:
    hosts = {}
    for number in range(300):
        privilege = replace(HOST.facts.privilege, reason=f"sudo: no {number}")
        host = replace(HOST, facts=replace(HOST.facts, privilege=privilege), readable=False)
        hosts[f"n{number:03}"] = replace(host, files={MAIN: replace(HOST.files[MAIN], content=SecretBytes(b""))})
    began = time.process_time()
    plan = build_plan(hosts, Answers(), None)
    assert time.process_time() - began < 10
    assert [h.refusals[0].why.rpartition(" ")[2] for h in plan.hosts] == [str(n) for n in range(300)]
