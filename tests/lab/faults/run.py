"""Run cells: a fresh host each, the fault provoked while a real plan is applied, the end read from the host."""

import asyncio
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from gpuwizard.errors import GpuwizardError
from tests.lab.faults.model import Cell, Ending
from tests.lab.faults.site import Site, look
from tests.lab.faults.verdict import settle, verdict
from tests.lab.harness.lab import Lab

__all__ = ["run_cell", "run_cells"]

_PATIENCE = 300.0  # seconds for one cell, far more than any needs


async def run_cells(
    lab: Lab, cells: Iterable[Cell], side_by_side: int, tell: Callable[[Cell, Ending], None]
) -> dict[Cell, Ending]:
    """Every cell on a host of its own, some side by side."""
    slots = asyncio.Semaphore(side_by_side)

    async def one(number: int, cell: Cell) -> tuple[Cell, Ending]:
        async with slots:
            ending = await run_cell(lab, cell, number)
            tell(cell, ending)
            return cell, ending

    return dict(await asyncio.gather(*(one(number, cell) for number, cell in enumerate(cells))))


async def run_cell(lab: Lab, cell: Cell, number: int = 0) -> Ending:
    """One fault on one fresh host, removed afterwards."""
    began = time.monotonic()
    host = await asyncio.to_thread(lab.fresh, cell.suite, name=f"f{number}-{cell.suite}", **cell.fault.host)
    try:
        with tempfile.TemporaryDirectory(prefix="gpuwizard-faults-") as folder:
            site = Site(lab, cell, host, Path(folder))
            try:
                async with asyncio.timeout(_PATIENCE):
                    end, wrong = await _play(site)
            except Exception as problem:  # a cell that cannot even be played is broken, the others go on
                where = traceback.extract_tb(problem.__traceback__)[-1]
                end, wrong = "broken", [f"{type(problem).__name__} at {where.name}:{where.lineno}: {problem}"]
            return Ending("broken" if wrong else end, site.said, tuple(wrong), time.monotonic() - began)
    finally:
        await asyncio.to_thread(lab.remove, host)


async def _play(site: Site) -> tuple[str, list[str]]:
    fault = site.cell.fault
    if fault.before:
        await asyncio.to_thread(site.host.run, fault.before)
    site.tree = await asyncio.to_thread(look, site.host)
    try:
        await (fault.play or apply)(site)
        await site.struck_out()
    finally:
        await asyncio.to_thread(site.host.heal)
        await site.close()
    wrong = await asyncio.to_thread(settle, site)
    if fault.strike is not None and not site.struck:
        wrong.append("the fault was not provoked: its moment never came")
    end, wrong = await asyncio.to_thread(verdict, site, wrong)
    return end, wrong + site.notes


async def apply(site: Site) -> None:
    """The usual play: log in, plan, apply, and believe only what is reported."""
    transport = await site.login()
    plan = await site.plan(transport)
    if site.cell.fault.between is not None:
        await asyncio.to_thread(site.cell.fault.between, site)
    try:
        report = await site.operator().apply(plan, transport)
    except GpuwizardError as error:
        site.notes.append(f"apply raised {error}")
        return
    site.outcomes += report.outcomes.values()
