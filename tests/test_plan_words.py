"""What a change means in words, for every kind of difference; and hosts that read alike, together."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gpuwizard.actions import Activation, Check, EffectiveChange, Restart
from gpuwizard.answers.model import Answers, Cluster, Runtime
from gpuwizard.containerd import compare, effective
from gpuwizard.facts.cluster import NodeView
from gpuwizard.facts.model import Probe
from gpuwizard.plan.build import build_plan
from gpuwizard.plan.groups import group_hosts
from gpuwizard.plan.impact import impact
from gpuwizard.plan.jsonable import plan_json
from gpuwizard.plan.words import MARKS, effects, effects_of
from gpuwizard.show import plan_lines
from tests.plan_probes import MAIN, applied, containerd_host, k3s_host
from tests.test_plan_build import DEBIAN, cluster

RUNC = "io.containerd.runc.v2"
CRI = "io.containerd.grpc.v1.cri"
REST = "= everything else: unchanged"


def change(key: str, before: str | None, after: str | None, note: str | None = None) -> EffectiveChange:
    return EffectiveChange(key, before, after, note)


def check(default: str | None = "runc", *handlers: str) -> Check:
    return Check("containerd.service", handlers or ("nvidia", "runc"), default, None, None, None)


def told(changes: Sequence[EffectiveChange], after: Check | None = None) -> list[str]:
    return [f"{MARKS[effect.kind]} {effect}" for effect in effects(changes, after or check())]


KINDS = {
    "handler added": (
        [
            change("handler nvidia", None, RUNC, "same cgroup driver as runc"),
            change("handler nvidia.BinaryName", None, "/usr/bin/nvidia-container-runtime"),
            change("handler nvidia.SystemdCgroup", None, "true"),
        ],
        "+ handler nvidia: added, same cgroup driver as runc",
    ),
    "handler added, nothing to compare with": (
        [change("handler nvidia", None, RUNC), change("handler nvidia.SystemdCgroup", None, "true")],
        "+ handler nvidia: added, cgroup driver systemd",
    ),
    "handler added without an option": (
        [change("handler nvidia", None, RUNC)],
        "+ handler nvidia: added, cgroup driver cgroupfs",
    ),
    "handler of another type": (
        [change("handler kata", None, "io.containerd.kata.v2"), change("handler kata.ConfigPath", None, "/k.toml")],
        "+ handler kata: added, type io.containerd.kata.v2, ConfigPath /k.toml",
    ),
    "handler of CRI-O": (
        [change("handler nvidia", None, "oci"), change("handler nvidia.runtime_path", None, "/usr/bin/n")],
        "+ handler nvidia: added",
    ),
    "handler of Docker": (
        [change("handler nvidia.path", "/usr/bin/old", "/usr/bin/n")],
        "~ handler nvidia: binary /usr/bin/old → /usr/bin/n",
    ),
    "handler with settings of its own": (
        [
            change("handler nvidia", None, RUNC, "same cgroup driver as runc"),
            change(f"{CRI}.containerd.runtimes.nvidia.pod_annotations", None, "a, b"),
        ],
        "+ handler nvidia: added, same cgroup driver as runc, pod_annotations a, b",
    ),
    "handler removed": (
        [change("handler crun", RUNC, None), change("handler crun.BinaryName", "/usr/bin/crun", None)],
        "- handler crun: removed",
    ),
    "type changed": ([change("handler a", "x.v1", "x.v2")], "~ handler a: type x.v1 → x.v2"),
    "binary changed": (
        [change("handler nvidia.BinaryName", "/old", "/new")],
        "~ handler nvidia: binary /old → /new",
    ),
    "cgroup driver of a handler": (
        [change("handler nvidia.SystemdCgroup", None, "true", "same cgroup driver as runc")],
        "~ handler nvidia: cgroup driver cgroupfs → systemd (same cgroup driver as runc)",
    ),
    "options": (
        [change("handler runc.Root", "/a", None), change("handler runc.NoPivotRoot", None, "true")],
        "~ handler runc: Root dropped, was /a, NoPivotRoot set to true",
    ),
    "handler with a dot in its name": (
        [change("handler runc.io", None, RUNC, "same cgroup driver as runc")],
        "+ handler runc.io: added, same cgroup driver as runc",
    ),
    "default set": ([change("default handler", "runc", "nvidia")], "~ default handler: nvidia, was runc"),
    "default restored": ([change("default handler", "nvidia", "crun")], "~ default handler: crun again, was nvidia"),
    "default gone": ([change("default handler", "runc", None)], "- default handler: none any more, was runc"),
    "CDI on": ([change("CDI", "false", "true")], "+ CDI: switched on"),
    "CDI on where it was not known": ([change("CDI", None, "true")], "+ CDI: switched on"),
    "CDI off": ([change("CDI", "true", "false")], "- CDI: switched off"),
    "CDI folders": ([change("CDI folders", "/etc/cdi", "/etc/cdi, /run/cdi")], "~ CDI folders: also /run/cdi"),
    "sandbox image": ([change("sandbox image", "a:1", "b:2")], "~ sandbox image: a:1 → b:2"),
    "snapshotter": ([change("snapshotter", "native", "overlayfs")], "~ snapshotter: native → overlayfs"),
    "registry folder": ([change("registry folder", "/etc/c", None)], "- registry folder: dropped, was /etc/c"),
    "CNI": ([change("CNI bin_dir", None, "/opt/cni/bin")], "+ CNI bin_dir: set to /opt/cni/bin"),
    "cgroup driver": ([change("cgroup driver", "systemd", "cgroupfs")], "~ cgroup driver: systemd → cgroupfs"),
    "disabled": ([change("disabled plugins", None, "cri, zfs")], "~ disabled plugins: disables cri, zfs"),
    "enabled": ([change("disabled plugins", "cri, zfs", "zfs")], "~ disabled plugins: no longer disables cri"),
    "CRI plugin": ([change("CRI plugin", "disabled", "ok")], "~ CRI plugin: ok, was disabled"),
    "another setting": (
        [change(f"{CRI}.stream_server_port", "0", "10010")],
        "~ other setting: stream_server_port 0 → 10010",
    ),
    "many other settings": (
        [change(f"{CRI}.key{n}", str(n), None) for n in range(7)],
        "~ 7 other settings: key0 dropped, was 0, key1 dropped, was 1, key2 dropped, was 2, key3 dropped, was 3 "
        "and 3 more",
    ),
    "a word of another runtime": ([change("live restore", "false", "true")], "~ live restore: false → true"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_difference_has_words(kind: str) -> None:
    changes, words = KINDS[kind]
    lines = told(changes)
    assert words in lines
    assert lines[-1] == REST
    own_default = any(c.key == "default handler" for c in changes)
    assert ("= default handler: runc, unchanged" in lines) != own_default
    assert len(lines) == (2 if own_default else 3)


def test_what_stays_is_said() -> None:
    assert told([]) == ["= default handler: runc, unchanged", REST]
    assert told([], check(None)) == ["= default handler: unchanged", REST]


def test_words_of_a_host_cannot_drive_the_terminal() -> None:
    evil = "\x1b[2Ja\nb\x07" * 90
    for effect in effects([change(f"handler {evil}", None, evil, None), change(evil, evil, evil + "x")], check(evil)):
        assert str(effect).isprintable()
        assert len(str(effect)) < 1500


@pytest.mark.parametrize(
    ("runc", "nvidia", "note"),
    [
        ("true", "true", "same cgroup driver as runc"),
        ("false", "false", "same cgroup driver as runc"),
        ("true", "false", "cgroup driver cgroupfs, but that of runc is systemd"),
    ],
)
def test_the_cgroup_driver_is_compared_with_that_of_runc(runc: str, nvidia: str, note: str) -> None:
    def table(name: str, cgroup: str) -> str:
        head = f'[plugins."{CRI}".containerd.runtimes.{name}'
        return f'{head}]\nruntime_type = "{RUNC}"\n{head}.options]\nSystemdCgroup = {cgroup}\n'

    before = f"version = 2\n{table('runc', runc)}"
    states = [effective({MAIN: t.encode()}, MAIN, "1.7.24") for t in (before, before + table("nvidia", nvidia))]
    (added,) = (e for e in effects(compare(*states), check()) if e.subject == "handler nvidia")
    assert added.words == f"added, {note}"


def alone(probe: Probe, **runtime: object) -> list[str]:
    answers = Answers(kubernetes=Cluster(manage=False), runtime=Runtime(**runtime))  # type: ignore[arg-type]
    return [str(e) for e in effects_of(build_plan({"n": probe}, answers, None).hosts[0].actions)]


@pytest.mark.parametrize("version", ["1.6.20", "1.7.24", "2.1.9"])
def test_the_plan_of_a_real_file_in_five_seconds(version: str) -> None:
    host = containerd_host(version, {MAIN: DEBIAN})
    assert alone(host, cdi="leave") == [
        "handler nvidia: added, same cgroup driver as runc",
        "default handler: runc, unchanged",
        "everything else: unchanged",
    ]
    assert "default handler: nvidia, was runc" in alone(host, cdi="leave", default_runtime="nvidia")


def test_the_json_says_the_same_as_the_lines() -> None:
    made = build_plan({"n1": containerd_host("2.1.9", {MAIN: DEBIAN})}, Answers(), None)
    (host,) = plan_json(made)["hosts"]
    lines = "\n".join(plan_lines(made))
    assert host["effective_words"]
    for words in host["effective_words"]:
        assert words in lines
    assert host["impact"] == ["containerd.service restarts; pods that run keep running, new ones wait for a moment"]
    assert f"! {host['impact'][0]}" in lines


@pytest.mark.parametrize(
    ("activation", "control_plane", "words"),
    [
        (Activation("containerd.service"), True, ["containerd.service restarts; pods that run keep running"]),
        (Activation("k3s-agent.service"), False, ["k3s-agent.service restarts; pods that run keep running"]),
        (
            Activation("k3s.service"),
            True,
            ["k3s.service restarts; pods that run keep", "the Kubernetes API of this server is away meanwhile"],
        ),
        (Activation("docker.service", stops_containers=True), False, ["docker.service restarts, and every container"]),
        (Activation("docker.service"), False, ["docker.service restarts; pods that run keep running"]),
        (Activation("k0sworker.service", "watched"), False, ["sees the new file and restarts its runtime by itself"]),
        (Activation("snap.k8s.containerd", "snap-restart", "k8s.containerd"), False, ["pods that run keep running"]),
    ],
)
def test_what_becomes_of_the_pods(activation: Activation, control_plane: bool, words: list[str]) -> None:
    found = list(impact((Restart("id", activation, check(), "restart"),), control_plane=control_plane))
    assert len(found) == len(words)
    for sentence, part in zip(found, words, strict=True):
        assert part in sentence


def test_another_default_handler_is_told_to_those_whom_it_meets() -> None:
    host = build_plan(
        {"n": containerd_host("1.7.24", {MAIN: DEBIAN})}, Answers(runtime=Runtime(default_runtime="nvidia")), None
    ).hosts[0]
    assert list(impact(host.actions))[-1] == "pods that start afterwards and name no runtime class run under nvidia"


def test_docker_has_containers_and_runtimes() -> None:
    default = change("default handler", "runc", "nvidia")
    restart = Restart("id", Activation("docker.service"), replace(check(), kind="docker"), "restart", (default,))
    assert list(impact((restart,))) == [
        "docker.service restarts; containers that run keep running, new ones wait for a moment",
        "containers that start afterwards and name no runtime run under nvidia",
    ]


# Groups


def groups(probes: dict[str, Probe], answers: Answers | None = None, **more: object) -> list[tuple[str, ...]]:
    answers = answers or Answers()
    return [g.names for g in group_hosts(build_plan(probes, answers, cluster(answers, probes), **more))]  # type: ignore[arg-type]


def test_equal_changes_are_one_group_whatever_the_labels_of_their_nodes() -> None:
    probes = {f"gpu{n:02}": containerd_host("2.1.9", {MAIN: DEBIAN}, node=f"gpu{n:02}") for n in range(1, 13)}
    view = cluster(Answers(), probes)
    nodes = (NodeView("gpu01", True, {"gpuwizard.dev/gpu": "true"}), *view.nodes[1:])
    made = build_plan(probes, Answers(), replace(view, nodes=nodes))
    (group,) = group_hosts(made)
    assert group.names == tuple(probes)
    assert [label.node for label in group.labels] == list(probes)[1:]
    lines = list(plan_lines(made))
    assert lines[0].startswith("gpu[01-12]: 12 hosts, the same change · drop-in: ")
    assert sum("99-gpuwizard-nvidia.toml" in line and "write" in line for line in lines) == 1
    assert "  · label 11 nodes gpuwizard.dev/gpu=true" in lines
    assert "      gpu[02-12]" in [line.replace(", ", ",") for line in lines]


def test_one_other_byte_is_another_diff_with_the_same_words() -> None:
    plain, noted = containerd_host("1.7.24", {MAIN: DEBIAN}), containerd_host("1.7.24", {MAIN: f"# mine\n{DEBIAN}"})
    probes = {"n1": plain, "n2": noted, "n3": plain}
    assert groups(probes) == [("n1", "n3"), ("n2",)]
    made = build_plan(probes, Answers(), None)
    assert len({tuple(map(str, effects_of(h.actions))) for h in made.hosts}) == 1


def test_other_units_strategies_and_nothing_to_do_stay_apart() -> None:
    rendered = 'version = 3\n[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]\nruntime_type = "x"\n'
    debian = containerd_host("2.1.9", {MAIN: DEBIAN})
    done = build_plan({"n": debian}, Answers(), None).hosts[0].actions
    files = {a.change.path: a.change.after.raw for a in done if a.kind == "file" and a.change.after}
    probes = {
        "agent": k3s_host(rendered),
        "server": k3s_host(rendered, role="server"),
        "kubeadm": debian,
        "in-place": containerd_host("1.7.24", {MAIN: DEBIAN}),
        "done1": containerd_host("2.1.9", applied(debian, files)),
        "done2": containerd_host("2.1.9", applied(debian, files)),
        "cpu": containerd_host("2.1.9", {MAIN: DEBIAN}, gpus=()),
    }
    made = build_plan(probes, Answers(kubernetes=Cluster(manage=False)), None)
    assert [g.names for g in group_hosts(made)] == [
        ("agent",), ("cpu",), ("done1", "done2"), ("in-place",), ("kubeadm",), ("server",),
    ]  # fmt: skip
    assert "done1, done2: 2 hosts, nothing to do · drop-in: handler nvidia is there and right" in list(plan_lines(made))


def test_the_same_refusal_is_told_once_even_where_it_names_its_host() -> None:
    stub = containerd_host("1.7.24", {MAIN: 'disabled_plugins = ["cri"]\n'})
    probes = {f"n{n}": stub for n in range(1, 4)}
    lines = list(plan_lines(build_plan(probes, Answers(), None)))
    assert lines[0] == "n[1-3]: 3 hosts: the same refusal"
    assert sum("CRI plugin" in line for line in lines) == 1
    assert lines[2].startswith("    try: ")
    strangers = {n: containerd_host("1.7.24", {MAIN: DEBIAN}, node=n) for n in ("a1", "a2", "a3")}
    made = build_plan(strangers, Answers(), replace(cluster(Answers(), {}), nodes=()))
    assert [line for line in plan_lines(made) if "no node" in line] == [
        "  ✗ the cluster https://example.test:6443 has no node ‹host›"
    ]
    assert "has no node a2" in json.dumps(plan_json(made)["hosts"][1])


def test_json_is_told_host_by_host() -> None:
    probes = {f"n{n}": containerd_host("2.1.9", {MAIN: DEBIAN}, node=f"n{n}") for n in range(5)}
    document = plan_json(build_plan(probes, Answers(), None))
    assert [h["name"] for h in document["hosts"]] == list(probes)
    assert len({json.dumps(h["actions"]).replace(h["name"], "") for h in document["hosts"]}) == 1
    assert all(h["actions"][0]["diff"] for h in document["hosts"])
