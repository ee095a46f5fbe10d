"""The simulated API over HTTP on the loopback address: paths, users, verbs, watches."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

import yaml
from aiohttp import web

from gpuwizard.fleet.api_budgets import evict
from gpuwizard.fleet.api_discovery import discovery, version_info
from gpuwizard.fleet.api_selectors import selected
from gpuwizard.fleet.api_status import Refused, absent
from gpuwizard.fleet.api_store import Record, Store
from gpuwizard.kube.paths import KINDS, Kind

__all__ = ["Logs", "make_app"]

Json = dict[str, Any]

_BOOKMARK_EVERY = 30.0
_NOT_FOUND = "404 page not found\n"
_MERGE = ("application/merge-patch+json", "application/strategic-merge-patch+json")
_VIEWER_MAY = ("pods", "events")


class Logs(Protocol):
    """Where the text of container logs comes from."""

    def log(self, namespace: str, pod: str, tail: int | None, *, previous: bool) -> str:
        """The log of the pod's only container. Raises Refused when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class _Address:
    """A request's path, taken apart."""

    kind: Kind
    namespace: str
    name: str
    subresource: str


def make_app(store: Store, logs: Logs, users: Mapping[str, str], version: str) -> web.Application:
    """The web application. `users` maps bearer tokens to names; ``viewer`` may only read pods and events."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await _answer(request, store, logs, users, version)
        except Refused as refused:
            return web.json_response(refused.body(), status=refused.code)

    app = web.Application(client_max_size=4 * 2**20)
    app.router.add_route("*", "/{path:.*}", handle)
    return app


async def _answer(
    request: web.Request, store: Store, logs: Logs, users: Mapping[str, str], version: str
) -> web.StreamResponse:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    user = users.get(token) if scheme == "Bearer" else None
    if user is None:
        raise Refused(401, "Unauthorized", "Unauthorized")
    path = request.rel_url.raw_path
    if path in ("/readyz", "/livez", "/healthz"):
        return web.Response(text="ok")
    if path == "/version":
        return web.json_response(version_info(version))
    about = discovery(path)
    if about is not None:
        return web.json_response(about)
    address = _address(path)
    if address is None:
        return web.Response(text=_NOT_FOUND, status=404)
    _authorize(user, request, address)
    match request.method, address.name:
        case "GET", "" if request.query.get("watch") in ("true", "1"):
            return await _watch(request, store, address)
        case "GET", "":
            return _list(request, store, address)
        case "GET", _ if address.subresource == "log":
            tail = request.query.get("tailLines")
            previous = request.query.get("previous") == "true"
            text = logs.log(address.namespace, address.name, int(tail) if tail else None, previous=previous)
            return web.Response(text=text)
        case "GET", _:
            obj = store.get(address.kind.kind, address.namespace, address.name)
            if obj is None:
                raise absent(address.kind, address.name)
            return web.json_response(obj)
        case "POST", "":
            return await _create(request, store, address)
        case "POST", name if address.kind.kind == "Pod" and address.subresource == "eviction":
            body = await _body(request)
            evicted = evict(store, address.namespace, name, body, dry_run=_dry_run(request))
            return web.json_response(evicted, status=201)
        case "PATCH", name if name:
            return await _patch(request, store, address)
        case "DELETE", name if name:
            return await _delete(request, store, address)
        case _:
            raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def _address(path: str) -> _Address | None:
    parts = [unquote(p) for p in path.strip("/").split("/")]
    if parts[0] == "api":
        api_version, rest = parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        api_version, rest = f"{parts[1]}/{parts[2]}", parts[3:]
    else:
        return None
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    kind = next((k for k in KINDS if k.api_version == api_version and rest and k.plural == rest[0]), None)
    if kind is None or len(rest) > 3:
        return None
    name, subresource = [*rest[1:], "", ""][:2]
    return _Address(kind, namespace, name, subresource)


def _authorize(user: str, request: web.Request, address: _Address) -> None:
    """The one rule of access: everybody may do everything, but a viewer only reads pods and events."""
    if user != "viewer":
        return
    verb = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}.get(request.method, "get")
    if verb == "get" and not address.name:
        verb = "watch" if request.query.get("watch") == "true" else "list"
    plural = address.kind.plural
    resource = f"{plural}/{address.subresource}" if address.subresource else plural
    if verb in ("get", "list", "watch") and plural in _VIEWER_MAY:
        return
    subject = f'{plural} "{address.name}"' if address.name else plural
    scope = f'in the namespace "{address.namespace}"' if address.namespace else "at the cluster scope"
    group = address.kind.group
    message = (
        f'{subject} is forbidden: User "{user}" cannot {verb} resource "{resource}" in API group "{group}" {scope}'
    )
    details = {"name": address.name} if address.name else {}
    details |= {"group": group} if group else {}
    raise Refused(403, "Forbidden", message, {**details, "kind": plural})


def _list(request: web.Request, store: Store, address: _Address) -> web.Response:
    holds = selected(request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))
    items = [
        {k: v for k, v in obj.items() if k not in ("kind", "apiVersion")}
        for obj in store.list(address.kind.kind, address.namespace)
        if holds(obj)
    ]
    return web.json_response(
        {
            "kind": f"{address.kind.kind}List",
            "apiVersion": address.kind.api_version,
            "metadata": {"resourceVersion": str(store.version)},
            "items": items,
        }
    )


async def _body(request: web.Request) -> Json:
    text = await request.text()
    try:
        body = yaml.safe_load(text) if "yaml" in request.content_type else json.loads(text)
    except (ValueError, yaml.YAMLError) as error:
        raise Refused(400, "BadRequest", f"error decoding the body: {error}") from error
    if not isinstance(body, dict):
        raise Refused(400, "BadRequest", "the body is no object")
    return body


def _dry_run(request: web.Request) -> bool:
    value = request.query.get("dryRun", "")
    if value not in ("", "All"):
        raise Refused(422, "Invalid", f'dryRun: Invalid value: ["{value}"]: must be one of All')
    return value == "All"


def _manager(request: web.Request) -> str:
    agent = request.headers.get("User-Agent", "unknown")
    return request.query.get("fieldManager") or agent.partition("/")[0]


async def _create(request: web.Request, store: Store, address: _Address) -> web.Response:
    body = await _body(request)
    created = store.create(address.kind, address.namespace, body, _manager(request), dry_run=_dry_run(request))
    return web.json_response(created, status=201)


async def _patch(request: web.Request, store: Store, address: _Address) -> web.Response:
    body = await _body(request)
    kind, namespace, name = address.kind, address.namespace, address.name
    if request.content_type == "application/apply-patch+yaml":
        if not request.query.get("fieldManager"):
            message = (
                'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
            )
            raise Refused(422, "Invalid", message)
        force = request.query.get("force") == "true"
        applied, new = store.apply(
            kind, namespace, name, body, _manager(request), force=force, dry_run=_dry_run(request)
        )
        return web.json_response(applied, status=201 if new else 200)
    if request.content_type not in _MERGE:
        raise Refused(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
    patched = store.patch(
        kind,
        namespace,
        name,
        body,
        _manager(request),
        dry_run=_dry_run(request),
        subresource=address.subresource,
    )
    return web.json_response(patched)


async def _delete(request: web.Request, store: Store, address: _Address) -> web.Response:
    options = await _body(request) if request.can_read_body else {}
    grace = options.get("gracePeriodSeconds", request.query.get("gracePeriodSeconds"))
    dry_run = _dry_run(request) or options.get("dryRun") == ["All"]
    deleted = store.delete(
        address.kind, address.namespace, address.name, None if grace is None else int(grace), dry_run=dry_run
    )
    if "deletionTimestamp" in deleted["metadata"]:
        return web.json_response(deleted)
    details = {"name": address.name, "kind": address.kind.plural, "uid": deleted["metadata"]["uid"]}
    details |= {"group": address.kind.group} if address.kind.group else {}
    return web.json_response(
        {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
    )


async def _watch(request: web.Request, store: Store, address: _Address) -> web.StreamResponse:
    holds = selected(request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))
    kind, namespace = address.kind.kind, address.namespace
    asked = request.query.get("resourceVersion", "")
    ends = time.monotonic() + float(request.query.get("timeoutSeconds", "1800"))
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)

    async def say(change: str, obj: Json) -> None:
        await response.write(json.dumps({"type": change, "object": obj}, separators=(",", ":")).encode() + b"\n")

    version = store.version
    if asked in ("", "0"):
        for obj in [o for o in store.list(kind, namespace) if holds(o)]:
            await say("ADDED", obj)
    else:
        version = int(asked)
    try:
        while time.monotonic() < ends:
            for record in store.since(version):
                version = record.version
                if record.key[0] == kind and namespace in ("", record.key[1]):
                    change = _seen(record, holds(record.obj), record.old is not None and holds(record.old))
                    if change:
                        await say(change, record.obj)
            if not await store.wait_after(version, min(_BOOKMARK_EVERY, max(ends - time.monotonic(), 0.0))):
                bookmark = {"kind": kind, "apiVersion": address.kind.api_version}
                await say("BOOKMARK", {**bookmark, "metadata": {"resourceVersion": str(version)}})
    except Refused as refused:
        await say("ERROR", refused.body())
    return response


def _seen(record: Record, now: bool, before: bool) -> str | None:
    """How a change looks through a selector: an object that no longer matches is gone."""
    if record.type == "DELETED":
        return "DELETED" if before or now else None
    match before, now:
        case True, True:
            return "MODIFIED"
        case False, True:
            return "ADDED"
        case True, False:
            return "DELETED"
        case _:
            return None
