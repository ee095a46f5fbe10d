"""metrics.sh for real: it measures when asked, ends with its input or output, and leaves nothing running."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwizard.clock import FastClock
from gpuwizard.errors import GpuwizardError
from gpuwizard.events import Choice, SecretPrompt
from gpuwizard.monitor.collect import metrics_script, watch_host
from gpuwizard.monitor.model import Sample
from gpuwizard.remote.local import LocalTransport
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.script import render
from gpuwizard.secret import Secret
from gpuwizard.work.probe import probe_host
from tests.probe_tree import H200_UUID, SHELLS, Tree

ROW = f"0, {H200_UUID}, 00000000:00:06.0, 97, 1024, 143771, 61, 689.10, 700.00, 1980, 0x0000000000000004, NVIDIA H200"


class Nobody:
    """An operator who is not there."""

    async def choose(self, question: Choice) -> str:
        return question.default

    async def secret(self, question: SecretPrompt) -> Secret | None:
        return None


@pytest.fixture(params=SHELLS)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    tree = Tree(tmp_path / "host", request.param)
    tree.tool(
        "nvidia-smi",
        f"""
        case $* in
        *--query-gpu=index,uuid,pci*) echo '{ROW}' ;;
        *--query-compute-apps*) echo '{H200_UUID}, 42, 512, python3, train.py' ;;
        *) exit 2 ;;
        esac
        """,
    )
    return tree


@contextlib.contextmanager
def started(tree: Tree) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        tree.command(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=tree.environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        process.stdin.write(render(metrics_script(), "TOKEN123", lines=True))
        process.stdin.flush()
        assert process.stdout.readline() == b"TOKEN123\n"
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def ask(process: subprocess.Popen[bytes]) -> list[str]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"sample\n")
    process.stdin.flush()
    lines = []
    for raw in process.stdout:
        lines.append(raw.decode().rstrip("\n"))
        if raw.startswith(b"@@ end"):
            break
    return lines


def test_one_line_asked_one_sample_told(tree: Tree) -> None:
    with started(tree) as process:
        assert ask(process) == [
            "@@ sample 1",
            "status 0",
            f"gpu {ROW}",
            "memory 131072 65536",
            "processes",
            f"process {H200_UUID}, 42, 512, python3, train.py",
            "@@ end 1",
        ]
        assert ask(process)[0] == "@@ sample 2"


def test_it_ends_with_its_input(tree: Tree) -> None:
    with started(tree) as process:
        ask(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=10) == 0


def test_it_ends_when_nobody_reads(tree: Tree) -> None:
    with started(tree) as process:
        ask(process)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        process.stdin.write(b"sample\nsample\n")
        process.stdin.flush()
        process.wait(timeout=10)


def test_a_slow_driver_is_asked_once_a_sample(tree: Tree) -> None:
    """Without persistence mode a call can take 30 s: then processes are left out."""
    tree.tool("nvidia-smi", f"echo '{ROW}'; echo '1030.00 1' >{tree.root}/proc/uptime")
    with started(tree) as process:
        answer = ask(process)
    assert "processes" not in answer
    assert f"gpu {ROW}" in answer


def test_without_nvidia_smi(tree: Tree) -> None:
    (tree.bin / "nvidia-smi").unlink()
    with started(tree) as process:
        assert ask(process) == ["@@ sample 1", "status 127", "@@ end 1"]


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Tree, LocalTransport]:
    tree = Tree(tmp_path / "here")
    tree.h200()
    for name, value in tree.environment().items():
        monkeypatch.setenv(name, value)
    return tree, LocalTransport(ConnectOptions(), Nobody())


async def test_watching_a_host(local: tuple[Tree, LocalTransport]) -> None:
    tree, transport = local
    tree.tool("nvidia-smi", f"case $* in *query-gpu*) echo '{ROW}' ;; esac")
    seen: list[tuple[Sample, ...]] = []
    enough = asyncio.Event()

    def on_samples(host: str, samples: tuple[Sample, ...]) -> None:
        assert host == "local"
        seen.append(samples)
        if len(seen) == 3:
            enough.set()

    watching = asyncio.create_task(watch_host(transport, 2.0, on_samples, FastClock(100)))
    await asyncio.wait_for(enough.wait(), 20)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert [s.power_w for samples in seen for s in samples] == [689.1] * 3


async def test_a_host_without_gpus_says_why(local: tuple[Tree, LocalTransport]) -> None:
    tree, transport = local
    (tree.bin / "nvidia-smi").unlink()
    said: list[str | None] = []
    done = asyncio.Event()

    def on_problem(host: str, problem: str | None) -> None:
        said.append(problem)
        done.set()

    watching = asyncio.create_task(
        watch_host(transport, 1.0, lambda host, samples: None, FastClock(100), on_problem=on_problem)
    )
    await asyncio.wait_for(done.wait(), 20)
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    assert said[0] == "nvidia-smi is not installed"


async def test_a_script_that_is_killed_is_an_error(local: tuple[Tree, LocalTransport]) -> None:
    tree, transport = local
    (tree.bin / "timeout").unlink()  # then the script's shell is the parent
    tree.tool("nvidia-smi", "kill -9 $PPID; exit 1")
    with pytest.raises(GpuwizardError):
        await asyncio.wait_for(watch_host(transport, 1.0, lambda host, samples: None, FastClock(100)), 20)


async def test_probing_over_a_transport(local: tuple[Tree, LocalTransport]) -> None:
    tree, transport = local
    probe = await probe_host(transport, sudo_password_known=False)
    assert probe.facts.gpus[0].uuid == H200_UUID
    assert 0 < probe.seconds < 60
    assert not tree.left_over()


async def test_a_probe_that_hangs_in_nvidia_smi_is_partial(local: tuple[Tree, LocalTransport]) -> None:
    tree, transport = local
    tree.tool("nvidia-smi", "sleep 8")
    probe = await probe_host(transport, sudo_password_known=False, timeout=3)
    assert probe.facts.driver.problem == "nvidia-smi gave no answer in time"
    assert probe.facts.driver.loaded == "580.159.04"
    assert any(u.what == "the rest of the host" for u in probe.facts.unseen)
    await reaped()


async def reaped() -> None:
    """Until the loop has seen the end of the shell that was killed."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    async with asyncio.timeout(5):
        while children.read_text().strip():
            await asyncio.sleep(0.01)


async def test_a_shell_that_answers_nonsense(local: tuple[Tree, LocalTransport]) -> None:
    tree, transport = local
    tree.tool("sh", "echo this account is not available; exit 1")
    with pytest.raises(GpuwizardError, match="nothing that could be read") as caught:
        await probe_host(transport, sudo_password_known=False)
    assert caught.value.remedy
