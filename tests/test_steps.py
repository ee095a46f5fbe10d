"""The Kubernetes objects that gpuwizard wants to own."""

from typing import Any

import yaml

from gpuwizard.answers.model import Answers, Cluster, Install, Sharing
from gpuwizard.facts.cluster import NodeView
from gpuwizard.steps import desired_objects, labels
from gpuwizard.steps.runtime_class import verdict
from tests.plan_probes import containerd_host

PROBES = {"n1": containerd_host("2.1.9", {})}


def objects(answers: Answers) -> dict[str, dict[str, Any]]:
    return {m["kind"]: m for m in desired_objects(answers, PROBES)}


def test_order_and_ownership() -> None:
    wanted = desired_objects(Answers(), PROBES)
    assert [m["kind"] for m in wanted] == ["RuntimeClass", "Namespace", "ConfigMap", "DaemonSet"]
    for manifest in wanted:
        assert manifest["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "gpuwizard"


def test_what_the_answers_leave_out() -> None:
    assert [m["kind"] for m in desired_objects(Answers(install=Install(device_plugin=False)), PROBES)] == [
        "RuntimeClass"
    ]
    assert "RuntimeClass" not in objects(Answers(install=Install(runtime_class=False)))
    assert desired_objects(Answers(kubernetes=Cluster(manage=False)), PROBES) == ()
    assert desired_objects(Answers(), {"n1": containerd_host("2.1.9", {}, gpus=())}) == ()


def test_the_device_plugin_runs_under_nvidia_on_labelled_nodes_only() -> None:
    wanted = objects(Answers(kubernetes=Cluster(namespace="gpus")))
    assert wanted["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    daemon = wanted["DaemonSet"]
    pod = daemon["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert daemon["metadata"]["namespace"] == wanted["Namespace"]["metadata"]["name"] == "gpus"
    assert (pod["runtimeClassName"], pod["nodeSelector"]) == ("nvidia", {"gpuwizard.dev/gpu": "true"})
    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"} in container["env"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    selector = daemon["spec"]["selector"]["matchLabels"].items()
    assert selector <= daemon["spec"]["template"]["metadata"]["labels"].items()
    mounted = {v["name"] for v in pod["volumes"]}
    assert {m["name"] for m in container["volumeMounts"]} == mounted


def test_time_slicing_restarts_the_plugin_by_its_annotation() -> None:
    plain, sliced = objects(Answers()), objects(Answers(sharing=Sharing(mode="time-slicing", replicas=4)))
    config = yaml.safe_load(sliced["ConfigMap"]["data"]["config.yaml"])
    assert config["sharing"]["timeSlicing"] == {
        "renameByDefault": False,
        "failRequestsGreaterThanOne": True,
        "resources": [{"name": "nvidia.com/gpu", "replicas": 4}],
    }
    assert "sharing" not in yaml.safe_load(plain["ConfigMap"]["data"]["config.yaml"])
    annotations = [o["DaemonSet"]["spec"]["template"]["metadata"]["annotations"] for o in (plain, sliced)]
    assert annotations[0] != annotations[1]


def test_runtime_class_verdicts() -> None:
    foreign = {"handler": "nvidia", "metadata": {"name": "nvidia", "labels": None}}
    ours = {"handler": "nvidia", "metadata": {"labels": {"app.kubernetes.io/managed-by": "gpuwizard"}}}
    assert verdict(None) is True
    assert verdict(foreign) is False
    assert verdict(ours) is True
    refusal = verdict({"handler": "other", "metadata": {}})
    assert not isinstance(refusal, bool)
    assert "handler other" in refusal.why


def test_label_only_where_it_is_missing() -> None:
    (action,) = labels.actions("n1", NodeView("node-1", True), Answers())
    assert (action.node, action.key, action.before, action.after) == ("node-1", "gpuwizard.dev/gpu", None, "true")
    assert list(labels.actions("n1", NodeView("node-1", True, {"gpuwizard.dev/gpu": "true"}), Answers())) == []
    assert list(labels.actions("n1", NodeView("node-1", True), Answers(install=Install(device_plugin=False)))) == []
    assert list(labels.actions("n1", None, Answers())) == []
