"""Latent changes: a host whose disk does not reproduce what runs is refused with the difference, until it is taken in.

A table of flavours and of what may wait for a restart on each of them (`safety.md`, order on one host, step 2).
"""

from dataclasses import replace
from typing import Any

import pytest

from gpuwizard.answers.model import Answers, HostOverride, Runtime
from gpuwizard.facts.cluster import ClusterView, NodeView
from gpuwizard.facts.model import KubernetesFacts, Probe
from gpuwizard.facts.runtimes.docker import docker_facts
from gpuwizard.facts.runtimes.inputs import RuntimeInputs, other_command
from gpuwizard.facts.units import Process, Unit
from gpuwizard.flavours import plan_host
from gpuwizard.flavours.k0s_files import CRI_FILE, FOLDER
from gpuwizard.flavours.latent import not_live
from gpuwizard.flavours.microk8s_template import TEMPLATE
from gpuwizard.plan.build import build_plan
from tests.plan_probes import MAIN, containerd_host, host_files, k3s_host
from tests.snap_hosts import snap_host
from tests.test_flavours_crio import MAIN as CRIO_MAIN
from tests.test_flavours_crio import crio_host
from tests.test_flavours_docker import docker_host
from tests.test_flavours_k0s import k0s_host
from tests.test_flavours_k3s import V3
from tests.test_flavours_k3s_edits import rke2
from tests.test_flavours_microk8s import TEXT, filled, microk8s_host, with_mtime

TAKEN = Answers(runtime=Runtime(take_latent=True))
CONTAINERD = 'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\n'
K3S_CONFIG = "/etc/rancher/k3s/config.yaml"
HOSTS: dict[str, Probe] = {
    "containerd": containerd_host("1.7.24", {MAIN: CONTAINERD}),
    "k8s-snap": snap_host("2.1.5"),
    "k3s": k3s_host(V3),
    "rke2": rke2(k3s_host(V3)),
    "microk8s": microk8s_host(),
    "k0s-1.35": k0s_host("v1.35.2+k0s.0", "1.7.29"),
    "k0s-1.36": k0s_host("v1.36.0+k0s.0", "2.3.1"),
    "docker": docker_host("{}"),
    "crio": crio_host({CRIO_MAIN: ""}),
}
VERSIONS = {name: probe.facts.runtimes[0].version or "" for name, probe in HOSTS.items()}


def told(flavour: str, **changes: Any) -> Probe:
    """The host of a flavour whose runtime's facts say so."""
    probe = HOSTS[flavour]
    return replace(probe, facts=replace(probe.facts, runtimes=(replace(probe.facts.runtimes[0], **changes),)))


def newer(probe: Probe, path: str, content: str | None = None) -> Probe:
    """The host with that file written an hour after all others."""
    file = host_files({path: content})[path] if content is not None else probe.files[path]
    return replace(probe, files={**probe.files, path: replace(file, mtime=1_700_003_600)})


def unit_of(flavour: str) -> str:
    return HOSTS[flavour].facts.runtimes[0].unit or ""


def generic(flavour: str) -> list[tuple[str, Probe, str]]:
    """What the facts of any runtime show."""
    unit, kind = unit_of(flavour), HOSTS[flavour].facts.runtimes[0].kind
    return [
        ("a file", told(flavour, config_newer_than_process=True, changed_files=("/etc/x.toml",)),
         f"/etc/x.toml was changed after {unit} started"),
        ("live", told(flavour, not_live=("handler x runs and stands in no file",)),
         f"{unit} runs with other handlers than its files give it: handler x runs and stands in no file"),
        ("another release", told(flavour, running_version="1.6.1"),
         f"{kind} 1.6.1 runs, {VERSIONS[flavour]} is on the disk"),
        ("another build", told(flavour, binary_replaced=True), f"the program of {unit} was replaced after it started"),
        ("another command line", told(flavour, waiting_command="/usr/bin/x --debug"),
         f"{unit} would start with another command line: /usr/bin/x --debug"),
    ]  # fmt: skip


