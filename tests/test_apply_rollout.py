"""The order of a rollout: canary, batches, control plane, and the stop after a failure."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gpuwizard.answers.model import Rollout
from gpuwizard.events import HostOutcome
from gpuwizard.plan.model import HostPlan
from gpuwizard.work.rollout import canary_order, roll_out


class Fleet:
    """Hosts that end as told, and how many were worked on at the same time."""

    def __init__(self, **endings: str) -> None:
        self.endings = endings
        self.begun: list[str] = []
        self.now: set[str] = set()
        self.most = 0
        self.outcomes: dict[str, HostOutcome] = {}
        self.canary_done_after: list[str] = []

    async def change(self, host: HostPlan) -> HostOutcome:
        self.begun.append(host.name)
        self.now.add(host.name)
        self.most = max(self.most, len(self.now))
        assert sum(name.startswith("cp") for name in self.now) <= 1, "two control-plane hosts at once"
        for _ in range(5):
            await asyncio.sleep(0)
        self.now.remove(host.name)
        return HostOutcome(host.name, self.endings[host.name])  # type: ignore[arg-type]

    async def after_canary(self) -> bool:
        self.canary_done_after = list(self.begun)
        return True

    async def run(
        self,
        *,
        canary: bool = True,
        at_once: int = 3,
        load: dict[str, int] | None = None,
        after: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        hosts = [HostPlan(n, "in-place", "", control_plane=n.startswith("cp")) for n in self.endings]
        await roll_out(
            hosts,
            self.change,
            Rollout(canary=canary, max_unavailable=at_once),
            load=load or {},
            after_canary=after or self.after_canary,
            outcomes=self.outcomes,
            emit=lambda _: None,
        )


def test_the_canary_is_the_least_loaded_worker() -> None:
    hosts = [HostPlan(n, "s", "", control_plane=n == "cp") for n in ("cp", "a", "b", "c")]
    assert [h.name for h in canary_order(hosts, {"a": 9, "b": 2, "c": 4})] == ["b", "c", "a", "cp"]


async def test_one_goes_first_and_the_rest_in_batches() -> None:
    fleet = Fleet(**{f"h{i}": "confirmed" for i in range(8)})
    await fleet.run(at_once=3)
    assert fleet.canary_done_after == ["h0"]
    assert len(fleet.outcomes) == 8
    assert fleet.most == 3


async def test_control_plane_hosts_go_one_by_one() -> None:
    fleet = Fleet(cp1="confirmed", cp2="confirmed", cp3="confirmed", a="confirmed", b="confirmed")
    await fleet.run(at_once=5)
    assert fleet.begun[0] == "a"
    assert len(fleet.outcomes) == 5


async def test_a_failed_canary_stops_everything() -> None:
    fleet = Fleet(a="rolled-back", b="confirmed", c="confirmed")
    await fleet.run()
    assert fleet.begun == ["a"]
    assert fleet.canary_done_after == []


async def test_a_refused_host_proves_nothing_and_stops_nothing() -> None:
    fleet = Fleet(a="refused", b="unreachable", c="confirmed", d="confirmed")
    await fleet.run()
    assert fleet.canary_done_after == ["a", "b", "c"]
    assert fleet.begun == ["a", "b", "c", "d"]


async def test_the_first_failure_stops_new_batches() -> None:
    fleet = Fleet(a="confirmed", b="rolled-back", c="confirmed", d="confirmed", e="confirmed")
    await fleet.run(at_once=1)
    assert fleet.begun == ["a", "b"]


async def test_without_a_canary_the_objects_come_first() -> None:
    fleet = Fleet(a="confirmed", b="confirmed")
    await fleet.run(canary=False)
    assert fleet.canary_done_after == []
    assert sorted(fleet.begun) == ["a", "b"]


async def test_a_cluster_that_refuses_stops_the_rest() -> None:
    async def no() -> bool:
        return False

    fleet = Fleet(a="confirmed", b="confirmed")
    await fleet.run(after=no)
    assert fleet.begun == ["a"]


async def test_an_unexpected_error_is_not_swallowed() -> None:
    class Broken(Fleet):
        async def change(self, host: HostPlan) -> HostOutcome:
            raise ValueError(host.name)

    with pytest.raises(ValueError, match=r"^[ab]$"):
        await Broken(a="confirmed", b="confirmed").run(canary=False)
