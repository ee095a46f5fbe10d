"""Runs on disk: what a run set out to do, how each host ended, and every event as a JSON line.

One folder per run under the state directory, readable by its owner only: ``runs/ID/run.json``,
``runs/ID/events.jsonl`` (`gpuwizard.event/1`), ``runs/ID/README.txt`` with what a person needs to undo it by hand and,
until the run has ended, ``runs/ID/run.plan``: the plan itself, and ``runs/ID/nodes.jsonl``: how each node was before
its restart, so that a run that was cut can go on. The hosts keep their own record; this one names the hosts to ask.
"""

import contextlib
import fcntl
import getpass
import json
import os
import secrets
import socket
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from gpuwizard.actions import Action
from gpuwizard.answers.model import Answers
from gpuwizard.by_hand import write_manual
from gpuwizard.clock import Clock, SystemClock
from gpuwizard.describe import event_json
from gpuwizard.errors import RefusedError, UsageError
from gpuwizard.events import Event, HostOutcome, Note
from gpuwizard.facts.cluster import ObjectKey
from gpuwizard.plan.model import Plan
from gpuwizard.plan.store import load_plan, save_plan
from gpuwizard.run_nodes import NODES
from gpuwizard.run_parts import files_of, part_in, parts_of
from gpuwizard.run_record import OPEN, CordonRecord, LabelRecord, ObjectRecord, RunHost, RunRecord

__all__ = [
    "CordonRecord",
    "Journal",
    "LabelRecord",
    "ObjectRecord",
    "RunHost",
    "RunRecord",
    "find_run",
    "list_runs",
    "new_run_id",
    "plan_of",
]

Json = dict[str, Any]
_PLAN = "run.plan"


def new_run_id(clock: Clock) -> str:
    """An id that sorts by time and that two laptops do not share: ``20261121-0114-3fa9c2``."""
    return f"{clock.now():%Y%m%d-%H%M}-{secrets.token_hex(3)}"


