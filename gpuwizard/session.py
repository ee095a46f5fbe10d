"""The one mutable object: the operator's answers and everything that was found out or done in this sitting.

Front ends read it and call `flow`; screens are drawn from it, so going back and forth loses nothing.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gpuwizard.answers.model import Answers
from gpuwizard.clock import Clock, SystemClock
from gpuwizard.errors import GpuwizardError, UsageError
from gpuwizard.events import Event
from gpuwizard.facts.cluster import ClusterView
from gpuwizard.facts.model import Probe
from gpuwizard.findings.model import Finding
from gpuwizard.plan.model import Plan
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.target import HostTarget, parse_targets
from gpuwizard.secret import Secret

if TYPE_CHECKING:
    from gpuwizard.fleet import Fleet
    from gpuwizard.kube.cluster import Cluster
    from gpuwizard.remote.transport import Transport
    from gpuwizard.work.report import Report

__all__ = ["HostRecord", "Session"]

HostState = Literal["waiting", "queued", "connecting", "probing", "ready", "failed"]


@dataclass(slots=True)
class HostRecord:
    """One host of the session: ``waiting`` until somebody asks for a look at it, ``queued`` until it is its turn.

    `since` is the clock's time of the last change of `state`, `began` that of its turn, `seconds` how long the probe
    took. `step` is what the probe looks at now (`work/probe.py`), None before the host has said anything.
    """

    target: HostTarget
    state: HostState = "waiting"
    transport: "Transport | None" = None
    probe: Probe | None = None
    findings: tuple[Finding, ...] = ()
    error: GpuwizardError | None = None
    since: float = 0.0
    seconds: float | None = None
    began: float | None = None
    step: str | None = None

    @property
    def running(self) -> bool:
        """True while something is done on this host."""
        return self.state in ("connecting", "probing")

    def elapsed(self, now: float) -> float | None:
        """Seconds from its turn until `now`, or until it was finished; None before its turn."""
        if self.began is None:
            return self.seconds
        return (now if self.running else self.since) - self.began

    @property
    def name(self) -> str:
        """The host's name in every table, plan and file."""
        return self.target.name

    def severity_count(self, severity: str) -> int:
        """How many findings of that severity the host has."""
        return sum(1 for f in self.findings if f.severity == severity)


@dataclass(slots=True)
class Session:
    """Answers, facts, plan and run. `plan` is dropped whenever the answers or the facts that it came from change.

    `interactive` is true when somebody is there to be asked. `login` is how to log in, made from the answers once and
    kept, because it carries what was typed and opened for all hosts. With `reach` a look at hosts asks them, too,
    whether their registries and package sources answer. `simulate` is how the fleet was named,
    `cluster_problem` why the cluster could not be looked at. `probe_began` and `probe_ended` are the clock's times of
    the last look at hosts; when it is `watched`, or `interactive`, each host tells its steps.
    """

    answers: Answers = field(default_factory=Answers)
    hosts: dict[str, HostRecord] = field(default_factory=dict)
    cluster: "Cluster | None" = None
    cluster_view: ClusterView | None = None
    cluster_problem: GpuwizardError | None = None
    plan: Plan | None = None
    report: "Report | None" = None
    validation: Mapping[str, str | None] = field(default_factory=dict)
    run_id: str | None = None
    clock: Clock = field(default_factory=SystemClock)
    state_dir: Path = field(default_factory=Path.cwd)
    fleet: "Fleet | None" = None
    simulate: str | None = None
    events: list[Event] = field(default_factory=list)
    password: Secret | None = None
    sudo_password: Secret | None = None
    interactive: bool = False
    login: ConnectOptions | None = None
    answers_path: Path | None = None
    reach: bool = False
    watched: bool = False
    probe_began: float | None = None
    probe_ended: float | None = None

    def update(self, **sections: Any) -> None:
        """Replace sections of the answers, e.g. ``update(runtime=Runtime(strategy="in-place"))``.

        Raises UsageError when a value is not allowed; the answers are then unchanged.
        """
        merged = self.answers.model_dump() | {
            name: value.model_dump() if hasattr(value, "model_dump") else value for name, value in sections.items()
        }
        try:
            changed = Answers.model_validate(merged)
        except ValueError as error:
            raise UsageError("this choice is not allowed", where=", ".join(sections), remedy=str(error)) from error
        if changed == self.answers:
            return
        if changed.connection != self.answers.connection:
            self.login = None
        self.answers = changed
        self.plan = None

    def set_hosts(self, specs: Sequence[str]) -> None:
        """Take `specs` as the hosts; records of hosts that stay are kept with what is known of them.

        Raises UsageError for a spec that is no host.
        """
        targets = parse_targets(specs)
        self.update(hosts=tuple(specs))
        old = self.hosts
        kept = {t.name: old[t.name] for t in targets if t.name in old and old[t.name].target == t}
        self.hosts = {t.name: kept.get(t.name) or HostRecord(t) for t in targets}
        if set(self.hosts) != set(old):
            self.plan = None

    @property
    def probes(self) -> dict[str, Probe]:
        """The hosts that were probed, by name."""
        return {name: record.probe for name, record in self.hosts.items() if record.probe is not None}

    @property
    def unreachable(self) -> dict[str, str]:
        """The hosts that could not be probed, with the reason."""
        return {name: str(record.error) for name, record in self.hosts.items() if record.error is not None}

    @property
    def resolved_answers(self) -> Answers:
        """The answers with every host by itself: what is kept of a run must not change with an @FILE."""
        return self.answers.model_copy(update={"hosts": tuple(r.target.spec for r in self.hosts.values())})

    @property
    def rollback_command(self) -> str:
        """The command that lists the runs of this session; with a run behind it, the one that undoes that run."""
        simulate = f" --simulate {shlex.quote(self.simulate or self.fleet.name)}" if self.fleet is not None else ""
        return f"gpuwizard rollback{simulate}"

    @property
    def transports(self) -> "dict[str, Transport]":
        """The open ways to hosts, by name."""
        return {name: record.transport for name, record in self.hosts.items() if record.transport is not None}

    @property
    def simulated(self) -> bool:
        """True when the hosts are those of a simulated fleet."""
        return self.fleet is not None
