"""A change of two files and a restart on many hosts, by gpuwizard and by its peers.

``python tests/bench/peers_apply.py --ansible BIN --pyinfra BIN`` needs what peers.py needs. All hosts are
Debian sid, where gpuwizard plans two files: containerd's config.toml, which is to import a folder, and a drop-in there.
Every tool writes the same two on every host and restarts containerd; then it runs once more with nothing left to
change. Before the next tool the hosts are set back.

gpuwizard  ``gpuwizard --answers FILE --yes``: probe, plan, guarded apply (backup, the runtime's own judgement, armed
           revert, health, confirmation); no canary, all hosts at once, no holds
few hosts  the same for three hosts: what is beyond it is the cost of a host without the start-up
ansible    ``ansible-playbook`` with 30 forks and pipelining: copy with backup, a handler that restarts
pyinfra    two files.put and a restart; it has no backup
"""

import argparse
import contextlib
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
from tests.lab.harness.host import LabHost  # noqa: E402

FEW = 3
SUITE = "sid"
FOLDER = "/etc/containerd"
OWN = ("gpuwizard", "few hosts")
_KEEP = f"cp -a {FOLDER} /root/before"
_BACK = f"""
rm -rf {FOLDER} /var/lib/gpuwizard
cp -a /root/before {FOLDER}
systemctl reset-failed containerd
systemctl restart containerd
"""
_RESTARTS = "systemctl show -P InvocationID containerd.service"
_PLAYBOOK = """
- hosts: all
  become: true
  gather_facts: false
  tasks:
    - name: folder
      file: {{ path: /etc/containerd/conf.d, state: directory, mode: "0755" }}
    - name: write
      copy:
        src: "{folder}/{{{{ item }}}}"
        dest: "/etc/containerd/{{{{ item }}}}"
        mode: "0644"
        backup: true
      loop: {names}
      notify: restart
  handlers:
    - name: restart
      systemd_service: {{ name: containerd, state: restarted }}
"""
_DEPLOY = """
from pyinfra import host
from pyinfra.operations import files, systemd

written = [
    files.put(src=f"{folder}/{{name}}", dest=f"/etc/containerd/{{name}}", mode="644", _sudo=True)
    for name in {names}
]
systemd.service(service="containerd", restarted=True, _sudo=True, _if=lambda: any(one.did_change() for one in written))
"""


@dataclass(frozen=True, slots=True)
class Change:
    """The files to write, below `folder`, by their names below containerd's folder."""

    folder: Path
    names: tuple[str, ...]

    def made_on(self, host: LabHost) -> bool:
        """True when the host has exactly these bytes."""
        wanted = {name: (self.folder / name).read_bytes() for name in self.names}
        return all(host.sha256(f"{FOLDER}/{n}") == hashlib.sha256(data).hexdigest() for n, data in wanted.items())


def everywhere(fleet: Fleet, command: str) -> dict[str, str]:
    """Run a command on all hosts, not through SSH; its output by host."""
    with ThreadPoolExecutor(8) as pool:
        ran = pool.map(lambda host: host.run(command).stdout.strip(), fleet.hosts)
        return dict(zip(fleet.names, ran, strict=True))


def set_back(fleet: Fleet) -> None:
    """Give every host its files of before and wait until the restarts are over."""
    everywhere(fleet, _BACK)
    time.sleep(3)


def answers(fleet: Fleet, names: tuple[str, ...], file: Path) -> Path:
    """The answers that do it without waiting for anything but the change itself."""
    file.write_text(f"""
version = 1
hosts = {json.dumps(names)}
[connection]
ssh_config = "{fleet.ssh_config}"
known_hosts = "{fleet.lab.known_hosts}"
[kubernetes]
manage = false
[rollout]
canary = false
max_unavailable = 30
unit_hold = 0
node_hold = 0
""")
    return file


def gpuwizard(fleet: Fleet, folder: Path, name: str, names: tuple[str, ...]) -> Tool:
    """The whole program from start to exit."""
    file = answers(fleet, names, folder / f"{name}.toml")
    argv = (sys.executable, "-m", "gpuwizard", "--answers", str(file), "--yes")
    return Tool(name, argv, {"PYTHONPATH": str(HERE), "GPUWIZARD_STATE_DIR": str(folder / "state")})


def learn(fleet: Fleet, own: Tool, folder: Path) -> Change:
    """Let gpuwizard do it once and take from a host what it wrote."""
    measure(own, fleet)
    host = fleet.hosts[0]
    changed = host.run(
        f"cd {FOLDER} && find . -type f | while read -r f; do cmp -s $f /root/before/$f || echo $f; done"
    )
    names = tuple(sorted(line.removeprefix("./") for line in changed.stdout.splitlines()))
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(host.read(f"{FOLDER}/{name}"))
    return Change(folder, names)


