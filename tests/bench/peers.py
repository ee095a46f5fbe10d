"""The same hosts, asked by gpuwizard and by its peers: ``python tests/bench/peers.py --ansible BIN --pyinfra BIN``.

Needs root on Debian (tests/lab/README.md) and the peers' programs, from an environment of their own: ``python -m venv
peers && peers/bin/pip install ansible-core pyinfra``. Boots `--hosts` lab hosts and runs each tool once a round, in
turn, so that the figures of a round are of one machine in one state. All use curve25519 for the key exchange:

gpuwizard  ``gpuwizard check --json``, the whole program from start to exit
few hosts  the same for one host of each release: what is beyond it is the cost of a host without the start-up
ansible    ``ansible -m setup`` with 50 forks and pipelining
pyinfra    nine facts
xargs ssh  the probe that gpuwizard runs, through one ``ssh`` a host: no facts, no findings; and the same with
           ``true`` instead of the probe, which is what a login alone costs

For each: wall seconds, CPU seconds of the client, CPU seconds of the hosts, and `floor`, the seconds that this CPU
takes on all cores. The hosts share the cores with the client, so that no tool can be faster than its floor.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(HERE))

from tests.bench.lab_hosts import Fleet, lab_fleet  # noqa: E402 - runs as a script
from tests.lab.harness.recipe import SUITES  # noqa: E402

FEW = len(SUITES)
FACTS = (
    "server.Hostname",
    "server.Kernel",
    "server.KernelVersion",
    "server.Arch",
    "server.LinuxDistribution",
    "server.Users",
    "server.Mounts",
    "deb.DebPackages",
    "systemd.SystemdStatus",
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A command line. `complete` says of its output whether every host answered; `after` ends what it left running."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    statuses: tuple[int, ...] = (0,)
    complete: Callable[[bytes], bool] | None = None
    after: tuple[str, ...] = ()


def tools(fleet: Fleet, arguments: argparse.Namespace, folder: Path) -> list[Tool]:
    """The tools that can run here."""
    from gpuwizard.remote.script import render
    from gpuwizard.work.probe import probe_script

    login = ("--ssh-config", str(fleet.ssh_config), "--known-hosts", str(fleet.lab.known_hosts))
    check = (sys.executable, "-m", "gpuwizard", "check", "--json", "--parallel", "50", *login)
    own = {"PYTHONPATH": str(HERE), "GPUWIZARD_STATE_DIR": str(folder / "state")}
    found = [  # 1: a host has an error, which is a finding
        Tool("gpuwizard", (*check, *fleet.names), own, (0, 1), all_looked_at),
        Tool("few hosts", (*check, *fleet.names[:FEW]), own, (0, 1), all_looked_at),
        xargs(fleet, folder, "xargs ssh", render(probe_script(), "token123")),
        xargs(fleet, folder, "xargs ssh true", b"true\n"),
    ]
    if arguments.ansible:
        found.append(ansible(fleet, arguments.ansible, folder))
    if arguments.pyinfra:
        found.append(pyinfra(fleet, arguments.pyinfra, folder))
    return found


def all_looked_at(output: bytes) -> bool:
    """True for a document of `gpuwizard check --json` in which every host has facts, seen to the end."""
    if not output.startswith(b"{"):
        return False
    hosts = json.loads(output)["hosts"]
    return all(host["facts"] and not any("cut off" in u["why"] for u in host["facts"]["unseen"]) for host in hosts)


def xargs(fleet: Fleet, folder: Path, name: str, script: bytes) -> Tool:
    """A script through plain ssh."""
    file, names = folder / f"{name}.sh", folder / f"{name}.names"
    file.write_bytes(script)
    names.write_text("".join(f"{host}\n" for host in fleet.names))
    one = f"ssh -F {fleet.ssh_config} -o BatchMode=yes {{}} 'exec /bin/sh -s' <'{file}'"
    return Tool(name, ("xargs", "-a", str(names), "-P", "50", "-I{}", "sh", "-c", one))


def ansible(fleet: Fleet, program: str, folder: Path) -> Tool:
    """All facts of ``setup``. Its connections stay open for its next task, as by default; they are closed after it."""
    inventory = folder / "inventory.ini"
    inventory.write_text("".join(f"{name}\n" for name in fleet.names))
    sockets = folder / "sockets"
    sockets.mkdir()
    environment = {
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
        "ANSIBLE_SSH_ARGS": f"-F {fleet.ssh_config} -o ControlMaster=auto -o ControlPersist=60s",
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        "ANSIBLE_HOME": str(folder / "ansible"),
        "ANSIBLE_LOCALHOST_WARNING": "False",
    }
    close = f"for s in {sockets}/*; do [ -S $s ] && ssh -o ControlPath=$s -O exit x; done 2>/dev/null; true"
    argv = (program, "all", "-i", str(inventory), "-m", "setup", "-f", "50", "-o")
    return Tool("ansible", argv, environment, after=("sh", "-c", close))


def pyinfra(fleet: Fleet, program: str, folder: Path) -> Tool:
    """Nine facts."""
    login = {
        "ssh_user": "admin",
        "ssh_key": str(fleet.lab.key),
        "ssh_known_hosts_file": str(fleet.lab.known_hosts),
        "ssh_strict_host_key_checking": "yes",
    }
    hosts = [(host.name, {"ssh_hostname": host.address, **login}) for host in fleet.hosts]
    inventory = folder / "inventory.py"
    inventory.write_text(f"hosts = {hosts!r}\n")
    return Tool("pyinfra", (program, "-y", "--parallel", "50", str(inventory), "fact", *FACTS))


def measure(tool: Tool, fleet: Fleet) -> dict[str, float]:
    """One run, from start to exit."""
    environment = {**os.environ, "NO_COLOR": "1", **tool.environment}
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


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each figure the median over the rounds."""
    return {key: round(statistics.median(one[key] for one in rounds), 2) for key in rounds[0]}


