"""One run as it lies on disk: its hosts, labels and objects, as data."""

from dataclasses import dataclass, field
from typing import Any

from gpuwizard.answers.model import Answers
from gpuwizard.facts.cluster import ObjectKey

__all__ = ["OPEN", "CordonRecord", "LabelRecord", "ObjectRecord", "RunHost", "RunPart", "RunRecord"]

Json = dict[str, Any]
OPEN = ("reverting", "unconfirmed")
"""Outcomes that say what will be, not what is."""


@dataclass(frozen=True, slots=True)
class RunPart:
    """One guarded change on a host, as its run folder `id` there has it: rows (path, sha256 before, after) in their
    order, first those that were written, then those that only stood by for a revert (`undo`)."""

    id: str
    files: tuple[tuple[str, str, str], ...] = ()
    undo: tuple[tuple[str, str, str], ...] = ()
    unit: str | None = None
    verb: str = "restart"
    snap: str | None = None


@dataclass(frozen=True, slots=True)
class RunHost:
    """One host of a run. `files` are (path, sha256 before, sha256 after), `does` what was to be done in words;
    `outcome` is None when it was not known when the run ended. `parts` say where its copies of files lie."""

    name: str
    node: str | None = None
    control_plane: bool = False
    files: tuple[tuple[str, str, str], ...] = ()
    actions: tuple[str, ...] = ()
    does: tuple[str, ...] = ()
    outcome: str | None = None
    reason: str = ""
    parts: tuple[RunPart, ...] = ()

    @property
    def touched(self) -> bool:
        """True when something of the run may still be on this host, as far as this record knows."""
        return bool(self.actions) and self.outcome not in ("unchanged", "refused", "unreachable", "rolled-back")


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """A node label that the run set, or without `after` took away."""

    node: str
    key: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class CordonRecord:
    """A cordon that the run set out to make, on the node of `host`, and that it has not lifted. Whether it stands is
    known to the node."""

    host: str
    node: str


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """A Kubernetes object that the run applied, with its cleaned YAML before (empty: it was not there) and after."""

    key: ObjectKey
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run as it lies on disk. `rolls_back` is the id of the run that it put back, for a rollback; `user` and
    `laptop` are who began it, and where. `running`: a gpuwizard of this machine is at work on it. `planned` are the
    objects that it set out to apply, `objects` those that it did."""

    id: str
    started: str
    finished: str | None = None
    user: str | None = None
    laptop: str | None = None
    running: bool = False
    plan_hash: str = ""
    rolls_back: str | None = None
    uninstalls: bool = False
    answers: Answers = field(default_factory=Answers)
    hosts: tuple[RunHost, ...] = ()
    labels: tuple[LabelRecord, ...] = ()
    objects: tuple[ObjectRecord, ...] = ()
    planned: tuple[ObjectRecord, ...] = ()
    cordons: tuple[CordonRecord, ...] = ()
    server: str | None = None
    cluster_error: str | None = None

    @property
    def kind(self) -> str:
        """``apply``, ``rollback`` or ``uninstall``."""
        return "rollback" if self.rolls_back else "uninstall" if self.uninstalls else "apply"

    @property
    def cut(self) -> bool:
        """True when nobody is at work on it and it is not known how it ended, or a cordon of it is left."""
        open_end = self.finished is None or any(h.outcome in OPEN for h in self.hosts)
        return not self.running and (open_end or bool(self.cordons))

    def to_json(self) -> Json:
        """The run for ``gpuwizard rollback --json``."""
        return {
            "id": self.id,
            "started": self.started,
            "finished": self.finished,
            "user": self.user,
            "laptop": self.laptop,
            "running": self.running,
            "cut": self.cut,
            "plan_hash": self.plan_hash,
            "kind": self.kind,
            "rolls_back": self.rolls_back,
            "hosts": [
                {"name": h.name, "outcome": h.outcome, "reason": h.reason, "changes": list(h.does)} for h in self.hosts
            ],
            "cordons": [cordon.node for cordon in self.cordons],
            "labels": [{"node": e.node, "key": e.key, "before": e.before, "after": e.after} for e in self.labels],
            "objects": [str(entry.key) for entry in self.objects],
            "cluster_error": self.cluster_error,
        }
