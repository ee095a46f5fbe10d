"""The Kubernetes side over real HTTP: against the simulated API, and against a real API server where one can run."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from gpuwizard.answers.model import Answers
from gpuwizard.clock import FastClock
from gpuwizard.errors import GpuwizardError, LoginError, RefusedError, UnreachableError
from gpuwizard.facts.cluster import ObjectKey, key_of
from gpuwizard.fleet.api import SimulatedCluster
from gpuwizard.kube.cluster import Cluster, open_cluster
from gpuwizard.kube.paths import path_of
from gpuwizard.plan.shown import shown_yaml
from gpuwizard.steps import device_plugin, runtime_class
from tests.kube_servers import Host, missing_binaries, real_server, runtime, simulated

NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gpuwizard"}}
CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "shared", "namespace": "gpuwizard"},
    "data": {"any": "one", "ours": "yes"},
}


@pytest.fixture(scope="module")
def real_config() -> Iterator[dict[str, Any]]:
    missing = missing_binaries()
    if missing:
        pytest.skip(missing)
    with real_server() as config:
        yield config


@pytest.fixture(params=["simulated", "real"])
async def config(request: pytest.FixtureRequest) -> AsyncIterator[dict[str, Any]]:
    """A kubeconfig of a running API server."""
    if request.param == "real":
        kubeconfig = request.getfixturevalue("real_config")
        await _answers(kubeconfig)
        yield kubeconfig
        return
    server = SimulatedCluster({}, FastClock(50))
    yield await server.start()
    await server.stop()


async def _answers(kubeconfig: dict[str, Any]) -> None:
    """Wait until a real server is up."""
    async with asyncio.timeout(90):
        while True:
            try:
                cluster = await open_cluster(config=kubeconfig)
            except GpuwizardError:
                await asyncio.sleep(0.5)
                continue
            ready = await cluster.ready()
            await cluster.close()
            if ready:
                return
            await asyncio.sleep(0.5)


@pytest.fixture
async def cluster(config: dict[str, Any]) -> AsyncIterator[Cluster]:
    """An open client; what the test made in it is gone afterwards."""
    opened = await open_cluster(config=config, clock=FastClock(50))
    yield opened
    for obj in (runtime_class.manifest(), CONFIG):
        await opened.delete(key_of(obj), grace=0)
    await opened.close()


async def patch_as(config: dict[str, Any], obj: dict[str, Any], manager: str) -> int:
    """Apply an object as another field manager, through a client of our own."""
    token = config["users"][0]["user"]["token"]
    url = config["clusters"][0]["cluster"]["server"] + path_of(key_of(obj))
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/apply-patch+yaml"}
    async with (
        aiohttp.ClientSession() as session,
        session.patch(
            url, data=json.dumps(obj), params={"fieldManager": manager}, headers=headers, ssl=False
        ) as response,
    ):
        return response.status


async def test_an_absent_object_is_none_and_an_applied_one_is_read_back(cluster: Cluster) -> None:
    key = key_of(runtime_class.manifest())
    assert await cluster.get(key) is None
    await cluster.apply(runtime_class.manifest())
    live = await cluster.get(key)
    assert live is not None
    assert live["handler"] == "nvidia"
    assert await cluster.delete(key) is True
    assert await cluster.delete(key) is False


async def test_the_view_shows_what_the_server_would_make_of_each_object(cluster: Cluster) -> None:
    await cluster.apply(NAMESPACE)
    await cluster.apply({**CONFIG, "data": {"any": "one"}})
    changed = {**CONFIG, "data": {"any": "two"}}
    view = await cluster.view([changed])
    state = view.objects[key_of(changed)]
    assert state.live is not None
    assert state.dry_run is not None
    assert (state.live["data"], state.dry_run["data"]) == ({"any": "one"}, {"any": "two"})
    assert view.version is not None
    assert view.version.startswith("v1.")
    again = await cluster.get(key_of(changed))
    assert again is not None
    assert again["data"] == {"any": "one"}, "a dry run changes nothing"


async def test_objects_in_a_namespace_of_the_same_plan_are_not_checked(cluster: Cluster) -> None:
    answers = Answers.model_validate({"kubernetes": {"namespace": "not-there-yet"}})
    wanted = device_plugin.manifests(answers)
    view = await cluster.view(wanted)
    states = [view.objects[key_of(m)] for m in wanted]
    assert states[0].dry_run is not None
    assert [s.unchecked for s in states[1:]] == ["namespace not-there-yet is created by this plan"] * 2


async def test_applying_the_same_again_is_no_change(cluster: Cluster) -> None:
    await cluster.apply(NAMESPACE)
    for manifest in device_plugin.manifests(Answers())[1:]:
        first = await cluster.apply(manifest)
        second = await cluster.apply(manifest)
        # not the resourceVersion: a controller may write the status between the two
        assert first["metadata"].get("generation") == second["metadata"].get("generation")
        assert shown_yaml(first) == shown_yaml(second)
        view = await cluster.view([manifest])
        state = view.objects[key_of(manifest)]
        assert state.live == state.dry_run
        await cluster.delete(key_of(manifest))


async def test_a_key_that_is_no_longer_wanted_goes_away(cluster: Cluster) -> None:
    await cluster.apply(NAMESPACE)
    await cluster.apply(CONFIG)
    applied = await cluster.apply({**CONFIG, "data": {"any": "one"}})
    assert applied["data"] == {"any": "one"}


async def test_a_conflict_names_the_field_and_its_owner(cluster: Cluster, config: dict[str, Any]) -> None:
    await cluster.apply(NAMESPACE)
    assert await patch_as(config, CONFIG, "other") in (200, 201)
    mine = {**CONFIG, "data": {"any": "mine"}}
    with pytest.raises(RefusedError) as caught:
        await cluster.apply(mine)
    assert '.data.any belongs to "other"' in caught.value.what
    assert "never takes fields by force" in caught.value.remedy
    state = (await cluster.view([mine])).objects[key_of(mine)]
    assert state.dry_run is None
    assert state.error is not None
    assert '.data.any belongs to "other"' in state.error
    live = await cluster.get(key_of(CONFIG))
    assert live is not None
    assert live["data"]["any"] == "one"


async def test_an_equal_value_is_shared_without_conflict(cluster: Cluster, config: dict[str, Any]) -> None:
    await cluster.apply(NAMESPACE)
    await patch_as(config, CONFIG, "other")
    applied = await cluster.apply(CONFIG)
    managers = {m["manager"] for m in applied["metadata"]["managedFields"]}
    assert {"other", "gpuwizard"} <= managers


async def test_an_immutable_field_is_refused_in_the_servers_words(cluster: Cluster) -> None:
    await cluster.apply(runtime_class.manifest())
    with pytest.raises(RefusedError) as caught:
        await cluster.apply({**runtime_class.manifest(), "handler": "other"})
    assert 'handler: Invalid value: "other": field is immutable' in caught.value.what
    assert "delete the object" in caught.value.remedy


async def test_an_unknown_runtime_class_is_refused_at_once(cluster: Cluster) -> None:
    await cluster.apply(NAMESPACE)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p2", "namespace": "gpuwizard"},
        "spec": {"runtimeClassName": "nope", "containers": [{"name": "c", "image": "ubuntu:24.04"}]},
    }
    with pytest.raises(RefusedError) as caught:
        await cluster.create_pod(pod)
    assert 'pods "p2" is forbidden: pod rejected: RuntimeClass "nope" not found' in caught.value.what
    assert "runtime class" in caught.value.remedy


async def test_labels_of_a_node_are_set_and_removed(cluster: Cluster) -> None:
    await cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "spare"}})
    labelled = await cluster.label_node("spare", {"gpuwizard.dev/gpu": "true"})
    assert labelled.labels["gpuwizard.dev/gpu"] == "true"
    node = await cluster.node("spare")
    assert node is not None
    assert node.labels["gpuwizard.dev/gpu"] == "true"
    assert "gpuwizard.dev/gpu" not in (await cluster.label_node("spare", {"gpuwizard.dev/gpu": None})).labels
    assert await cluster.node("nobody") is None
    await cluster.delete(ObjectKey("v1", "Node", "", "spare"))


async def test_a_watch_tells_of_what_exists_and_what_changes(cluster: Cluster) -> None:
    await cluster.apply(NAMESPACE)
    await cluster.apply(CONFIG)
    seen: list[tuple[str, Any]] = []
    async with (
        asyncio.timeout(20),
        aclosing(cluster.watch("ConfigMap", "gpuwizard", field_selector="metadata.name=shared")) as changes,
    ):
        async for change, obj in changes:
            seen.append((change, obj["data"].get("any")))
            match len(seen):
                case 1:
                    await cluster.apply({**CONFIG, "data": {"any": "two"}})
                case 2:
                    await cluster.delete(key_of(CONFIG))
                case 3:
                    break
    assert seen == [("ADDED", "one"), ("MODIFIED", "two"), ("DELETED", "two")]


async def test_a_wrong_token_is_a_login_error(config: dict[str, Any]) -> None:
    wrong = {**config, "users": [{"name": config["users"][0]["name"], "user": {"token": "wrong"}}]}
    with pytest.raises(LoginError) as caught:
        await open_cluster(config=wrong)
    assert "does not accept these credentials" in caught.value.what
    assert "kubeconfig" in caught.value.remedy


async def test_what_a_user_may_not_do_is_refused_with_the_servers_words(config: dict[str, Any]) -> None:
    async with _viewer(config) as viewer:
        with pytest.raises(RefusedError) as caught:
            await viewer.nodes()
    assert 'nodes is forbidden: User "viewer" cannot list resource "nodes"' in caught.value.what
    assert caught.value.remedy


@asynccontextmanager
async def _viewer(config: dict[str, Any]) -> AsyncIterator[Cluster]:
    """A client whose user may do nothing with nodes."""
    if config["users"][0]["user"]["token"] == "admin-token":
        users = [{"name": "admin", "user": {"token": "viewer-token"}}]
        opened = await open_cluster(config={**config, "users": users})
        yield opened
        await opened.close()
        return
    server = SimulatedCluster({}, FastClock(50))
    await server.start()
    opened = await open_cluster(config=server.kubeconfig("viewer"))
    yield opened
    await opened.close()
    await server.stop()


async def test_a_watch_goes_on_after_the_server_was_away(tmp_path: Any) -> None:
    async with simulated(Host("gpu-a", runtime()), state=tmp_path / "state.json") as (server, cluster, _):
        await cluster.apply(NAMESPACE)
        await cluster.apply(CONFIG)
        lost = asyncio.Event()
        seen: list[tuple[str, Any]] = []

        async def follow() -> None:
            watch = cluster.watch("ConfigMap", "gpuwizard", on_lost=lambda error: lost.set())
            async with aclosing(watch) as changes:
                async for change, obj in changes:
                    seen.append((change, obj["data"]["any"]))
                    if len(seen) == 2:
                        return
                    await server.stop()

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(follow())
            await lost.wait()
            await server.start()
            await cluster.apply({**CONFIG, "data": {"any": "two", "ours": "yes"}})
        assert seen == [("ADDED", "one"), ("MODIFIED", "two")]


async def test_a_watch_whose_version_is_forgotten_lists_again(tmp_path: Any) -> None:
    """A server that came back without its history answers 410; nothing may be missed or told twice."""
    state = tmp_path / "state.json"
    async with simulated(state=state) as (server, cluster, _):
        await cluster.apply(NAMESPACE)
        for name in ("stays", "goes"):
            await cluster.apply({**CONFIG, "metadata": {"name": name, "namespace": "gpuwizard"}})
        seen: list[tuple[str, str]] = []
        async with asyncio.timeout(30), aclosing(cluster.watch("ConfigMap", "gpuwizard")) as changes:
            async for change, obj in changes:
                seen.append((change, obj["metadata"]["name"]))
                if len(seen) == 2:
                    await server.stop()
                    server.store.load(state)  # as a new process would: objects without history
                    server.store.remove(server.store.get("ConfigMap", "gpuwizard", "goes") or {})
                    server.store.save(state)
                    server.store.load(state)
                    await server.start()
                if len(seen) == 3:
                    break
        assert sorted(seen[:2]) == [("ADDED", "goes"), ("ADDED", "stays")]
        assert seen[2:] == [("DELETED", "goes")]


async def test_a_server_that_is_away_is_named_with_a_remedy() -> None:
    server = SimulatedCluster({}, FastClock(50))
    config = await server.start()
    await server.stop()
    with pytest.raises(UnreachableError) as caught:
        await open_cluster(config=config)
    assert "connection refused" in caught.value.what
    assert caught.value.where == config["clusters"][0]["cluster"]["server"]
    assert caught.value.remedy


async def test_an_address_that_is_no_api_server_is_said_so(unused_port_server: str) -> None:
    with pytest.raises(GpuwizardError) as caught:
        await open_cluster(config=_config_for(unused_port_server))
    assert "not that of an API server" in str(caught.value)


async def test_tls_towards_a_server_without_it_is_explained(unused_port_server: str) -> None:
    with pytest.raises(UnreachableError) as caught:
        await open_cluster(config=_config_for(unused_port_server.replace("http:", "https:")))
    assert "TLS with the API server failed" in caught.value.what


@pytest.fixture
async def unused_port_server() -> AsyncIterator[str]:
    """A web server that is no API server."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()


def _config_for(server: str) -> dict[str, Any]:
    return {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }


async def test_the_client_asks_again_when_the_server_is_too_busy() -> None:
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.read(4096)
        asked += 1
        body = b'{"gitVersion": "v1.36.2"}'
        head = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\n" if asked == 1 else b"HTTP/1.1 200 OK\r\n"
        writer.write(head + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    opened = await open_cluster(config=_config_for(url), clock=FastClock(100))
    assert asked == 2
    await opened.close()
    server.close()
    await server.wait_closed()


async def test_a_simulated_server_is_reached_past_proxy_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("KUBECONFIG", "/nowhere/kubeconfig")
    async with simulated() as (_, cluster, _):
        assert await cluster.ready()


def test_importing_the_cluster_module_loads_no_client_library() -> None:
    script = (
        "import sys; import gpuwizard.kube.cluster, gpuwizard.work.validate; "
        "print([m for m in ('kubernetes_asyncio', 'aiohttp') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
