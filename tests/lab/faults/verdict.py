"""The end state of a host, read from the host alone: as before, applied, foreign, or what is wrong with it."""

import hashlib
import re

from gpuwizard.actions import WriteFile
from tests.lab.faults.site import RUNS, Site, Tree, look
from tests.lab.harness.shell import LabError

__all__ = ["report", "settle", "verdict"]

_QUIET = (
    "! systemctl list-units --state=active,activating,deactivating --plain --no-legend 'gpuwizard*' | grep -q . && "
    f"! ls {RUNS}/*/armed >/dev/null 2>&1 && "
    "{ [ ! -e /var/lib/gpuwizard/lock ] || flock -n /var/lib/gpuwizard/lock true; }"
)
_WELL = (
    "{ [ ! -d /run/systemd/system ] || [ $(systemctl is-active containerd) = active ]; } && "
    '[ "$(ctr plugins ls | awk \'$1 ~ /cri/ || $2 == "cri" { print $NF }\' | sort -u)" = ok ]'
)
_NO_LOGINS = (
    "m=$(systemctl show -P MainPID ssh.service 2>/dev/null || cat /run/sshd.pid); "
    'for d in /proc/[0-9]*; do read -r n <"$d/comm" || continue; '
    'case $n in sshd | sshd-session | sshd-auth) [ "${d#/proc/}" = "$m" ] || exit 1 ;; esac; done 2>/dev/null'
)
_ORPHANS = {
    "a unit": "systemctl list-units --state=active,activating,deactivating,failed --plain --no-legend 'gpuwizard*'",
    "a unit file": "find /etc/systemd /run/systemd/transient -name 'gpuwizard*'",
    "an armed mark": f"ls -d {RUNS}/*/armed 2>/dev/null",
    "a temporary file": (
        "find /etc /var/lib/gpuwizard /tmp /root /var/tmp -xdev "
        r"\( -name '.gpuwizard.*' -o -name 'gpuwizard.????????' -o -name 'log.part.*' -o -name 'dump.*' "
        r"-o -name judge \) "
        "2>/dev/null | grep -e gpuwizard"
    ),
    "a process": "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | "
    "grep -ao 'guard[.]sh [a-z]*\\|[g]puwizard[^ ]*'",
    "a mount": "findmnt -rno TARGET,SOURCE | grep gpuwizard/runs",
    "a job": "systemctl list-jobs --no-legend",
}


def settle(site: Site) -> list[str]:
    """Wait until nothing of a run is at work on the host; what kept it from that, else nothing."""
    host = site.host
    wrong = []
    for what, condition, seconds in (
        ("a run is still at work", _QUIET, site.limit + 100),
        ("containerd or its CRI plugin is not well", _WELL, 30),
        ("a login stays open", _NO_LOGINS, 15),
    ):
        try:
            host.wait_until(condition, timeout=seconds)
        except LabError:
            wrong.append(what)
    # A sudo or a lock's holder hears of the end of its login a moment later.
    host.run(f"for i in 1 2 3 4 5 6 7 8 9 10; do {_ORPHANS['a process']} >/dev/null || break; sleep 1; done; true")
    for what, command in _ORPHANS.items():
        found = [line.strip() for line in host.run(f"{{ {command}; }} || true").stdout.splitlines()]
        if found := [line for line in found if not line.startswith(tuple(_dead(site)))]:
            wrong.append(f"{what} is left: {found[0]}")
    return wrong


def _dead(site: Site) -> list[str]:
    """Folders of runs that died before they were armed: the next run sweeps them (tests/guard/test_revert.py)."""
    ask = f'for r in {RUNS}/*/; do grep -qsv ^prepared "$r/state" || echo "$r"; done'
    return [folder for folder in site.host.run(ask).stdout.split() if "*" not in folder]


