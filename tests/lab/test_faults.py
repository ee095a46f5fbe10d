"""One cell of every fault of the matrix, side by side; `python -m tests.lab.faults` runs all of them."""

import pytest

from tests.lab.faults.run import run_cells
from tests.lab.faults.table import CI
from tests.lab.harness.lab import Lab


@pytest.mark.timeout(600)
async def test_no_fault_leaves_a_host_broken(lab: Lab) -> None:
    results = await run_cells(lab, CI, 6, lambda cell, ending: print(cell.name, ending))
    assert len(results) == len(CI)
    broken = [f"{cell.name}: {'; '.join(e.wrong)}" for cell, e in results.items() if e.end == "broken"]
    assert not broken, "\n".join(broken)
