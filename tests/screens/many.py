"""A thousand hosts and a look at all of them, as the engine's hooks would tell it: no network, no host."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from gpuwizard.errors import UnreachableError
from gpuwizard.events import Event, HostProgress
from gpuwizard.facts.model import DriverFacts, Probe
from gpuwizard.findings.model import Finding
from gpuwizard.session import HostRecord, Session
from gpuwizard.work.probe import STEPS
from tests.screens import sessions

MISMATCH = Finding(
    "GW-DRIVER-MISMATCH",
    "error",
    "driver and library have different versions",
    ("loaded 570.86.15", "library 580.95.05"),
    "The library was upgraded while the old kernel module stayed loaded.",
    "Drain the node and reboot it.",
)
NO_HANDLER = replace(sessions.HANDLER_MISSING, severity="error")
SLOW = Finding("GW-DRIVER-SLOW", "warning", "persistence mode is off and nvidia-smi is slow", ("nvidia-smi took 9 s",))


def names(count: int) -> tuple[str, ...]:
    """``gpu0001`` …"""
    return tuple(f"gpu{number:04}" for number in range(1, count + 1))


def session(count: int, state_dir: Path, *, probed: bool = False) -> Session:
    """`count` hosts, to be looked at, or looked at already."""
    made = sessions.session(names(count), state_dir, probed=False)
    made.probe_began = made.clock.monotonic()
    for record in made.hosts.values() if probed else ():
        begin(made, record)
        finish(made, record)
    if probed:
        made.probe_ended = made.clock.monotonic() + 71
    return made


def begin(made: Session, record: HostRecord) -> Event:
    """It is this host's turn."""
    record.state, record.step = "connecting", None
    record.began = record.since = made.clock.monotonic()
    return HostProgress(record.name, "probe", "connecting")


def go_on(made: Session, record: HostRecord, step: str | None) -> Event | None:
    """The host is logged in to, or the probe says what it looks at."""
    before, record.state, record.step = record.state, "probing", step
    if before == "probing":
        return None
    record.since = made.clock.monotonic()
    return HostProgress(record.name, "probe", "probing")


def finish(made: Session, record: HostRecord) -> Event:
    """The host has answered, or not: one in 97 is silent, one in 41 broken, one in 13 to be mended, one in 29 slow."""
    number = int(record.name[3:])
    record.since = made.clock.monotonic()
    if number % 97 == 0:
        record.state = "failed"
        record.error = UnreachableError("the host does not answer", where=f"{record.name}:22", remedy="is it up?")
        return HostProgress(record.name, "probe", "failed", str(record.error))
    record.probe, record.findings = _probe(number), _findings(number)
    record.state, record.seconds = "ready", 0.7
    return HostProgress(record.name, "probe", "ready")


def _probe(number: int) -> Probe:
    k3s = number % 2 == 0
    model = "NVIDIA H200" if number % 3 else "NVIDIA L40S"
    made = sessions.probe(
        f"gpu{number:04}",
        gpus=tuple(sessions.gpu(model, index) for index in range(8)),
        flavour="k3s" if k3s else "kubeadm",
        containerd="2.1.4-k3s1" if k3s else "1.7.24",
    )
    if number % 41:
        return made
    driver = DriverFacts(loaded="570.86.15", on_disk="580.95.05", userspace="580.95.05", flavour="open")
    return replace(made, facts=replace(made.facts, driver=driver))


def _findings(number: int) -> tuple[Finding, ...]:
    if number % 41 == 0:
        return MISMATCH, sessions.UNIFIED
    if number % 13 == 0:
        return (NO_HANDLER,)
    return (SLOW,) if number % 29 == 0 else (sessions.GOOD,)


def look(made: Session, hosts: Sequence[str], parallel: int = 30) -> Iterator[list[Event]]:
    """A look at `hosts`, `parallel` at a time: the events of one small step after another."""
    queue, running = list(hosts), dict[str, int]()
    for name in hosts:
        made.hosts[name].state = "queued"
    while queue or running:
        events: list[Event] = []
        while queue and len(running) < parallel:
            name = queue.pop(0)
            running[name] = 0
            events.append(begin(made, made.hosts[name]))
        for name in list(running):
            record, at = made.hosts[name], running[name]
            running[name] += 1
            if at > len(STEPS):
                events.append(finish(made, record))
                del running[name]
            elif event := go_on(made, record, STEPS[at - 1] if at else None):
                events.append(event)
        yield events