def verdict(site: Site, wrong: list[str]) -> tuple[str, list[str]]:
    """The end state, and what is wrong with it."""
    now = look(site.host)
    state = _words(site)
    end = _end(site, now)
    if end is None:
        return "broken", [*wrong, f"neither the old nor the new files: {_difference(site.tree, now)}"]
    if end == "applied" and "confirmed" not in state:
        wrong.append(f"the new files are there, but the host's state is {state}")
    if end == "as before" and "confirmed" in state and not site.taken_back:
        wrong.append("the host says confirmed, but has the old files")
    if "revert-failed" in state:
        wrong.append("the revert says that it failed")
    wrong += _reported(site, end)
    site.said = report(site)
    if not re.search(site.cell.fault.says, site.said):
        wrong.append(f"its report does not match {site.cell.fault.says!r}: {site.said}")
    if end not in site.cell.fault.ends:
        wrong.append(f"{end} is not what this fault may lead to")
    return end, wrong


def report(site: Site) -> str:
    """What is told of the host: by the runs' outcomes, or, where nobody lives who could tell, by its own states."""
    told = "; ".join(f"{o.outcome} {o.reason}".strip() for o in site.outcomes)
    if told:
        return told
    lines = site.host.run(f"head -q -n 1 {RUNS}/*/state 2>/dev/null || true").stdout.splitlines()
    states = [[*line.split(" ", 2), "", ""] for line in lines]
    return "; ".join(f"{state[0]} {state[2]}".strip() for state in states) or "no run came so far"


def _words(site: Site) -> list[str]:
    return site.host.run(f"cat {RUNS}/*/state 2>/dev/null | cut -d ' ' -f 1").stdout.split()


def _end(site: Site, now: Tree) -> str | None:
    wanted = _applied(site)
    if not site.written:
        return "as before" if now == site.tree else "applied" if wanted is not None and now == wanted else None
    for path, raw in site.written.items():
        if now.get(path, ("",))[-1] != hashlib.sha256(raw).hexdigest():
            return None
    folders = {path.rpartition("/")[0] for path in site.written}
    left_out = set(site.written) | {f for f in folders if f not in site.tree}

    def others(tree: Tree) -> Tree:
        return {path: row for path, row in tree.items() if path not in left_out}

    fits = others(now) == others(site.tree) or (wanted is not None and others(now) == others(wanted))
    return "foreign" if fits else None


def _applied(site: Site) -> Tree | None:
    """The tree that the plan leads to."""
    if site.planned is None:
        return None
    tree = dict(site.tree)
    for action in site.planned.hosts[0].actions:
        if not isinstance(action, WriteFile):
            continue
        change = action.change
        path = site.resolved(change.path)
        if change.after is None:
            tree.pop(path, None)
            continue
        folder = path.rpartition("/")[0]
        while folder.startswith("/etc/") and folder not in tree and folder != "/etc":
            tree[folder] = ("d", "755", "0", "0", "", "")
            folder = folder.rpartition("/")[0]
        old = tree.get(path, ("f", f"{change.mode:o}", "0", "0", "", ""))
        tree[path] = (*old[:-1], change.after.sha256)
    return tree


def _reported(site: Site, end: str) -> list[str]:
    """Does each report say what the host says?"""
    wrong = []
    confirmed = any(o.outcome == "confirmed" and o.stage == "apply" for o in site.outcomes) and not any(
        o.outcome == "confirmed" and o.stage == "rollback" for o in site.outcomes
    )
    if site.outcomes and end == "applied" and not confirmed:
        wrong.append(f"applied, but reported as {[(o.outcome, o.reason) for o in site.outcomes]}")
    if end == "as before" and confirmed:
        wrong.append("as before, but reported as confirmed")
    if end == "foreign" and site.outcomes and not any(_tells(o.reason, site) for o in site.outcomes):
        wrong.append(f"a foreign change that nobody reports: {[(o.outcome, o.reason) for o in site.outcomes]}")
    return wrong


def _tells(reason: str, site: Site) -> bool:
    return any(path in reason for path in site.paths()) or "foreign" in reason


def _difference(old: Tree, new: Tree) -> str:
    paths = sorted(p for p in old.keys() | new.keys() if old.get(p) != new.get(p))
    return ", ".join(f"{p}: {old.get(p)} is {new.get(p)}" for p in paths[:3])