class Journal:
    """The record of a run that is being written. Every change of it is on the disk before the next step."""

    def __init__(self, folder: Path, record: Json, clock: Clock) -> None:
        self.folder = folder
        self._record = record
        self._clock = clock
        self._events: TextIO | None = None
        self._lock: int | None = _taken(folder)

    @classmethod
    def open(
        cls, state_dir: Path, run_id: str, plan: Plan | None = None, *, rolls_back: str | None = None,
        clock: Clock | None = None,
    ) -> "Journal":  # fmt: skip
        """Begin the record of run `run_id`. Raises UsageError when the state directory cannot be written."""
        clock = clock or SystemClock()
        folder = state_dir / "runs" / run_id
        record: Json = {
            "schema": "gpuwizard.run/1",
            "id": run_id,
            "started": _time(clock),
            "finished": None,
            "user": _user(),
            "laptop": socket.gethostname(),
            "plan_hash": plan.hash if plan else "",
            "rolls_back": rolls_back,
            "hosts": [],
            "labels": [],
            "objects": [],
            "cordons": [],
        }
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        except OSError as error:
            raise UsageError(
                f"the state directory cannot be written: {error.strerror}",
                where=str(state_dir),
                remedy="set GPUWIZARD_STATE_DIR to a folder of yours",
            ) from error
        journal = cls(folder, record, clock)
        journal._save()
        return journal

    @classmethod
    def resume(cls, state_dir: Path, run_id: str, clock: Clock) -> "Journal":
        """Go on with the record of a run that was cut. Raises RefusedError when somebody is at work on it."""
        folder = state_dir / "runs" / run_id
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        return cls(folder, record, clock)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files and let others at the run."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._events is not None:
            self._events.close()
            self._events = None

    def emit(self, event: Event) -> None:
        """Write one event as a JSON line (`gpuwizard.event/1`)."""
        if self._events is None:
            path = self.folder / "events.jsonl"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._events = os.fdopen(descriptor, "a", encoding="utf-8", buffering=1)
        self._events.write(json.dumps(event_json(event, self._clock.now()), ensure_ascii=False) + "\n")

    def begin(self, plan: Plan, answers: Answers) -> None:
        """Write down what the run sets out to do, before anything is done. A run that goes on has done so already."""
        if self._record["hosts"]:
            return
        save_plan(plan, answers, self.folder / _PLAN)
        self._record["plan_hash"] = plan.hash
        self._record["server"] = plan.cluster.server
        self._record["answers"] = answers.model_dump(mode="json")
        self._record["hosts"] = [
            {
                "name": h.name,
                "node": h.node_name,
                "control_plane": h.control_plane,
                "files": files_of(h.actions),
                "actions": [a.id for a in h.actions],
                "does": [a.summary for a in h.actions],
                "parts": parts_of(self._record["id"], h),
            }
            for h in plan.hosts
        ]
        self._record["uninstalls"] = plan.uninstalls
        self._record["planned_objects"] = [
            {"key": [a.key.api_version, a.key.kind, a.key.namespace, a.key.name], "before": a.before, "after": a.after}
            for a in plan.cluster.actions
        ]
        self._save()
        for host in plan.hosts:
            for action in host.actions:
                self.emit(_set_out(host.name, action))
        self._tell()

    def begin_rollback(self, hosts: Iterable[RunHost], answers: Answers) -> None:
        """Write down which hosts of an earlier run a rollback is about. One that goes on has done so already."""
        if self._record["hosts"]:
            return
        self._record["answers"] = answers.model_dump(mode="json")
        self._record["hosts"] = [
            {
                "name": h.name,
                "node": h.node,
                "control_plane": h.control_plane,
                "does": list(reversed(h.does)),
                "parts": [asdict(part) for part in h.parts],
            }
            for h in hosts
        ]
        self._save()
        self._tell()

    def host(self, outcome: HostOutcome) -> None:
        """One host has ended."""
        for host in self._record["hosts"]:
            if host["name"] == outcome.host:
                host["outcome"], host["reason"] = outcome.outcome, outcome.reason
        self._save()

    def outcome_of(self, host: str) -> str | None:
        """How a host ended as far as was written down; None when nothing was."""
        return next((h.get("outcome") for h in self._record["hosts"] if h["name"] == host), None)

    def is_applied(self, key: ObjectKey) -> bool:
        """True when this run has applied that object already."""
        wanted = [key.api_version, key.kind, key.namespace, key.name]
        return any(o["key"] == wanted for o in self._record["objects"])

    def object_applied(self, key: ObjectKey) -> None:
        """One object of the plan was applied."""
        wanted = [key.api_version, key.kind, key.namespace, key.name]
        self._record["objects"] += [o for o in self._record.get("planned_objects", ()) if o["key"] == wanted]
        self._save()

    def label_set(self, node: str, key: str, before: str | None, after: str | None) -> None:
        """One node label was set, or taken away."""
        self._record["labels"].append({"node": node, "key": key, "before": before, "after": after})
        self._save()

    def is_labelled(self, node: str, key: str) -> bool:
        """True when this run has set that label already."""
        return any(entry["node"] == node and entry["key"] == key for entry in self._record["labels"])

    def cordon(self, host: str, node: str) -> None:
        """A node is about to be cordoned: written down before it is, so that no cut leaves one that nobody knows of."""
        entry = {"host": host, "node": node}
        if entry not in self._record.setdefault("cordons", []):
            self._record["cordons"].append(entry)
            self._save()

    def cordons(self) -> tuple[CordonRecord, ...]:
        """The cordons of this run that are not lifted."""
        return tuple(CordonRecord(e["host"], e["node"]) for e in self._record.get("cordons", ()))

    def lifted(self, node: str, run_id: str) -> None:
        """The cordon of a node is gone, of this run or of one beside it, that this one rolls back."""
        if run_id == self._record["id"]:
            self._record["cordons"] = [e for e in self._record.get("cordons", ()) if e["node"] != node]
            self._save()
            self._tidy()
            return
        with contextlib.suppress(RefusedError), self._beside(run_id) as other:  # it may be at work itself
            other.lifted(node, run_id)

    def _beside(self, run_id: str) -> "Journal":
        return Journal.resume(self.folder.parent.parent, run_id, self._clock)

    def finish(self, outcomes: Iterable[HostOutcome], cluster_error: str | None) -> None:
        """The run is over."""
        for outcome in outcomes:
            self.host(outcome)
        self._record["cluster_error"] = cluster_error
        self._record["finished"] = _time(self._clock)
        self._save()
        self._tidy()
        self._tell()

    def _tell(self) -> None:
        """Write down for a person how the run is undone by hand. The run does not depend on it."""
        with contextlib.suppress(OSError):
            write_manual(self.folder, _record(self._record, running=False))

    def _tidy(self) -> None:
        """Without its plan a run cannot go on; with it the bytes of files lie about."""
        is_open = self.cordons() or any(h.get("outcome") in OPEN for h in self._record["hosts"])
        if self._record["finished"] and not is_open:
            for file in (_PLAN, NODES):
                (self.folder / file).unlink(missing_ok=True)

    def _save(self) -> None:
        path = self.folder / "run.json"
        new = path.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            # In one line and in one piece: only so is it written by the fast encoder, and it is written for each host.
            file.write(json.dumps(self._record, ensure_ascii=False))
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)


