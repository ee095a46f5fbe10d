"""What planning costs: ``python tests/bench/planning.py [HOSTS]`` prints the CPU seconds of `build_plan`.

A thousand hosts with twenty distinct sets of files: containerd 1.7 and 2.1, K3s, and hosts that are refused. Every
host has its own name, boot, GPUs, process ids and times, as real ones do. Ends with 1 above the bar of two seconds.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from gpuwizard.answers.model import Answers
from gpuwizard.facts.cluster import ClusterView, NodeView, ObjectState, key_of
from gpuwizard.facts.model import Probe
from gpuwizard.plan.build import build_plan
from gpuwizard.plan.model import Plan
from gpuwizard.steps import desired_objects
from tests.plan_probes import DATA, MAIN, containerd_host, k3s_host

HOSTS, SETS, BAR = 1000, 20, 2.0
_DEFAULTS = DATA / "containerd_defaults"
_RENDERED = """version = 3
root = "/var/lib/rancher/k3s/agent/containerd"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = true
"""


def kinds() -> tuple[Probe, ...]:
    """Twenty hosts, no two with the same files."""
    made: list[Probe] = []
    for number in range(SETS):
        note = f"# owned by team {number}\n"
        match number % 5:
            case 0:
                made.append(containerd_host("1.7.24", {MAIN: note + (_DEFAULTS / "1.7.24.toml").read_text()}))
            case 1:
                made.append(containerd_host("2.1.9", {MAIN: note + (_DEFAULTS / "2.1.9.toml").read_text()}))
            case 2:
                made.append(k3s_host(note + _RENDERED))
            case 3:
                made.append(containerd_host("1.7.24", {MAIN: note + (_DEFAULTS / "debian.toml").read_text()}))
            case _:
                made.append(containerd_host("1.7.24", {MAIN: f'{note}disabled_plugins = ["cri"]\n'}))
    return tuple(made)


def fleet(count: int = HOSTS) -> dict[str, Probe]:
    """`count` hosts of these kinds, each one itself: other name, boot, GPUs, process id and times."""
    patterns = kinds()
    return {f"gpu{number:04}": _own(patterns[number % SETS], number) for number in range(1, count + 1)}


def _own(pattern: Probe, number: int) -> Probe:
    facts, name = pattern.facts, f"gpu{number:04}"
    gpus = tuple(replace(facts.gpus[0], uuid=f"GPU-{number}-{i}", index=i, temperature_c=30 + i) for i in range(8))
    files = {
        path: replace(file, mtime=file.mtime + 1000 * number if file.mtime else None)
        for path, file in pattern.files.items()
    }
    return replace(
        pattern,
        facts=replace(
            facts,
            gpus=gpus,
            hostname=name,
            boot_id=f"boot-{number}",
            runtimes=tuple(replace(runtime, pid=1000 + number) for runtime in facts.runtimes),
            kubernetes=replace(facts.kubernetes, node_name=name),
        ),
        files=files,
        seconds=number / 1000,
    )


def cluster(answers: Answers, probes: Mapping[str, Probe]) -> ClusterView:
    """A cluster whose nodes are these hosts and that has none of our objects yet."""
    objects = {key_of(manifest): ObjectState(None, manifest) for manifest in desired_objects(answers, probes)}
    return ClusterView("https://example.test:6443", "v1.33.1", tuple(NodeView(n, True) for n in probes), objects)


def planned(probes: Mapping[str, Probe]) -> tuple[Plan, float]:
    """The plan, and what it cost in CPU seconds."""
    answers = Answers()
    view = cluster(answers, probes)
    began = time.process_time()
    plan = build_plan(probes, answers, view)
    return plan, time.process_time() - began


def main() -> None:
    """Plan and say what it cost."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else HOSTS
    plan, seconds = planned(fleet(count))
    changing, refused = sum(h.changes for h in plan.hosts), sum(bool(h.refusals) for h in plan.hosts)
    print(f"{count} hosts, {SETS} sets of files: {changing} change, {refused} refused")
    print(f"build_plan: {seconds:.2f} s of CPU, bar {BAR:.0f} s for {HOSTS} hosts")
    raise SystemExit(seconds > BAR)


if __name__ == "__main__":
    main()