OWN = [
    ("k3s", "its options", newer(HOSTS["k3s"], K3S_CONFIG, "flannel-backend: none\n"),
     f"{K3S_CONFIG} was changed after K3s last started"),
    ("rke2", "its options", newer(HOSTS["rke2"], "/etc/rancher/rke2/config.yaml", "debug: true\n"),
     "/etc/rancher/rke2/config.yaml was changed after RKE2 last started"),
    ("k3s", "a drop-in", newer(HOSTS["k3s"], "/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d/x.toml",
                               "[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['/opt/other']\n"),
     "config-v3.toml.d/x.toml was changed after K3s last started"),
    ("microk8s", "its template",
     with_mtime(microk8s_host(TEXT.replace("pause:3.7", "pause:3.9"), filled(TEXT)), template=300, rendered=200),
     f"{TEMPLATE} was changed after MicroK8s last started (sandbox image)"),
    ("k0s-1.35", "a drop-in",
     newer(HOSTS["k0s-1.35"], f"{FOLDER}/50-x.toml", "version = 2\n[debug]\nlevel = 'debug'\n"),
     f"{FOLDER}/50-x.toml was changed after k0s last merged its drop-ins"),
]  # fmt: skip
CASES = [(f, *row) for f in HOSTS for row in generic(f)] + OWN


