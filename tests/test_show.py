"""Hosts, findings and facts in words: the same for every front end."""

import dataclasses
from dataclasses import fields, replace
from pathlib import Path

import pytest

from gpuwizard.facts.model import (
    CdiSpec,
    DriverFacts,
    Gpu,
    HostFacts,
    HostState,
    MountSpace,
    Reach,
    RuntimeFacts,
    ServiceState,
    Template,
    ToolkitFacts,
    Unseen,
)
from gpuwizard.findings import RULES
from gpuwizard.session import HostRecord, Session
from gpuwizard.show.by_finding import by_finding, cases
from gpuwizard.show.fact_words import INSTEAD, LABELS, NOTHING, OMITTED, label
from gpuwizard.show.facts import fact_groups, fact_lines
from gpuwizard.show.hosts import finding_lines
from gpuwizard.show.overview import GROUPS, SHOWN, Overview, Wanted, host_line, waiting_for
from gpuwizard.show.progress import SHORT, STANDING, progress_words, tally_words
from gpuwizard.show.story import near, story, story_json, story_lines
from gpuwizard.show.words import clock, duration, folded, natural
from gpuwizard.work.probe import STEPS
from tests.captured import ready
from tests.screens import many, sessions


@pytest.fixture
def mixed(tmp_path: Path) -> Session:
    return sessions.session(state_dir=tmp_path)


def facts_of(**changes: object) -> dict[str, dict[str, str]]:
    """Every fact of a host that is as the captured one but for `changes`: by group and name."""
    facts = replace(ready().facts, **changes)  # type: ignore[arg-type]
    return {
        group.id: {fact.name: "NOT KNOWN" if fact.value is None else fact.value for fact in group.facts}
        for group in fact_groups(facts)
    }


# Words


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], ""),
        (["gpu1"], "gpu1"),
        (["b", "a"], "a, b"),
        (["gpu2", "gpu1"], "gpu1, gpu2"),
        (["gpu1", "gpu10", "gpu2", "gpu3"], "gpu[1-3,10]"),
        ([f"n{n:03}.example" for n in (7, 8, 9, 10, 99, 100)], "n[007-010,099-100].example"),
        (["gpu1", "gpu01", "gpu02", "gpu03"], "gpu[1,01-03]"),
        (["10.0.0.1", "10.0.0.2", "10.0.0.3", "head"], "10.0.0.[1-3], head"),
        (["rack1-a", "rack2-a", "rack3-a", "rack1-b"], "rack[1-3]-a, rack1-b"),
    ],
)
def test_many_names_are_folded_and_none_is_lost(names: list[str], words: str) -> None:
    assert folded(names) == words


def test_numbers_in_names_count() -> None:
    assert sorted(["gpu10", "gpu9", "gpu", "cpu1"], key=natural) == ["cpu1", "gpu", "gpu9", "gpu10"]


def test_a_clock_that_is_off() -> None:
    assert [clock(s) for s in (0.04, 3.21, -0.5, -65)] == ["right", "3.2 s ahead", "0.5 s behind", "1:05 behind"]
    assert [duration(s) for s in (None, 4.9, 65, 3723)] == ["", "4 s", "1:05", "1:02:03"]


# One line a host


def test_trouble_comes_first_and_says_what_it_is(mixed: Session) -> None:
    overview = Overview(mixed)
    assert overview.refresh()
    assert not overview.refresh(), "nothing has changed since"
    assert [(line.name, line.group, line.short) for line in overview.order] == [
        ("locked", "failed", "no answer"),
        ("no-driver", "error", "1 error"),
        ("kubeadm-17", "warning", "1 warning"),
        ("kubeadm-21", "warning", "1 warning"),
        ("k3s-agent-1", "ok", "ok"),
        ("k3s-agent-2", "ok", "ok"),
        ("k3s-server", "ok", "ok"),
        ("spark", "ok", "ok"),
    ]
    line = overview.lines["no-driver"]
    assert (line.words, line.more) == ("the NVIDIA driver is not installed", 1)


def test_a_host_whose_every_error_the_plan_mends_is_a_group_of_its_own(mixed: Session) -> None:
    record = mixed.hosts["spark"]
    mendable = replace(sessions.HANDLER_MISSING, severity="error")
    record.findings = (mendable,)
    assert (host_line(record).group, host_line(record).words) == ("mended", f"plan mends: {mendable.title}")
    record.findings = (mendable, sessions.NO_DRIVER)
    assert (host_line(record).group, host_line(record).words) == ("error", sessions.NO_DRIVER.title)
    record.findings = (sessions.UNIFIED,)
    assert host_line(record).words == f"ok: {sessions.UNIFIED.title}", "no other finding says that all is well"


