"""The commands that are no wizard: plan, apply, validate, monitor, answers."""

import argparse
import json
import os
import shlex
from pathlib import Path

from gpuwizard import flow, show
from gpuwizard.errors import GpuwizardError, UnreachableError, UsageError
from gpuwizard.events import Emit, Event, Note
from gpuwizard.opening import answers_from, check_choices, open_session, take_hosts
from gpuwizard.plan.model import Plan
from gpuwizard.session import Session
from gpuwizard.unattended import (
    Unattended,
    check_pages,
    complain,
    complain_of,
    confirm,
    exit_code,
    plan_exit_code,
    printer,
    say,
    say_json,
    say_plan,
    told_how_to_undo,
    warn,
)

__all__ = [
    "answers_command",
    "apply_command",
    "monitor_command",
    "plan_command",
    "progress",
    "show_plan",
    "validate_command",
]


PENDING = 2


def _quiet(_: Event) -> None:
    """Progress is not a result: a command whose stdout is its result says nothing meanwhile."""


def progress(session: Session, arguments: argparse.Namespace) -> Emit:
    """Progress lines on stderr when a person watches and asked for more."""
    if not arguments.verbose:
        return _quiet
    from gpuwizard.describe import describe

    def emit(event: Event) -> None:
        session.events.append(event)
        if line := describe(event):
            warn(line)

    return emit


async def plan_command(arguments: argparse.Namespace) -> int:
    """`gpuwizard plan`: every change as a diff; nothing is changed."""
    from gpuwizard.plan.jsonable import plan_json
    from gpuwizard.plan.store import save_plan

    if arguments.out:
        _check_writable(Path(arguments.out))
    async with open_session(arguments, tuple(arguments.words)) as session:
        check_pages(session)
        emit = progress(session, arguments)
        await flow.probe(session, emit, Unattended())
        plan = await flow.make_plan(session, emit)
        if arguments.json:
            say_json(plan_json(plan), indent=2)
        else:
            say_plan(plan)
        complain_of(session)
        if arguments.out:
            save_plan(plan, session.resolved_answers, Path(arguments.out))
            simulate = f" --simulate {shlex.quote(session.simulate)}" if session.simulate else ""
            apply = f"gpuwizard apply{simulate} {shlex.quote(arguments.out)}"
            warn(f"saved; `{apply}` applies it while the hosts are as they were")
        return plan_exit_code(session, plan)


def _check_writable(path: Path) -> None:
    """Raise UsageError when the plan could not be saved, before any host is looked at."""
    if path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise UsageError(
            "the plan cannot be saved there", where=str(path), remedy="give --out a file that you may write"
        )


async def apply_command(arguments: argparse.Namespace) -> int:
    """`gpuwizard apply PLAN`: a saved plan, as it was reviewed; each host is refused when it has changed since."""
    from gpuwizard.plan.store import load_plan

    if len(arguments.words) != 1:
        raise UsageError("apply takes one saved plan", remedy="gpuwizard plan --out site.plan HOST…")
    plan, answers = load_plan(Path(arguments.words[0]))
    async with open_session(arguments) as session:
        session.answers = answers_from(arguments, answers)
        take_hosts(session, answers.hosts)
        emit = printer(as_json=arguments.json, session=session, verbose=arguments.verbose)
        if arguments.dry_run or not arguments.json:
            show_plan(plan, as_json=arguments.json)
        if arguments.dry_run:
            return 0 if plan.empty else PENDING
        if not plan.empty and not arguments.yes:
            await confirm(f"this changes {show.count(sum(1 for h in plan.hosts if h.changes), 'host')}")
        with told_how_to_undo(session):
            return await _apply(session, plan, emit, people=not arguments.json)


def show_plan(plan: Plan, *, as_json: bool) -> None:
    """Print a plan: for people, or as the document."""
    from gpuwizard.plan.jsonable import plan_json

    if as_json:
        say_json(plan_json(plan), indent=2)
    else:
        say_plan(plan)


async def _apply(session: Session, plan: Plan, emit: Emit, *, people: bool) -> int:
    await flow.probe(session, emit, Unattended())
    await flow.connect_cluster(session, emit)
    complain_of(session)
    session.plan = plan
    if not plan.empty:
        await flow.run_plan(session, emit, Unattended())
    await flow.run_validation(session, emit)
    for line in show.summary_lines(session) if people else ():
        say(line)
    return exit_code(session)


