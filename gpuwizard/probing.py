"""The first stage: log in to hosts and look at them, many at a time; each record says how far its host has come."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gpuwizard.errors import GpuwizardError
from gpuwizard.events import Asker, Emit, HostProgress, StageChanged
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.target import HostTarget
from gpuwizard.session import HostRecord, Session

if TYPE_CHECKING:
    from gpuwizard.remote.transport import Transport

__all__ = ["as_path", "connect_options", "probe"]


def connect_options(session: Session) -> ConnectOptions:
    """How to log in, from the answers, or from the fleet when it is simulated."""
    if session.fleet is not None:
        return session.fleet.options
    if session.login is not None:
        return session.login
    chosen = session.answers.connection
    session.login = ConnectOptions(
        user=chosen.user,
        identity=as_path(chosen.identity),
        jump=chosen.jump,
        ssh_config=as_path(chosen.ssh_config),
        known_hosts=as_path(chosen.known_hosts),
        host_keys=chosen.host_keys or ("ask" if session.interactive else "strict"),
        connect_timeout=chosen.connect_timeout,
        password=session.password,
        sudo_password=session.sudo_password,
    )
    return session.login


def as_path(text: str | None) -> Path | None:
    """The path that is meant, ``~`` too; None for none."""
    return Path(text).expanduser() if text else None


async def probe(session: Session, emit: Emit, ask: Asker, only: Sequence[str] | None = None) -> None:
    """Log in to every host that has no open connection and probe all of them (or `only` those), many at a time.

    A host that fails keeps its error in its record; the others go on.
    """
    from gpuwizard.remote.pool import connect_all

    records = {name: r for name, r in session.hosts.items() if only is None or name in only}
    emit(StageChanged("probe", "started", f"{len(records)} hosts"))
    session.plan = None
    session.probe_began, session.probe_ended = session.clock.monotonic(), None
    probes: list[asyncio.Task[None]] = []

    def started(target: HostTarget) -> None:
        _begin(session, records[target.name], "connecting", emit)

    def connected(target: HostTarget, result: "Transport | GpuwizardError") -> None:
        record = records[target.name]
        if isinstance(result, GpuwizardError):
            _failed(session, record, result, emit)
            return
        if session.hosts.get(target.name) is not record:  # it was taken off the list meanwhile
            probes.append(asyncio.create_task(result.close()))
            return
        record.transport = result
        _set_state(session, record, "probing", emit)
        probes.append(asyncio.create_task(_probe_one(session, record, emit)))

    waiting = []
    for record in records.values():
        record.probe, record.findings, record.error = None, (), None
        record.began = record.step = record.seconds = None
        if record.transport is not None and record.transport.alive:
            _begin(session, record, "probing", emit)
            probes.append(asyncio.create_task(_probe_one(session, record, emit)))
            continue
        record.state = "queued"
        waiting.append(record.target)
    try:
        await connect_all(
            waiting,
            connect_options(session),
            ask,
            parallel=session.answers.connection.parallel,
            on_result=connected,
            on_start=started,
        )
        await asyncio.gather(*probes)
    finally:
        for task in probes:
            task.cancel()
        _end(session, records.values())
    ready = sum(1 for r in records.values() if r.state == "ready")
    emit(StageChanged("probe", "finished", f"{ready} of {len(records)} hosts answered"))


async def _probe_one(session: Session, record: HostRecord, emit: Emit) -> None:
    from gpuwizard.work.probe import probe_host

    assert record.transport is not None
    started = session.clock.monotonic()
    heard = session.interactive or session.watched
    record.step = None if heard else "probe"

    def went_on(step: str | None) -> None:
        record.step = step  # no event: a front end that waits for this host reads it when it draws

    hear = went_on if heard else None
    now = None if session.fleet is not None else time.time
    look = partial(probe_host, record.transport, on_step=hear, reach=session.reach, now=now)
    try:
        known = connect_options(session).sudo_password is not None
        record.probe = await look(sudo_password_known=known)
        if session.interactive and not known and record.probe.facts.privilege.sudo == "password":
            went_on(None)
            record.probe = await look(sudo_password_known=True)
    except GpuwizardError as error:
        _failed(session, record, error, emit)
        return
    from gpuwizard.findings import find  # here, while the hosts are at work

    record.findings = find(record.probe)
    record.seconds = session.clock.monotonic() - started
    _set_state(session, record, "ready", emit)


def _end(session: Session, records: Iterable[HostRecord]) -> None:
    """The look is over; a host that was not finished, because it was broken off, waits to be looked at again."""
    session.probe_ended = session.clock.monotonic()
    for record in records:
        if record.state not in ("ready", "failed"):
            record.state = "waiting"


def _begin(session: Session, record: HostRecord, state: str, emit: Emit) -> None:
    """It is this host's turn."""
    record.began = session.clock.monotonic()
    _set_state(session, record, state, emit)


def _set_state(session: Session, record: HostRecord, state: str, emit: Emit, message: str = "") -> None:
    record.state = state  # type: ignore[assignment]
    record.since = session.clock.monotonic()
    emit(HostProgress(record.name, "probe", state, message))


def _failed(session: Session, record: HostRecord, error: GpuwizardError, emit: Emit) -> None:
    record.error = error
    _set_state(session, record, "failed", emit, str(error))
