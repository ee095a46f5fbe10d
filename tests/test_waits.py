"""Every wait says what it waits for, what was seen last, how long, for how long at most, and the next likely cause."""

import ast
import asyncio
import errno
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncssh
import pytest

import gpuwizard
from gpuwizard.clock import FastClock
from gpuwizard.describe import event_json
from gpuwizard.errors import GpuwizardError, RefusedError, UnreachableError
from gpuwizard.events import Event, Waiting
from gpuwizard.facts.cluster import NodeView
from gpuwizard.kube.problems import connection_problem, refusal
from gpuwizard.remote.ssh.problems import login_problem, timed_out
from gpuwizard.session import Session
from gpuwizard.show.waits import TellWaits, folded
from gpuwizard.unattended import printer
from gpuwizard.work.guard_lines import event_of
from gpuwizard.work.health import node_settles
from gpuwizard.work.likely import likely_of_api, likely_of_link, likely_of_node, likely_of_pod

SETTINGS: Any = SimpleNamespace(host="node1", name="node1", port=22, user="ops")


def login(*, connected: bool = False) -> Any:
    return SimpleNamespace(failure=None, connected=connected, tried=["key"], expired=False)


def ssh_problem(error: Exception, *, connected: bool = False) -> GpuwizardError:
    """What the transport makes of an error of the network or of asyncssh."""
    return login_problem(error, SETTINGS, login(connected=connected), through="")


LINKS: tuple[tuple[GpuwizardError, str], ...] = (
    (ssh_problem(ConnectionRefusedError(errno.ECONNREFUSED, "x")), "sshd is not up: the host is starting or shutting"),
    (ssh_problem(OSError(errno.EHOSTUNREACH, "x")), "the route, the VPN or the host itself is down"),
    (ssh_problem(ConnectionResetError(errno.ECONNRESET, "x"), connected=True), "a firewall resets the connection"),
    (ssh_problem(asyncssh.ConnectionLost("x"), connected=True), "sshd is starting, shutting down or busy"),
    (ssh_problem(asyncssh.PermissionDenied("x")), "the login is no longer accepted"),
    (timed_out(SETTINGS, login(), 10), "the link or a firewall drops everything"),
    (timed_out(SETTINGS, login(connected=True), 10), "overloaded or shutting down, or the link stalls"),
    (UnreachableError("the link was lost"), "the network between is gone, or the host was restarted"),
)


@pytest.mark.parametrize(("error", "words"), LINKS, ids=[e.what for e, _ in LINKS])
def test_a_host_that_does_not_answer(error: GpuwizardError, words: str) -> None:
    assert words in likely_of_link(error)


NODES = (
    ("KubeletNotReady", "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
     "message:Network plugin returns error: cni plugin not initialized", "CNI: the runtime finds no network"),
    ("KubeletNotReady", "[container runtime is down, PLEG is not healthy]", "or its CRI plugin is in error"),
    ("KubeletNotReady", "PLEG is not healthy: pleg was last seen active 3m ago", "too slowly"),
    ("KubeletNotReady", "rpc error: code = Unimplemented desc = unknown service runtime.v1.RuntimeService",
     "the CRI plugin of containerd is in error"),
    ("NodeStatusUnknown", "Kubelet stopped posting node status.", "the kubelet is not running, or cannot reach"),
    ("KubeletNotReady", "node is shutting down", "the host is shutting down"),
    ("KubeletNotReady", "", "the kubelet has just started"),
)  # fmt: skip


@pytest.mark.parametrize(("reason", "message", "words"), NODES)
def test_a_node_that_is_not_ready(reason: str, message: str, words: str) -> None:
    view = NodeView("n1", ready=False, ready_reason=reason, ready_message=message)
    assert words in likely_of_node(view)


