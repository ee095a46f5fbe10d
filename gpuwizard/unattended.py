"""The front end without a screen: the same stages as the wizard, no questions, one line per event."""

import argparse
import json
import sys
from collections.abc import Iterable

from gpuwizard import flow, show
from gpuwizard.describe import describe, event_json
from gpuwizard.errors import GpuwizardError, RefusedError, UnreachableError, UsageError
from gpuwizard.events import Choice, Emit, Event, SecretPrompt
from gpuwizard.opening import open_session
from gpuwizard.pages import PAGES
from gpuwizard.plan.model import Plan
from gpuwizard.secret import Secret
from gpuwizard.session import Session

__all__ = ["Unattended", "exit_code", "printer", "run_unattended"]


class Unattended:
    """Nobody is there: every choice is answered with its safe default, and no secret is given."""

    async def choose(self, question: Choice) -> str:
        return question.default

    async def secret(self, question: SecretPrompt) -> Secret | None:
        return None


def printer(*, as_json: bool, session: Session, verbose: bool = False) -> Emit:
    """An emitter that prints events to stdout: one line each, or one JSON object each (`gpuwizard.event/1`)."""

    def emit(event: Event) -> None:
        session.events.append(event)
        if as_json:
            say(json.dumps(event_json(event, session.clock.now()), ensure_ascii=False))
        elif line := describe(event, verbose=verbose):
            say(line)

    return emit


def say(text: str) -> None:
    """Print a result to stdout at once."""
    print(text, flush=True)  # noqa: T201 - a front end


async def run_unattended(arguments: argparse.Namespace) -> int:
    """`gpuwizard --answers FILE`: probe, plan, apply, validate. Returns the exit code of `cli.md`."""
    async with open_session(arguments, tuple(arguments.words)) as session:
        check_pages(session)
        emit = printer(as_json=arguments.json, session=session, verbose=arguments.verbose)
        ask = Unattended()
        await flow.probe(session, emit, ask)
        plan = await flow.make_plan(session, emit)
        if not arguments.json:
            for line in show.plan_lines(plan):
                say(line)
        if arguments.dry_run:
            say_if(not arguments.json, "dry run: nothing was changed")
            return plan_exit_code(session, plan)
        if plan.empty:
            say_if(not arguments.json, "nothing to change: every host and the cluster are as the answers want them")
        else:
            await flow.run_plan(session, emit, ask)
        await flow.run_validation(session, emit)
        if not arguments.json:
            for line in show.summary_lines(session):
                say(line)
        return exit_code(session)


def say_if(condition: bool, text: str) -> None:
    """Print `text` when it is for people."""
    if condition:
        say(text)


def check_pages(session: Session) -> None:
    """The checks of the wizard's first page, before anything is reached. Raises UsageError."""
    problems = PAGES[0].check(session)
    if problems:
        raise UsageError(
            problems[0].text, where="hosts", remedy="name hosts on the command line or in the answers file"
        )


def exit_code(session: Session) -> int:
    """How a whole run ended, over all hosts and the cluster (`cli.md`, exit codes)."""
    results = dict.fromkeys(session.unreachable, UnreachableError.exit_code)
    for planned in session.plan.hosts if session.plan else ():
        if planned.name not in results:
            results[planned.name] = RefusedError.exit_code if planned.refusals else 0
    for name, outcome in (session.report.outcomes if session.report else {}).items():
        results[name] = _OUTCOME_CODES[outcome.outcome]
    for name, reason in session.validation.items():
        if reason is not None:
            results[name] = GpuwizardError.exit_code
    return _combined(results.values(), _cluster_code(session))


_OUTCOME_CODES = {
    "confirmed": 0,
    "unchanged": 0,
    "refused": RefusedError.exit_code,
    "unreachable": UnreachableError.exit_code,
    "failed": 1,
    "rolled-back": 1,
    "reverting": 1,
    "unconfirmed": 1,
}


def _cluster_code(session: Session) -> int:
    if session.cluster_view is not None and session.cluster_view.error is not None:
        return UnreachableError.exit_code
    if session.report is not None and session.report.cluster_error is not None:
        return GpuwizardError.exit_code
    if session.plan is not None and session.plan.cluster.refusals:
        return RefusedError.exit_code
    return 0


def _combined(hosts: Iterable[int], cluster: int) -> int:
    """One code: 3 and 4 only when they hold for every host or for the cluster; else 1 when anything is bad."""
    codes = list(hosts)
    if codes and len(set(codes)) == 1 and codes[0]:
        return codes[0]
    if any(codes):
        return 1
    return cluster


def plan_exit_code(session: Session, plan: Plan) -> int:
    """0: no change is needed, 2: changes are pending; 3, 4 and 1 come before (`cli.md`)."""
    results = dict.fromkeys(session.unreachable, UnreachableError.exit_code)
    for planned in plan.hosts:
        results.setdefault(planned.name, RefusedError.exit_code if planned.refusals else 0)
    code = _combined(results.values(), _cluster_code(session))
    return code or (0 if plan.empty else 2)


def warn(text: str) -> None:
    """Say something to stderr that is no result."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a front end
