"""The simulated cluster follows its hosts: node conditions, device plugin, pods, in the shapes of a real one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gpuwizard.answers.model import Answers
from gpuwizard.errors import RefusedError
from gpuwizard.facts.cluster import ObjectKey
from gpuwizard.fleet.api import SimulatedCluster
from gpuwizard.fleet.api_status import Refused, conflicting
from gpuwizard.kube.cluster import Cluster
from gpuwizard.steps import device_plugin, runtime_class
from tests.kube_servers import Host, eventually, runtime, simulated

DATA = Path(__file__).parent / "data" / "kubernetes"
SHAPES = json.loads((DATA / "shapes.json").read_text())
MAPS = ("labels", "annotations", "allocatable", "capacity", "limits", "requests", "allocatedResources")
GPU = "nvidia.com/gpu"


def paths(value: Any, path: str = "") -> set[str]:
    """The fields of an object, as `shapes.json` writes them."""
    found = set()
    if isinstance(value, dict):
        for key, inner in value.items():
            here = f"{path}.*" if path.endswith(MAPS) else f"{path}.{key}" if path else key
            if "managedFields" not in here and "annotations" not in here:
                found |= {here} | paths(inner, here)
    elif isinstance(value, list):
        for inner in value:
            found |= paths(inner, f"{path}[]")
    return found


def assert_shape(obj: Any, name: str, missing: tuple[str, ...] = (), more: tuple[str, ...] = ()) -> None:
    """No field that a real object of this kind lacks, and none missing but those that nothing here reads."""
    real, ours = set(SHAPES[name]), paths(obj)
    assert {p for p in ours - real if not p.startswith(more or ("-",))} == set()
    assert {p for p in real - ours if not p.startswith(missing)} == set()


async def install(cluster: Cluster, *nodes: str, **answers: Any) -> None:
    """Apply what gpuwizard applies, and label the nodes."""
    wanted = Answers.model_validate(answers)
    for manifest in (runtime_class.manifest(), *device_plugin.manifests(wanted)):
        await cluster.apply(manifest)
    for node in nodes:
        await cluster.label_node(node, {"gpuwizard.dev/gpu": "true"})


async def make_pod(cluster: Cluster, name: str, command: list[str], **spec: Any) -> None:
    """A pod in the namespace default."""
    container = {"name": "c", "image": spec.pop("image", "registry.local/glibc:1"), "command": command}
    if "gpus" in spec:
        container["resources"] = {"limits": {GPU: spec.pop("gpus")}}
    body = {"restartPolicy": "Never", "containers": [container], **spec}
    meta = {"name": name, "namespace": "default"}
    await cluster.create_pod({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": body})


def pod(server: SimulatedCluster, name: str) -> dict[str, Any]:
    return server.store.get("Pod", "default", name) or {"status": {}}


def phase(server: SimulatedCluster, name: str) -> Any:
    return pod(server, name)["status"].get("phase")


def event(server: SimulatedCluster, reason: str, about: str = "") -> dict[str, Any] | None:
    for found in server.store.list("Event"):
        if found["reason"] == reason and about in found["involvedObject"]["name"]:
            return found
    return None


def ready(server: SimulatedCluster, node: str) -> dict[str, Any]:
    obj = server.store.get("Node", "", node)
    assert obj is not None
    return next(c for c in obj["status"]["conditions"] if c["type"] == "Ready")


def gpus(server: SimulatedCluster, node: str, part: str = "allocatable") -> Any:
    obj = server.store.get("Node", "", node)
    return obj["status"][part].get(GPU) if obj else None


UNREAD = ("status.declaredFeatures", "status.features")


async def test_a_node_looks_like_a_real_one() -> None:
    new, old = Host("new", runtime("2.1.9")), Host("old", runtime("1.7.24"))
    async with simulated(new, old) as (server, cluster, _):
        await install(cluster, "new", "old")
        await eventually(lambda: gpus(server, "new") == "2" and gpus(server, "old") == "2", server)
        nodes = {n["metadata"]["name"]: n for n in server.store.list("Node")}
        assert_shape(nodes["new"], "Node, containerd 2.1.9, Ready", UNREAD)
        assert_shape(nodes["old"], "Node, containerd 1.7.24, Ready", UNREAD)
        handlers = [h["name"] for h in nodes["new"]["status"]["runtimeHandlers"]]
        assert handlers == ["", "nvidia", "runc"]


async def test_a_broken_cri_takes_the_node_not_ready_only_after_24_to_28_seconds_and_back() -> None:
    host = Host("gpu-a", runtime("1.7.24"))
    async with simulated(host) as (server, cluster, clock):
        await install(cluster, "gpu-a")
        await eventually(lambda: gpus(server, "gpu-a") == "2", server)
        broken = clock.monotonic()
        host.change(cri="error", cri_message="no corresponding runtime configured", handlers=())
        await eventually(lambda: ready(server, "gpu-a")["status"] == "False", server)
        assert 23 <= clock.monotonic() - broken <= 34
        node = server.store.get("Node", "", "gpu-a")
        assert node is not None
        assert_shape(node, "Node, containerd 1.7.24, CRI in error", UNREAD)
        wanted = json.loads((DATA / "ready_conditions.json").read_text())["down"]
        same = ("type", "status", "reason", "message")
        assert {k: ready(server, "gpu-a")[k] for k in same} == {k: wanted[k] for k in same}
        assert node["status"]["nodeInfo"]["containerRuntimeVersion"] == "containerd://Unknown"
        assert node["spec"]["taints"][0]["key"] == "node.kubernetes.io/not-ready"
        said = event(server, "NodeNotReady")
        assert said is not None
        assert_shape(said, "Event of the kubelet about its node")
        assert gpus(server, "gpu-a") == "2", "running pods are left alone"
        view = await cluster.node("gpu-a")
        assert view is not None
        assert (view.ready, view.ready_message) == (False, "container runtime is down")
        mended = clock.monotonic()
        host.state = runtime("1.7.24")
        await eventually(lambda: ready(server, "gpu-a")["status"] == "True", server)
        assert clock.monotonic() - mended <= 12
        node = server.store.get("Node", "", "gpu-a")
        assert node is not None
        assert "taints" not in node["spec"]


async def test_a_short_restart_is_never_noticed() -> None:
    host = Host("gpu-a", runtime())
    async with simulated(host) as (server, _, clock):
        host.change(service_active=False)
        await clock.sleep(10)
        host.change(service_active=True)
        await clock.sleep(30)
        assert ready(server, "gpu-a")["status"] == "True"
        assert event(server, "NodeNotReady") is None


async def test_a_host_that_is_off_becomes_unknown_and_its_heartbeat_stops() -> None:
    host = Host("gpu-a", runtime())
    async with simulated(host) as (server, cluster, _):
        before = await cluster.node("gpu-a")
        host.state = None
        await eventually(lambda: ready(server, "gpu-a")["status"] == "Unknown", server)
        after = await cluster.node("gpu-a")
        assert before is not None
        assert after is not None
        assert (before.ready, after.ready) == (True, None)
        host.state = runtime()
        await eventually(lambda: ready(server, "gpu-a")["status"] == "True", server)


async def test_the_heartbeat_moves_while_the_status_is_unchanged() -> None:
    async with simulated(Host("gpu-a", runtime())) as (server, cluster, _):
        first = await cluster.node("gpu-a")
        assert first is not None
        lease = server.store.get("Lease", "kube-node-lease", "gpu-a")
        await eventually(lambda: server.store.get("Lease", "kube-node-lease", "gpu-a") != lease, server)
        second = await cluster.node("gpu-a")
        assert second is not None
        assert second.heartbeat is not None
        assert first.heartbeat is not None
        assert second.heartbeat > first.heartbeat


async def test_the_kubelet_of_k3s_dies_with_its_service() -> None:
    host = Host("gpu-a", runtime("2.1.5-k3s1"), kubelet_version="v1.34.1+k3s1")
    async with simulated(host, k3s_server=True) as (server, _, _):
        shipped = server.store.get("RuntimeClass", "", "nvidia")
        assert shipped is not None
        assert "app.kubernetes.io/managed-by" not in shipped["metadata"]["labels"]
        host.change(service_active=False)
        await eventually(lambda: ready(server, "gpu-a")["status"] == "Unknown", server)


async def test_the_device_plugin_announces_gpus_and_takes_them_back() -> None:
    async with simulated(Host("gpu-a", runtime(gpus=4)), Host("plain", runtime(gpus=0))) as (server, cluster, _):
        await install(cluster, "gpu-a")
        await eventually(lambda: gpus(server, "gpu-a") == "4", server)
        assert gpus(server, "plain") is None
        await cluster.delete(ObjectKey("apps/v1", "DaemonSet", "gpuwizard", "nvidia-device-plugin"))
        await eventually(lambda: gpus(server, "gpu-a") == "0", server)
        assert gpus(server, "gpu-a", "capacity") == "4"
        assert await cluster.list_pods("gpuwizard") == ()


async def test_time_slicing_multiplies_once_the_plugin_has_restarted() -> None:
    async with simulated(Host("gpu-a", runtime(gpus=4))) as (server, cluster, clock):
        await install(cluster, "gpu-a")
        await eventually(lambda: gpus(server, "gpu-a") == "4", server)
        sharing = Answers.model_validate({"sharing": {"mode": "time-slicing", "replicas": 3}})
        _, config, daemon_set = device_plugin.manifests(sharing)
        await cluster.apply(config)
        await clock.sleep(20)
        assert gpus(server, "gpu-a") == "4", "a changed ConfigMap alone changes nothing"
        await cluster.apply(daemon_set)
        await eventually(lambda: gpus(server, "gpu-a") == "12", server)


async def test_the_plugin_crashes_outside_the_nvidia_runtime() -> None:
    async with simulated(Host("gpu-a", runtime())) as (server, cluster, _):
        await install(cluster)
        daemon_set = device_plugin.manifests(Answers())[-1]
        del daemon_set["spec"]["template"]["spec"]["runtimeClassName"]
        await cluster.apply(daemon_set)
        await cluster.label_node("gpu-a", {"gpuwizard.dev/gpu": "true"})

        def crashing() -> Any:
            for found in server.store.list("Pod", "gpuwizard"):
                waiting = (found["status"].get("containerStatuses") or [{}])[0].get("state", {}).get("waiting", {})
                if waiting.get("reason") == "CrashLoopBackOff":
                    return found
            return None

        crashed = await eventually(crashing, server)
        recorded_between_two_lives = "containerStatuses[].state."
        unread = (*POD_UNREAD, recorded_between_two_lives, "containerStatuses[].allocatedResourcesStatus")
        assert_shape(crashed["status"], "status of Pod crashloop", unread, (recorded_between_two_lives,))
        log = await cluster.pod_log("gpuwizard", crashed["metadata"]["name"], previous=True)
        assert "Failed to initialize NVML: ERROR_LIBRARY_NOT_FOUND" in log
        assert gpus(server, "gpu-a") is None


POD_UNREAD = (
    "allocatedResources",
    "resources",
    "containerStatuses[].allocatedResources",
    "containerStatuses[].resources",
    "containerStatuses[].user",
    "containerStatuses[].volumeMounts",
)


async def test_pods_look_like_real_ones() -> None:
    async with simulated(Host("gpu-a", runtime(gpus=4))) as (server, cluster, _):
        await install(cluster, "gpu-a")
        await cluster.apply({**runtime_class.manifest(), "metadata": {"name": "nvidia-missing"}, "handler": "missing"})
        await eventually(lambda: gpus(server, "gpu-a") == "4", server)
        await make_pod(cluster, "ok", ["nvidia-smi", "-L"], gpus=1, runtimeClassName="nvidia")
        await make_pod(cluster, "no-handler", ["nvidia-smi"], gpus=1, runtimeClassName="nvidia-missing")
        await make_pod(cluster, "insufficient", ["nvidia-smi"], gpus=9, runtimeClassName="nvidia")
        await make_pod(cluster, "image-pull", ["true"], gpus=1, image="127.0.0.1:1/none:1")
        await make_pod(cluster, "fails", ["false"], gpus=1, runtimeClassName="nvidia")
        await eventually(lambda: phase(server, "ok") == "Succeeded" and phase(server, "fails") == "Failed", server)
        await eventually(lambda: "ImagePullBackOff" in json.dumps(pod(server, "image-pull")["status"]), server)
        await eventually(lambda: event(server, "FailedCreatePodSandBox"), server)
        for name in ("ok", "no-handler", "insufficient", "image-pull", "fails"):
            assert_shape(pod(server, name)["status"], f"status of Pod {name}", POD_UNREAD)
        said = event(server, "FailedCreatePodSandBox")
        assert said is not None
        assert_shape(said, "Event of the kubelet about a pod")
        started, waits = event(server, "Started", "ok"), event(server, "FailedScheduling")
        assert started is not None
        assert waits is not None
        assert_shape(started, "Event of the kubelet about a container")
        assert_shape(waits, "Event of the scheduler")
        assert waits["message"] == (
            "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. no new claims to deallocate, "
            "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        )
        log = await cluster.pod_log("default", "ok")
        assert re.fullmatch(r"GPU 0: NVIDIA H200 \(UUID: GPU-a000000[0-3]-0000-0000-0000-000000000000\)\n", log)


@pytest.mark.parametrize(
    ("version", "words"),
    [("2.1.9", "unable to get OCI runtime for sandbox"), ("1.7.24", "failed to get sandbox runtime")],
)
async def test_a_missing_handler_is_said_as_containerd_says_it(version: str, words: str) -> None:
    async with simulated(Host("gpu-a", runtime(version, nvidia=False))) as (server, cluster, _):
        await install(cluster)
        await make_pod(cluster, "check", ["nvidia-smi", "-L"], runtimeClassName="nvidia")
        said = await eventually(lambda: event(server, "FailedCreatePodSandBox"), server)
        assert words in said["message"]
        assert 'no runtime for "nvidia" is configured' in said["message"]


async def test_a_pod_in_runc_finds_no_nvidia_smi() -> None:
    async with simulated(Host("gpu-a", runtime())) as (server, cluster, _):
        await make_pod(cluster, "bare", ["nvidia-smi", "-L"])
        await eventually(lambda: phase(server, "bare") == "Failed", server)
        ended = pod(server, "bare")["status"]["containerStatuses"][0]["state"]["terminated"]
        assert ended["reason"] == "StartError"
        assert 'exec: "nvidia-smi": executable file not found in $PATH' in ended["message"]


async def test_the_default_handler_decides_for_pods_without_a_class() -> None:
    host = Host("gpu-a", runtime())
    host.change(default_handler="nvidia")
    async with simulated(host) as (server, cluster, _):
        container: dict[str, Any] = {"name": "c", "image": "ubuntu:24.04", "command": ["nvidia-smi", "-L"]}
        container["env"] = [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]
        meta = {"name": "plain", "namespace": "default"}
        spec = {"restartPolicy": "Never", "containers": [container]}
        await cluster.create_pod({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        await eventually(lambda: phase(server, "plain") == "Succeeded", server)
        assert (await cluster.pod_log("default", "plain")).count("GPU ") == 2


async def test_objects_and_running_pods_survive_a_restart_of_the_simulation(tmp_path: Path) -> None:
    host, state = Host("gpu-a", runtime()), tmp_path / "cluster.json"
    async with simulated(host, state=state) as (server, cluster, _):
        await install(cluster, "gpu-a")
        await eventually(lambda: gpus(server, "gpu-a") == "2", server)
        before = [p["metadata"]["uid"] for p in server.store.list("Pod")]
    async with simulated(host, state=state) as (server, cluster, clock):
        await clock.sleep(5)
        assert [p["metadata"]["uid"] for p in server.store.list("Pod")] == before
        assert gpus(server, "gpu-a") == "2"


async def test_a_deleted_namespace_takes_everything_with_it() -> None:
    async with simulated(Host("gpu-a", runtime())) as (server, cluster, _):
        await install(cluster, "gpu-a")
        await eventually(lambda: gpus(server, "gpu-a") == "2", server)
        await cluster.delete(ObjectKey("v1", "Namespace", "", "gpuwizard"))
        await eventually(lambda: server.store.get("Namespace", "", "gpuwizard") is None, server)
        assert list(server.store.list("Pod")) == []
        assert list(server.store.list("ConfigMap", "gpuwizard")) == []


async def test_refusals_have_the_shape_of_real_ones() -> None:
    real = json.loads((DATA / "refusals.json").read_text())
    assert conflicting([('"other" using v1', ".data.any")]).body() == real["409"]
    assert Refused(401, "Unauthorized", "Unauthorized").body() == real["401"]


@pytest.mark.parametrize(
    ("limits", "requests", "words"),
    [
        ({GPU: "1"}, {GPU: "2"}, "must be equal to nvidia.com/gpu limit of 1"),
        ({GPU: "0.5"}, {}, "must be an integer"),
        ({}, {GPU: "1"}, "Limit must be set for non overcommitable resources"),
    ],
)
async def test_impossible_gpu_quantities_are_refused(
    limits: dict[str, str], requests: dict[str, str], words: str
) -> None:
    async with simulated() as (_, cluster, _):
        container = {"name": "c", "image": "i:1", "resources": {"limits": limits, "requests": requests}}
        meta = {"name": "p", "namespace": "default"}
        with pytest.raises(RefusedError, match=words):
            await cluster.create_pod(
                {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}
            )
