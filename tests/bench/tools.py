"""One tool as a command line, and what a run of it costs: for the benchmarks that compare gpuwizard with its peers."""

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.lab_hosts import Fleet

__all__ = [
    "Figures",
    "Tool",
    "ansible_after",
    "ansible_environment",
    "measure",
    "medians",
    "pyinfra_inventory",
    "ratio",
]

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Tool:
    """A command line. `complete` says of its output whether every host answered; `after` ends what it left running."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    statuses: tuple[int, ...] = (0,)
    complete: Callable[[bytes], bool] | None = None
    after: tuple[str, ...] = ()


def ansible_environment(fleet: Fleet, folder: Path) -> dict[str, str]:
    """Ansible's settings: pipelining, keys checked, the lab's SSH configuration, and connections that stay open for its
    next task, as by default."""
    sockets = folder / "sockets"
    sockets.mkdir()
    return {
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
        "ANSIBLE_SSH_ARGS": f"-F {fleet.ssh_config} -o ControlMaster=auto -o ControlPersist=60s",
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        "ANSIBLE_HOME": str(folder / "ansible"),
        "ANSIBLE_LOCALHOST_WARNING": "False",
    }


def ansible_after(folder: Path) -> tuple[str, ...]:
    """Closes the connections that Ansible left open."""
    sockets = folder / "sockets"
    return (
        "sh",
        "-c",
        f"for s in {sockets}/*; do [ -S $s ] && ssh -o ControlPath=$s -O exit x; done 2>/dev/null; true",
    )


def pyinfra_inventory(fleet: Fleet, folder: Path) -> Path:
    """The lab's hosts as pyinfra's inventory."""
    login = {
        "ssh_user": "admin",
        "ssh_key": str(fleet.lab.key),
        "ssh_known_hosts_file": str(fleet.lab.known_hosts),
        "ssh_strict_host_key_checking": "yes",
    }
    hosts = [(host.name, {"ssh_hostname": host.address, **login}) for host in fleet.hosts]
    inventory = folder / "inventory.py"
    inventory.write_text(f"hosts = {hosts!r}\n")
    return inventory


def measure(tool: Tool, fleet: Fleet) -> Figures:
    """One run, from start to exit."""
    environment = {**os.environ, "NO_COLOR": "1", **tool.environment}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody compiles a program at each start
    used, hosts, began = resource.getrusage(resource.RUSAGE_CHILDREN), fleet.cpu(), time.perf_counter()
    done = subprocess.run(tool.argv, env=environment, capture_output=True, check=False)
    wall = time.perf_counter() - began
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in tool.statuses or (tool.complete and not tool.complete(done.stdout)):
        said = (done.stderr or done.stdout).decode(errors="replace")[-2000:]
        raise SystemExit(f"{tool.name}: status {done.returncode}: {said}")
    if tool.after:
        subprocess.run(tool.after, check=False, capture_output=True)
    client = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    spent = fleet.cpu() - hosts
    return {"wall": wall, "client": client, "hosts": spent, "floor": (client + spent) / (os.cpu_count() or 1)}


def medians(rounds: Sequence[Mapping[str, float]]) -> Figures:
    """Of each figure the median over the rounds."""
    return {key: round(statistics.median(one[key] for one in rounds), 2) for key in rounds[0]}


def ratio(theirs: Sequence[Figures], ours: Sequence[Figures]) -> float:
    """How many times as fast we were: the median over the rounds, each round against itself."""
    return statistics.median(their["wall"] / our["wall"] for their, our in zip(theirs, ours, strict=True))
