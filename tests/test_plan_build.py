"""The plan: actions in order, hashes that hold still, refusals, nothing to do, JSON."""

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from gpuwizard.answers.model import Answers, Cluster, Runtime, Sharing
from gpuwizard.facts.cluster import ClusterView, NodeView, ObjectKey, ObjectState, key_of
from gpuwizard.facts.model import Probe
from gpuwizard.plan.build import build_plan
from gpuwizard.plan.jsonable import plan_json
from gpuwizard.plan.model import Plan
from gpuwizard.steps import desired_objects
from tests.plan_probes import DROP_IN, MAIN, applied, containerd_host, k3s_host

DEFAULTS = Path(__file__).parent / "data" / "containerd_defaults"
DEBIAN = (DEFAULTS / "debian.toml").read_text()
GOLDEN = [
    ("1.6.20", "debian"),
    ("1.7.24", "debian"),
    ("2.1.9", "debian"),
    ("1.6.20", "1.6.20"),
    ("1.7.24", "1.7.24"),
    ("2.1.9", "2.1.9"),
    ("2.3.4", "2.3.4"),
]


def as_the_server_returns(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A live object: ours plus what a server adds."""
    live = copy.deepcopy(dict(manifest))
    live["metadata"] |= {
        "uid": "u1",
        "resourceVersion": "17",
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"manager": "gpuwizard"}],
    }
    return live


def cluster(answers: Answers, probes: Mapping[str, Probe], *, applied: bool = False, **live: Any) -> ClusterView:
    """A cluster with a node per host; `live` replaces the state of a kind."""
    states: dict[ObjectKey, ObjectState] = {}
    for manifest in desired_objects(answers, probes):
        found = as_the_server_returns(manifest)
        states[key_of(manifest)] = live.get(manifest["kind"]) or ObjectState(found if applied else None, found)
    label = {"gpuwizard.dev/gpu": "true"} if applied else {}
    nodes = tuple(NodeView(p.facts.kubernetes.node_name or n, True, label) for n, p in probes.items())
    return ClusterView("https://example.test:6443", "v1.33.1", nodes, states)


def plan(probes: Mapping[str, Probe], answers: Answers | None = None, **more: Any) -> Plan:
    answers = answers or Answers()
    return build_plan(probes, answers, cluster(answers, probes, **more))


@pytest.mark.parametrize("default_runtime", ["leave", "nvidia"])
@pytest.mark.parametrize(("version", "name"), GOLDEN)
def test_golden_diffs(version: str, name: str, default_runtime: Any, snapshot: SnapshotAssertion) -> None:
    probe = containerd_host(version, {MAIN: (DEFAULTS / f"{name}.toml").read_text()})
    made = build_plan({"n1": probe}, Answers(runtime=Runtime(default_runtime=default_runtime)), None)
    (host,) = plan_json(made)["hosts"]
    text = ""
    for action in host["actions"]:
        text += f"{action['summary']}\n{action['diff'] or ''}"
        text += "".join(f"  {c['key']}: {c['before']} → {c['after']}\n" for c in action["effective_diff"])
    assert text == snapshot


def test_actions_of_a_host_are_files_then_restart_then_label() -> None:
    made = plan({"n1": containerd_host("2.1.9", {MAIN: DEBIAN})})
    (host,) = made.hosts
    assert [a.kind for a in host.actions] == ["file", "file", "restart", "label"]
    assert [a.change.path for a in host.actions if a.kind == "file"] == [DROP_IN, MAIN]
    assert host.reads[DROP_IN] == "absent"
    assert host.versions["nvidia-driver"] == "580.95.05"
    assert (host.boot_id, host.node_name, host.control_plane) == ("b1", "n1", False)
    assert [str(a.key) for a in made.cluster.actions] == [
        "RuntimeClass nvidia",
        "Namespace gpuwizard",
        "ConfigMap gpuwizard/nvidia-device-plugin",
        "DaemonSet gpuwizard/nvidia-device-plugin",
    ]
    assert not made.empty


def test_the_second_plan_is_empty() -> None:
    first = containerd_host("2.1.9", {MAIN: DEBIAN})
    made = plan({"n1": first})
    changes = {a.change.path: a.change.after.raw for a in made.hosts[0].actions if a.kind == "file" and a.change.after}
    second = containerd_host("2.1.9", applied(first, changes))
    assert plan({"n1": second}, applied=True).empty


def test_hash_is_the_same_whatever_the_order() -> None:
    hosts = {f"n{i}": containerd_host("1.7.24", {MAIN: DEBIAN}, node=f"n{i}") for i in range(3)}
    turned = {n: replace(p, files=dict(reversed(p.files.items()))) for n, p in reversed(hosts.items())}
    one, other = plan(hosts), plan(turned)
    assert (one.hash, one.fingerprint) == (other.hash, other.fingerprint)
    assert one.hosts == other.hosts


def test_hash_covers_what_is_done_and_fingerprint_what_was_read() -> None:
    probes = {"n1": containerd_host("1.7.24", {MAIN: DEBIAN})}
    base = plan(probes)
    sliced = plan(probes, Answers(sharing=Sharing(mode="time-slicing")))
    assert sliced.hash != base.hash
    rebooted = plan({"n1": replace(probes["n1"], facts=replace(probes["n1"].facts, boot_id="b2"))})
    assert (rebooted.hash == base.hash, rebooted.fingerprint == base.fingerprint) == (True, False)
    read = plan({"n1": containerd_host("1.7.24", {MAIN: DEBIAN, "/etc/containerd/conf.d/x.toml": "#\n"})})
    assert (read.hash == base.hash, read.fingerprint == base.fingerprint) == (True, False)


def test_what_the_server_counts_up_is_neither_hashed_nor_shown() -> None:
    probes, answers = {"n1": containerd_host("1.7.24", {MAIN: DEBIAN})}, Answers()
    view = cluster(answers, probes, applied=True)
    later = {}
    for key, state in view.objects.items():
        live: dict[str, Any] = copy.deepcopy(dict(state.live or {}))
        live["metadata"] |= {"uid": "u2", "resourceVersion": "99", "generation": 5}
        live["status"] = {"numberReady": 1}
        later[key] = ObjectState(live, state.dry_run)
    one, other = build_plan(probes, answers, view), build_plan(probes, answers, replace(view, objects=later))
    assert (one.hash, one.fingerprint) == (other.hash, other.fingerprint)
    assert other.cluster.actions == ()
    text = json.dumps(plan_json(plan(probes)))
    assert "resourceVersion" not in text
    assert "managedFields" not in text


def test_a_changed_object_is_shown_as_a_difference() -> None:
    probes, answers = {"n1": containerd_host("1.7.24", {MAIN: DEBIAN})}, Answers()
    (config,) = (m for m in desired_objects(answers, probes) if m["kind"] == "ConfigMap")
    live = as_the_server_returns(config) | {"data": {"config.yaml": "version: v0\n"}}
    made = plan(probes, ConfigMap=ObjectState(live, as_the_server_returns(config)))
    (shown,) = (a for a in plan_json(made)["cluster"]["actions"] if a["path"].startswith("ConfigMap"))
    assert "-    version: v0" in shown["diff"]
    assert "+    version: v1" in shown["diff"]
    assert shown["summary"] == "change ConfigMap gpuwizard/nvidia-device-plugin"


def test_a_runtime_class_of_k3s_is_left_alone_and_another_handler_refused() -> None:
    probes = {"n1": containerd_host("1.7.24", {MAIN: DEBIAN})}
    foreign = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "nvidia"},
        "handler": "nvidia",
    }
    made = plan(probes, RuntimeClass=ObjectState(foreign, None, error="conflict"))
    assert made.cluster.refusals == ()
    assert "RuntimeClass" not in {a.key.kind for a in made.cluster.actions}
    other = plan(probes, RuntimeClass=ObjectState({**foreign, "handler": "crun"}, None))
    assert [r.id for r in other.cluster.refusals] == ["runtime-class"]


def test_a_conflict_refuses_the_cluster_side() -> None:
    probes = {"n1": containerd_host("1.7.24", {MAIN: DEBIAN})}
    made = plan(probes, DaemonSet=ObjectState({}, None, error='conflict with "kubectl": .spec'))
    assert "kubectl" in made.cluster.refusals[0].why
    assert made.hosts[0].changes


def test_an_object_that_the_server_could_not_check_is_shown_whole() -> None:
    probes = {"n1": containerd_host("1.7.24", {MAIN: DEBIAN})}
    made = plan(probes, DaemonSet=ObjectState(None, None, unchecked="its namespace is created by this plan"))
    (action,) = (a for a in made.cluster.actions if a.key.kind == "DaemonSet")
    assert (action.before, action.unchecked) == ("", "its namespace is created by this plan")
    assert "runtimeClassName: nvidia" in action.after


def test_cluster_not_managed_or_not_reached() -> None:
    probes = {"n1": containerd_host("1.7.24", {MAIN: DEBIAN})}
    alone = build_plan(probes, Answers(kubernetes=Cluster(manage=False)), None)
    assert (alone.cluster.actions, alone.cluster.refusals) == ((), ())
    assert [a.kind for a in alone.hosts[0].actions] == ["file", "restart"]
    lost = build_plan(probes, Answers(), ClusterView(error="connection refused"))
    assert [r.id for r in lost.cluster.refusals] == ["cluster"]
    assert lost.hosts[0].changes


def test_a_host_that_is_no_node_of_this_cluster_is_refused() -> None:
    probes = {"n1": containerd_host("1.7.24", {MAIN: DEBIAN})}
    made = build_plan(probes, Answers(), ClusterView("https://example.test", "v1", (NodeView("else", True),)))
    assert [r.id for r in made.hosts[0].refusals] == ["unknown-node"]
    assert made.hosts[0].actions == ()


def test_refused_and_unreachable_hosts_are_named_and_change_nothing() -> None:
    probes = {
        "n1": containerd_host("1.7.24", {MAIN: DEBIAN}, readable=False),
        "n2": containerd_host("1.7.24", {}, gpus=()),
    }
    made = build_plan(probes, Answers(kubernetes=Cluster(manage=False)), None, {"n0": "no route to host"})
    assert [(h.name, [r.id for r in h.refusals]) for h in made.hosts] == [
        ("n0", ["unreachable"]),
        ("n1", ["no-root"]),
        ("n2", []),
    ]
    assert made.empty
    document = plan_json(made)
    assert document["hosts"][1]["refusals"][0]["remedy"]


def test_json_shape() -> None:
    document = plan_json(plan({"n1": containerd_host("2.1.9", {MAIN: DEBIAN})}))
    assert list(document) == ["schema", "hash", "hosts", "cluster", "facts_fingerprint"]
    assert document["schema"] == "gpuwizard.plan/1"
    (host,) = document["hosts"]
    assert list(host)[:5] == ["name", "strategy", "reason", "actions", "refusals"]
    for action in host["actions"] + document["cluster"]["actions"]:
        assert list(action)[:8] == [
            "id", "kind", "summary", "path", "diff", "effective_diff", "restarts", "disruptive",
        ]  # fmt: skip
    assert [a["restarts"] for a in host["actions"]] == [None, None, "containerd.service", None]
    json.dumps(document)


def test_a_registry_password_shows_nowhere() -> None:
    text = DEBIAN + (
        '[plugins."io.containerd.grpc.v1.cri".registry.configs."r.test".auth]\nusername = "u"\npassword = "HUNTER-2"\n'
    )
    made = plan({"n1": containerd_host("1.7.24", {MAIN: text})})
    shown = json.dumps(plan_json(made))
    assert "HUNTER-2" not in shown
    assert "HUNTER-2" not in repr(made)
    assert "‹redacted #" in json.dumps(plan_json(made), ensure_ascii=False)


def test_k3s_server_is_a_control_plane_and_its_effective_change_is_on_the_restart() -> None:
    rendered = (
        'version = 3\n[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]\nSystemdCgroup = true\n'
    )
    made = plan({"k1": k3s_host(rendered, role="server")})
    (host,) = made.hosts
    assert host.control_plane
    restart, label = host.actions
    assert restart.kind == "restart"
    assert label.kind == "label"
    assert restart.effective
    assert restart.prediction