async def validate_command(arguments: argparse.Namespace) -> int:
    """`gpuwizard validate`: the ladder on every GPU host."""
    async with open_session(arguments, tuple(arguments.words)) as session:
        check_pages(session)
        _check_managed(session)
        emit = printer(as_json=arguments.json, session=session, verbose=arguments.verbose)
        await flow.probe(session, emit, Unattended())
        await flow.make_plan(session, emit)
        complain_of(session)
        if all(r.error is not None for r in session.hosts.values()):
            return UnreachableError.exit_code
        if session.cluster is None:
            return UnreachableError.exit_code  # complain_of said why
        await flow.run_validation(session, emit)
        for name, why in _not_tried(session).items():
            emit(Note("validate", why, "error", name))
        session.validation = dict(session.validation) | _not_tried(session)
        if not session.validation:
            raise GpuwizardError("no host has a GPU that could be validated", remedy="gpuwizard check says why")
        if not arguments.json:
            for line in show.summary_lines(session):
                say(line)
        failed = any(reason is not None for reason in session.validation.values())
        return GpuwizardError.exit_code if failed or session.unreachable else 0


def _check_managed(session: Session) -> None:
    """Raise UsageError when the answers keep us out of the cluster or want no pods."""
    answers = session.answers
    for key, wanted in (
        ("kubernetes.manage", answers.kubernetes.manage),
        ("validation.enabled", answers.validation.enabled),
    ):
        if not wanted:
            raise UsageError("no pod may be run to validate", where=f"{key} is false", remedy=f"answer {key} = true")


def _not_tried(session: Session) -> dict[str, str]:
    """The hosts with a GPU on which no pod was run, with the reason: a GPU that is not ready did not pass."""
    reasons = {}
    for planned in session.plan.hosts if session.plan else ():
        if planned.refusals:
            reasons[planned.name] = "not tried"
        elif planned.actions:
            reasons[planned.name] = "not tried: changes are pending, `gpuwizard plan` shows them"
    return {n: why for n, why in reasons.items() if n in session.probes and session.probes[n].facts.gpus}


async def monitor_command(arguments: argparse.Namespace) -> int:
    """`gpuwizard monitor --json`: one sample a line until it is interrupted."""
    from gpuwizard.monitor.model import Sample, sample_json

    def on_samples(_: str, samples: tuple[Sample, ...]) -> None:
        for sample in samples:
            say_json(sample_json(sample))

    def on_trouble(host: str, words: str) -> None:
        warn(f"gpuwizard: {host}: {words}; trying again")

    async with open_session(arguments, tuple(arguments.words)) as session:
        check_pages(session)
        await flow.probe(session, progress(session, arguments), Unattended())
        complain_of(session)
        if not session.transports:
            return UnreachableError.exit_code
        if not any(probe.facts.gpus for probe in session.probes.values()):
            raise GpuwizardError(
                "no host has a GPU that can be watched",
                where=", ".join(sorted(session.probes)),
                remedy="gpuwizard check says why",
            )
        for name, probe in sorted(session.probes.items()):
            if probe.facts.gpus and probe.facts.driver.loaded is None:
                complain(GpuwizardError("no NVIDIA driver is loaded", where=name, remedy=f"gpuwizard check {name}"))
        await flow.monitor(session, on_samples, lambda _: None, arguments.interval, on_trouble)
        return 0


def answers_command(arguments: argparse.Namespace) -> int:
    """`gpuwizard answers schema | check FILE | example`."""
    from gpuwizard.answers.toml import example, read_answers, schema

    match arguments.words:
        case ["schema"]:
            say(json.dumps(schema(), indent=2))
        case ["check", file]:
            answers = read_answers(Path(file))
            check_choices(Session(answers=answers), answers.hosts)
            say(f"{file}: right; {show.count(len(answers.hosts), 'host')}")
        case ["example"]:
            from gpuwizard.fleet.model import load_fleet

            text = example([host.name for host in load_fleet("mixed").hosts])
            say(text.rstrip("\n"))
        case _:
            raise UsageError("answers takes one of: schema, check FILE, example", remedy="gpuwizard answers example")
    return 0
