"""An uninstall holds the rules of an apply: the canary first, failures stop it, nobody's later change is lost."""

from dataclasses import replace
from pathlib import Path

import pytest

from gpuwizard.errors import UsageError
from gpuwizard.events import HostProgress, Note
from gpuwizard.facts.cluster import ObjectKey
from gpuwizard.journal import Journal, find_run
from gpuwizard.kube.owned import find_owned
from gpuwizard.plan.model import Plan
from gpuwizard.plan.uninstall import build_uninstall
from gpuwizard.secret import SecretBytes
from gpuwizard.work.history import read_history
from gpuwizard.work.probe import probe_host
from gpuwizard.work.report import Report
from gpuwizard.work.uninstall import uninstall
from tests.guard_tree import MAIN, PLAIN, missing_shells
from tests.test_apply_plan import NEW, Nobody, World, answers, world
from tests.test_rollback_rules import servers

pytestmark = pytest.mark.skipif(bool(missing_shells()), reason=f"shells not installed: {missing_shells()}")
PLUGIN = ObjectKey("apps/v1", "DaemonSet", "gpuwizard", "nvidia-device-plugin")


async def planned(w: World, *, control_plane: bool = False) -> Plan:
    probes = {}
    for name, transport in w.transports.items():
        probe = await probe_host(transport, sudo_password_known=True)
        known = replace(probe.facts.kubernetes, node_name=name)  # a tree does not say which node it is
        probes[name] = replace(probe, facts=replace(probe.facts, kubernetes=known))
    histories = {name: await read_history(t) for name, t in w.transports.items()}
    view, owned = await w.cluster.view(()), await find_owned(w.cluster)
    plan = build_uninstall(histories, probes, answers(), view, owned, {})
    return replace(plan, hosts=tuple(replace(host, control_plane=control_plane) for host in plan.hosts))


async def run(w: World, plan: Plan, run_id: str = "gone", **rollout: object) -> Report:
    with Journal.open(w.state, run_id, plan, clock=w.clock) as journal:
        return await uninstall(
            plan,
            w.transports,
            w.cluster,
            answers(**rollout),
            run_id,
            w._both(journal),
            Nobody(),
            w.clock,
            journal,
        )


def begun(w: World) -> list[str | None]:
    return [e.host for e in w.events if isinstance(e, HostProgress) and e.state == "lock"]


async def test_one_goes_first_and_the_rest_together(tmp_path: Path) -> None:
    async with world(tmp_path, "a", "b", "c") as w:
        await w.apply(await w.plan(objects=False))
        w.events.clear()
        report = await run(w, await planned(w), max_unavailable=2)
        assert {n: o.outcome for n, o in report.outcomes.items()} == dict.fromkeys("abc", "confirmed")
        assert report.outcomes["a"].reason == "as it was before run-1"
        states = [(e.host, e.state) for e in w.events if isinstance(e, HostProgress)]
        assert states.index(("a", "confirmed")) < states.index(("b", "lock"))
        assert {begun(w)[1], begun(w)[2]} == {"b", "c"}
        assert all(w.tree(n).path(MAIN).read_bytes() == PLAIN for n in "abc")
        assert [h.outcome for h in find_run(w.state, "gone").hosts] == ["confirmed"] * 3


async def test_control_plane_hosts_go_one_by_one_and_not_while_another_is_away(tmp_path: Path) -> None:
    async with servers(tmp_path, "a", "b") as w:
        await w.apply(await w.plan(objects=False))
        w.events.clear()
        report = await run(w, await planned(w, control_plane=True), canary=False, max_unavailable=5)
        assert {o.outcome for o in report.outcomes.values()} == {"confirmed"}
        hosts = [str(e.host) for e in w.events if isinstance(e, HostProgress)]
        assert hosts == sorted(hosts), "b is begun when a has ended"


async def test_a_failed_host_is_put_back_keeps_its_label_and_stops_the_others(tmp_path: Path) -> None:
    async with world(tmp_path, "a", "b") as w:
        await w.apply(await w.plan())
        # What was there before us would not run any more.
        crash = PLAIN + b"# CRASH\n"
        folder = w.tree("a").run_folder()
        (folder / "before" / "001").write_bytes(crash)
        table = (folder / "table").read_text()
        (folder / "table").write_text(table.replace(SecretBytes(PLAIN).sha256, SecretBytes(crash).sha256))
        report = await run(w, await planned(w))
        assert report.outcomes["a"].outcome == "rolled-back"
        assert "containerd.service" in report.outcomes["a"].reason
        assert report.outcomes["b"].reason == "not begun: the run ended before its turn"
        assert report.cluster_error == "the cluster's objects stay, because not every host is as it was before"
        assert all(w.tree(n).path(MAIN).read_bytes() == NEW for n in "ab")
        assert await w.labels() == {"a": "true", "b": "true"}
        assert await w.cluster.get(PLUGIN) is not None


async def test_what_changed_between_plan_and_run_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path, "a", "b") as w:
        await w.apply(await w.plan())
        plan = await planned(w)
        w.tree("a").path(MAIN).write_bytes(NEW + b"# mine\n")
        live = await w.cluster.get(PLUGIN)
        assert live is not None
        report = await run(w, plan)
        assert report.outcomes["a"].outcome == "refused"
        assert f"{MAIN} was changed by somebody else since run run-1 (" in report.outcomes["a"].reason
        assert report.outcomes["b"].outcome == "confirmed"
        assert await w.labels() == {"a": "true", "b": None}
        w.tree("a").path(MAIN).write_bytes(NEW)
        plan = await planned(w)
        config = ObjectKey("v1", "ConfigMap", "gpuwizard", "nvidia-device-plugin")
        changed = await w.cluster.get(config)
        assert changed is not None
        await w.cluster.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": config.name, "namespace": "gpuwizard"}}
        )
        report = await run(w, plan, "gone-2")
        assert report.outcomes["a"].outcome == "confirmed"
        assert report.cluster_error == (f"{config}: it was changed since the plan was made: it is left alone")
        notes = [e.message for e in w.events if isinstance(e, Note)]
        assert f"deleted {PLUGIN}" in notes
        assert await w.cluster.get(config) is not None


async def test_its_plan_is_no_plan_to_apply(tmp_path: Path) -> None:
    async with world(tmp_path, "a") as w:
        await w.apply(await w.plan(objects=False))
        with pytest.raises(UsageError, match="the plan of an uninstall"):
            await w.apply(await planned(w), "run-2")
        assert w.tree("a").path(MAIN).read_bytes() == NEW
