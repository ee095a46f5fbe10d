"""The commands about runs that have been: list them, put one back, go on with one that was cut."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from gpuwizard import flow, show
from gpuwizard.errors import RefusedError, UnreachableError
from gpuwizard.events import Emit, Note
from gpuwizard.journal import RunRecord, find_run, list_runs, plan_of
from gpuwizard.opening import answers_from, open_session, take_hosts
from gpuwizard.plan.model import Plan
from gpuwizard.remote.target import parse_targets
from gpuwizard.run_scope import part_of
from gpuwizard.session import Session
from gpuwizard.unattended import (
    Unattended,
    complain_of,
    confirm,
    exit_code,
    printer,
    say,
    say_json,
    told_how_to_undo,
)
from gpuwizard.uninstalling import run_uninstall

__all__ = ["resume_command", "rollback_command"]

_UNTOUCHED = ("unchanged", "refused", "unreachable")


async def rollback_command(arguments: argparse.Namespace) -> int:
    """`gpuwizard rollback [RUN [HOST…]]`: list the runs, or put back what one changed, everywhere or on some hosts."""
    if not arguments.words:
        async with open_session(arguments) as session:
            return _list_runs(session.state_dir, as_json=arguments.json)
    return await _roll_back(arguments, arguments.words[0], arguments.words[1:])


def _list_runs(state_dir: Path, *, as_json: bool) -> int:
    runs = list_runs(state_dir)
    if as_json:
        say_json({"schema": "gpuwizard.runs/1", "runs": [run.to_json() for run in runs]}, indent=2)
        return 0
    if not runs:
        say("no run has changed anything yet")
    elif sys.stdout.isatty():
        for line in show.run_blocks(runs, shutil.get_terminal_size().columns):
            say(line)
    else:
        for run in runs:
            say(show.run_line(run, runs))
    return 0


async def _roll_back(arguments: argparse.Namespace, run_id: str, hosts: Sequence[str]) -> int:
    async with open_session(arguments) as session:
        whole = find_run(session.state_dir, run_id)
        _check_kind(whole)
        names = [target.name for target in parse_targets(hosts)]
        run, keep = part_of(whole, names, list_runs(session.state_dir))
        session.answers = answers_from(arguments, run.answers)
        changed = {host.name for host in run.hosts if host.actions and host.outcome not in _UNTOUCHED}
        if not changed and not run.objects and not run.labels and not run.cordons:
            if not arguments.json:
                there = f" on {show.listed(names)}" if names else ""
                say(f"run {run.id} changed nothing{there}: there is nothing to put back")
            return 0
        take_hosts(session, run.answers.hosts)
        session.hosts = {name: record for name, record in session.hosts.items() if name in changed}
        emit = printer(as_json=arguments.json, session=session, verbose=arguments.verbose)
        if not arguments.yes:
            await confirm(f"this puts back what run {run.id} changed on {show.count(len(session.hosts), 'host')}")
        if keep and whole.objects:
            emit(Note("rollback", f"the cluster's objects stay: {show.listed(keep)} still {_keeps(keep)} the run"))
        with told_how_to_undo(session, f"{session.rollback_command} {run.id}"):
            await flow.probe(session, emit, Unattended())
            complain_of(session)
            await flow.roll_back(session, run, emit, Unattended())
        if not arguments.json:
            for line in show.summary_lines(session, undo=False):
                say(line)
        return exit_code(session)


def _keeps(hosts: Sequence[str]) -> str:
    return "has" if len(hosts) == 1 else "have"


def _check_kind(run: RunRecord) -> None:
    """Raise RefusedError for a run that took others back: what it took away is made by a plan."""
    if run.rolls_back is None and not run.uninstalls:
        return
    what = f"a rollback of {run.rolls_back}" if run.rolls_back else "an uninstall"
    raise RefusedError(
        f"run {run.id} is {what}: it is not rolled back", remedy="gpuwizard plan makes the changes anew, after a look"
    )


async def resume_command(arguments: argparse.Namespace) -> int:
    """`gpuwizard resume [RUN]`: go on with a run that was cut, from what its hosts say; without RUN the newest."""
    async with open_session(arguments) as session:
        run = _run_to_resume(session, arguments.words)
        if run is None or not run.hosts:
            _nothing_to_resume(session, run, arguments)
            return 0
        plan = plan_of(session.state_dir, run) if run.rolls_back is None else None
        session.answers = answers_from(arguments, run.answers)
        take_hosts(session, run.answers.hosts)
        emit = printer(as_json=arguments.json, session=session, verbose=arguments.verbose)
        if not arguments.yes:
            await confirm(f"this goes on with run {run.id} of {run.started} on {show.count(len(run.hosts), 'host')}")
        with told_how_to_undo(session, "" if run.kind == "apply" else f"gpuwizard resume {run.id}"):
            code = await _resume(session, run, plan, emit)
        if not arguments.json:
            for line in show.summary_lines(session, undo=run.kind == "apply"):
                say(line)
        return code


def _run_to_resume(session: Session, words: Sequence[str]) -> RunRecord | None:
    """The run that is meant; None when it has ended. Raises RefusedError while somebody is at work on it."""
    if not words:
        return next((run for run in list_runs(session.state_dir) if run.cut), None)
    run = find_run(session.state_dir, words[0])
    if run.running:
        raise RefusedError(f"run {run.id} is still at work on this machine", remedy="wait until it has ended")
    return run if run.cut else None


def _nothing_to_resume(session: Session, run: RunRecord | None, arguments: argparse.Namespace) -> None:
    """Say why there is nothing to go on with; a run that was cut before it began anything has then ended."""
    said = "no run was cut: there is nothing to go on with"
    if run is not None:
        with flow.open_journal(session, resume=run.id) as journal:
            journal.finish((), None)
        said = f"run {run.id} was cut before it began anything: nothing was changed, make a new one"
    elif arguments.words:
        ended = find_run(session.state_dir, arguments.words[0])
        said = f"run {ended.id} has ended ({ended.finished}): there is nothing to go on with"
    if not arguments.json:
        say(said)


async def _resume(session: Session, run: RunRecord, plan: Plan | None, emit: Emit) -> int:
    """Look at the hosts and go on. With no way to any host nothing is done, and the run stays as it is."""
    await flow.probe(session, emit, Unattended())
    complain_of(session)
    if session.hosts and not session.transports:
        return UnreachableError.exit_code
    if run.rolls_back is not None:
        names = [host.name for host in run.hosts]
        earlier = [other for other in list_runs(session.state_dir) if other.id != run.id]
        undone, _ = part_of(find_run(session.state_dir, run.rolls_back), names, earlier)
        await flow.roll_back(session, undone, emit, Unattended(), resume=run.id)
        return exit_code(session)
    await flow.connect_cluster(session, emit)
    if run.uninstalls:
        session.plan = plan
        await run_uninstall(session, emit, Unattended(), resume=run.id)
        return exit_code(session)
    session.plan = plan  # after the look at the hosts, which drops every plan
    await flow.run_plan(session, emit, Unattended(), resume=run.id)
    await flow.run_validation(session, emit)
    return exit_code(session)
