"""Every way back on real hosts, as a user takes it: one host of a run, all of it, under a later run, all runs at once,
by hand from the run's own README, and after a run that was cut. Bytes, modes, owners and times are those of before.

The ways are gone side by side, each on hosts of its own; most of the time they only wait.
"""

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from gpuwizard.actions import FileChange
from gpuwizard.clock import SystemClock
from gpuwizard.events import Event
from gpuwizard.remote.connect import connect
from gpuwizard.remote.target import parse_targets
from gpuwizard.secret import SecretBytes
from gpuwizard.work.guard import Guard, Hooks
from gpuwizard.work.guard_scripts import GuardedChange
from tests.lab.harness.host import LabHost
from tests.lab.harness.lab import Lab
from tests.lab.operators import Nobody
from tests.lab.test_apply import CRI, LEFT, LOOK, RUNS
from tests.lab.test_end_to_end import Program, said

FreshHost = Callable[[str], LabHost]
Way = Callable[[Program, FreshHost], None]

ANSWERS = """\
version = 1
hosts = [{hosts}]
[kubernetes]
manage = false
[runtime]
default_runtime = "{default}"
[rollout]
unit_hold = 1.0
node_hold = 0.0
confirm_timeout = 45.0
[validation]
enabled = false
"""
SUMS = "cd /etc/containerd && find . -type f -exec sha256sum {} + | sort"


def look(host: LabHost) -> str:
    """Everything below the configuration's folder: bytes, modes, owners, link targets, and the root file's time."""
    return host.run(f"{LOOK}; {SUMS}").stdout


def answers(gpuwizard: Program, *hosts: LabHost, default: str = "leave") -> str:
    path = gpuwizard.folder / f"{default}.toml"
    path.write_text(ANSWERS.format(hosts=", ".join(f'"{host.name}"' for host in hosts), default=default))
    return str(path)


def applied(gpuwizard: Program, *hosts: LabHost, default: str = "leave") -> str:
    """Apply the answers; the id of the run."""
    before = runs(gpuwizard)
    done = gpuwizard("--answers", answers(gpuwizard, *hosts, default=default))
    assert done.returncode == 0, said(done)
    (run,) = set(runs(gpuwizard)) - set(before)
    return run


def runs(gpuwizard: Program) -> list[str]:
    """The runs of this laptop, the oldest first."""
    folder = gpuwizard.state / "runs"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def odd(host: LabHost) -> str:
    """Give the configuration a mode, an owner and a time of its own; what it looks like then."""
    host.run("cd /etc/containerd && chmod 640 config.toml && chgrp adm config.toml && touch -d 2024-02-29 config.toml")
    return look(host)


def well(host: LabHost) -> None:
    """Its containerd and CRI plugins are well, and nothing of a run is left but its folder."""
    host.wait_until('[ "$(systemctl is-active containerd)" = active ]')
    host.wait_until(f'[ "$({CRI})" = ok ]')
    assert host.run(LEFT).stdout == ""


def one_host_of_a_run_then_the_rest_of_it(gpuwizard: Program, fresh_host: FreshHost) -> None:
    one, other = fresh_host("bookworm"), fresh_host("sid")
    before = {host.name: odd(host) for host in (one, other)}
    run = applied(gpuwizard, one, other)
    changed = look(other)
    assert changed != before[other.name]

    done = gpuwizard("rollback", run, one.name, "--yes")
    assert done.returncode == 0, said(done)
    assert look(one) == before[one.name]
    assert look(other) == changed, "nobody asked for that one"
    well(one)

    done = gpuwizard("rollback", run, "--yes")
    assert done.returncode == 0, said(done)
    assert re.search(rf"{one.name}.*put back already", done.stdout), said(done)
    assert {host.name: look(host) for host in (one, other)} == before
    well(one)
    well(other)


def an_older_run_under_a_later_one_of_the_same_file_and_of_another(gpuwizard: Program, fresh_host: FreshHost) -> None:
    host = fresh_host("trixie")
    before = odd(host)
    older = applied(gpuwizard, host)
    between = look(host)
    later = applied(gpuwizard, host, default="nvidia")
    both = look(host)

    done = gpuwizard("rollback", older, "--yes")
    assert done.returncode == 3, said(done)
    assert "config.toml was changed again by a later run" in done.stdout
    assert later in done.stdout, "whoever has to go first is named"
    assert look(host) == both

    done = gpuwizard("rollback", later, "--yes")
    assert done.returncode == 0, said(done)
    assert look(host) == between
    asyncio.run(another_file(gpuwizard.lab, host))
    done = gpuwizard("rollback", older, "--yes")
    assert done.returncode == 0, said(done)
    assert host.read("/etc/containerd/certs.d/example.org/hosts.toml") == b'server = "https://x"\n'
    host.run("rm -r /etc/containerd/certs.d")
    assert look(host) == before, "all else is as it was; what the later run wrote stayed"
    well(host)