def list_runs(state_dir: Path) -> tuple[RunRecord, ...]:
    """The runs of this state directory, newest first. A record that cannot be read is left out."""
    found = []
    for path in (state_dir / "runs").glob("*/run.json"):
        try:
            found.append(_read(path))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return tuple(sorted(found, key=lambda r: (r.started, r.id), reverse=True))


def find_run(state_dir: Path, run_id: str) -> RunRecord:
    """The run of that id, or the only one whose id begins so. Raises UsageError when there is none."""
    runs = list_runs(state_dir)
    matching = [r for r in runs if r.id == run_id] or [r for r in runs if r.id.startswith(run_id)]
    if len(matching) != 1:
        what = "there is no run" if not matching else "more than one run begins with"
        raise UsageError(
            f"{what} {run_id}",
            where=str(state_dir),
            remedy="`gpuwizard rollback` lists the runs of this machine; one of another is rolled back there",
        )
    return matching[0]


def plan_of(state_dir: Path, run: RunRecord) -> Plan:
    """The plan of a run that was cut. Raises UsageError when there is none or another version made it, RefusedError
    when it was changed."""
    back = "gpuwizard uninstall" if run.uninstalls else f"gpuwizard rollback {run.id}"
    again = f"go on with the version of gpuwizard that began the run, or begin anew: {back}"
    return load_plan(state_dir / "runs" / run.id / _PLAN, again=again)[0]


def _taken(folder: Path) -> int:
    """Hold the run for as long as this process lives. Raises RefusedError when another one does."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise RefusedError(
            f"run {folder.name} is still at work on this machine", where=str(folder), remedy="wait until it has ended"
        ) from None
    return descriptor


def _running(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _user() -> str:
    with contextlib.suppress(OSError, KeyError):
        return getpass.getuser()
    return "somebody"


def _read(path: Path) -> RunRecord:
    return _record(json.loads(path.read_text(encoding="utf-8")), running=_running(path.parent))


def _record(data: Mapping[str, Any], *, running: bool) -> RunRecord:
    return RunRecord(
        id=data["id"],
        started=data["started"],
        finished=data.get("finished"),
        user=data.get("user"),
        laptop=data.get("laptop"),
        running=running,
        plan_hash=data.get("plan_hash") or "",
        rolls_back=data.get("rolls_back"),
        uninstalls=bool(data.get("uninstalls")),
        answers=Answers.model_validate(data["answers"]) if data.get("answers") else Answers(),
        hosts=tuple(
            RunHost(
                name=h["name"],
                node=h.get("node"),
                control_plane=bool(h.get("control_plane")),
                files=tuple((f["path"], f["before"], f["after"]) for f in h.get("files", ())),
                actions=tuple(h.get("actions", ())),
                does=tuple(h.get("does", ())),
                outcome=h.get("outcome"),
                reason=h.get("reason") or "",
                parts=tuple(part_in(p) for p in h.get("parts", ())),
            )
            for h in data.get("hosts", ())
        ),
        labels=tuple(LabelRecord(e["node"], e["key"], e["before"], e["after"]) for e in data.get("labels", ())),
        objects=_objects(data.get("objects", ())),
        planned=_objects(data.get("planned_objects", ())),
        cordons=tuple(CordonRecord(e["host"], e["node"]) for e in data.get("cordons", ())),
        server=data.get("server"),
        cluster_error=data.get("cluster_error"),
    )


def _objects(entries: Iterable[Json]) -> tuple[ObjectRecord, ...]:
    return tuple(ObjectRecord(ObjectKey(*o["key"]), o["before"], o["after"]) for o in entries)


def _set_out(host: str, action: Action) -> Note:
    """One action as an event: what is to be done, and to which bytes."""
    (file, *_) = (*files_of([action]), {})
    return Note("apply", f"to do: {action.summary}", host=host, data={"action": action.id, **file})


def _time(clock: Clock) -> str:
    return f"{clock.now():%Y-%m-%dT%H:%M:%SZ}"