def report(rounds: Mapping[str, list[dict[str, float]]], count: int) -> None:
    """A line a tool, then what gpuwizard must keep: ratios of one round each, their median."""
    for name, runs in rounds.items():
        print(
            json.dumps({"tool": name, "N": FEW if name == "few hosts" else count, "rounds": len(runs)} | medians(runs))
        )
    own = rounds["gpuwizard"]
    verdict = {
        "client ms a host beyond start-up": statistics.median(
            (many["client"] - few["client"]) * 1000 / (count - FEW)
            for many, few in zip(own, rounds["few hosts"], strict=True)
        ),
        "wall over floor": statistics.median(run["wall"] / run["floor"] for run in own),
        "hosts' ms a host, login and all": statistics.median(run["hosts"] for run in own) * 1000 / count,
    }
    for name in rounds.keys() - {"gpuwizard", "few hosts"}:
        faster = (theirs["wall"] / ours["wall"] for theirs, ours in zip(rounds[name], own, strict=True))
        verdict[f"times as fast as {name}"] = statistics.median(faster)
    print(json.dumps({key: round(value, 2) for key, value in sorted(verdict.items())}))


def main() -> None:
    """Boot, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--varied", action="store_true", help="let every host have other contents in its files")
    parser.add_argument("--ansible", help="the program `ansible`")
    parser.add_argument("--pyinfra", help="the program `pyinfra`")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fleet = stack.enter_context(lab_fleet(arguments.hosts, python=bool(arguments.ansible), varied=arguments.varied))
        chosen = tools(fleet, arguments, folder)
        for tool in chosen:
            measure(tool, fleet)  # once unmeasured: what is read for the first time, here and there
        rounds: dict[str, list[dict[str, float]]] = {tool.name: [] for tool in chosen}
        for number in range(arguments.rounds):
            load = os.getloadavg()[0]
            for tool in chosen:
                rounds[tool.name].append(measure(tool, fleet))
                figures = {key: round(value, 2) for key, value in rounds[tool.name][-1].items()}
                print(json.dumps({"round": number, "load": round(load, 1), "tool": tool.name} | figures), flush=True)
        report(rounds, arguments.hosts)


if __name__ == "__main__":
    main()
