"""The shared refusals: what comes out is compared with what was there, and every loss has a name and a remedy."""

from dataclasses import replace
from typing import Any

import pytest

from gpuwizard.actions import Activation, Check, EffectiveChange, HostChange, HostPlanned
from gpuwizard.answers.model import Answers, Runtime
from gpuwizard.containerd import Effective, compare, effective
from gpuwizard.facts.cluster import ClusterView, NodeView
from gpuwizard.facts.model import Handler, HostState, Probe
from gpuwizard.flavours import plan_host
from gpuwizard.flavours.refusals import announced_changes, live_refusal, outcome_refusals
from gpuwizard.plan.build import build_plan
from tests.plan_probes import MAIN, RUNTIME_PATH, containerd_host

TEXT = """\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "example.test/pause:9"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "/etc/containerd/certs.d"
[plugins."io.containerd.grpc.v1.cri".registry.headers]
  Authorization = ["Bearer abcdefghijklmnop"]
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]
  runtime_type = "io.containerd.kata.v2"
"""
NVIDIA = f"""\
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
  BinaryName = "{RUNTIME_PATH}"
  SystemdCgroup = true
"""
KATA = '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]\n  runtime_type = "io.containerd.kata.v2"\n'


def state(text: str, version: str = "1.7.24") -> Effective:
    return effective({MAIN: text.encode()}, MAIN, version)


def refusals(text: str, default: str | None = None) -> list[str]:
    before, after = state(TEXT), state(text)
    announced = announced_changes(compare(before, after), default)
    found = outcome_refusals(before, after, RUNTIME_PATH, default, announced)
    assert all(r.why and r.remedy for r in found)
    return [r.id for r in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TEXT + NVIDIA, []),
        (TEXT + NVIDIA + NVIDIA, ["would-not-start"]),
        ("disabled_plugins = ['io.containerd.grpc.v1.cri']\n" + TEXT + NVIDIA, ["cri-would-fail"]),
        (TEXT.replace('name = "runc"', 'name = "nvidia"'), ["default-undefined"]),
        (TEXT, ["no-effect"]),
        (TEXT + NVIDIA.replace("true", "false"), ["no-effect"]),
        (TEXT.replace(KATA, "") + NVIDIA, ["handler-vanishes"]),
        (TEXT.replace("kata.v2", "kata.v3") + NVIDIA, ["handler-changes"]),
        (TEXT.replace('name = "runc"', 'name = "nvidia"') + NVIDIA, ["default-changes"]),
        (TEXT.replace("pause:9", "pause:8") + NVIDIA, ["sandbox-image-changes"]),
        (TEXT.replace("native", "overlayfs") + NVIDIA, ["snapshotter-changes"]),
        (TEXT.replace("/usr/lib/cni", "/opt/cni/bin") + NVIDIA, ["cni-changes"]),
        (TEXT.replace("certs.d", "hosts.d") + NVIDIA, ["registry-changes"]),
        (TEXT.replace("Bearer abc", "Bearer xyz") + NVIDIA, ["registry-changes"]),
        (
            (TEXT + NVIDIA).replace("SystemdCgroup = true", "SystemdCgroup = false"),
            ["handler-changes", "cgroup-driver-changes"],
        ),
        (TEXT.replace("[plugins", "[timeouts]\n'x' = '1s'\n[plugins", 1) + NVIDIA, []),
    ],
)
def test_every_loss_has_its_refusal(text: str, expected: list[str]) -> None:
    assert refusals(text) == expected


def test_a_default_that_was_asked_for_is_no_loss() -> None:
    text = TEXT.replace('name = "runc"', 'name = "nvidia"') + NVIDIA
    assert refusals(text, "nvidia") == []
    assert refusals(TEXT + NVIDIA, "nvidia") == ["no-effect"]


def test_a_secret_that_would_be_lost_does_not_show() -> None:
    before, after = state(TEXT), state(TEXT.replace("Bearer abc", "Bearer xyz") + NVIDIA)
    (refusal,) = outcome_refusals(before, after, RUNTIME_PATH, None, announced_changes(compare(before, after), None))
    assert "abcdefghijklmnop" not in refusal.why
    assert "redacted" in refusal.why


