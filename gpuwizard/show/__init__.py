"""Plans, findings, facts and results in words, for every front end: plain text that knows no terminal."""

from gpuwizard.show.facts import fact_lines
from gpuwizard.show.hosts import finding_lines, gpu_summary, runtime_summary
from gpuwizard.show.plan import plan_lines
from gpuwizard.show.result import summary_lines
from gpuwizard.show.runs import run_blocks, run_line
from gpuwizard.show.words import MARKS, count, listed

__all__ = [
    "MARKS",
    "count",
    "fact_lines",
    "finding_lines",
    "gpu_summary",
    "listed",
    "plan_lines",
    "run_blocks",
    "run_line",
    "runtime_summary",
    "summary_lines",
]
