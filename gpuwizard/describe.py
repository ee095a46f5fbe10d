"""One event as one line of words, and as the JSON of `gpuwizard.event/1`."""

from dataclasses import fields
from datetime import datetime
from typing import Any, assert_never

from gpuwizard.events import (
    Event,
    HostOutcome,
    HostProgress,
    LogLine,
    Note,
    PodProgress,
    Rung,
    StageChanged,
    Waiting,
)

__all__ = ["describe", "event_json"]

_KINDS = {
    StageChanged: "stage",
    HostProgress: "progress",
    LogLine: "log",
    Waiting: "waiting",
    PodProgress: "pod",
    Rung: "rung",
    HostOutcome: "outcome",
    Note: "note",
}
_COMMON = ("host", "stage")
_RUNG_WORDS = {"running": "…", "passed": "passed", "failed": "FAILED", "skipped": "skipped"}


def describe(event: Event, *, verbose: bool = True) -> str:
    """The event as one line: ``host: what``. Empty for what only the verbose reader wants: log lines, waits, and the
    steps of a wait."""
    if not verbose and isinstance(event, LogLine | Waiting):
        return ""
    words = _words(event)
    host = event.host
    return f"{host}: {words}" if host and words else words


def _words(event: Event) -> str:
    match event:
        case StageChanged(stage, state, message):
            return f"{stage} {state}" + (f": {message}" if message else "")
        case HostProgress(_, _, state, message):
            return f"{state}: {message}" if message else state
        case LogLine(_, _, text):
            return text
        case Waiting():
            return _wait(event)
        case PodProgress(_, namespace, pod, phase, reason, message):
            why = ": ".join(part for part in (reason, message) if part)
            return f"pod {namespace}/{pod} {phase}" + (f" ({why})" if why else "")
        case Rung(_, name, state, reason, seconds):
            line = f"{name} {_RUNG_WORDS[state]}"
            line += f" after {seconds:.0f} s" if seconds else ""
            return f"{line}: {reason}" if reason else line
        case HostOutcome(_, outcome, reason):
            line = f"{outcome}: {reason}" if reason else outcome
            return line + (f" (reverts at {event.reverts_at:%H:%M:%S} UTC)" if event.reverts_at else "")
        case Note(_, message, level):
            return message if level == "info" else f"{level}: {message}"
        case _:
            assert_never(event)


def _wait(event: Waiting) -> str:
    time = f"{event.elapsed:.0f} of {event.limit:.0f} s" if event.limit else f"{event.elapsed:.0f} s"
    line = f"waiting until {event.condition} ({event.last_seen}; {time})"
    return f"{line}; likely: {event.likely}" if event.likely else line


def event_json(event: Event, time: datetime) -> dict[str, Any]:
    """The event as `gpuwizard.event/1` of `cli.md`: unknown is null, times are RFC 3339 UTC."""
    data = {f.name: _plain(getattr(event, f.name)) for f in fields(event) if f.name not in _COMMON}
    return {
        "schema": "gpuwizard.event/1",
        "time": _time(time),
        "host": event.host,
        "stage": event.stage,
        "kind": _KINDS[type(event)],
        "message": _words(event),
        "data": data,
    }


def _time(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return _time(value)
        case tuple() | list():
            return [_plain(v) for v in value]
        case dict():
            return {str(k): _plain(v) for k, v in value.items()}
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)