def test_only_hosts_that_changed_are_worked_out_anew(mixed: Session) -> None:
    overview = Overview(mixed)
    overview.refresh()
    before = dict(overview.lines)
    mixed.hosts["spark"].findings = (sessions.NO_DRIVER,)
    assert overview.refresh()
    assert {name for name, line in overview.lines.items() if line is not before[name]} == {"spark"}
    assert overview.order[1].name == "no-driver"
    assert overview.order[2].name == "spark"
    mixed.set_hosts(["spark", "other"])
    assert overview.refresh()
    assert {line.name for line in overview.order} == {"spark", "other"}


def test_hosts_that_are_looked_at_longest_stand_first_among_them(tmp_path: Path) -> None:
    made = many.session(5, tmp_path)
    for name, began in (("gpu0001", 30.0), ("gpu0002", 10.0), ("gpu0003", 20.0)):
        many.begin(made, made.hosts[name])
        made.hosts[name].began = began
    many.begin(made, made.hosts["gpu0005"])
    many.finish(made, made.hosts["gpu0005"])
    overview = Overview(made)
    overview.refresh()
    assert [line.name for line in overview.order] == ["gpu0002", "gpu0003", "gpu0001", "gpu0005", "gpu0004"]
    assert overview.slowest() is made.hosts["gpu0002"]


def test_every_state_says_what_is_waited_for(tmp_path: Path) -> None:
    record = many.session(1, tmp_path).hosts["gpu0001"]
    said = set()
    for state, step in [("waiting", None), ("queued", None), ("connecting", None), ("probing", None)] + [
        ("probing", step) for step in STEPS
    ]:
        record.state, record.step = state, step  # type: ignore[assignment]
        said.add(waiting_for(record))
    assert len(said) == 4 + len(STEPS)


def test_what_is_shown_covers_every_group_and_every_group_has_words() -> None:
    assert set(SHOWN["all"]) == set(GROUPS) == set(STANDING) == set(SHORT)
    assert set(SHOWN["trouble"]) > set(SHOWN["errors"])


@pytest.mark.parametrize(
    ("text", "takes"), [("", True), ("GPU", True), ("gpu h200", True), ("!h200", False), ("!l40", True), ("!", False)]
)
def test_a_filter(text: str, takes: bool) -> None:
    assert Wanted(text).matches("gpu17\nh200") is takes


def test_progress_names_who_keeps_one_waiting(tmp_path: Path) -> None:
    made = many.session(100, tmp_path)
    for number, _ in enumerate(many.look(made, list(made.hosts), parallel=10)):
        if number == 14:
            break
    overview = Overview(made)
    overview.refresh()
    assert progress_words(made, overview) == "10 of 100 done · 10 running · 0 s"
    slow = next(r for r in made.hosts.values() if r.running)
    slow.began, slow.step = made.clock.monotonic() - 31, "nvidia-smi"
    assert progress_words(made, overview).endswith(f" · {slow.name} 31 s: waiting for nvidia-smi")


def test_the_count_at_the_end(mixed: Session) -> None:
    overview = Overview(mixed)
    overview.refresh()
    mixed.probe_began, mixed.probe_ended = 10.0, 74.5
    counted = "8 hosts in 1:04: 1 without an answer, 1 with errors, 2 with warnings, 4 ok"
    assert tally_words(mixed, overview) == counted


# By finding


def test_findings_turned_round(mixed: Session) -> None:
    found = by_finding(mixed.hosts.values())
    assert [(f.severity, f.id, len(f.hosts), f.mended) for f in found] == [
        ("error", "", 1, 0),
        ("error", "GW-DRIVER-MISSING", 1, 0),
        ("warning", "GW-RUNTIME-HANDLER", 3, 3),
        ("info", "GW-MEMORY-UNIFIED", 1, 0),
        ("ok", "GW-DRIVER-OK", 6, 0),
    ]
    assert found[0].title == "no answer: the host refused the login"
    (silent,) = cases(found[0].key, mixed.hosts.values())
    assert (silent.hosts, silent.evidence, silent.remedy) == (
        ("locked",),
        ("admin@locked:22",),
        "check the user name and the key",
    )


