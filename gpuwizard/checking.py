"""`gpuwizard check`: what is right and wrong with hosts, for people and for programs, and the story of one finding."""

import argparse
import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from gpuwizard import flow, show
from gpuwizard.clean import clean_line
from gpuwizard.commands import progress
from gpuwizard.errors import GpuwizardError, LoginError, UnreachableError, UsageError
from gpuwizard.findings.model import Finding
from gpuwizard.opening import open_session
from gpuwizard.session import HostRecord, Session
from gpuwizard.show.by_finding import SEVERITIES
from gpuwizard.show.overview import Overview
from gpuwizard.show.progress import progress_words, tally_words
from gpuwizard.show.story import near, story_json, story_lines
from gpuwizard.unattended import Unattended, check_pages, say, say_json

__all__ = ["check_command", "check_json", "explain_command"]

_PATIENCE = 0.5
_LIVE = 0.25


async def check_command(arguments: argparse.Namespace) -> int:
    """Look at the hosts, say what was found; returns the exit code of `cli.md`, by the findings that were asked for."""
    only = _known(arguments.only or ())
    async with open_session(arguments, tuple(arguments.words)) as session:
        check_pages(session)
        session.reach = arguments.reach
        async with _watched(session, quiet=arguments.verbose):
            await flow.probe(session, progress(session, arguments), Unattended())
        for record in session.hosts.values():
            record.findings = tuple(f for f in record.findings if _asked_for(f, arguments.severity, only))
        if arguments.json:
            say_json(check_json(session), rows="hosts")
        else:
            _print(session, facts=arguments.facts, narrowed=bool(only or arguments.severity))
        return _exit_code(session)


def _known(wanted: Sequence[str]) -> frozenset[str]:
    """The ids of rules, as they are spelt. Raises UsageError for one that does not exist."""
    return frozenset(_rule(word).id for words in wanted for word in words.split(",") if word.strip())


def _asked_for(finding: Finding, least: str | None, only: frozenset[str]) -> bool:
    if only and finding.id not in only:
        return False
    return least is None or SEVERITIES.index(finding.severity) <= SEVERITIES.index(least)


def _print(session: Session, *, facts: bool, narrowed: bool) -> None:
    """A table in a terminal, else plain lines; `narrowed` leaves out hosts of which nothing is shown."""
    overview = Overview(session)
    overview.refresh()
    lines = [line for line in overview.order if not narrowed or line.group != "ok" or session.hosts[line.name].findings]
    if sys.stdout.isatty():
        from screens.tables import print_check

        print_check(session, lines, facts=facts)
    else:
        for line in lines:
            for text in show.finding_lines(session.hosts[line.name]):
                say(text)
            for text in show.fact_lines(session.hosts[line.name]) if facts else ():
                say(text)
    say(tally_words(session, overview) + ("; only the findings asked for count" if narrowed else ""))


def _exit_code(session: Session) -> int:
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


# While it looks


@asynccontextmanager
async def _watched(session: Session, *, quiet: bool) -> AsyncIterator[None]:
    """One line on the terminal says how far the look has come, unless `quiet`; it is gone when there is a result."""
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") in ("dumb", ""):
        yield
        return
    session.watched = True
    task = asyncio.create_task(_watch(session))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        _over("")


async def _watch(session: Session) -> None:
    overview = Overview(session)
    await asyncio.sleep(_PATIENCE)
    while True:
        overview.refresh()
        _over(progress_words(session, overview))
        await asyncio.sleep(_LIVE)


def _over(words: str) -> None:
    """Write over the line that the cursor is in."""
    with contextlib.suppress(OSError):
        sys.stderr.write("\r\x1b[K" + clean_line(words, max(shutil.get_terminal_size().columns - 1, 20)))
        sys.stderr.flush()


# The story of one finding


def explain_command(finding: str, *, as_json: bool = False) -> int:
    """`gpuwizard check --explain ID`: the whole story of one finding. Raises UsageError when there is none of that
    id."""
    rule = _rule(finding)
    if as_json:
        say_json(story_json(rule), indent=2)
        return 0
    for line in story_lines(rule, shutil.get_terminal_size().columns - 1):
        say(line)
    return 0


def _rule(wanted: str) -> Any:
    from gpuwizard.findings import RULES, explain

    rule = explain(wanted)
    if rule is None:
        alike = near(wanted)
        known = f"GW-AREA-NUMBER, with areas {', '.join(sorted({r.id.split('-')[1] for r in RULES}))}"
        remedy = f"did you mean {' or '.join(alike)}?" if alike else f"ids are {known}"
        raise UsageError(f"there is no finding {wanted.strip()}", remedy=remedy)
    return rule