@pytest.mark.parametrize(("flavour", "kind", "probe", "words"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_refused_until_it_is_taken_in(flavour: str, kind: str, probe: Probe, words: str) -> None:
    planned = plan_host("n1", probe, Answers())
    (refusal,) = planned.refusals
    assert refusal.id == "latent-change"
    assert words in refusal.why
    assert refusal.why.endswith("our restart would activate that as well")
    assert "runtime.take_latent = true" in refusal.remedy
    assert planned.change.empty
    taken = plan_host("n1", probe, TAKEN)
    assert taken.refusals == ()
    assert not taken.change.empty
    assert words in taken.reason
    assert "a revert brings it back only to what is on the disk now" in taken.reason


@pytest.mark.parametrize("flavour", HOSTS)
def test_nothing_waits_on_a_host_that_runs_what_it_holds(flavour: str) -> None:
    planned = plan_host("n1", HOSTS[flavour], Answers())
    assert planned.refusals == ()
    assert not planned.change.empty
    assert "activates" not in planned.reason


def test_one_host_may_be_taken_in_alone() -> None:
    probe = told("containerd", binary_replaced=True)
    answers = Answers(host={"n1": HostOverride(take_latent=True)})
    assert plan_host("n1", probe, answers).refusals == ()
    assert [r.id for r in plan_host("n2", probe, answers).refusals] == ["latent-change"]
    but = Answers(runtime=Runtime(take_latent=True), host={"n1": HostOverride(take_latent=False)})
    assert [r.id for r in plan_host("n1", probe, but).refusals] == ["latent-change"]


def test_where_nothing_is_restarted_nothing_is_refused() -> None:
    done = containerd_host("1.7.24", {MAIN: CONTAINERD})
    planned = plan_host("n1", done, Answers())
    files = {c.path: c.after.raw for c in planned.change.files if c.after is not None}
    right = containerd_host("1.7.24", {MAIN: CONTAINERD, **files})
    runtime = replace(right.facts.runtimes[0], config_newer_than_process=True, changed_files=(MAIN,))
    waiting = replace(right, facts=replace(right.facts, runtimes=(runtime,)))
    again = plan_host("n1", waiting, Answers())
    assert (again.refusals, again.change.empty) == ((), True)


def test_what_is_taken_in_never_takes_a_handler_with_it() -> None:
    kata = '\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]\nruntime_type = "io.kata.v2"\n'
    host = with_mtime(microk8s_host(TEXT, filled(TEXT) + kata), template=300, rendered=200)
    assert [r.id for r in plan_host("m1", host, Answers()).refusals] == ["latent-change"]
    (refusal,) = plan_host("m1", host, TAKEN).refusals
    assert refusal.id == "handler-vanishes"
    assert "handler kata runs and would vanish" in refusal.why


def test_the_difference_of_what_k3s_would_render_is_named() -> None:
    (case,) = [c for c in OWN if c[0] == "k3s" and c[1] == "a drop-in"]
    (refusal,) = plan_host("k1", case[2], Answers()).refusals
    assert "; with it comes another CNI bin_dirs: our restart" in refusal.why
    taken = plan_host("k1", case[2], TAKEN)
    assert "CNI bin_dirs" in [c.key for c in taken.change.effective]


def test_the_whole_difference_of_a_microk8s_is_in_the_plan() -> None:
    host = with_mtime(microk8s_host(TEXT.replace("pause:3.7", "pause:3.9"), filled(TEXT)), template=300, rendered=200)
    changes = plan_host("m1", host, TAKEN).change.effective
    assert "sandbox image" in [c.key for c in changes]
    assert any(c.key.startswith("handler nvidia") for c in changes)


def test_the_toolkit_itself_is_what_the_plan_is_for() -> None:
    planned = plan_host("n1", told("docker", toolkit_newer_than_process=True), Answers())
    assert planned.refusals == ()
    assert "the toolkit was installed after Docker started" in planned.reason


NODES = (
    ("containerd", NodeView("n1", True, runtime_version="containerd://1.6.33"), "containerd 1.6.33 runs, 1.7.24 is on"),
    ("containerd", NodeView("n1", True, runtime_version="containerd://1.7.24~ds1"), ""),
    ("k8s-snap", NodeView("s1", True, runtime_version="containerd://1.7.2"), "containerd 1.7.2 runs, 2.1.5 is on"),
    ("crio", NodeView("n1", True, runtime_version="cri-o://1.32.0"), "crio 1.32.0 runs, 1.33.2 is on the disk"),
    ("crio", NodeView("n1", True, runtime_version="containerd://1.32.0"), ""),
    ("k3s", NodeView("k1", True, kubelet_version="v1.33.4+k3s1"), "k3s v1.33.4+k3s1 runs, v1.33.5+k3s1 is on the disk"),
    ("k3s", NodeView("k1", True, kubelet_version="v1.33.5+k3s2"), "k3s v1.33.5+k3s2 runs"),
    ("k3s", NodeView("k1", True, kubelet_version="v1.33.5+k3s1", runtime_version="containerd://2.1.4-k3s1"), ""),
    ("containerd", NodeView("n1", True, kubelet_version="v1.20.0"), ""),
    ("containerd", NodeView("n1", True), ""),
    ("containerd", NodeView("n1", True, runtime_version="containerd://unknown"), ""),
)


@pytest.mark.parametrize(("flavour", "node", "words"), NODES)
def test_what_the_node_reports_is_compared_with_the_disk(flavour: str, node: NodeView, words: str) -> None:
    found = not_live(node, HOSTS[flavour])
    assert (found != ()) is (words != "")
    assert words in "; ".join(found)


def test_a_handler_that_only_the_files_know_is_refused_by_the_plan() -> None:
    kata = '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]\nruntime_type = "io.containerd.kata.v2"\n'
    runc = '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n'
    probe = containerd_host("1.7.24", {MAIN: CONTAINERD + runc + kata})
    view = ClusterView(nodes=(NodeView("n1", True, runtime_handlers=("", "runc")),))
    (host,) = build_plan({"n1": probe}, Answers(), view).hosts
    assert [r.id for r in host.refusals] == ["latent-change"]
    assert "handler kata stands in the files, and the running containerd does not offer it" in host.refusals[0].why
    assert host.actions == ()
    (taken,) = build_plan({"n1": probe}, TAKEN, view).hosts
    assert taken.refusals == ()
    assert "handler kata stands in the files" in taken.reason
    assert taken.actions


def test_k0s_that_has_merged_already_is_not_waited_for() -> None:
    probe = HOSTS["k0s-1.35"]
    drop_in = host_files({f"{FOLDER}/50-x.toml": "version = 2\n"})
    merged = replace(probe.files[CRI_FILE], mtime=1_700_000_003)
    probe = replace(probe, files={**probe.files, **drop_in, CRI_FILE: merged})
    assert plan_host("k1", probe, Answers()).refusals == ()


def unit(command: str, **changes: Any) -> Unit:
    return Unit("x.service", True, "active", 7, None, tuple(command.split()), **changes)


def process(command: str, **changes: Any) -> Process:
    return Process(7, "x", 0, "/usr/bin/x", "x.service", False, tuple(command.split()), **changes)


@pytest.mark.parametrize(
    ("running", "started", "found"),
    [
        ("/usr/bin/x -H fd://", "/usr/bin/x -H fd://", None),
        ("/usr/bin/x -H fd://", "/usr/bin/x -H fd:// --debug", "/usr/bin/x -H fd:// --debug"),
        ("/usr/bin/x --a b", "/usr/bin/x $OPTIONS", None),
        ("/usr/bin/x --a b", "", None),
        ("", "/usr/bin/x", None),
    ],
)
def test_the_command_line_of_the_unit_is_compared_with_that_of_its_process(
    running: str, started: str, found: str | None
) -> None:
    assert other_command(process(running), unit(started)) == found
    assert other_command(None, unit(started)) is None
    assert other_command(replace(process(running), pid=8), unit(started)) is None


def test_a_daemon_whose_program_was_replaced_is_seen_as_such() -> None:
    service = replace(unit("/usr/bin/dockerd -D"), name="docker.service")
    for replaced in (True, False):
        daemon = replace(process("/usr/bin/dockerd", replaced=replaced), unit="docker.service")
        inputs = RuntimeInputs((), (daemon,), {"docker.service": service}, {}, KubernetesFacts("none"), None)
        (runtime,) = docker_facts(inputs)
        assert (runtime.binary_replaced, runtime.waiting_command) == (replaced, "/usr/bin/dockerd -D")
