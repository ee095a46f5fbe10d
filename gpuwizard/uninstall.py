"""`gpuwizard uninstall`: the plan back to before us is shown, asked about, and run."""

import argparse
from collections.abc import Iterator

from gpuwizard import flow, show
from gpuwizard.commands import progress, show_plan
from gpuwizard.journal import RunRecord, list_runs
from gpuwizard.opening import answers_from, open_session, take_hosts
from gpuwizard.plan.model import Plan
from gpuwizard.remote.target import parse_targets
from gpuwizard.session import Session
from gpuwizard.unattended import (
    Unattended,
    check_pages,
    complain_of,
    confirm,
    exit_code,
    plan_exit_code,
    printer,
    say,
    told_how_to_undo,
)
from gpuwizard.uninstalling import plan_uninstall, run_uninstall

__all__ = ["uninstall_command"]

_TRAIL = "/var/lib/gpuwizard"


async def uninstall_command(arguments: argparse.Namespace) -> int:
    """`gpuwizard uninstall [HOST…]`: back to before gpuwizard, on these hosts or on those of this machine's runs."""
    async with open_session(arguments, tuple(arguments.words)) as session:
        _as_last_time(session, arguments)
        check_pages(session)
        if arguments.dry_run:
            emit = progress(session, arguments)
        else:
            emit = printer(as_json=arguments.json, session=session, verbose=arguments.verbose)
        await flow.probe(session, emit, Unattended())
        plan = await plan_uninstall(session, emit)
        complain_of(session)
        people = not arguments.json
        if arguments.dry_run or people:
            show_plan(plan, as_json=arguments.json)
        if arguments.dry_run:
            return plan_exit_code(session, plan)
        if plan.empty:
            if people:
                say(_nothing(session, plan))
            return plan_exit_code(session, plan)
        if not arguments.yes:
            await confirm(f"this takes gpuwizard's changes back {_from_where(plan)}")
        again = session.rollback_command.replace("rollback", "uninstall", 1)
        with told_how_to_undo(session, again):
            await run_uninstall(session, emit, Unattended())
        if people:
            for line in (*show.summary_lines(session, undo=False), *_trail(session)):
                say(line)
        return exit_code(session)


def _as_last_time(session: Session, arguments: argparse.Namespace) -> None:
    """Without an answers file: how to log in and which cluster, as the newest run of this machine had it. Without
    hosts: those that this machine's runs have touched."""
    runs = [run for run in list_runs(session.state_dir) if run.kind == "apply" and run.hosts]
    if arguments.answers or not runs:
        return
    named = session.answers.hosts if arguments.words else ()
    session.answers = answers_from(arguments, runs[0].answers.model_copy(update={"host": {}}))
    take_hosts(session, named or _touched(runs))


def _touched(runs: list[RunRecord]) -> tuple[str, ...]:
    """The hosts that runs have touched, as they were named then, the newest name of each."""
    found: dict[str, str] = {}
    for run in runs:
        names = {host.name for host in run.hosts if host.touched}
        for target in parse_targets(run.answers.hosts):
            if target.name in names:
                found.setdefault(target.name, target.spec)
    return tuple(found.values())


def _from_where(plan: Plan) -> str:
    hosts = sum(1 for host in plan.hosts if host.changes)
    objects = len(plan.cluster.actions)
    parts = [f"on {show.count(hosts, 'host')}"] if hosts else []
    parts += [f"{show.count(objects, 'object')} of the cluster"] if objects else []
    return " and ".join(parts)


def _nothing(session: Session, plan: Plan) -> str:
    """What there is not; hosts that could not be looked at are named by the plan."""
    seen = [host.name for host in plan.hosts if not host.refusals]
    where = f"on {show.listed(seen)}" if seen else "on any host that could be looked at"
    cluster = " or in the cluster" if session.cluster is not None and not plan.cluster.notes else ""
    return f"nothing of gpuwizard stands {where}{cluster}: there is nothing to take back"


def _trail(session: Session) -> Iterator[str]:
    """What stays on the hosts, and how it goes."""
    outcomes = session.report.outcomes if session.report else {}
    done = sorted(name for name, outcome in outcomes.items() if outcome.outcome == "confirmed")
    if done:
        yield f"{_TRAIL} stays on {show.listed(done)} as the audit trail; on each host `sudo rm -r {_TRAIL}` deletes it"