UNITS = (
    ("activating (start) , CRI -", "", "it is still starting; K3s and RKE2"),
    ("activating (auto-restart), CRI -", "Result=exit-code ExecMainStatus=1 ",
     "ended by itself and is started again; it says: Result=exit-code ExecMainStatus=1"),
    ("activating (start), CRI -", 'level=fatal msg="starting kubernetes: preparing server: etcd: no leader"',
     "etcd has no quorum"),
    ("activating (start), CRI -", "level=error failed to load TOML: /etc/containerd/config.toml",
     "cannot read its configuration; it says: level=error"),
    ("activating (auto-restart), CRI -", "Result=exit-code ExecMainStatus=203 ", "its program is missing"),
    ("active (running), still process 812 of before", "", "the old process is still stopping"),
    ("deactivating (stop-sigterm), CRI -", "", "systemd kills it after TimeoutStopSec"),
    ("active (running), CRI unreachable", "ctr: failed to dial: connection refused",
     "still loading its plugins and snapshots; it says: ctr: failed"),
    ("active (running), CRI unreachable", "", "its socket does not answer yet"),
    ("inactive (dead), CRI -", "", "queued behind another job of systemd"),
)  # fmt: skip


@pytest.mark.parametrize(("last", "evidence", "words"), UNITS)
def test_a_unit_that_is_not_up(last: str, evidence: str, words: str) -> None:
    event = event_of(f"@log 1790000000 wait 12 90 k3s.service is up | {last} | {evidence}", "a", "apply")
    assert isinstance(event, Waiting)
    assert (event.condition, event.last_seen, event.elapsed, event.limit) == ("k3s.service is up", last, 12, 90)
    assert words in event.likely


def test_what_a_host_says_is_redacted() -> None:
    said = 'level=error msg="login failed" password = "hunter2xyz" url=https://ann:s3cret99@registry.example/v2/'
    event = event_of(f"@log 1 wait 6 90 x is up | activating (start) | {said}", "a", "apply")
    assert isinstance(event, Waiting)
    assert "s3cret99" not in str(event)
    assert "hunter2xyz" not in str(event)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("@log 1 wait 3 30 containerd.service stays up | process 12, CRI ok | ", "nothing is wrong: a runtime that"),
        ("@log 1 wait 0 8 k0sworker.service takes the files up | it watches them | ", "nothing is wrong: k0s waits"),
        ("@log 1 wait 0 0 the state of the run is free | go of run r1 holds it |", "a step of this run is at work"),
        ("@wait 2 20 the revert begins | the run is armed |", "systemd has not started it yet"),
    ],
)
def test_waits_in_which_nothing_is_wrong_say_what_they_are_for(line: str, words: str) -> None:
    event = event_of(line, "a", "apply")
    assert isinstance(event, Waiting)
    assert words in event.likely


PODS = (
    ("Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", "no GPU is announced on the node"),
    ("Unschedulable: 0/3 nodes are available: 3 node(s) had volume node affinity conflict.", "its words say what each"),
    ("ImagePullBackOff: Back-off pulling image \"x\"", "registry, proxy, DNS or name"),
    ("CrashLoopBackOff: the container ended with status 1", "its container ends at once"),
    ("ContainerCreating", "still getting the image"),
    ("the pod is Pending", "has not come to it yet"),
    ("the pod is Running", "nothing is wrong"),
    ('FailedCreatePodSandBox: no runtime for "nvidia" is configured', "has no such handler"),
    ("0 nvidia.com/gpu; no device plugin pod of gpuwizard is on the node", "the DaemonSet has"),
    ("the node has no nvidia.com/gpu allocatable; device plugin pod p: Running", "finds no GPU: its log says"),
    ("the cluster has no node n1", "its kubelet has not registered"),
    ("the runtime of node n1 offers runc, but no handler nvidia", "some seconds after both have started"),
    ("node n1 is NotReady: cni plugin not initialized", "CNI"),
)  # fmt: skip


@pytest.mark.parametrize(("said", "words"), PODS)
def test_what_validation_waits_for(said: str, words: str) -> None:
    assert words in likely_of_pod(said)


