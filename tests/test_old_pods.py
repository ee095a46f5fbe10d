"""The pods that ran before a restart must run after it; what others did to them meanwhile is theirs."""

from typing import Any

import pytest

from gpuwizard.clock import FastClock
from gpuwizard.errors import GpuwizardError, RefusedError, UnreachableError
from gpuwizard.events import Event, Note, Waiting
from gpuwizard.kube.problems import refusal
from gpuwizard.work.old_pods import OldPods, running_pods, still_run

Json = dict[str, Any]


def pod(name: str, *, phase: str = "Running", ready: bool = True, uid: str = "", waits: str = "", **meta: Any) -> Json:
    state = {"waiting": {"reason": waits}} if waits else {"running": {}}
    return {
        "metadata": {"namespace": "shop", "name": name, "uid": uid or name, **meta},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"ready": ready, "state": state}],
        },
    }


class Pods:
    """A cluster that lists these, one list after the other; the last one for ever."""

    def __init__(self, *answers: list[Json] | GpuwizardError) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def list_pods(self, namespace: str, label_selector: str = "", field_selector: str = "") -> tuple[Json, ...]:
        self.asked.append(field_selector)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, GpuwizardError):
            raise answer
        return tuple(answer)


async def after(
    *answers: list[Json] | GpuwizardError, left: float = 30, uids: tuple[str, ...] = ("web",)
) -> list[Event]:
    cluster: Any = Pods(*answers)
    events: list[Event] = []
    old = OldPods("n1", frozenset(uids))
    await still_run(cluster, old, left=left, host="a", emit=events.append, clock=FastClock(100))
    return events


async def test_only_what_runs_and_stays_is_remembered() -> None:
    cluster: Any = Pods(
        [
            pod("web"),
            pod("starting", ready=False),
            pod("job", phase="Succeeded"),
            pod("pending", phase="Pending", ready=False),
            pod("leaving", deletionTimestamp="2026-11-21T01:00:00Z"),
        ]
    )
    events: list[Event] = []
    assert await running_pods(cluster, "n1", "a", events.append) == OldPods("n1", frozenset(["web"]))
    assert cluster.asked == ["spec.nodeName=n1"]
    assert events == []


async def test_a_user_who_may_not_list_them_is_told() -> None:
    events: list[Event] = []
    cluster: Any = Pods(RefusedError("list Pod: forbidden"))
    assert await running_pods(cluster, "n1", "a", events.append) == OldPods("n1")
    (note,) = events
    assert isinstance(note, Note)
    assert note.message == "its pods are not watched: list Pod: forbidden"


@pytest.mark.parametrize(
    "now",
    [
        [pod("web")],
        [],
        [pod("web", uid="another", ready=False)],
        [pod("web", ready=False, deletionTimestamp="2026-11-21T01:00:00Z")],
        [pod("web", phase="Succeeded", ready=False)],
        [pod("web"), pod("newcomer", ready=False)],
    ],
)
async def test_what_runs_is_gone_or_is_new_is_not_waited_for(now: list[Json]) -> None:
    assert await after(now) == []


async def test_a_pod_that_comes_back_is_waited_for() -> None:
    broken = pod("web", ready=False, waits="CrashLoopBackOff")
    events = await after([broken], UnreachableError("connection refused"), [broken], [pod("web")])
    waits = [e for e in events if isinstance(e, Waiting)]
    assert [w.last_seen for w in waits] == [
        "shop/web (CrashLoopBackOff)",
        "the API server cannot be reached: connection refused",
        "shop/web (CrashLoopBackOff)",
    ]
    assert waits[0].condition == "the pods that ran before run again"
    assert "its container ends at once" in waits[0].likely
    assert waits[1].likely == "the API server is restarting, or was stopped"


FORBIDDEN = refusal(403, b'{"message": "pods is forbidden: User \\"ann\\" cannot list"}', what="list pods", server="k")


@pytest.mark.parametrize("code", [401, 403, 404, 429, 500, 503])
async def test_what_a_starting_server_answers_is_no_answer_yet(code: int) -> None:
    answer = refusal(code, b'{"message": "not yet"}', what="list pods", server="https://k")
    events = await after([pod("web", ready=False)], answer, answer, [pod("web")])
    waits = [e for e in events if isinstance(e, Waiting)]
    assert len(waits) == 3
    assert waits[1].last_seen.startswith("the API server ")


async def test_a_server_that_goes_on_refusing_is_named() -> None:
    with pytest.raises(GpuwizardError, match="is not known: the API server refuses: list pods: pods is forbidden") as e:
        await after(FORBIDDEN)
    assert "kubectl auth can-i" in e.value.remedy


async def test_pods_that_do_not_come_back_are_named() -> None:
    broken = [pod(f"p{n}", ready=False, phase="Failed" if n else "Running", waits="") for n in range(5)]
    with pytest.raises(GpuwizardError, match=r"what ran before does not run any more: shop/p0 \(Running\), shop/p1"):
        await after(broken, uids=tuple(f"p{n}" for n in range(5)))
    with pytest.raises(GpuwizardError, match="and 2 more"):
        await after(broken, uids=tuple(f"p{n}" for n in range(5)), left=0)


async def test_nobody_is_asked_where_nothing_ran() -> None:
    cluster: Any = Pods(UnreachableError("away"))
    await still_run(cluster, OldPods("n1"), left=30, host="a", emit=lambda _: None, clock=FastClock(100))
    assert cluster.asked == []