def test_switching_cdi_on_is_announced_only_where_it_is_asked_for() -> None:
    changes = (EffectiveChange("CDI", "false", "true"),)
    assert announced_changes(changes, None) == ()
    assert announced_changes(changes, None, cdi=True) == changes


def test_a_drop_in_that_would_not_be_read_is_refused() -> None:
    """A bracket in the folder's name makes the import a pattern that finds nothing."""
    main = "/opt/[gpu]/config.toml"
    planned = plan_host("n1", containerd_host("2.1.9", {main: "version = 3\n"}, main=main), Answers())
    assert [r.id for r in planned.refusals] == ["drop-in-unread"]
    assert "strategy in-place" in planned.refusals[0].remedy
    in_place = Answers(runtime=Runtime(strategy="in-place"))
    assert plan_host("n1", containerd_host("2.1.9", {main: "version = 3\n"}, main=main), in_place).refusals == ()


def changed_since(probe: Probe, **changes: Any) -> Probe:
    runtime = replace(probe.facts.runtimes[0], **changes)
    return replace(probe, facts=replace(probe.facts, runtimes=(runtime,)))


def test_a_change_that_waits_for_the_next_restart_is_not_activated_with_ours() -> None:
    probe = changed_since(
        containerd_host("1.7.24", {MAIN: TEXT}), config_newer_than_process=True, changed_files=(MAIN,)
    )
    (refusal,) = plan_host("n1", probe, Answers()).refusals
    assert refusal.id == "latent-change"
    assert f"{MAIN} was changed after containerd.service started" in refusal.why
    right = changed_since(
        containerd_host("1.7.24", {MAIN: TEXT + NVIDIA}), config_newer_than_process=True, changed_files=(MAIN,)
    )
    assert plan_host("n1", right, Answers(runtime=Runtime(cdi="leave"))).refusals == ()


def planned_for(*handlers: str) -> HostPlanned:
    check = Check("containerd.service", handlers, "runc", None, None, None)
    return HostPlanned("in-place", "", HostChange((), Activation("containerd.service"), check))


def test_a_handler_that_only_the_running_runtime_knows_is_not_taken_from_its_pods() -> None:
    assert live_refusal(["", "runc", "nvidia"], planned_for("runc", "nvidia")) is None
    assert live_refusal(["kata"], HostPlanned("in-place", "nothing to do")) is None
    refusal = live_refusal(["", "runc", "kata"], planned_for("runc", "nvidia"))
    assert refusal is not None
    assert (refusal.id, "handler kata now" in refusal.why) == ("running-handler", True)


def test_the_plan_asks_the_node_what_it_offers() -> None:
    probe = containerd_host("1.7.24", {MAIN: TEXT})
    for live, expected in ((("", "runc", "kata"), []), (("", "runc", "gvisor"), ["running-handler"])):
        view = ClusterView(nodes=(NodeView("n1", True, runtime_handlers=live),))
        (host,) = build_plan({"n1": probe}, Answers(), view).hosts
        assert [r.id for r in host.refusals] == expected
        assert bool(host.actions) is not bool(expected)


def test_a_shim_that_came_before_us_is_not_ours_to_refuse() -> None:
    old = Handler("io.containerd.runtime.v1.linux", {})
    before = replace(state(TEXT, "2.1.9"), runtimes={**state(TEXT, "2.1.9").runtimes, "old": old})
    after = replace(state(TEXT + NVIDIA, "2.1.9"), runtimes={**state(TEXT + NVIDIA, "2.1.9").runtimes, "old": old})
    announced = announced_changes(compare(before, after), None)
    assert outcome_refusals(before, after, RUNTIME_PATH, None, announced) == ()
    new = replace(before, runtimes=state(TEXT, "2.1.9").runtimes)
    found = outcome_refusals(new, after, RUNTIME_PATH, None, announced_changes(compare(new, after), None))
    assert [r.id for r in found] == ["removed-shim"]


def test_a_host_without_systemd_is_refused_by_the_plan_itself() -> None:
    for systemd, found in ((False, ["no-systemd"]), (True, []), (None, [])):
        probe = containerd_host("1.7.24", {MAIN: TEXT}, state=HostState(systemd=systemd))
        assert [r.id for r in plan_host("n1", probe, Answers()).refusals] == found