def test_an_api_server_that_is_away() -> None:
    refused = connection_problem(ConnectionRefusedError(), "https://k")
    assert "with a single server it is the only one" in likely_of_api(refused, control_plane=True)
    assert likely_of_api(refused, control_plane=False) == "the API server is restarting, or was stopped"
    assert "proxy" in likely_of_api(connection_problem(TimeoutError(), "https://k"), control_plane=False)


class Nodes:
    """A cluster that answers with these, one after the other; the last one for ever."""

    def __init__(self, *answers: NodeView | GpuwizardError | None) -> None:
        self._answers = list(answers)

    async def node(self, name: str) -> NodeView | None:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, GpuwizardError):
            raise answer
        return answer


async def test_the_watch_of_a_node_tells_each_cause_as_it_comes() -> None:
    ready = NodeView("n1", ready=True)
    not_ready = NodeView("n1", ready=False, ready_reason="KubeletNotReady", ready_message="cni plugin not initialized")
    cluster: Any = Nodes(UnreachableError("connection refused"), None, not_ready, ready, ready)
    events: list[Event] = []
    with pytest.raises(GpuwizardError, match="no heartbeat newer than the restart"):
        await node_settles(
            cluster, "n1", hold=5, left=40, host="a", emit=events.append, clock=FastClock(200), control_plane=True
        )
    waits = [e for e in events if isinstance(e, Waiting)]
    causes = list(dict.fromkeys(w.likely.split(":")[0] for w in waits))
    assert causes == [
        "the API server restarts together with its node",
        "its kubelet has not registered",
        "CNI",
        "the kubelet has not renewed its lease since the restart; it does so every 10 s",
    ]
    assert {(w.elapsed <= w.limit) for w in waits} == {True}


def refused(code: int) -> GpuwizardError:
    """What is made of an answer of a server that has only just started."""
    message = b'{"message": "nodes \\"n1\\" is forbidden: User \\"ann\\" cannot get resource"}'
    return refusal(code, message, what="read Node n1", server="https://k")


@pytest.mark.parametrize("control_plane", [True, False])
@pytest.mark.parametrize("code", [401, 403, 404, 429, 500, 503])
async def test_what_a_starting_server_answers_is_no_answer_yet(code: int, control_plane: bool) -> None:
    """Seen on a single K3s server: 403 until the roles are loaded, some seconds after it listens again."""
    beat = datetime(2026, 11, 21, tzinfo=UTC)
    early, later = (NodeView("n1", ready=True, heartbeat=beat + timedelta(seconds=n)) for n in (0, 10))
    cluster: Any = Nodes(UnreachableError("refused"), refused(code), refused(code), early, later)
    events: list[Event] = []
    await node_settles(
        cluster,
        "n1",
        hold=2,
        left=60,
        host="a",
        emit=events.append,
        clock=FastClock(200),
        control_plane=control_plane,
    )
    waits = [e for e in events if isinstance(e, Waiting)]
    assert sum(w.last_seen.startswith("the API server ") for w in waits) == 3
    if code in (401, 403, 404):
        assert any("only just starting" in w.likely for w in waits)


async def test_a_server_that_goes_on_refusing_ends_with_its_words_and_what_mends_it() -> None:
    ready = NodeView("n1", ready=True)
    cluster: Any = Nodes(ready, refused(403))
    clock = FastClock(200)
    began = clock.monotonic()
    with pytest.raises(GpuwizardError, match='refuses: read Node n1: nodes "n1" is forbidden: User "ann"') as caught:
        await node_settles(cluster, "n1", hold=5, left=40, host="a", emit=lambda _: None, clock=clock)
    assert "kubectl auth can-i" in caught.value.remedy
    assert clock.monotonic() - began >= 30, "for as long as the host leaves"


class Holder:
    """A lock script that says these lines."""

    def __init__(self, *said: str) -> None:
        self._said = said

    async def lines(self) -> AsyncIterator[str]:
        for line in self._said:
            yield line

    async def write_line(self, text: str) -> None:
        return None

    async def wait(self) -> int:
        await asyncio.sleep(3600)
        return 0

    async def close(self) -> None:
        return None


