"""Recommended values and their reasons; what cannot be had is offered disabled, never hidden."""

from dataclasses import replace

from gpuwizard.answers.model import Answers, HostOverride, Sharing
from gpuwizard.facts.model import Probe
from gpuwizard.recommend import ChoiceField, choices, host_strategy
from tests.plan_probes import MAIN, containerd_host, k3s_host

OLD = containerd_host("1.7.24", {MAIN: "version = 2\n"})
NEW = containerd_host("2.1.9", {MAIN: "version = 3\n"})
AGENT = k3s_host("version = 3\n")


def field(path: str, probes: dict[str, Probe], answers: Answers | None = None) -> ChoiceField:
    return next(f for f in choices(probes, answers or Answers()) if f.path == path)


def test_auto_says_what_it_takes_on_which_host() -> None:
    probes = {"agent": AGENT, "new": NEW, "old": OLD}
    chosen = field("runtime.strategy", probes)
    assert chosen.recommended == "auto"
    for part in ("k3s-native on agent", "drop-in on new", "in-place on old"):
        assert part in chosen.reason


def test_what_fits_no_host_is_offered_disabled_with_the_reason() -> None:
    chosen = field("runtime.strategy", {"old": OLD})
    options = {o.value: o for o in chosen.options}
    assert not options["drop-in"].enabled
    assert options["drop-in"].reason
    assert not options["gpu-operator"].enabled
    assert options["none"].enabled


def test_the_strategy_of_one_host_shows_its_override() -> None:
    answers = Answers(host={"old": HostOverride(strategy="none")})
    chosen = host_strategy("old", OLD, answers)
    assert chosen.current == "none"
    assert chosen.path == "host.old.strategy"
    assert len({o.value for o in chosen.options}) == len(chosen.options)


def test_time_slicing_says_what_the_nodes_will_announce() -> None:
    probe = NEW
    two = replace(probe, facts=replace(probe.facts, gpus=probe.facts.gpus * 2))
    chosen = field("sharing.mode", {"a": two}, Answers(sharing=Sharing(mode="time-slicing", replicas=4)))
    text = {o.value: o.reason for o in chosen.options}
    assert "nvidia.com/gpu is 2 over" in text["none"]
    assert "with 4 replicas nvidia.com/gpu is 8" in text["time-slicing"]
    assert chosen.current == "time-slicing"


def test_every_choice_is_complete() -> None:
    for chosen in choices({}, Answers()):
        values = [o.value for o in chosen.options]
        assert chosen.recommended in values
        assert chosen.current in values
        assert chosen.reason
        assert all(o.enabled or o.reason for o in chosen.options)
