"""A watch that lasts: it lists, follows changes, and takes up again after lost links and expired versions."""

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from gpuwizard.clock import Clock
from gpuwizard.errors import GpuwizardError, UnreachableError
from gpuwizard.kube.problems import ExpiredError, refusal

__all__ = ["SILENCE", "Change", "Source", "follow"]

Json = Mapping[str, Any]
Change = tuple[str, Json]

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 15.0
SILENCE = 150.0  # a server sends a bookmark about every minute; this much silence means that the link is dead


class Source(Protocol):
    """What a watch needs of the API: the list with its resource version, and the lines of a watch from there."""

    async def list_all(self) -> tuple[list[Json], str]:
        """Objects and the collection's resource version."""
        ...

    def lines(self, version: str) -> AsyncGenerator[bytes, None]:
        """Lines of the watch response; raises UnreachableError when the link dies."""
        ...


@dataclass(slots=True)
class _Known:
    """The objects that the consumer has been told of, and the version up to which."""

    objects: dict[tuple[str, str], Json] = field(default_factory=dict)
    version: str = ""

    def relisted(self, items: list[Json], version: str) -> list[Change]:
        """What changed since, when only a fresh list tells."""
        now = {_name(item): item for item in items}
        gone = [("DELETED", old) for name, old in self.objects.items() if name not in now]
        changes = gone + [
            ("MODIFIED" if name in self.objects else "ADDED", item)
            for name, item in now.items()
            if name not in self.objects or _version(self.objects[name]) != _version(item)
        ]
        self.objects, self.version = now, version
        return changes

    def took(self, kind: str, obj: Json) -> Change | None:
        """Take one line of the watch; None when it is no news (a bookmark)."""
        self.version = _version(obj) or self.version
        if kind == "BOOKMARK":
            return None
        if kind == "DELETED":
            self.objects.pop(_name(obj), None)
        else:
            self.objects[_name(obj)] = obj
        return kind, obj


async def follow(
    source: Source, clock: Clock, server: str, on_lost: Callable[[GpuwizardError], None] | None
) -> AsyncGenerator[Change, None]:
    """Yield changes for ever; `on_lost` hears of each lost link. Raises LoginError and RefusedError, which no
    waiting mends."""
    known = _Known()
    pause = _FIRST_PAUSE
    while True:
        try:
            if not known.version:
                for change in known.relisted(*await source.list_all()):
                    yield change
            async with aclosing(source.lines(known.version)) as lines:
                async for line in lines:
                    pause = _FIRST_PAUSE
                    news = _read(line, known, server)
                    if news is not None:
                        yield news
        except ExpiredError:
            known.version = ""
        except UnreachableError as error:
            if type(error) is not UnreachableError:
                raise  # a LoginError
            if on_lost is not None:
                on_lost(error)
        await clock.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def _read(line: bytes, known: _Known, server: str) -> Change | None:
    try:
        event = json.loads(line)
        kind, obj = event["type"], event["object"]
    except (ValueError, KeyError, TypeError) as error:
        raise UnreachableError("the watch was cut in the middle of an answer", where=server) from error
    if kind == "ERROR":
        raise refusal(int(obj.get("code") or 500), json.dumps(obj).encode(), what="watch", server=server)
    return known.took(kind, obj)


def _name(obj: Json) -> tuple[str, str]:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _version(obj: Json) -> str:
    return str(obj.get("metadata", {}).get("resourceVersion", ""))