async def test_a_wait_for_the_lock_says_who_holds_it() -> None:
    from gpuwizard.work.host_lock import HostLock

    owner = "ann on desk, run r1, since 2026-11-21 01:02:03 UTC"

    async def start(script: object, *, root: bool) -> Holder:
        return Holder(f"@lock waiting 0 15 {owner}", f"@lock waiting 1 15 {owner}", "@lock held")

    events: list[Event] = []
    transport: Any = SimpleNamespace(name="a", start=start)
    lock = HostLock(transport, "r1", owner, FastClock(1), events.append)
    await lock.take()
    assert lock.held
    await lock.release()
    first, second = (e for e in events if isinstance(e, Waiting))
    assert (first.condition, first.last_seen, first.limit) == (
        "the run lock of the host is free", f"held by {owner}", 15
    )  # fmt: skip
    assert (second.elapsed, second.likely) == (
        1, "the host has not noticed yet that the former link of this run is gone"
    )  # fmt: skip


async def test_a_refused_lock_is_no_wait() -> None:
    from gpuwizard.work.host_lock import HostLock

    async def start(script: object, *, root: bool) -> Holder:
        return Holder("@lock busy ann on desk, run r0")

    transport: Any = SimpleNamespace(name="a", start=start)
    with pytest.raises(RefusedError, match="the host is locked: ann on desk, run r0"):
        await HostLock(transport, "r1", "me", FastClock(1)).take()


def test_no_wait_of_the_engine_is_without_a_cause() -> None:
    fields = list(Waiting.__dataclass_fields__)
    found = 0
    for path in Path(gpuwizard.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Waiting":
                found += 1
                given = fields[: len(node.args)] + [k.arg for k in node.keywords if k.arg]
                assert "likely" in given, f"{path}:{node.lineno}"
    assert found >= 5


def wait(elapsed: float, last: str = "NotReady", likely: str = "CNI", condition: str = "node n1 is Ready") -> Waiting:
    return Waiting("a", "apply", condition, last, elapsed, 60, likely)


def test_the_quiet_reader_hears_of_long_waits_only() -> None:
    waits = TellWaits(verbose=False)
    told = [n for n in range(60) if waits.line(wait(n, last=f"{n}"))]
    assert told == [10, 40]
    assert waits.line(wait(3, condition="something else")) == ""


def test_the_verbose_reader_hears_of_every_change() -> None:
    waits = TellWaits(verbose=True)
    told = [n for n in range(30) if waits.line(wait(n, last="NotReady" if n < 15 else "Ready"))]
    assert told == [0, 10, 15, 25]
    assert waits.line(wait(0)) != "", "it began anew"


def test_the_json_event_has_the_cause() -> None:
    data = event_json(wait(12), datetime.now(UTC))
    assert data["data"]["likely"] == "CNI"
    assert data["message"] == "waiting until node n1 is Ready (NotReady; 12 of 60 s); likely: CNI"


LONG = "CNI: the runtime finds no network configuration where it looks, or the network's pod is not up yet"


@pytest.mark.parametrize("verbose", [True, False])
def test_the_printer_folds_it_at_80_columns_in_a_terminal(
    verbose: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    emit = printer(as_json=False, session=Session(state_dir=tmp_path), verbose=verbose)
    emit(wait(12, likely=LONG))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("a: waiting until node n1 is Ready (NotReady; 12 of 60 s); likely: CNI:")
    assert len(lines) == 3
    assert all(len(line) <= 80 for line in lines)
    assert all(line.startswith("  ") for line in lines[1:])
    assert LONG in " ".join(line.strip() for line in lines)


def test_in_a_pipe_it_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    printer(as_json=False, session=Session(state_dir=tmp_path))(wait(12, likely=LONG))
    assert capsys.readouterr().out == (f"a: waiting until node n1 is Ready (NotReady; 12 of 60 s); likely: {LONG}\n")


def test_folding_keeps_every_word() -> None:
    line = "host: " + " ".join(f"word{n}" for n in range(40))
    assert " ".join(part.strip() for part in folded(line, 80).split("\n")) == line
    assert folded("", 80) == ""
