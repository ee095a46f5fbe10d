"""From a plan to the host and back: Docker's plan is applied by the guard, and every verb reaches the host."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpuwizard.answers.model import Answers, Rollout, Runtime
from gpuwizard.clock import FastClock
from gpuwizard.events import Event
from gpuwizard.facts.model import Probe
from gpuwizard.flavours.docker import FORMER
from gpuwizard.plan.build import build_plan
from gpuwizard.plan.store import load_plan, save_plan
from gpuwizard.work.apply import guarded_change
from gpuwizard.work.guard import Guard, Hooks
from gpuwizard.work.guard_scripts import GuardedChange, prepare_payloads
from tests.guard.test_runtimes import docker
from tests.guard_tree import SPEED, Tree, TreeTransport, missing_shells
from tests.test_flavours_crio import crio_host
from tests.test_flavours_docker import FILE, docker_host
from tests.test_flavours_k0s import k0s_host
from tests.test_flavours_microk8s import microk8s_host

ANSWERS = Answers(
    runtime=Runtime(default_runtime="nvidia"),
    rollout=Rollout(unit_hold=3, node_hold=0, confirm_timeout=200),
)


def change_for(probe: Probe, tmp_path: Path) -> GuardedChange:
    """The plan of a host, saved and loaded again, as the guard gets it."""
    plan = build_plan({"node1": probe}, ANSWERS, None)
    (host,) = plan.hosts
    assert host.refusals == ()
    save_plan(plan, ANSWERS, tmp_path / "plan")
    loaded, _ = load_plan(tmp_path / "plan")
    assert loaded == plan
    run: Any = SimpleNamespace(answers=ANSWERS, run_id="run-1", clock=FastClock(SPEED))
    return guarded_change(run, loaded.hosts[0])


@pytest.mark.skipif(bool(missing_shells()), reason=f"shells not installed: {missing_shells()}")
async def test_a_plan_for_docker_is_applied_and_confirmed(tmp_path: Path) -> None:
    text = '{\n  "default-runtime": "runc"\n}\n'
    root = tmp_path / "host"
    root.mkdir()
    tree = docker(Tree(root, "dash").build(), text.encode())
    change = change_for(docker_host(text), tmp_path)
    tree.path("/proc/sys/kernel/random/boot_id").write_text("b1\n")
    events: list[Event] = []
    guard = Guard(TreeTransport(tree), change, Hooks(), emit=events.append, clock=FastClock(SPEED))
    outcome = await guard.run()
    assert (outcome.outcome, outcome.reason) == ("confirmed", "")
    assert change.files[1].after is not None
    assert tree.path(FILE).read_bytes() == change.files[1].after.raw
    assert tree.path(FORMER).read_text().endswith('\n"runc"\n')
    assert tree.path(FORMER).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        (docker_host("{}"), {"verb": "restart", "kind": "docker", "unit": "docker.service"}),
        (crio_host({}), {"verb": "restart", "kind": "crio", "unit": "crio.service"}),
        (
            microk8s_host(),
            {"verb": "snap-restart", "snap": "microk8s.daemon-containerd", "kind": "containerd"},
        ),
        (
            k0s_host("v1.33.4+k0s.0", "1.7.27"),
            {"verb": "watched", "unit": "k0sworker.service", "rendered": "/run/k0s/containerd-cri.toml"},
        ),
    ],
    ids=["docker", "crio", "microk8s", "k0s"],
)
def test_every_way_to_activate_reaches_the_host(probe: Probe, expected: dict[str, str], tmp_path: Path) -> None:
    payloads = prepare_payloads(change_for(probe, tmp_path))
    (params,) = (p.data.decode() for p in payloads if p.name == "params")
    told = dict(line.split("=", 1) for line in params.splitlines())
    assert {key: told.get(key) for key in expected} == expected
