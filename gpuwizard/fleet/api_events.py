"""Events of the simulated cluster, counted and shaped as the kubelet and the scheduler write them."""

import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from gpuwizard.fleet.api_status import Refused
from gpuwizard.fleet.api_store import Store, timestamp
from gpuwizard.kube.paths import kind_of

__all__ = ["Events"]

Json = dict[str, Any]
_KEPT = 1500


class Events:
    """Records events into the store; a repeated message of one object counts up (`samples/kubernetes/events.json`)."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._names: dict[tuple[str, ...], str] = {}

    def kubelet(self, node: str, about: Json, kind: str, reason: str, message: str, *, container: str = "") -> None:
        """An event of the kubelet on `node`; `container` names the one it is about."""
        source = {"component": "kubelet", "host": node}
        self._counted(about, kind, reason, message, source, "kubelet", node, container)

    def controller(self, component: str, about: Json, kind: str, reason: str, message: str) -> None:
        """An event of a controller (``daemonset-controller``, ``node-controller``)."""
        self._counted(about, kind, reason, message, {"component": component}, component, "", "")

    def scheduler(self, pod: Json, kind: str, reason: str, message: str, action: str) -> None:
        """An event of the scheduler: it has an eventTime instead of counts."""
        fields: Json = {
            "action": action,
            "eventTime": timestamp(self._now(), micro=True),
            "firstTimestamp": None,
            "lastTimestamp": None,
            "reportingComponent": "default-scheduler",
            "reportingInstance": "default-scheduler",
            "source": {},
        }
        self._create(pod, kind, reason, message, fields, "")

    def _counted(
        self,
        about: Json,
        kind: str,
        reason: str,
        message: str,
        source: Json,
        component: str,
        instance: str,
        container: str,
    ) -> None:
        meta = about["metadata"]
        key = (about["kind"], meta.get("uid", ""), meta["name"], kind, reason, message, container)
        namespace = meta.get("namespace", "default")
        live = self._store.get("Event", namespace, self._names.get(key, ""))
        now = self._store.now()
        if live is not None:
            self._store.replace({**live, "count": live["count"] + 1, "lastTimestamp": now})
            return
        fields = {
            "count": 1,
            "eventTime": None,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "reportingComponent": component,
            "reportingInstance": instance,
            "source": source,
        }
        self._names[key] = self._create(about, kind, reason, message, fields, container)

    def _create(self, about: Json, kind: str, reason: str, message: str, fields: Json, container: str) -> str:
        meta = about["metadata"]
        namespace = meta.get("namespace", "default")
        involved = {"apiVersion": about["apiVersion"], "kind": about["kind"], "name": meta["name"]}
        if meta.get("namespace"):
            involved["namespace"] = meta["namespace"]
        if about["kind"] != "Node":
            involved |= {"uid": meta["uid"], "resourceVersion": meta.get("resourceVersion", "")}
        if container:
            involved["fieldPath"] = f"spec.containers{{{container}}}"
        name = f"{meta['name']}.{secrets.token_hex(8)}"
        event = {
            "metadata": {"name": name},
            "involvedObject": involved,
            "message": message,
            "reason": reason,
            "type": kind,
            **fields,
        }
        with suppress(Refused):  # a namespace that is gone or going takes no events
            self._store.create(kind_of("Event"), namespace, event, fields["reportingComponent"])
        return name

    def prune(self) -> None:
        """Forget the oldest events when there are very many (a real server forgets them after an hour)."""
        events = sorted(self._store.list("Event"), key=lambda e: int(e["metadata"]["resourceVersion"]))
        for event in events[: max(len(events) - _KEPT, 0)]:
            self._store.remove(event)
        if len(self._names) > 2 * _KEPT:
            self._names.clear()
