"""The table of faults itself, and the page that a run of all of them writes."""

import re
from datetime import UTC, datetime

from tests.lab.faults.model import FLAVOURS, Cell, Ending
from tests.lab.faults.page import page
from tests.lab.faults.table import CI, FAULTS, cells


def test_every_fault_has_a_name_of_its_own_and_words_that_not_every_report_has() -> None:
    names = [(fault.group, fault.name) for fault in FAULTS]
    assert len(set(names)) == len(names)
    for fault in FAULTS:
        for report in ("", "failed", "rolled-back", "unconfirmed", "refused", "confirmed; failed"):
            assert not re.search(fault.says, report), f"{fault.name}: {fault.says} matches {report!r}"
        assert set(fault.suites) <= set(FLAVOURS)


def test_the_run_of_every_push_has_one_cell_of_each_group() -> None:
    groups = [cell.fault.group for cell in CI]
    assert sorted(groups) == sorted({fault.group for fault in FAULTS})


def test_the_page_tells_each_fault_once_and_counts_no_simulated_one() -> None:
    results: dict[Cell, Ending] = {cell: Ending("as before", "x", (), 1.0) for cell in cells()}
    broken = next(iter(results))
    results[broken] = Ending("broken", "x", ("y",), 1.0)
    text = page(results, {"trixie": "1.7.24"}, datetime(2026, 11, 29, tzinfo=UTC))
    simulated = sum(bool(cell.fault.simulated) for cell in results)
    assert f"{len(results) - simulated} cells run for real, {simulated} simulated and not counted, 1 broken" in text
    for fault in FAULTS:
        mark = " (simulated)" if fault.simulated else ""
        assert text.count(f"| {fault.group} | {fault.name}{mark} |") == 1
    assert "**broken**" in text
