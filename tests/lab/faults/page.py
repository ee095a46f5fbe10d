"""The page of the documentation that a full run writes."""

from collections.abc import Mapping
from datetime import datetime

from tests.lab.faults.model import FLAVOURS, Cell, Ending

__all__ = ["page"]


def page(results: Mapping[Cell, Ending], versions: Mapping[str, str], when: datetime) -> str:
    """Fault by flavour by end state, of one run."""
    real = [cell for cell in results if not cell.fault.simulated]
    broken = sum(results[cell].end == "broken" for cell in results)
    suites = list(FLAVOURS)
    head = "| fault | when or where | " + " | ".join(FLAVOURS[s] for s in suites) + " |"
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for cell, ending in results.items():
        key = (cell.fault.group, cell.fault.name, cell.fault.simulated)
        rows.setdefault(key, {})[cell.suite] = f"**{ending.end}**" if ending.end == "broken" else ending.end
    order = list(dict.fromkeys((c.fault.group, c.fault.name, c.fault.simulated) for c in _in_table_order(results)))
    lines = [
        f"| {group} | {name}{' (simulated)' if simulated else ''} | "
        + " | ".join(rows[group, name, simulated].get(suite, "–") for suite in suites)
        + " |"
        for group, name, simulated in order
    ]
    installed = ", ".join(f"{FLAVOURS[s].partition(',')[0]}: {versions[s]}" for s in suites if s in versions)
    return f"""\
# Faults, and how a host ends

What `python -m tests.lab.faults` did on {when:%Y-%m-%d}: {len(real)} cells run for real, {len(results) - len(real)} \
simulated and not counted, {broken} broken.

Each cell is a fresh host with its own systemd, sshd, sudo and containerd ({installed}), \
to which a real plan is applied while the fault is provoked. Afterwards the host alone is looked at:

- **as before**: every file, mode and owner below the configuration's folder is what it was, containerd is active and
  its CRI plugins are ok.
- **applied**: exactly the planned files are there, containerd and CRI are well, the host's record says confirmed.
- **foreign**: somebody else's bytes are left as they are and the report names them; all else is as before or as
  planned.
- **broken**: anything else, also a report that says another thing than the host or not why, or something left behind:
  a timer, a unit, a lock that is held, a temporary file, a login, a process, a mount.

Two things may stay and are no orphans: the folder of a run that died before it was armed (root only; the next run
sweeps it away), and systemd's memory, without a file and inactive, of a boot unit that has done its work.

{head}
|---|---|{"---|" * len(suites)}
{chr(10).join(lines)}

"–": the fault does not belong to this flavour, or was not run there. The lab has no cluster: where the API server is
the fault, it is the one of the simulated fleet.
"""


def _in_table_order(results: Mapping[Cell, Ending]) -> list[Cell]:
    from tests.lab.faults.table import FAULTS

    place = {(fault.group, fault.name): number for number, fault in enumerate(FAULTS)}
    return sorted(results, key=lambda cell: place[cell.fault.group, cell.fault.name])
