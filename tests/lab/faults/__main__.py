"""``python -m tests.lab.faults [WORD…]``: run every cell (or those whose name has one of the words) and print how each
ended; a run of all cells writes assets/docs/faults.md. Root on Debian, with GPUWIZARD_LAB=1."""

import argparse
import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

from tests.lab.faults.model import Cell, Ending
from tests.lab.faults.page import page
from tests.lab.faults.run import run_cells
from tests.lab.faults.table import cells
from tests.lab.harness.base import build_bases, lab_directory
from tests.lab.harness.lab import Lab
from tests.lab.harness.recipe import SUITES

PAGE = Path(__file__).parents[3] / "assets" / "docs" / "faults.md"


def main() -> int:
    """Run, tell, write; 1 when a cell is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.faults", description=__doc__)
    parser.add_argument("word", nargs="*", help="only cells whose name has one of these; no page is written")
    parser.add_argument("--hosts", type=int, default=6, help="hosts at the same time (6)")
    parser.add_argument("--list", action="store_true", help="only print the cells")
    arguments = parser.parse_args()
    chosen = [c for c in cells() if not arguments.word or any(word in c.name for word in arguments.word)]
    if arguments.list:
        print(*(cell.name for cell in chosen), sep="\n")
        return 0
    if os.environ.get("GPUWIZARD_LAB") != "1" or os.geteuid():
        parser.error("the lab changes networks and limits of this machine: it runs as root and with GPUWIZARD_LAB=1")
    bases = build_bases(SUITES, lab_directory(), print)
    lab = Lab(bases, lab_directory())
    try:
        results = asyncio.run(run_cells(lab, chosen, arguments.hosts, _tell))
    finally:
        lab.close()
    broken = [cell for cell, ending in results.items() if ending.end == "broken"]
    print(f"{len(results)} cells, {len(broken)} broken")
    if not arguments.word:
        versions = {suite: base.containerd for suite, base in bases.items()}
        PAGE.write_text(page(results, versions, datetime.now(UTC)), encoding="utf-8")
        print(f"wrote {PAGE}")
    return 1 if broken else 0


def _tell(cell: Cell, ending: Ending) -> None:
    print(f"{ending.end:<9} {ending.seconds:5.1f} s  {cell.name}  ({ending.outcome[:150]})", flush=True)
    for word in ending.wrong:
        print(f"          ! {word}", flush=True)


raise SystemExit(main())
