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
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(HERE))

from tests.bench.lab_hosts import Fleet, lab_fleet  # noqa: E402 - runs as a script
from tests.bench.tools import (  # noqa: E402
    Figures,
    Tool,
    ansible_after,
    ansible_environment,
    measure,
    medians,
    pyinfra_inventory,
    ratio,
)
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
    """All facts of ``setup``."""
    inventory = folder / "inventory.ini"
    inventory.write_text("".join(f"{name}\n" for name in fleet.names))
    argv = (program, "all", "-i", str(inventory), "-m", "setup", "-f", "50", "-o")
    return Tool("ansible", argv, ansible_environment(fleet, folder), after=ansible_after(folder))


def pyinfra(fleet: Fleet, program: str, folder: Path) -> Tool:
    """Nine facts."""
    return Tool("pyinfra", (program, "-y", "--parallel", "50", str(pyinfra_inventory(fleet, folder)), "fact", *FACTS))


def report(rounds: Mapping[str, list[Figures]], count: int) -> None:
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
        verdict[f"times as fast as {name}"] = ratio(rounds[name], own)
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
        rounds: dict[str, list[Figures]] = {tool.name: [] for tool in chosen}
        for number in range(arguments.rounds):
            load = os.getloadavg()[0]
            for tool in chosen:
                rounds[tool.name].append(measure(tool, fleet))
                figures = {key: round(value, 2) for key, value in rounds[tool.name][-1].items()}
                print(json.dumps({"round": number, "load": round(load, 1), "tool": tool.name} | figures), flush=True)
        report(rounds, arguments.hosts)


if __name__ == "__main__":
    main()