def test_hosts_with_the_same_evidence_stand_together(mixed: Session) -> None:
    first = mixed.hosts["kubeadm-17"]
    first.findings = (replace(sessions.HANDLER_MISSING, evidence=("another line",)),)
    found = cases("GW-RUNTIME-HANDLER", mixed.hosts.values())
    assert [(case.hosts, case.evidence[0]) for case in found] == [
        (("kubeadm-21", "no-driver"), "runtimes: runc"),
        (("kubeadm-17",), "another line"),
    ]


def test_a_finding_that_is_worse_somewhere_is_as_bad_as_there(mixed: Session) -> None:
    mixed.hosts["spark"].findings = (replace(sessions.HANDLER_MISSING, severity="error", fixable=False),)
    found = next(f for f in by_finding(mixed.hosts.values()) if f.id == "GW-RUNTIME-HANDLER")
    assert (found.severity, len(found.hosts), found.mended) == ("error", 4, 3)


def test_lines_of_a_host_say_what_the_plan_mends(mixed: Session) -> None:
    lines = list(finding_lines(mixed.hosts["kubeadm-17"]))
    assert lines[0].startswith("kubeadm-17: Ubuntu 24.04.3 LTS · 1 × NVIDIA H200 · kubeadm, containerd 1.7.24")
    assert lines[-3:] == [
        "      the plan mends this",
        "  ✓ GW-DRIVER-OK the driver works",
        "      NVRM version 580.95.05",
    ]
    assert list(finding_lines(HostRecord(mixed.hosts["spark"].target))) == ["· spark: not looked at"]


# Facts


def test_every_field_of_the_facts_is_shown_or_left_out_on_purpose() -> None:
    """A field that somebody adds is on screen without anybody thinking of it."""
    for kind in (HostFacts, DriverFacts, Gpu, ToolkitFacts, RuntimeFacts, HostState):
        names = {f.name for f in fields(kind)}
        assert set(LABELS.get(kind, {})) <= names
        assert set(OMITTED.get(kind, ())) <= names
    facts = replace(ready().facts, driver=replace(ready().facts.driver, modules_loaded=("nvidia", "nvidia_uvm")))
    shown = [fact for group in fact_groups(facts) for fact in group.facts]
    named = {fact.name for fact in shown} | {
        n for f in shown if f.name == "not known" for n in (f.value or "").split(", ")
    }
    for f in fields(DriverFacts):
        if getattr(facts.driver, f.name) is None and f.name not in NOTHING:
            assert label(facts.driver, f.name) in named, f.name
    assert "modules loaded" in named


def test_what_is_not_known_says_why_and_is_never_no() -> None:
    why = "the EFI variable cannot be read and mokutil is not installed"
    facts = ready().facts
    facts = replace(
        facts,
        kernel=replace(facts.kernel, secure_boot=None),
        unseen=(Unseen("secure boot", why), Unseen("services", "there is no systemctl")),
        driver=DriverFacts(),
    )
    groups = {group.id: group.facts for group in fact_groups(facts)}
    boot = next(fact for fact in groups["system"] if fact.name == "Secure Boot")
    assert (boot.value, boot.why) == (None, why)
    loaded = next(fact for fact in groups["driver"] if fact.name == "loaded")
    assert (loaded.value, loaded.why) == (None, "")
    services = next(fact for fact in groups["driver"] if "fabric manager" in (fact.value or "").split(", "))
    assert (services.name, services.why) == ("not known", "there is no systemctl")
    assert not any(fact.value in ("no", "0") for fact in groups["driver"])
    assert ("secure boot", why) in [(fact.name, fact.value) for fact in groups["unseen"]]


def test_without_root_the_reason_is_given() -> None:
    why = "the probe had no root rights"
    unseen = (Unseen("configuration, sockets and processes of root", why),)
    facts = replace(ready().facts, unseen=unseen, runtimes=(RuntimeFacts("containerd"),))
    runtime = next(group for group in fact_groups(facts) if group.id == "runtime 0")
    assert all(fact.why == why for fact in runtime.facts if fact.value is None)


def test_shared_memory_is_not_available_and_never_zero() -> None:
    gpu = Gpu(name="NVIDIA GB10", unified_memory=True, memory_bytes=None)
    assert facts_of(gpus=(gpu,))["gpu 0"]["memory"] == "one memory with the CPU: N/A"
    assert facts_of(gpus=(Gpu(),))["gpu 0"]["memory"] == "NOT KNOWN"


