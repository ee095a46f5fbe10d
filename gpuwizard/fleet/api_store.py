"""The simulated server's objects: versions, history for watches, create/apply/patch/delete, and a file that keeps them.

Objects are replaced, never changed in place, so that history and readers may share them.
"""

import asyncio
import copy
import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from gpuwizard.fleet import api_admission, api_fields
from gpuwizard.fleet.api_objects import defaulted, generated_name, new_metadata, normal_quantities
from gpuwizard.fleet.api_status import absent, exists, expired, outdated
from gpuwizard.kube.paths import KINDS, Kind, kind_of

__all__ = ["Record", "Store", "timestamp"]

Json = dict[str, Any]
Key = tuple[str, str, str]
_HISTORY = 4000
_WITH_STATUS = ("Pod", "Node", "DaemonSet", "ReplicaSet", "PodDisruptionBudget")
_WITH_GENERATION = ("DaemonSet", "Pod", "PodDisruptionBudget", "ReplicaSet")


def timestamp(time: datetime, *, micro: bool = False) -> str:
    """A time as the API writes it: whole seconds, or microseconds in leases and the scheduler's events."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Record:
    """One change, as watches read it. `old` is None for a new object."""

    version: int
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    key: Key
    obj: Json
    old: Json | None


class Store:
    """All objects of one simulated cluster. Methods raise `Refused` as the server would."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._objects: dict[str, dict[tuple[str, str], Json]] = {k.kind: {} for k in KINDS}
        self._history: deque[Record] = deque(maxlen=_HISTORY)
        self._forgotten = 0  # watches can start from here at the earliest
        self._waiting: set[asyncio.Future[None]] = set()
        self.version = 1

    def now(self) -> str:
        """The time for objects, whole seconds."""
        return timestamp(self._now())

    def get(self, kind: str, namespace: str, name: str) -> Json | None:
        """One object; not to be changed by the caller."""
        return self._objects[kind].get((namespace, name))

    def list(self, kind: str, namespace: str = "") -> Iterator[Json]:
        """Objects of a kind by namespace and name."""
        objects = self._objects[kind]
        for key in sorted(objects):
            if namespace in ("", key[0]):
                yield objects[key]

    def create(self, kind: Kind, namespace: str, obj: Json, manager: str, *, dry_run: bool = False) -> Json:
        """Create an object, with ``generateName`` when it has no name."""
        meta = dict(obj.get("metadata") or {})
        shown = meta.get("name") or meta.get("generateName", "")
        if kind.namespaced:
            meta["namespace"] = namespace
        obj = {**obj, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta}
        obj = defaulted(kind, normal_quantities(kind, obj))
        api_admission.check(kind, obj, None, self.get, shown)
        if not meta.get("name"):
            obj["metadata"]["name"] = generated_name(meta.get("generateName", ""))
        key = (kind.kind, namespace, obj["metadata"]["name"])
        if self.get(*key) is not None:
            raise exists(kind, key[2])
        obj = api_fields.owned_after_update(None, obj, manager, now=self.now())
        return self._store(kind, key, new_metadata(obj, self.now()), None, dry_run)

    def apply(
        self, kind: Kind, namespace: str, name: str, wanted: Json, manager: str, *, force: bool, dry_run: bool
    ) -> tuple[Json, bool]:
        """Server-side apply; returns the object and whether it is new."""
        meta = {**(wanted.get("metadata") or {}), "name": name}
        if kind.namespaced:
            meta["namespace"] = namespace
        wanted = {**wanted, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta}
        wanted = normal_quantities(kind, wanted)
        key = (kind.kind, namespace, name)
        live = self.get(*key)
        merged = api_fields.apply(live, wanted, manager, force=force, now=self.now())
        merged = defaulted(kind, merged)
        api_admission.check(kind, merged, live, self.get, name)
        if live is None:
            merged = new_metadata(merged, self.now())
        return self._store(kind, key, merged, live, dry_run), live is None

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        change: Json,
        manager: str,
        *,
        dry_run: bool = False,
        subresource: str = "",
    ) -> Json:
        """A JSON merge patch: null removes. A resourceVersion in it must be the live one."""
        live = self._live(kind, namespace, name)
        if (change.get("metadata") or {}).get("resourceVersion") not in (None, live["metadata"]["resourceVersion"]):
            why = "the object has been modified; please apply your changes to the latest version and try again"
            raise outdated(kind, name, why)
        merged = _merge_patch(copy.deepcopy(live), change)
        for part in ("name", "namespace", "uid", "creationTimestamp", "resourceVersion", "managedFields"):
            if part in live["metadata"]:
                merged["metadata"][part] = live["metadata"][part]
        if not subresource and "status" in live and kind.kind in _WITH_STATUS:
            merged["status"] = live["status"]
        merged = defaulted(kind, normal_quantities(kind, merged))
        api_admission.check(kind, merged, live, self.get, name)
        merged = api_fields.owned_after_update(live, merged, manager, now=self.now(), subresource=subresource)
        return self._store(kind, (kind.kind, namespace, name), merged, live, dry_run)

    def replace(self, obj: Json) -> Json:
        """Store what a controller or kubelet made of an existing object, without admission or field ownership."""
        kind = kind_of(obj["kind"])
        meta = obj["metadata"]
        key = (kind.kind, meta.get("namespace", ""), meta["name"])
        live = self.get(*key)
        return obj if live is None else self._store(kind, key, obj, live, False)

    def delete(self, kind: Kind, namespace: str, name: str, grace: int | None = None, *, dry_run: bool = False) -> Json:
        """Delete as a client asks: a pod on a node and a namespace go when their owner has finished."""
        live = self._live(kind, namespace, name)
        if dry_run:
            return live
        waits = kind.kind == "Namespace" or (kind.kind == "Pod" and self._held_by_kubelet(live, grace))
        if not waits:
            self.remove(live)
            return live
        if "deletionTimestamp" in live["metadata"]:
            return live
        meta = {**live["metadata"], "deletionTimestamp": self.now()}
        marked = {**live, "metadata": meta}
        if kind.kind == "Pod":
            default = live["spec"].get("terminationGracePeriodSeconds", 30)
            meta["deletionGracePeriodSeconds"] = default if grace is None else grace
        else:
            marked["status"] = {**live.get("status", {}), "phase": "Terminating"}
        return self._store(kind, (kind.kind, namespace, name), marked, live, False)

    def remove(self, obj: Json) -> None:
        """Take an object away at once."""
        meta = obj["metadata"]
        key = (obj["kind"], meta.get("namespace", ""), meta["name"])
        live = self._objects[key[0]].pop(key[1:], None)
        if live is not None:
            self.version += 1
            last = {**live, "metadata": {**live["metadata"], "resourceVersion": str(self.version)}}
            self._record(Record(self.version, "DELETED", key, last, live))

    def since(self, version: int) -> Iterator[Record]:
        """Changes after `version`. Raises Refused (410) when they are no longer known."""
        if version < self._forgotten or version > self.version:
            raise expired(version, self._forgotten)
        return (r for r in tuple(self._history) if r.version > version)

    async def wait_after(self, version: int, seconds: float) -> bool:
        """Wait until something newer than `version` is there; False when `seconds` pass first."""
        if self.version > version:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(future)
        return True

    def save(self, path: Path) -> None:
        """Write all objects to `path`, in one step."""
        objects = [obj for kind in self._objects.values() for obj in kind.values()]
        text = json.dumps({"version": self.version, "objects": objects}, separators=(",", ":"))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".new")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)

    def load(self, path: Path) -> None:
        """Read what `save` wrote; a missing or broken file leaves the store empty."""
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            objects: dict[str, dict[tuple[str, str], Json]] = {k.kind: {} for k in KINDS}
            for obj in kept["objects"]:
                objects[obj["kind"]][obj["metadata"].get("namespace", ""), obj["metadata"]["name"]] = obj
            version = int(kept["version"])
        except (OSError, ValueError, KeyError, TypeError):
            return
        self._objects, self.version, self._forgotten = objects, version, version

    def _live(self, kind: Kind, namespace: str, name: str) -> Json:
        live = self.get(kind.kind, namespace, name)
        if live is None:
            raise absent(kind, name)
        return live

    @staticmethod
    def _held_by_kubelet(pod: Json, grace: int | None) -> bool:
        finished = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        return bool(pod["spec"].get("nodeName")) and grace != 0 and not finished

    def _store(self, kind: Kind, key: Key, obj: Json, live: Json | None, dry_run: bool) -> Json:
        obj = _with_generation(kind, obj, live)
        if obj == live:
            return obj
        if dry_run:
            if live is None:
                obj["metadata"].pop("resourceVersion", None)
            return obj
        self.version += 1
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}
        self._objects[key[0]][key[1:]] = obj
        self._record(Record(self.version, "MODIFIED" if live else "ADDED", key, obj, live))
        return obj

    def _record(self, record: Record) -> None:
        if len(self._history) == self._history.maxlen:
            self._forgotten = self._history[0].version
        self._history.append(record)
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


def _with_generation(kind: Kind, obj: Json, live: Json | None) -> Json:
    """metadata.generation counts changes of the spec, for the kinds that have one."""
    if kind.kind not in _WITH_GENERATION:
        return obj
    before = live or {}
    generation = before.get("metadata", {}).get("generation", 0)
    if not before or (kind.kind != "Pod" and obj.get("spec") != before.get("spec")):
        generation += 1
    meta = {**obj["metadata"], "generation": generation}
    if kind.kind == "DaemonSet":
        name = "deprecated.daemonset.template.generation"
        old = int(before.get("metadata", {}).get("annotations", {}).get(name, "0"))
        changed = obj["spec"]["template"] != before.get("spec", {}).get("template")
        meta["annotations"] = {**(meta.get("annotations") or {}), name: str(old + 1 if changed else old)}
    return {**obj, "metadata": meta}


def _merge_patch(base: Any, change: Any) -> Any:
    if not isinstance(change, dict):
        return change
    result = dict(base) if isinstance(base, dict) else {}
    for name, value in change.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merge_patch(result.get(name), value)
    return result