async def another_file(lab: Lab, host: LabHost) -> None:
    """A later run, confirmed, of a file that no other run has touched."""
    (target,) = parse_targets((host.name,))
    transport = await connect(target, lab.options(), Nobody())
    file = FileChange("/etc/containerd/certs.d/example.org/hosts.toml", None, SecretBytes(b'server = "https://x"\n'))
    events: list[Event] = []
    change = GuardedChange("another-file", "somebody else", files=(file,), timeout=45)
    outcome = await Guard(transport, change, Hooks(), emit=events.append, clock=SystemClock()).run()
    await transport.close()
    assert outcome.outcome == "confirmed", events


def an_uninstall_takes_back_every_run(gpuwizard: Program, fresh_host: FreshHost) -> None:
    host = fresh_host("sid")
    before = odd(host)
    applied(gpuwizard, host)
    applied(gpuwizard, host, default="nvidia")
    done = gpuwizard("uninstall", "--answers", answers(gpuwizard, host), "--yes")
    assert done.returncode == 0, said(done)
    assert look(host) == before
    well(host)
    again = gpuwizard("uninstall", "--answers", answers(gpuwizard, host), "--yes")
    assert again.returncode == 0, said(again)
    assert look(host) == before


def by_hand_in_place(gpuwizard: Program, fresh_host: FreshHost) -> None:
    as_the_readme_says(gpuwizard, fresh_host("bookworm"))


def by_hand_with_a_drop_in(gpuwizard: Program, fresh_host: FreshHost) -> None:
    as_the_readme_says(gpuwizard, fresh_host("sid"))


def as_the_readme_says(gpuwizard: Program, host: LabHost) -> None:
    """Every command that the README in the run's folder names, one after the other, as root."""
    before = odd(host)
    run = applied(gpuwizard, host)
    assert look(host) != before
    readme = host.read(f"{RUNS}/{run}/README.txt").decode()
    _, _, by_hand = readme.partition("Once it is confirmed")
    commands = [line.strip() for line in by_hand.splitlines() if line.startswith("  ")]
    assert commands[-1] == "systemctl reset-failed 'containerd.service'; systemctl restart 'containerd.service'"
    for command in commands:
        host.run(command)
    assert look(host) == before
    well(host)


def resume_of_a_run_that_was_cut_and_then_its_rollback(gpuwizard: Program, fresh_host: FreshHost) -> None:
    lab = gpuwizard.lab
    host = fresh_host("trixie")
    before = odd(host)
    process = subprocess.Popen(
        [sys.executable, "-m", "gpuwizard", "--answers", answers(gpuwizard, host), "--user", "admin", "--ssh-config",
         str(lab.ssh_config), "--identity", str(lab.key), "--known-hosts", str(lab.known_hosts)],
        env=gpuwizard.environment, cwd=gpuwizard.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + 60
    while not told(gpuwizard, "health"):
        assert process.poll() is None, "it ended before it came so far"
        assert time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL

    done = gpuwizard("resume", "--yes")
    assert done.returncode == 0, said(done)
    (run,) = runs(gpuwizard)
    assert host.run(f"cut -d ' ' -f 1 {RUNS}/{run}/state").stdout == "confirmed\n"
    assert look(host) != before
    done = gpuwizard("rollback", run, "--yes")
    assert done.returncode == 0, said(done)
    assert look(host) == before
    well(host)


def told(gpuwizard: Program, step: str) -> bool:
    """Has the journal of the run heard that its host is at `step`?"""
    lines = [line for path in gpuwizard.state.glob("runs/*/events.jsonl") for line in path.read_text().splitlines()]
    return any(f'"{step}"' in line and json.loads(line)["data"].get("state") == step for line in lines[:-1])


WAYS: tuple[Way, ...] = (
    an_older_run_under_a_later_one_of_the_same_file_and_of_another,
    an_uninstall_takes_back_every_run,
    one_host_of_a_run_then_the_rest_of_it,
    resume_of_a_run_that_was_cut_and_then_its_rollback,
    by_hand_with_a_drop_in,
    by_hand_in_place,
)


def go(way: Way, lab: Lab, folder: Path) -> None:
    """One way, on hosts that are removed afterwards."""
    hosts: list[LabHost] = []

    def fresh(suite: str) -> LabHost:
        hosts.append(lab.fresh(suite, name=f"undo-{WAYS.index(way)}-{suite}"))
        return hosts[-1]

    try:
        way(Program(lab, folder), fresh)
    finally:
        for host in hosts:
            lab.remove(host)


@pytest.fixture(scope="module")
def gone(
    request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Way, "Future[None]"]]:
    """The ways that this run of tests asks for, all under way."""
    here = [item for item in request.session.items if item.path == request.path]
    chosen = [way for way in WAYS if any(way.__name__ in item.name for item in here)]
    with ThreadPoolExecutor(len(chosen)) as pool:
        yield {way: pool.submit(go, way, lab, tmp_path_factory.mktemp("laptop")) for way in chosen}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
def test_the_host_is_as_it_was(way: Way, gone: "dict[Way, Future[None]]") -> None:
    gone[way].result()