def test_records_in_words() -> None:
    state = HostState(
        cgroup_version=2,
        clock_offset_seconds=-3.2,
        space=(MountSpace("/var", 3 * 2**30, 20 * 2**30, True), MountSpace("/run")),
        reach=(Reach("registry.example", False, "timed out"), Reach("other.example")),
        proxies={"containerd.service": {"HTTPS_PROXY": "http://proxy:3128"}},
        swap_bytes=0,
    )
    shown = facts_of(state=state)["state"]
    assert shown["clock"] == "3.2 s behind"
    assert shown["swap"] == "0 B"
    assert shown["proxies"] == "containerd.service: HTTPS_PROXY http://proxy:3128"
    lines = list(fact_lines(_record(replace(ready().facts, state=state))))
    assert any("/var: 3.0 GiB free of 20.0 GiB, read-only" in line for line in lines)
    assert any("registry.example: not reached: timed out" in line for line in lines)
    assert any("other.example: not known" in line for line in lines)


def test_services_specifications_and_templates_in_words() -> None:
    facts = ready().facts
    spec = CdiSpec(
        "/etc/cdi/nvidia.yaml", "nvidia.com/gpu", devices=("0", "all"), driver_version="570.1", missing=("/x",)
    )
    broken = CdiSpec("/etc/cdi/bad.yaml", error="it is no YAML")
    template = Template("/var/lib/rancher/k3s/config.toml.tmpl", "stale", ("no base",))
    facts = replace(
        facts,
        toolkit=replace(facts.toolkit, specs=(spec, broken), cdi_specs=("/etc/cdi/nvidia.yaml",)),
        kubernetes=replace(facts.kubernetes, template_states=(template,), templates=(template.path,)),
        driver=replace(
            facts.driver,
            fabric_manager=ServiceState(
                "nvidia-fabricmanager.service", True, "failed", "enabled", "failed", "exit-code"
            ),
            imex=ServiceState("nvidia-imex.service", False),
        ),
    )
    text = "\n".join(fact_lines(_record(facts)))
    assert "/etc/cdi/nvidia.yaml: nvidia.com/gpu, 2 devices, driver 570.1, 1 path missing" in text
    assert "/etc/cdi/bad.yaml: it is no YAML" in text
    assert "config.toml.tmpl: stale: no base" in text
    assert "nvidia-fabricmanager.service: failed, enabled, result exit-code" in text
    assert "nvidia-imex.service is not installed" in text
    assert text.count("/etc/cdi/nvidia.yaml") == 1, "the bare list says less and is left out"


def test_what_stands_for_another_field_is_a_field() -> None:
    names = {f.name for kind in LABELS for f in dataclasses.fields(kind)}
    assert set(INSTEAD) | set(INSTEAD.values()) <= names


def _record(facts: HostFacts) -> HostRecord:
    made = sessions.session(("gpu1",), probed=False)
    record = made.hosts["gpu1"]
    record.probe, record.state = replace(ready(), facts=facts), "ready"
    return record


# The story of a rule


def test_every_rule_has_a_story_of_lines_that_fit() -> None:
    for rule in RULES:
        lines = list(story_lines(rule, 79))
        assert lines[0] == f"{rule.id}  {rule.title}"
        assert all(len(line) <= 79 or " " not in line.strip(" -") or line == lines[0] for line in lines), rule.id
        told = story_json(rule)
        assert told["schema"] == "gpuwizard.finding/1"
        assert (told["cause"], told["remedy"]) == (rule.cause, rule.remedy)


def test_empty_chapters_are_left_out() -> None:
    rule = replace(RULES[0], effect="", detected="", messages=(), sources=())
    assert [heading for heading, _ in story(rule)] == ["What it means", "What to do"]


def test_ids_that_may_have_been_meant() -> None:
    assert near("driver-3") == ["GW-DRIVER-003"]
    assert near("gw-driver-3") == ["GW-DRIVER-003"]
    assert "GW-DRIVER-003" in near("GW-DRIVR-003")
    assert near("k3s")
    assert all(name.startswith("GW-K3S-") for name in near("k3s"))
    rule = next(rule for rule in RULES if rule.messages)
    assert near(rule.messages[0])
    assert near("") == near("!!!!") == []


def test_a_login_that_failed_counts_as_an_error(mixed: Session) -> None:
    assert next(finding_lines(mixed.hosts["locked"])) == "✗ locked: the host refused the login (admin@locked:22)"
