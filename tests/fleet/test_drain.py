"""Cordons and drains of simulated hosts over SSH: a laptop that is killed leaves none that nobody lifts."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gpuwizard import flow
from gpuwizard.fleet import Fleet, open_fleet
from gpuwizard.journal import find_run, list_runs
from gpuwizard.kube.cluster import Cluster, open_cluster
from gpuwizard.session import Session
from gpuwizard.steps.identity import CORDONED_BY
from gpuwizard.unattended import Unattended
from tests.fleet.test_cli_runs import Line
from tests.kube_servers import eventually
from tests.test_fleet_evictions import pods, status
from tests.workloads import budget, replica_set

from .conftest import OpenFleet
from .test_resume import ANSWERS, CONFIG, FLEET, killed, left_behind, outcomes, resumed, tree

DRAINS: dict[str, Any] = {**ANSWERS, "rollout": {"drain": "drain", "drain_timeout": 60}}


def cordons(fleet: Fleet) -> dict[str, tuple[bool, str | None]]:
    """Each node: whether it is cordoned, and by which run."""
    found = {}
    for node in fleet.cluster.store.list("Node"):
        by = (node["metadata"].get("annotations") or {}).get(CORDONED_BY)
        found[node["metadata"]["name"]] = (bool(node["spec"].get("unschedulable")), by)
    return found


FREE = {"one": (False, None), "two": (False, None)}


@asynccontextmanager
async def api(fleet: Fleet) -> AsyncIterator[Cluster]:
    cluster = await open_cluster(config=fleet.kubeconfig)
    try:
        yield cluster
    finally:
        await cluster.close()


async def furnish(fleet: Fleet, *, blocked: bool = False) -> None:
    """Pods on both nodes; with `blocked` under a budget that lets none of them go."""
    async with api(fleet) as cluster:
        await cluster.apply(replica_set("web", 2))
        await eventually(lambda: len(pods(fleet.cluster)) == 2, fleet.cluster)
        assert {p["spec"]["nodeName"] for p in pods(fleet.cluster)} == {"one", "two"}
        if blocked:
            await cluster.apply(budget("web", {"app": "web"}, minAvailable=2))
            await eventually(lambda: status(fleet.cluster, "web").get("currentHealthy") == 2, fleet.cluster)


@pytest.mark.parametrize(
    "dies_at",
    [
        "one: cordon:",
        "one: drain:",
        "one: evict:",
        "one: drained:",
        "one: arm:",
        "one: restart:",
        "one: confirm:",
        "one: uncordon:",
        "two: drained:",
    ],
)
async def test_a_run_that_is_cut_goes_on_and_lifts_its_cordons(
    fleet_of: OpenFleet, tmp_path: Path, dies_at: str
) -> None:
    async with fleet_of(FLEET) as fleet:
        await furnish(fleet)
        await killed(fleet, tmp_path, dies_at, answers=DRAINS)
        (run,) = list_runs(tmp_path / "laptop")
        standing = [node for node, (cordoned, by) in cordons(fleet).items() if cordoned and by == run.id]
        assert set(standing) <= {c.node for c in run.cordons}, "every cordon is written down"
        assert bool(standing) == (dies_at != "one: uncordon:")
        session = await resumed(fleet, tmp_path, DRAINS)
        assert outcomes(session) == {"one": "confirmed", "two": "confirmed"}
        assert session.report is not None
        assert session.report.cluster_error is None
        assert cordons(fleet) == FREE
        assert [left_behind(fleet, name) for name in fleet.targets] == [[], []]
    (run,) = list_runs(tmp_path / "laptop")
    assert (run.cut, run.cordons) == (False, ())


@pytest.mark.parametrize("dies_at", ["one: cordon:", "one: drained:", "one: health:", "two: drained:"])
async def test_a_rollback_of_a_run_that_was_cut_lifts_its_cordons(
    fleet_of: OpenFleet, tmp_path: Path, dies_at: str
) -> None:
    async with fleet_of(FLEET) as fleet:
        await furnish(fleet)
        before = {name: (tree(fleet, name) / CONFIG).read_bytes() for name in fleet.targets}
        await killed(fleet, tmp_path, dies_at, answers=DRAINS)
        (run,) = list_runs(tmp_path / "laptop")
        assert run.cut
        session = Session(answers=run.answers, state_dir=tmp_path / "laptop", fleet=fleet, clock=fleet.clock)
        session.set_hosts(fleet.targets)
        await flow.probe(session, lambda _: None, Unattended())
        await flow.roll_back(session, run, session.events.append, Unattended())
        await flow.close(session)
        assert set(outcomes(session).values()) <= {"confirmed", "unchanged"}
        assert {name: (tree(fleet, name) / CONFIG).read_bytes() for name in fleet.targets} == before
        assert cordons(fleet) == FREE
        assert [left_behind(fleet, name) for name in fleet.targets] == [[], []]
        assert find_run(tmp_path / "laptop", run.id).cordons == ()
        assert all(not r.cordons for r in list_runs(tmp_path / "laptop"))


async def test_a_host_that_is_lost_keeps_its_cordon_and_the_report_says_so(fleet_of: OpenFleet, tmp_path: Path) -> None:
    async with fleet_of(FLEET) as fleet:
        await killed(fleet, tmp_path, "one: restart:", answers=DRAINS)
        server = fleet.servers["one"]
        await server.close()
        session = await resumed(fleet, tmp_path, DRAINS)
        assert session.report is not None
        (run,) = list_runs(tmp_path / "laptop")
        assert outcomes(session) == {"one": "unconfirmed", "two": "unchanged"}
        assert session.report.outcomes["one"].reason == (
            "there is no connection to it: how the run stands there is not known; "
            f"node one is still cordoned by run {run.id}: `gpuwizard resume {run.id}` lifts it, by hand "
            "`kubectl uncordon one` and `kubectl annotate node one gpuwizard.dev/cordoned-by-`"
        )
        assert cordons(fleet) == FREE | {"one": (True, run.id)}
        fleet.options.endpoints["one"] = await server.open()  # type: ignore[index]
        session = await resumed(fleet, tmp_path, DRAINS)
        assert outcomes(session)["one"] in ("confirmed", "rolled-back")
        assert cordons(fleet) == FREE


def test_the_command_line_says_what_blocks_a_drain_as_text_and_as_json(tmp_path: Path) -> None:
    """A fleet of a file: its cluster is furnished here, then met by the command."""
    line = Line(tmp_path)
    spec = tmp_path / "small.toml"
    spec.write_text(FLEET)
    line.answers.write_text(
        '[validation]\nenabled = false\n[rollout]\ndrain = "drain"\ndrain_timeout = 15\ncanary = false\n'
    )

    async def prepared() -> None:
        async with open_fleet(str(spec), state_dir=tmp_path / "state" / "fleets") as fleet:
            await furnish(fleet, blocked=True)

    asyncio.run(prepared())
    code, out, _ = call(line, spec, "plan", "--answers", str(line.answers))
    assert code == 2
    assert "  ! the drain of these 2 nodes evicts 2 pods: default/web-" in out
    assert "  ! disruption budget default/web allows no disruption now (needs 2 healthy, has 2): the drain waits" in out
    code, out, err = call(line, spec, "--answers", str(line.answers), "--json")
    assert (code, err) == (3, ""), out
    events = [json.loads(text) for text in out.splitlines()]
    waits = [e for e in events if e["kind"] == "waiting" and e["data"]["condition"] == "node one is drained"]
    assert waits[0]["data"]["limit"] == 15
    assert (
        "is kept: disruption budget default/web allows 0 disruptions (needs 2 healthy, has 2; it guards web-"
        in (waits[0]["data"]["last_seen"])
    )
    ended = {e["host"]: e["data"] for e in events if e["kind"] == "outcome"}
    assert {name: data["outcome"] for name, data in ended.items()} == {"one": "refused", "two": "refused"}
    assert ended["one"]["reason"].startswith("node one was not drained in 15 s: default/web-")
    states = [e["data"]["state"] for e in events if e["kind"] == "progress" and e["host"] == "one"]
    assert states[-4:] == ["cordon", "drain", "uncordon", "refused"]
    listed = json.loads(call(line, spec, "rollback", "--json")[1])["runs"]
    assert [(run["cordons"], run["cut"]) for run in listed] == [([], False)]


def call(line: Line, spec: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "gpuwizard", *arguments, "--simulate", str(spec)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=line.environment,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr
