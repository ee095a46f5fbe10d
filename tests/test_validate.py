"""Validation against the simulated cluster: what passes, what each failure is called, and that nothing stays behind."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gpuwizard.answers.model import Answers
from gpuwizard.clock import FastClock
from gpuwizard.events import Event, LogLine, Note, PodProgress, Rung, Waiting
from gpuwizard.fleet.api import SimulatedCluster
from gpuwizard.kube.cluster import Cluster
from gpuwizard.steps import device_plugin, runtime_class
from gpuwizard.work.pods import PodView, cause_of, pod_view, reason_of, watch_pods
from gpuwizard.work.validate import RUNGS, validate
from tests.kube_servers import Host, eventually, runtime, simulated

PODS = json.loads((Path(__file__).parent / "data" / "kubernetes" / "pods.json").read_text())


def answers(timeout: float = 120, **sections: Any) -> Answers:
    sections["validation"] = {"timeout": timeout, **sections.get("validation", {})}
    return Answers.model_validate(sections)


async def prepare(cluster: Cluster, chosen: Answers, *nodes: str) -> None:
    """What a plan applies before validation."""
    if chosen.install.runtime_class:
        await cluster.apply(runtime_class.manifest())
    if chosen.install.device_plugin:
        for manifest in device_plugin.manifests(chosen):
            await cluster.apply(manifest)
    for node in nodes:
        await cluster.label_node(node, {"gpuwizard.dev/gpu": "true"})


async def climb(
    cluster: Cluster, clock: FastClock, chosen: Answers, *hosts: Host, gpus: dict[str, int] | None = None
) -> tuple[dict[str, str | None], list[Event]]:
    events: list[Event] = []
    nodes = {h.name: h.name for h in hosts}
    return dict(await validate(cluster, nodes, chosen, "run-1", events.append, clock, gpus=gpus)), events


def rungs(events: list[Event], host: str) -> list[tuple[str, str]]:
    return [(e.name, e.state) for e in events if isinstance(e, Rung) and e.host == host and e.state != "running"]


def leftovers(server: SimulatedCluster) -> list[str]:
    pods = server.store.list("Pod")
    return [p["metadata"]["name"] for p in pods if "gpuwizard.dev/validation" in (p["metadata"].get("labels") or {})]


async def test_two_healthy_nodes_pass_and_the_pods_are_gone() -> None:
    new, old = Host("new", runtime("2.1.9", name="a")), Host("old", runtime("1.7.24", name="b"))
    async with simulated(new, old) as (server, cluster, clock):
        await prepare(cluster, answers(), "new", "old")
        reasons, events = await climb(cluster, clock, answers(), new, old, gpus={"new": 2, "old": 2})
        assert reasons == {"new": None, "old": None}
        assert rungs(events, "new") == [(name, "passed") for name in RUNGS]
        assert rungs(events, "old") == [("runtime handler", "skipped"), ("allocatable", "passed"), ("pod", "passed")]
        logged = [e.text for e in events if isinstance(e, LogLine) and e.host == "old"]
        assert "GPU 0: NVIDIA H200 (UUID: GPU-b0000000-0000-0000-0000-000000000000)" in logged
        assert any(line.startswith("Scheduled: Successfully assigned") for line in logged)
        phases = [e.phase for e in events if isinstance(e, PodProgress) and e.host == "new"]
        assert phases[-1] == "Succeeded"
        await eventually(lambda: not leftovers(server), server)
        assert server.store.get("Namespace", "", "gpuwizard") is not None, "the plan's namespace stays"


async def test_time_slicing_is_counted() -> None:
    host = Host("gpu-a", runtime(gpus=2))
    chosen = answers(sharing={"mode": "time-slicing", "replicas": 4})
    async with simulated(host) as (_, cluster, clock):
        await prepare(cluster, chosen, "gpu-a")
        reasons, events = await climb(cluster, clock, chosen, host, gpus={"gpu-a": 2})
        assert reasons == {"gpu-a": None}
        passed = [e.reason for e in events if isinstance(e, Rung) and e.name == "allocatable" and e.state == "passed"]
        assert passed == ["8 nvidia.com/gpu"]


async def test_without_a_device_plugin_the_pod_alone_proves_it_in_a_namespace_of_its_own() -> None:
    host = Host("gpu-a", runtime(gpus=2))
    chosen = answers(install={"device_plugin": False})
    async with simulated(host) as (server, cluster, clock):
        await prepare(cluster, chosen)
        reasons, events = await climb(cluster, clock, chosen, host)
        assert reasons == {"gpu-a": None}
        assert ("allocatable", "skipped") in rungs(events, "gpu-a")
        await eventually(lambda: server.store.get("Namespace", "", "gpuwizard") is None, server)


async def test_a_missing_handler_is_named_by_the_node_where_it_tells() -> None:
    host = Host("gpu-a", runtime(nvidia=False))
    async with simulated(host) as (server, cluster, clock):
        await prepare(cluster, answers(), "gpu-a")
        reasons, events = await climb(cluster, clock, answers(20), host)
        assert reasons == {"gpu-a": "the runtime of node gpu-a offers runc, but no handler nvidia"}
        assert rungs(events, "gpu-a") == [
            ("runtime handler", "failed"),
            ("allocatable", "skipped"),
            ("pod", "skipped"),
        ]
        assert leftovers(server) == []


async def test_a_missing_handler_is_named_by_the_pod_where_the_node_does_not_tell() -> None:
    host = Host("gpu-a", runtime("1.7.24", nvidia=False))
    chosen = answers(30, install={"device_plugin": False})
    async with simulated(host) as (server, cluster, clock):
        await prepare(cluster, chosen)
        reasons, events = await climb(cluster, clock, chosen, host)
        reason = reasons["gpu-a"]
        assert reason is not None
        assert "did not end within 30 s; last: FailedCreatePodSandBox" in reason
        assert 'failed to get sandbox runtime: no runtime for "nvidia" is configured' in reason
        causes = [e.message for e in events if isinstance(e, Note)]
        assert causes == ["the node's container runtime has no such handler, or runs without it"]
        seen = [e.last_seen for e in events if isinstance(e, Waiting)]
        assert any("FailedCreatePodSandBox" in s for s in seen)
        assert leftovers(server) == [] or await eventually(lambda: not leftovers(server), server)


async def test_a_plugin_that_cannot_start_is_the_reason_why_nothing_is_allocatable() -> None:
    host = Host("gpu-a", runtime("1.7.24", nvidia=False))
    async with simulated(host) as (_, cluster, clock):
        await prepare(cluster, answers(), "gpu-a")
        reasons, _ = await climb(cluster, clock, answers(30), host)
        reason = reasons["gpu-a"]
        assert reason is not None
        assert reason.startswith("the node has no nvidia.com/gpu allocatable; device plugin pod nvidia-device-plugin-")
        assert 'no runtime for "nvidia" is configured' in reason


async def test_a_crashing_plugin_is_quoted() -> None:
    host = Host("gpu-a", runtime())
    async with simulated(host) as (_, cluster, clock):
        await prepare(cluster, answers(), "gpu-a")
        daemon_set = device_plugin.manifests(answers())[-1]
        spec = daemon_set["spec"]["template"]["spec"]
        daemon_set["spec"]["template"]["spec"] = {k: v for k, v in spec.items() if k != "runtimeClassName"}
        await cluster.apply(daemon_set)
        reasons, _ = await climb(cluster, clock, answers(40), host)
        reason = reasons["gpu-a"]
        assert reason is not None
        assert "CrashLoopBackOff" in reason
        assert "Failed to initialize NVML: ERROR_LIBRARY_NOT_FOUND" in reason


async def test_an_unlabelled_node_has_no_plugin() -> None:
    host = Host("gpu-a", runtime())
    async with simulated(host) as (_, cluster, clock):
        await prepare(cluster, answers())
        reasons, _ = await climb(cluster, clock, answers(15), host, gpus={"gpu-a": 2})
        assert reasons["gpu-a"] == (
            "the node has no nvidia.com/gpu allocatable, not 2; no device plugin pod of gpuwizard is on the node"
        )


async def test_a_missing_runtime_class_is_refused_at_once() -> None:
    host = Host("gpu-a", runtime())
    chosen = answers(install={"device_plugin": False, "runtime_class": False})
    async with simulated(host) as (server, cluster, clock):
        reasons, events = await climb(cluster, clock, chosen, host)
        reason = reasons["gpu-a"]
        assert reason is not None
        assert 'pod rejected: RuntimeClass "nvidia" not found' in reason
        assert [e.seconds < 15 for e in events if isinstance(e, Rung) and e.state == "failed"] == [True]
        await eventually(lambda: server.store.get("Namespace", "", "gpuwizard") is None, server)


async def test_an_image_that_cannot_be_pulled_is_named_with_its_cause() -> None:
    host = Host("gpu-a", runtime())
    chosen = answers(40, validation={"image": "registry.invalid/ubuntu:24.04"})
    async with simulated(host) as (server, cluster, clock):
        await prepare(cluster, chosen, "gpu-a")
        reasons, events = await climb(cluster, clock, chosen, host)
        reason = reasons["gpu-a"]
        assert reason is not None
        assert "lookup registry.invalid: no such host" in reason
        assert "the node cannot get the image: registry, proxy, DNS or name" in [
            e.message for e in events if isinstance(e, Note)
        ]
        await eventually(lambda: not leftovers(server), server)


async def test_gpus_that_are_all_in_use_leave_the_pod_pending() -> None:
    host = Host("gpu-a", runtime(gpus=1))
    async with simulated(host) as (server, cluster, clock):
        await prepare(cluster, answers(), "gpu-a")
        container: dict[str, Any] = {"name": "c", "image": "ubuntu:24.04", "command": ["sleep", "100000"]}
        container["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
        meta = {"name": "holder", "namespace": "default"}
        await cluster.create_pod(
            {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}
        )

        def holds() -> bool:
            holder = server.store.get("Pod", "default", "holder")
            return holder is not None and holder["status"]["phase"] == "Running"

        await eventually(holds, server)
        reasons, _ = await climb(cluster, clock, answers(20), host)
        reason = reasons["gpu-a"]
        assert reason is not None
        assert "Unschedulable: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu." in reason


async def test_a_node_that_is_not_ready_is_said_so() -> None:
    host = Host("gpu-a", runtime("1.7.24"))
    host.change(cri="error", handlers=())
    async with simulated(host) as (server, cluster, clock):
        await clock.sleep(30)
        reasons, events = await climb(cluster, clock, answers(10), host)
        assert reasons == {"gpu-a": "node gpu-a is NotReady: container runtime is down"}
        assert any(isinstance(e, Note) and "CRI plugin" in e.message for e in events)
        assert leftovers(server) == []


async def test_a_node_that_is_not_there_is_said_so() -> None:
    async with simulated(Host("gpu-a", runtime())) as (_, cluster, clock):
        reasons, _ = await climb(cluster, clock, answers(5), Host("ghost", None))
        assert reasons == {"ghost": "the cluster has no node ghost"}


async def test_a_cancelled_validation_leaves_nothing_behind() -> None:
    host = Host("gpu-a", runtime("1.7.24", nvidia=False))
    chosen = answers(3000, install={"device_plugin": False})
    async with simulated(host) as (server, cluster, clock):
        await prepare(cluster, chosen)
        task = asyncio.create_task(climb(cluster, clock, chosen, host))
        await eventually(lambda: leftovers(server), server)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: not leftovers(server), server)
        await eventually(lambda: server.store.get("Namespace", "", "gpuwizard") is None, server)


async def test_pods_of_an_earlier_run_are_swept() -> None:
    host = Host("gpu-a", runtime())
    async with simulated(host) as (server, cluster, clock):
        await prepare(cluster, answers(), "gpu-a")
        labels = {"app.kubernetes.io/managed-by": "gpuwizard", "gpuwizard.dev/validation": "true"}
        meta = {"name": "stale", "namespace": "gpuwizard", "labels": {**labels, "gpuwizard.dev/run": "run-0"}}
        spec = {"containers": [{"name": "c", "image": "ubuntu:24.04"}]}
        await cluster.create_pod({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        reasons, _ = await climb(cluster, clock, answers(), host)
        assert reasons == {"gpu-a": None}
        await eventually(lambda: not leftovers(server), server)


async def test_the_api_server_may_be_away_for_a_while() -> None:
    host = Host("gpu-a", runtime())
    async with simulated(host) as (server, cluster, clock):
        await prepare(cluster, answers())
        events: list[Event] = []
        lost = asyncio.Event()

        def emit(event: Event) -> None:
            events.append(event)
            if isinstance(event, Waiting) and "the link to the API server is lost" in event.last_seen:
                lost.set()

        task = asyncio.create_task(validate(cluster, {"a": "gpu-a"}, answers(600), "run-1", emit, clock))
        await eventually(lambda: any(isinstance(e, Rung) and e.name == "allocatable" for e in events), server)
        await server.stop()
        async with asyncio.timeout(20):
            await lost.wait()
        await server.start()
        await cluster.label_node("gpu-a", {"gpuwizard.dev/gpu": "true"})
        assert await task == {"a": None}


async def test_the_monitor_sees_pods_come_and_go() -> None:
    host = Host("gpu-a", runtime())
    async with simulated(host) as (_, cluster, _):
        rows: list[tuple[PodView, ...]] = []
        running, gone = asyncio.Event(), asyncio.Event()

        def take(pods: tuple[PodView, ...]) -> None:
            rows.append(pods)
            if any(p.phase == "Running" and p.ready == (1, 1) for p in pods):
                running.set()
            if running.is_set() and not pods:
                gone.set()

        task = asyncio.create_task(watch_pods(cluster, "gpuwizard", take))
        await prepare(cluster, answers(), "gpu-a")
        async with asyncio.timeout(20):
            await running.wait()
            shown = rows[-1][0]
            assert (shown.role, shown.node, shown.restarts) == ("device-plugin", "gpu-a", 0)
            await cluster.label_node("gpu-a", {"gpuwizard.dev/gpu": None})
            await gone.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ok", ""),
        ("no-handler", "FailedCreatePodSandBox: Failed to create pod sandbox: rpc error: code = Unknown desc = unable"),
        ("insufficient", "Unschedulable: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
        ("image-never", 'ErrImageNeverPull: Container image "registry.local/none:1" is not present'),
        ("image-pull", 'ImagePullBackOff: Back-off pulling image "127.0.0.1:1/none:1": ErrImagePull: failed to pull'),
        ("fails", "Error: the container ended with status 1"),
        ("crashloop", "Error: the container ended with status 1"),
        ("nocmd", "Unschedulable: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
    ],
)
def test_the_reason_of_a_real_pod(name: str, reason: str) -> None:
    found = reason_of(PODS[name]["pod"], PODS[name]["events"])
    assert found.startswith(reason)
    assert bool(found) == bool(reason)
    assert pod_view(PODS[name]["pod"], PODS[name]["events"]).name == name


def test_an_older_kubelet_that_names_no_cause_is_completed_from_its_events() -> None:
    pod = json.loads(json.dumps(PODS["image-pull"]["pod"]))
    waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"]
    waiting["message"] = 'Back-off pulling image "127.0.0.1:1/none:1"'
    assert "connection refused" in reason_of(pod, PODS["image-pull"]["events"])


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ('no runtime for "nvidia" is configured', "no such handler"),
        ("CreateContainerError: unresolvable CDI devices runtime.nvidia.com/gpu=all", "CDI specification"),
        ("UnexpectedAdmissionError: Allocate failed", "try again"),
        ("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", "all are in use"),
        ("everything is new", None),
    ],
)
def test_known_reasons_have_a_cause_in_plain_words(reason: str, cause: str | None) -> None:
    found = cause_of(reason)
    assert (cause is None and found is None) or (cause is not None and found is not None and cause in found)
