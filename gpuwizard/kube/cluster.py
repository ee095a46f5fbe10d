"""The Kubernetes API as gpuwizard uses it: look, dry-run, apply, watch. Never forces, never overwrites another's field.

Raw JSON in and out over kubernetes_asyncio's generic request path; every request has a time limit, and every refusal
carries the server's own words, cleaned (`safety.md`, secrets and foreign text).
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from gpuwizard.clean import clean
from gpuwizard.clock import Clock, SystemClock
from gpuwizard.errors import GpuwizardError, RefusedError, UnreachableError
from gpuwizard.facts.cluster import ClusterView, NodePod, NodeView, ObjectKey, ObjectState, key_of
from gpuwizard.kube.access import Access, open_access
from gpuwizard.kube.budgets import budgets_of, is_refused_by_budget
from gpuwizard.kube.paths import kind_of, path_of
from gpuwizard.kube.problems import AbsentError, OutdatedError, connection_problem, refusal, status_message
from gpuwizard.kube.views import event_time, node_view, pod_view
from gpuwizard.kube.watching import SILENCE, Change, follow

__all__ = ["MANAGER", "Cluster", "open_cluster"]

Json = Mapping[str, Any]

MANAGER = "gpuwizard"
_LIMIT = 30.0
_PARALLEL = 8
_LEASES = "kube-node-lease"
_TOO_MANY_RETRIES = 3
_NOT_ENDED = "status.phase!=Succeeded,status.phase!=Failed"


async def open_cluster(
    *,
    kubeconfig: Path | None = None,
    context: str | None = None,
    config: Mapping[str, Any] | None = None,
    clock: Clock | None = None,
) -> "Cluster":
    """Open the API server of a kubeconfig: a file, the usual places, or `config` (a kubeconfig as a dict, for which
    nothing of this machine is read).

    The server is asked for its version, so that an address or credential that does not work is known at once.
    Raises UsageError for a bad kubeconfig, UnreachableError and LoginError.
    """
    access = await open_access(kubeconfig=kubeconfig, context=context, config=config)
    cluster = Cluster(access, clock or SystemClock())
    try:
        await cluster.version()
    except BaseException:
        await cluster.close()
        raise
    return cluster


class Cluster:
    """One API server. Every method raises UnreachableError, LoginError (401) or RefusedError (403, 409, 422 …)."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock

    @property
    def server(self) -> str:
        """The server's URL."""
        return self._access.server

    async def close(self) -> None:
        """Close all connections; running watches end."""
        await self._access.close()

    async def version(self) -> str:
        """The server's version, ``v1.36.2``."""
        return str((await self._json("GET", "/version", what="read the version")).get("gitVersion", ""))

    async def ready(self) -> bool:
        """Whether the API server calls itself ready (``/readyz``)."""
        try:
            return (await self._read("GET", "/readyz", what="ask whether it is ready")).strip() == b"ok"
        except UnreachableError:
            return False

    async def nodes(self) -> tuple[NodeView, ...]:
        """All nodes, by name, with the kubelets' last sign of life."""
        listed, leases = await asyncio.gather(self._list("Node"), self._leases())
        views = (node_view(n, leases.get(n["metadata"]["name"])) for n in listed[0])
        return tuple(sorted(views, key=lambda n: n.name))

    async def node(self, name: str) -> NodeView | None:
        """One node; None when there is none of that name."""
        key = ObjectKey("v1", "Node", "", name)
        lease_key = ObjectKey("coordination.k8s.io/v1", "Lease", _LEASES, name)
        node, lease = await asyncio.gather(self.get(key), self._or_none(self.get(lease_key)))
        return node_view(node, lease) if node is not None else None

    async def pods(self, *, budgets: bool = False) -> tuple[NodePod, ...]:
        """All pods that have a node and have not ended; on demand with the budgets that guard them."""
        items, _ = await self._list("Pod", field_selector=_NOT_ENDED)
        placed = [item for item in items if item.get("spec", {}).get("nodeName")]
        if not budgets:
            return tuple(map(pod_view, placed))
        known = await self.budgets()
        return tuple(pod_view(p, None if known is None else budgets_of(p, known)) for p in placed)

    async def budgets(self) -> tuple[Json, ...] | None:
        """All disruption budgets; None when this user may not see them."""
        listed = await self._or_none(self._list("PodDisruptionBudget"))
        return None if listed is None else tuple(listed[0])

    async def view(self, desired: Sequence[Json], *, budgets: bool = False) -> ClusterView:
        """What the plan needs: version, nodes, pods (as `pods`), and for each desired object the live one and the
        server's dry run.

        A refusal of one object is kept in its state; only an unreachable server or refused login is raised.
        """
        version, nodes, pods = await asyncio.gather(
            self.version(), self.nodes(), self._or_none(self.pods(budgets=budgets))
        )
        gate = asyncio.Semaphore(_PARALLEL)
        created = {m["metadata"]["name"] for m in desired if m["kind"] == "Namespace"}

        async def look(manifest: Json) -> ObjectState:
            async with gate:
                return await self._state(manifest, created)

        states = await asyncio.gather(*(look(m) for m in desired))
        objects = {key_of(m): state for m, state in zip(desired, states, strict=True)}
        return ClusterView(server=self.server, version=version, nodes=nodes, objects=objects, pods=pods)

    async def get(self, key: ObjectKey) -> Json | None:
        """One object; None when it is absent."""
        try:
            return await self._json("GET", path_of(key), what=f"read {key}")
        except AbsentError:
            return None

    async def apply(self, manifest: Json, *, dry_run: bool = False) -> Json:
        """Server-side apply as field manager gpuwizard, never forced; returns the object as the server has it."""
        key = key_of(manifest)
        query: tuple[tuple[str, str], ...] = (("fieldManager", MANAGER), ("fieldValidation", "Strict"))
        return await self._json(
            "PATCH",
            path_of(key),
            query=(*query, ("dryRun", "All")) if dry_run else query,
            body=manifest,
            content_type="application/apply-patch+yaml",
            what=f"{'dry-run' if dry_run else 'apply'} {key}",
        )

    async def delete(self, key: ObjectKey, *, grace: int | None = None) -> bool:
        """Delete one object and what it owns, in the background. False when it was not there."""
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            await self._read("DELETE", path_of(key), body=options, what=f"delete {key}")
        except AbsentError:
            return False
        return True

    async def label_node(self, node: str, labels: Mapping[str, str | None]) -> NodeView:
        """Set labels of a node; None removes one."""
        return await self.patch_node(node, {"metadata": {"labels": dict(labels)}}, what=f"label node {node}")

    async def patch_node(self, node: str, change: Json, *, what: str) -> NodeView:
        """Merge `change` into a node. With a resourceVersion in it that is no longer the node's: OutdatedError."""
        patched = await self._json(
            "PATCH",
            path_of(ObjectKey("v1", "Node", "", node)),
            query=(("fieldManager", MANAGER),),
            body=change,
            content_type="application/merge-patch+json",
            what=what,
        )
        return node_view(patched)

    async def evict(self, pod: Json) -> bool:
        """Ask that this very pod be evicted, with its own grace; False when it is gone already.

        Raises BudgetError when a disruption budget keeps it.
        """
        meta = pod["metadata"]
        named = {"name": meta["name"], "namespace": meta["namespace"]}
        options = {"preconditions": {"uid": meta["uid"]}}
        try:
            await self._json(
                "POST",
                kind_of("Pod").path(meta["namespace"], meta["name"], "eviction"),
                body={"apiVersion": "policy/v1", "kind": "Eviction", "metadata": named, "deleteOptions": options},
                what=f"evict pod {meta['namespace']}/{meta['name']}",
            )
        except (AbsentError, OutdatedError):  # another pod may have its name by now
            return False
        return True

    async def create_pod(self, manifest: Json) -> Json:
        """Create a pod (``generateName`` is allowed); returns it with its name."""
        meta = manifest["metadata"]
        shown = meta.get("name") or meta.get("generateName", "")
        path = kind_of("Pod").path(meta["namespace"])
        return await self._json(
            "POST",
            path,
            query=(("fieldManager", MANAGER), ("fieldValidation", "Strict")),
            body=manifest,
            what=f"create pod {meta['namespace']}/{shown}",
        )

    async def list_objects(self, kind: str, namespace: str = "", *, label_selector: str = "") -> tuple[Json, ...]:
        """Objects of a kind, of one namespace or (empty) of all."""
        items, _ = await self._list(kind, namespace, label_selector)
        return tuple(items)

    async def list_pods(self, namespace: str, label_selector: str = "", field_selector: str = "") -> tuple[Json, ...]:
        """Pods of one namespace (of all when it is empty)."""
        items, _ = await self._list("Pod", namespace, label_selector, field_selector)
        return tuple(items)

    async def events_for(self, namespace: str, name: str) -> tuple[Json, ...]:
        """Events about one object of that name, oldest first."""
        items, _ = await self._list("Event", namespace, "", f"involvedObject.name={name}")
        return tuple(sorted(items, key=event_time))

    async def pod_log(self, namespace: str, name: str, tail_lines: int = 50, *, previous: bool = False) -> str:
        """The last lines of a pod's only container, cleaned. `previous`: those of its last life."""
        path = kind_of("Pod").path(namespace, name, "log")
        query: tuple[tuple[str, str], ...] = (("tailLines", str(tail_lines)), ("limitBytes", "65536"))
        if previous:
            query = (*query, ("previous", "true"))
        body = await self._read("GET", path, query=query, what=f"read the log of pod {namespace}/{name}")
        return clean(body.decode("utf-8", "replace"))

    def watch(
        self,
        kind: str,
        namespace: str = "",
        *,
        field_selector: str = "",
        label_selector: str = "",
        on_lost: Callable[[GpuwizardError], None] | None = None,
    ) -> AsyncGenerator[Change, None]:
        """Objects of a kind as (``ADDED`` | ``MODIFIED`` | ``DELETED``, object), first those that exist, for ever.

        A lost link is taken up again with back-off, and `on_lost` hears of it; nothing is yielded twice unless it
        changed. Raises only LoginError and RefusedError. Close the iterator (``contextlib.aclosing``) when done.
        """
        source = _Collection(self, kind, namespace, label_selector, field_selector)
        return follow(source, self._clock, self.server, on_lost)

    async def _state(self, manifest: Json, created: set[str]) -> ObjectState:
        key = key_of(manifest)
        live: Json | None = None
        try:
            live = await self.get(key)
            if live is None and key.namespace in created and await self._absent_namespace(key.namespace):
                return ObjectState(None, None, unchecked=f"namespace {key.namespace} is created by this plan")
            return ObjectState(live, await self.apply(manifest, dry_run=True))
        except RefusedError as error:
            return ObjectState(live, None, error=f"{error.what}; {error.remedy}" if error.remedy else error.what)

    async def _absent_namespace(self, namespace: str) -> bool:
        return await self.get(ObjectKey("v1", "Namespace", "", namespace)) is None

    async def _leases(self) -> dict[str, Json]:
        listed = await self._or_none(self._list("Lease", _LEASES))
        return {lease["metadata"]["name"]: lease for lease in (listed[0] if listed else ())}

    @staticmethod
    async def _or_none(asked: Any) -> Any:
        try:
            return await asked
        except RefusedError:
            return None  # leases and pods may be hidden from this user; what else the nodes say is then all there is

    async def _list(
        self, kind: str, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> tuple[list[Json], str]:
        entry = kind_of(kind)
        query = _selectors(label_selector, field_selector)
        answer = await self._json("GET", entry.path(namespace), query=query, what=f"list {entry.plural}")
        items: list[Json] = [
            {"apiVersion": entry.api_version, "kind": kind, **item} for item in answer.get("items") or ()
        ]
        return items, str(answer.get("metadata", {}).get("resourceVersion", ""))

    async def _json(self, method: str, path: str, *, what: str, **request: Any) -> Json:
        body = await self._read(method, path, what=what, **request)
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise RefusedError(
                f"{what}: the answer is not that of an API server",
                where=self.server,
                remedy="check the server's address in the kubeconfig; a proxy may answer in its place",
            )
        if answer.get("kind") == "Status" and answer.get("status") == "Failure":  # an eviction's, inside a 201
            raise refusal(int(answer.get("code") or 500), body, what=what, server=self.server)
        return answer

    async def _read(
        self,
        method: str,
        path: str,
        *,
        what: str,
        query: tuple[tuple[str, str], ...] = (),
        body: Any = None,
        content_type: str = "application/json",
    ) -> bytes:
        """One request with its whole answer; waits and asks again when the server is too busy (429)."""
        for attempt in range(_TOO_MANY_RETRIES + 1):
            try:
                response = await self._access.send(
                    method, path, query=query, body=body, content_type=content_type, timeout=_LIMIT
                )
                async with response:
                    answer = await response.read()
            except self._access.failures as error:
                raise connection_problem(error, self.server) from error
            busy = response.status == 429 and not is_refused_by_budget(status_message(answer)[1])
            if busy and attempt < _TOO_MANY_RETRIES:
                await self._clock.sleep(_retry_after(response.headers.get("Retry-After")))
                continue
            break
        if not 200 <= response.status < 300:
            raise refusal(response.status, answer, what=what, server=self.server)
        return bytes(answer)


class _Collection:
    """The objects that one watch follows."""

    def __init__(self, cluster: Cluster, kind: str, namespace: str, label_selector: str, field_selector: str) -> None:
        self._cluster = cluster
        self._kind = kind_of(kind)
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector

    async def list_all(self) -> tuple[list[Json], str]:
        return await self._cluster._list(self._kind.kind, self._namespace, self._label_selector, self._field_selector)

    async def lines(self, version: str) -> AsyncGenerator[bytes, None]:
        access = self._cluster._access
        query = (
            *_selectors(self._label_selector, self._field_selector),
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version),
            ("timeoutSeconds", "600"),
        )
        path = self._kind.path(self._namespace)
        try:
            response = await access.send(
                "GET",
                path,
                query=query,
                body=None,
                content_type="application/json",
                timeout=None,
                read_timeout=SILENCE,
            )
            async with response:
                if response.status != 200:
                    body = await response.read()
                    raise refusal(response.status, body, what=f"watch {self._kind.plural}", server=self._cluster.server)
                async with aclosing(_split(response.content.iter_any())) as lines:
                    async for line in lines:
                        yield line
        except access.failures as error:
            raise connection_problem(error, self._cluster.server) from error


async def _split(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Whole lines of a stream of pieces. A piece without its newline at the end is dropped: it was cut."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line


def _selectors(label_selector: str, field_selector: str) -> tuple[tuple[str, str], ...]:
    pairs = (("labelSelector", label_selector), ("fieldSelector", field_selector))
    return tuple((name, value) for name, value in pairs if value)


def _retry_after(text: str | None) -> float:
    try:
        return min(max(float(text or 1), 0.1), 10.0)
    except ValueError:
        return 1.0
