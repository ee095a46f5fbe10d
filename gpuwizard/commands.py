"""The commands that are no wizard: check, plan, apply, validate, monitor, rollback, answers."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpuwizard import flow, show
from gpuwizard.errors import GpuwizardError, LoginError, UnreachableError, UsageError
from gpuwizard.events import Emit, Event
from gpuwizard.opening import answers_from, open_session
from gpuwizard.session import HostRecord, Session
from gpuwizard.unattended import (
    Unattended,
    check_pages,
    exit_code,
    plan_exit_code,
    printer,
    say,
    warn,
)

__all__ = [
    "answers_command",
    "apply_command",
    "check_command",
    "check_json",
    "explain_command",
    "monitor_command",
    "plan_command",
    "rollback_command",
    "validate_command",
]


UNTOUCHED = ("unchanged", "refused", "unreachable")


def _quiet(_: Event) -> None:
    """Progress is not a result: a command whose stdout is its result says nothing meanwhile."""


def _progress(session: Session, arguments: argparse.Namespace) -> Emit:
    """Progress lines on stderr when a person watches and asked for more."""
    if not arguments.verbose:
        return _quiet
    from gpuwizard.describe import describe

    def emit(event: Event) -> None:
        session.events.append(event)
        if line := describe(event):
            warn(line)

    return emit


async def check_command(arguments: argparse.Namespace) -> int:
    """`gpuwizard check`: probe and findings."""
    async with open_session(arguments, tuple(arguments.words)) as session:
        check_pages(session)
        await flow.probe(session, _progress(session, arguments), Unattended())
        if arguments.json:
            say(json.dumps(check_json(session), ensure_ascii=False, indent=2))
        elif sys.stdout.isatty():
            from screens.tables import print_check

            print_check(session)
        else:
            for record in session.hosts.values():
                for line in show.finding_lines(record):
                    say(line)
        return _check_code(session)


def _check_code(session: Session) -> int:
    if session.hosts and all(r.error is not None for r in session.hosts.values()):
        return UnreachableError.exit_code
    bad = any(r.error is not None or r.severity_count("error") for r in session.hosts.values())
    return GpuwizardError.exit_code if bad else 0


def check_json(session: Session) -> dict[str, Any]:
    """`gpuwizard.check/1` of `cli.md`."""
    return {"schema": "gpuwizard.check/1", "hosts": [_host_json(r) for r in session.hosts.values()]}


def _host_json(record: HostRecord) -> dict[str, Any]:
    from gpuwizard.facts.jsonable import facts_json

    reachable = record.error is None or isinstance(record.error, LoginError)
    return {
        "name": record.name,
        "reachable": reachable,
        "error": str(record.error) if record.error else None,
        "facts": facts_json(record.probe.facts) if record.probe else None,
        "findings": [asdict(f) for f in record.findings],
        "probe_seconds": round(record.seconds, 3) if record.seconds is not None else None,
    }


def explain_command(finding: str) -> int:
    """`gpuwizard check --explain ID`: the whole story of one finding."""
    from gpuwizard.findings import RULES, explain

    rule = explain(finding.upper())
    if rule is None:
        known = ", ".join(r.id for r in RULES)
        raise UsageError(f"there is no finding {finding}", remedy=f"one of {known}")
    say(f"{rule.id}: {rule.title} ({rule.severity})")
    say(f"cause:  {rule.cause}")
    say(f"remedy: {rule.remedy}")
    return 0


async def plan_command(arguments: argparse.Namespace) -> int:
    """`gpuwizard plan`: every change as a diff; nothing is changed."""
    from gpuwizard.plan.jsonable import plan_json
    from gpuwizard.plan.store import save_plan

    async with open_session(arguments, tuple(arguments.words)) as session:
        check_pages(session)
        emit = _progress(session, arguments)
        await flow.probe(session, emit, Unattended())
        plan = await flow.make_plan(session, emit)
        if arguments.json:
            say(json.dumps(plan_json(plan), ensure_ascii=False, indent=2))
        else:
            for line in show.plan_lines(plan):
                say(line)
            for name, reason in sorted(session.unreachable.items()):
                warn(f"gpuwizard: {name} could not be looked at: {reason}")
            if session.cluster_view is not None and session.cluster_view.error:
                warn(f"gpuwizard: the cluster could not be looked at: {session.cluster_view.error}")
        if arguments.out:
            save_plan(plan, session.answers, Path(arguments.out))
            warn(f"saved; `gpuwizard apply {arguments.out}` applies it while the hosts are as they were")
        return plan_exit_code(session, plan)


async def apply_command(arguments: argparse.Namespace) -> int:
    """`gpuwizard apply PLAN`: a saved plan, as it was reviewed; each host is refused when it has changed since."""
    from gpuwizard.plan.store import load_plan

    if len(arguments.words) != 1:
        raise UsageError("apply takes one saved plan", remedy="gpuwizard plan --out site.plan HOST…")
    plan, answers = load_plan(Path(arguments.words[0]))
    async with open_session(arguments) as session:
        session.answers = answers_from(arguments, answers)
        session.set_hosts(answers.hosts)
        emit = printer(as_json=arguments.json, session=session, verbose=arguments.verbose)
        if not arguments.json:
            for line in show.plan_lines(plan):
                say(line)
        if not plan.empty and not arguments.yes:
            _confirm(sum(1 for h in plan.hosts if h.changes))
        await flow.probe(session, emit, Unattended())
        await flow.connect_cluster(session, emit)
        session.plan = plan
        if not plan.empty:
            await flow.run_plan(session, emit, Unattended())
        await flow.run_validation(session, emit)
        if not arguments.json:
            for line in show.summary_lines(session):
                say(line)
        return exit_code(session)


def _confirm(hosts: int) -> None:
    """Ask before anything is changed. Raises UsageError without a terminal, and when the answer is no."""
    if not sys.stdin.isatty():
        raise UsageError("there is nobody to ask whether to apply this plan", remedy="add --yes")
    warn(f"this changes {hosts} hosts; type yes to go on: ")
    if sys.stdin.readline().strip().lower() != "yes":
        raise UsageError("nothing was changed: the answer was not yes")


async def validate_command(arguments: argparse.Namespace) -> int:
    """`gpuwizard validate`: the ladder on every GPU host."""
    async with open_session(arguments, tuple(arguments.words)) as session:
        check_pages(session)
        emit = printer(as_json=arguments.json, session=session, verbose=arguments.verbose)
        await flow.probe(session, emit, Unattended())
        await flow.make_plan(session, emit)
        if session.cluster is None:
            reason = session.cluster_view.error if session.cluster_view else "kubernetes.manage is false"
            raise UnreachableError("pods cannot be run without the cluster", where=reason or "")
        if not flow.validated_nodes(session):
            raise GpuwizardError("no host has a GPU that could be validated", remedy="gpuwizard check says why")
        await flow.run_validation(session, emit)
        if not arguments.json:
            for line in show.summary_lines(session):
                say(line)
        failed = any(reason is not None for reason in session.validation.values())
        return GpuwizardError.exit_code if failed or session.unreachable else 0


async def monitor_command(arguments: argparse.Namespace) -> int:
    """`gpuwizard monitor --json`: one sample a line until it is interrupted."""
    from gpuwizard.monitor.model import Sample, sample_json

    def on_samples(_: str, samples: tuple[Sample, ...]) -> None:
        for sample in samples:
            say(json.dumps(sample_json(sample), ensure_ascii=False))

    def on_trouble(host: str, words: str) -> None:
        warn(f"gpuwizard: {host}: {words}; trying again")

    async with open_session(arguments, tuple(arguments.words)) as session:
        check_pages(session)
        await flow.probe(session, _progress(session, arguments), Unattended())
        for name, reason in sorted(session.unreachable.items()):
            warn(f"gpuwizard: {name} cannot be monitored: {reason}")
        if not session.transports:
            raise UnreachableError("no host can be monitored", remedy="gpuwizard check says why")
        await flow.monitor(session, on_samples, lambda _: None, arguments.interval, on_trouble)
        return 0


async def rollback_command(arguments: argparse.Namespace) -> int:
    """`gpuwizard rollback [RUN]`: list the runs, or put back what one changed."""
    if not arguments.words:
        async with open_session(arguments) as session:
            return _list_runs(session.state_dir, as_json=arguments.json)
    return await _roll_back(arguments, arguments.words[0])


def _list_runs(state_dir: Path, *, as_json: bool) -> int:
    from gpuwizard.journal import list_runs

    runs = list_runs(state_dir)
    if as_json:
        say(json.dumps({"schema": "gpuwizard.runs/1", "runs": [run.to_json() for run in runs]}, indent=2))
        return 0
    if not runs:
        say("no run has changed anything yet")
    for run in runs:
        say(run.line())
    return 0


async def _roll_back(arguments: argparse.Namespace, run_id: str) -> int:
    from gpuwizard.journal import find_run

    async with open_session(arguments) as session:
        run = find_run(session.state_dir, run_id)
        session.answers = answers_from(arguments, run.answers)
        session.set_hosts(run.answers.hosts)
        changed = {host.name for host in run.hosts if host.actions and host.outcome not in UNTOUCHED}
        session.hosts = {name: record for name, record in session.hosts.items() if name in changed}
        emit = printer(as_json=arguments.json, session=session, verbose=arguments.verbose)
        if not arguments.yes:
            _confirm(len(session.hosts))
        await flow.probe(session, emit, Unattended())
        await flow.roll_back(session, run, emit, Unattended())
        if not arguments.json:
            for line in show.summary_lines(session, undo=False):
                say(line)
        return exit_code(session)


def answers_command(arguments: argparse.Namespace) -> int:
    """`gpuwizard answers schema | check FILE | example`."""
    from gpuwizard.answers.toml import example, read_answers, schema
    from gpuwizard.remote.target import parse_targets

    match arguments.words:
        case ["schema"]:
            say(json.dumps(schema(), indent=2))
        case ["check", file]:
            answers = read_answers(Path(file))
            parse_targets(answers.hosts)
            say(f"{file}: right; {len(answers.hosts)} hosts")
        case ["example"]:
            from gpuwizard.fleet.model import load_fleet

            text = example([host.name for host in load_fleet("mixed").hosts])
            say(text.rstrip("\n"))
        case _:
            raise UsageError("answers takes one of: schema, check FILE, example", remedy="gpuwizard answers example")
    return 0
