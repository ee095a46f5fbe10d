"""The front end without a screen: the same stages as the wizard, no questions, one line per event."""

import argparse
import asyncio
import contextlib
import functools
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gpuwizard import flow, show
from gpuwizard.clean import clean_line
from gpuwizard.describe import describe, event_json
from gpuwizard.errors import GpuwizardError, InterruptedRunError, RefusedError, UnreachableError, UsageError
from gpuwizard.events import Choice, Emit, Event, SecretPrompt, Waiting
from gpuwizard.opening import open_session
from gpuwizard.pages import PAGES
from gpuwizard.plan.model import Plan
from gpuwizard.secret import Secret
from gpuwizard.session import Session
from gpuwizard.show.waits import TellWaits, folded

__all__ = [
    "Unattended",
    "check_pages",
    "complain",
    "complain_of",
    "confirm",
    "exit_code",
    "plan_exit_code",
    "printer",
    "run_unattended",
    "say",
    "say_json",
    "say_plan",
    "told_how_to_undo",
    "warn",
]


class Unattended:
    """Nobody is there: every choice is answered with its safe default, and no secret is given."""

    async def choose(self, question: Choice) -> str:
        return question.default

    async def secret(self, question: SecretPrompt) -> Secret | None:
        return None


def printer(*, as_json: bool, session: Session, verbose: bool = False) -> Emit:
    """An emitter that prints events to stdout: one line each, or one JSON object each (`gpuwizard.event/1`). A wait
    that goes on is told again only when there is something new, or much later; in a terminal it is folded."""
    waits = TellWaits(verbose=verbose)
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None

    def emit(event: Event) -> None:
        session.events.append(event)
        with contextlib.suppress(OSError):  # a full disk or a reader that left must not stop a run half-way
            if as_json:
                say_json(event_json(event, session.clock.now()))
            elif isinstance(event, Waiting):
                if line := waits.line(event):
                    say(folded(line, columns) if columns else line)
            elif line := describe(event, verbose=verbose):
                say(line)

    return emit


def say(text: str) -> None:
    """Print a result to stdout at once."""
    print(text, flush=True)  # noqa: T201 - a front end


def say_plan(plan: Plan) -> None:
    """Print a plan for people: with colours and columns in a terminal, else as plain lines."""
    if sys.stdout.isatty():
        from screens.plan_print import print_plan

        print_plan(plan)
        return
    for line in show.plan_lines(plan):
        say(line)


def say_json(document: Mapping[str, Any], indent: int | None = None, *, rows: str | None = None) -> None:
    """Print a JSON document, or without `indent` one line of a stream; in ASCII where stdout is not UTF-8. The list
    under `rows` goes out one entry a line: a fleet's is long, and indenting it would cost more than parsing it."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    dumps = functools.partial(json.dumps, ensure_ascii=not utf8, indent=indent, allow_nan=False)
    if rows is None:
        say(dumps(document))
        return
    rest = dumps({key: entry for key, entry in document.items() if key != rows}).removesuffix("}")
    entries = ",\n".join(dumps(entry) for entry in document[rows])
    say(f"{rest}{', ' if len(document) > 1 else ''}{dumps(rows)}: [\n{entries}\n]}}")


def complain(error: GpuwizardError, about: str = "") -> None:
    """Name on stderr what keeps a host or the cluster out of this run, with what to do about it (`cli.md`)."""
    warn(f"gpuwizard: {about}{': ' if about else ''}{clean_line(str(error), 2000)}")
    if error.remedy:
        warn(f"  try: {clean_line(error.remedy, 2000)}")


def complain_of(session: Session) -> None:
    """Name every host that could not be looked at, and the cluster when that holds for it."""
    for name, record in sorted(session.hosts.items()):
        if record.error is not None:
            complain(record.error, "" if name in str(record.error) else name)
    if session.cluster_problem is not None:
        complain(session.cluster_problem, "the cluster")


async def confirm(what: str) -> None:
    """Ask before anything is changed. Raises UsageError without a terminal, InterruptedRunError when it is not yes."""
    if not sys.stdin.isatty():
        raise UsageError("there is nobody to ask whether to go on", where=what, remedy="add --yes")
    warn(f"{what}; type yes to go on: ")
    if (await asyncio.to_thread(sys.stdin.readline)).strip().lower() != "yes":
        raise InterruptedRunError("nothing was changed: the answer was not yes", remedy="type yes, or add --yes")


@contextlib.contextmanager
def told_how_to_undo(session: Session, go_on: str = "") -> Iterator[None]:
    """A run that is stopped ends with 130 and says how what it had done already is put back; one that takes others back
    names the command `go_on`, which does the rest."""
    try:
        yield
    except asyncio.CancelledError:
        if session.run_id is None:
            raise InterruptedRunError("interrupted before anything was changed", remedy="run it again") from None
        undo = f"`{session.rollback_command} {session.run_id}` puts back what was confirmed"
        raise InterruptedRunError(
            "interrupted", where=f"run {session.run_id}", remedy=f"`{go_on}` does the rest" if go_on else undo
        ) from None


async def run_unattended(arguments: argparse.Namespace) -> int:
    """`gpuwizard --answers FILE`: probe, plan, apply, validate. Returns the exit code of `cli.md`."""
    async with open_session(arguments, tuple(arguments.words)) as session:
        check_pages(session)
        emit = printer(as_json=arguments.json, session=session, verbose=arguments.verbose)
        with told_how_to_undo(session):
            return await _run_all(session, emit, dry=arguments.dry_run, people=not arguments.json)


async def _run_all(session: Session, emit: Emit, *, dry: bool, people: bool) -> int:
    """All stages, one after the other; `people` are told in lines what the plan is and how it ended."""
    ask = Unattended()
    await flow.probe(session, emit, ask)
    plan = await flow.make_plan(session, emit)
    complain_of(session)
    if people:
        say_plan(plan)
    if dry:
        say_if(people, "dry run: nothing was changed")
        return plan_exit_code(session, plan)
    if plan.empty:
        say_if(people, _nothing_to_change(session, plan))
    else:
        await flow.run_plan(session, emit, ask)
    await flow.run_validation(session, emit)
    for line in show.summary_lines(session) if people else ():
        say(line)
    return exit_code(session)


def _nothing_to_change(session: Session, plan: Plan) -> str:
    out = {h.name for h in plan.hosts if h.refusals} | set(session.unreachable)
    if out or plan.cluster.refusals:
        left = sorted(out) + (["the cluster"] if plan.cluster.refusals else [])
        return f"nothing to change; left out: {', '.join(left)}"
    return "nothing to change: every host and the cluster are as the answers want them"


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
