"""Fixtures of the lab, and its rule: where it cannot run its tests skip with the reason; in CI such a skip fails."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.harness.base import Base, build_bases, lab_directory
from tests.lab.harness.host import LabHost
from tests.lab.harness.lab import STANDARD, Lab
from tests.lab.harness.recipe import SUITES
from tests.lab.harness.shell import LabError

_HERE = Path(__file__).resolve().parent
_PROGRAMS = ("debootstrap", "systemd-nspawn", "ip", "nsenter", "ssh-keygen", "ssh-agent", "ssh-add")
_bases: dict[str, Base] | str = "the base trees were not built"


def _why_not() -> str | None:
    """Why the lab cannot run here; None when it can."""
    if os.environ.get("GPUWIZARD_LAB") != "1":
        return "the lab changes networks and limits of this machine: it runs only with GPUWIZARD_LAB=1"
    if not Path("/etc/debian_version").exists():
        return "the lab needs Debian"
    if os.geteuid():
        return "the lab needs root"
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    return f"the lab needs {', '.join(missing)}" if missing else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder is a lab test, and they share one process under xdist."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.lab)
            item.add_marker(pytest.mark.xdist_group("lab"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the base trees before the first test, so that no test's time limit counts the minutes it takes."""
    global _bases
    wanted = any(item.get_closest_marker("lab") for item in session.items)
    if not wanted or session.config.option.collectonly or _why_not():
        return
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    try:
        _bases = build_bases(SUITES, lab_directory(), reporter.write_line if reporter else print)
    except LabError as problem:
        _bases = str(problem)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, with the reason, where the lab cannot run."""
    if item.get_closest_marker("lab") and (why := _why_not()):
        pytest.skip(why)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a lab test that is skipped has failed."""
    report = yield
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false") and os.environ.get("GPUWIZARD_LAB") == "1"
    if report.skipped and not hasattr(report, "wasxfail") and in_ci and item.get_closest_marker("lab"):
        report.outcome = "failed"
        report.longrepr = f"a lab test must not be skipped in CI: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab with the three standard hosts up."""
    if isinstance(_bases, str):
        pytest.fail(_bases, pytrace=False)
    lab = Lab(_bases, lab_directory())
    try:
        lab.start([STANDARD[suite] for suite in SUITES])
        yield lab
    finally:
        lab.close()


def _shared(lab: Lab, name: str) -> Iterator[LabHost]:
    host = lab.host(name)
    try:
        yield host
    finally:
        host.heal()


@pytest.fixture
def bookworm(lab: Lab) -> Iterator[LabHost]:
    """The shared host with containerd 1.6: a test leaves it as it was."""
    yield from _shared(lab, "bookworm")


@pytest.fixture
def trixie(lab: Lab) -> Iterator[LabHost]:
    """The shared host with containerd 1.7: a test leaves it as it was."""
    yield from _shared(lab, "trixie")


@pytest.fixture
def sid(lab: Lab) -> Iterator[LabHost]:
    """The shared host with containerd 2.x: a test leaves it as it was."""
    yield from _shared(lab, "sid")


@pytest.fixture(params=SUITES)
def each_containerd(lab: Lab, request: pytest.FixtureRequest) -> Iterator[LabHost]:
    """Each of the shared hosts in turn: a test leaves it as it was."""
    yield from _shared(lab, request.param)


@pytest.fixture
def fresh_host(lab: Lab) -> Iterator[Callable[..., LabHost]]:
    """``fresh_host(suite, **options)``: a new host with an untouched disk, removed after the test."""
    made: list[LabHost] = []

    def make(suite: str, **options: Any) -> LabHost:
        made.append(lab.fresh(suite, **options))
        return made[-1]

    yield make
    for host in made:
        lab.remove(host)


@pytest.fixture(scope="session")
def lab_agent(lab: Lab) -> Iterator[str]:
    """The socket of an ssh-agent with a key that lies in no file any more."""
    socket = lab.folder / "agent.sock"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.PIPE, text=True) as agent:
        try:
            assert agent.stdout is not None
            agent.stdout.readline()  # it prints its settings once it listens
            environment = dict(os.environ, SSH_AUTH_SOCK=str(socket))
            subprocess.run(["ssh-add", "-q", str(lab.agent_key)], env=environment, check=True)
            lab.agent_key.unlink()
            yield str(socket)
        finally:
            agent.terminate()


class _NoAnswer:
    """An operator who is not there: a test that is asked something it did not expect fails."""

    async def choose(self, question: Any) -> str:
        raise AssertionError(f"unexpected question: {question}")

    async def secret(self, question: Any) -> None:
        raise AssertionError(f"unexpected question: {question}")


@pytest.fixture
async def login(lab: Lab) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """``await login(host, user=…, ask=…, **options)``: a Transport to a lab host, closed after the test."""
    from gpuwizard.remote.connect import connect
    from gpuwizard.remote.target import parse_targets

    opened: list[Any] = []

    async def open_host(host: LabHost, *, ask: Any = None, **options: Any) -> Any:
        (target,) = parse_targets((host.name,))
        opened.append(await connect(target, lab.options(**options), ask or _NoAnswer()))
        return opened[-1]

    yield open_host
    for transport in opened:
        await transport.close()
