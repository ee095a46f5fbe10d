"""From arguments to a running application: opens the session and gives it to the wizard or the monitor."""

import argparse
import asyncio
import sys

from gpuwizard.errors import InterruptedRunError
from gpuwizard.opening import open_session
from gpuwizard.session import Session
from gpuwizard.unattended import check_pages

__all__ = ["start_monitor", "start_wizard"]


def start_wizard(arguments: argparse.Namespace) -> int:
    """Run the wizard; returns the exit code."""
    return asyncio.run(_run(arguments, monitor=False))


def start_monitor(arguments: argparse.Namespace) -> int:
    """Run the monitor screen alone; returns the exit code."""
    return asyncio.run(_run(arguments, monitor=True))


async def _run(arguments: argparse.Namespace, *, monitor: bool) -> int:
    if arguments.simulate:
        sys.stderr.write(f"gpuwizard: starting the simulated fleet {arguments.simulate} …\n")
        sys.stderr.flush()
    async with open_session(arguments, tuple(arguments.words)) as session:
        if monitor:
            check_pages(session)
        return await _show(session, monitor=monitor)


async def _show(session: Session, *, monitor: bool) -> int:
    from screens.app import GpuwizardApp

    session.interactive = True
    app = GpuwizardApp(session, start="monitor" if monitor else "hosts")
    code = await app.run_async()
    if code is None:
        raise InterruptedRunError("the wizard was left")
    return code