def peers(fleet: Fleet, change: Change, arguments: argparse.Namespace, folder: Path) -> list[Tool]:
    """Those that are here."""
    found = []
    if arguments.ansible:
        inventory, playbook = folder / "inventory.ini", folder / "site.yml"
        inventory.write_text("".join(f"{host.name}\n" for host in fleet.hosts))
        playbook.write_text(_PLAYBOOK.format(folder=change.folder, names=list(change.names)))
        argv = (arguments.ansible, "-i", str(inventory), "-f", "30", str(playbook))
        found.append(Tool("ansible", argv, ansible_environment(fleet, folder), after=ansible_after(folder)))
    if arguments.pyinfra:
        deploy = folder / "deploy.py"
        deploy.write_text(_DEPLOY.format(folder=change.folder, names=list(change.names)))
        argv = (arguments.pyinfra, "-y", "--parallel", "30", str(pyinfra_inventory(fleet, folder)), str(deploy))
        found.append(Tool("pyinfra", argv))
    return found


def one_round(fleet: Fleet, tool: Tool, change: Change) -> dict[str, Figures]:
    """A run that changes everything and one that changes nothing; both are looked at on the hosts."""
    count = FEW if tool.name == "few hosts" else len(fleet.hosts)
    set_back(fleet)
    before = everywhere(fleet, _RESTARTS)
    changed = measure(tool, fleet)
    between = everywhere(fleet, _RESTARTS)
    again = measure(tool, fleet)
    after = everywhere(fleet, _RESTARTS)
    for host in fleet.hosts[:count]:
        restarted = before[host.name] != between[host.name] == after[host.name]
        if not (change.made_on(host) and restarted):
            raise SystemExit(f"{tool.name}: {host.name} is not as it should be")
    return {"changed": changed, "again": again}


def report(rounds: Mapping[str, list[dict[str, Figures]]], count: int) -> None:
    """A line a tool and kind of run, then what gpuwizard must keep."""
    verdict = {}
    for kind in ("changed", "again"):
        runs = {name: [one[kind] for one in several] for name, several in rounds.items()}
        for name, figures in runs.items():
            number = FEW if name == "few hosts" else count
            print(json.dumps({"tool": name, "run": kind, "N": number, "rounds": len(figures)} | medians(figures)))
        own = runs["gpuwizard"]
        verdict[f"{kind}: client ms a host beyond start-up"] = statistics.median(
            (many["client"] - few["client"]) * 1000 / (count - FEW)
            for many, few in zip(own, runs["few hosts"], strict=True)
        )
        verdict[f"{kind}: wall over floor"] = statistics.median(run["wall"] / run["floor"] for run in own)
        verdict[f"{kind}: hosts' ms a host"] = statistics.median(run["hosts"] for run in own) * 1000 / count
        for name in [name for name in rounds if name not in OWN]:
            verdict[f"{kind}: times as fast as {name}"] = ratio(runs[name], own)
    print(json.dumps({key: round(value, 2) for key, value in verdict.items()}))


def main() -> None:
    """Boot, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ansible", help="the program `ansible-playbook`")
    parser.add_argument("--pyinfra", help="the program `pyinfra`")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fleet = stack.enter_context(lab_fleet(arguments.hosts, python=bool(arguments.ansible), suites=(SUITE,)))
        everywhere(fleet, _KEEP)
        own = gpuwizard(fleet, folder, "gpuwizard", fleet.names)
        change = learn(fleet, own, folder / "files")
        print(json.dumps({"files": change.names}), flush=True)
        few = gpuwizard(fleet, folder, "few hosts", fleet.names[:FEW])
        chosen = [own, few, *peers(fleet, change, arguments, folder)]
        rounds: dict[str, list[dict[str, Figures]]] = {tool.name: [] for tool in chosen}
        for number in range(arguments.rounds):
            for tool in chosen:
                load = os.getloadavg()[0]
                figures = one_round(fleet, tool, change)
                rounds[tool.name].append(figures)
                for kind, run in figures.items():
                    shown = {key: round(value, 2) for key, value in run.items()}
                    line = {"round": number, "load": round(load, 1), "tool": tool.name, "run": kind}
                    print(json.dumps(line | shown), flush=True)
        report(rounds, arguments.hosts)


if __name__ == "__main__":
    main()
