"""What a running Docker or CRI-O says of itself, beside what its files say: times of files may lie (`safety.md`)."""

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from assets import asset
from gpuwizard.facts.model import KubernetesFacts
from gpuwizard.facts.parse import parse_probe
from gpuwizard.facts.runtimes.docker import docker_facts
from gpuwizard.facts.runtimes.inputs import Live, RuntimeInputs, live_in
from gpuwizard.facts.units import Process
from gpuwizard.work.probe import probe_script
from tests.plan_probes import host_files
from tests.probe_tree import Tree

pytestmark = pytest.mark.skipif(not shutil.which("perl"), reason="perl is not installed")

OK = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"
STATUS = {"org.opencontainers.runtime-spec.features": '{"hooks":["{","\\"Runtimes\\":{"]}'}
INFO = {
    "ID": "x",
    "Labels": ['"DefaultRuntime":"no"'],
    "HttpProxy": "http://user:hunter2@proxy",
    "Runtimes": {
        "io.containerd.runc.v2": {"path": "runc", "status": STATUS},
        "nvidia": {"path": "nvidia-container-runtime", "runtimeArgs": []},
        "runc": {"path": "runc", "status": STATUS},
    },
    "DefaultRuntime": "nvidia",
    "SecurityOptions": ["name=seccomp,profile=builtin"],
}
SAID = "default nvidia\nhandler io.containerd.runc.v2\nhandler nvidia\nhandler runc\n"
CONFIG = """[crio]
  root = "/var/lib/containers"
  [crio.runtime]
    default_runtime = "crun"
    [crio.runtime.runtimes]
      [crio.runtime.runtimes.crun]
        runtime_path = "/usr/libexec/crio/crun"
        default_runtime = "no"
      [crio.runtime.runtimes."kata.x"]
    [crio.runtime.workloads]
      [crio.runtime.workloads.management]
"""
COMMENTED = """[crio.runtime]
# default_runtime = "runc"
# The name matches a handler.
# [crio.runtime.runtimes.runc]
[crio.runtime.runtimes.nvidia]
runtime_path = "/usr/bin/nvidia-container-runtime"
"""


@contextmanager
def daemon(path: Path, reply: bytes, heard: list[bytes] | None = None) -> Iterator[None]:
    """One that answers one question with `reply`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            link, _ = listening.accept()
            with link:
                question = link.recv(65536)
                if heard is not None:
                    heard.append(question)
                link.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(10)


def ask(path: Path, page: str) -> subprocess.CompletedProcess[str]:
    program = asset("remote/live.pl").read_text(encoding="utf-8")
    return subprocess.run(["perl", "-w", "-e", program, str(path), page], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("page", "body", "said"),
    [
        ("/info", json.dumps(INFO), SAID),
        ("/info", json.dumps(INFO, indent=1), SAID),
        ("/config", CONFIG, "default crun\nhandler crun\n"),
        ("/config", COMMENTED, "default runc\nhandler runc\nhandler nvidia\n"),
    ],
)  # fmt: skip
def test_names_of_handlers_and_nothing_else_come_back(page: str, body: str, said: str, tmp_path: Path) -> None:
    heard: list[bytes] = []
    with daemon(tmp_path / "s", OK + body.encode(), heard):
        done = ask(tmp_path / "s", page)
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    assert heard == [f"GET {page} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode()]


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.0 403 Forbidden\r\n\r\n" + json.dumps(INFO).encode(),
        OK,
        OK + b"{}",
        OK + json.dumps(INFO).encode()[:250],
        OK + json.dumps({**INFO, "Runtimes": None}).encode(),
    ],
)
def test_what_is_no_answer_is_none(reply: bytes, tmp_path: Path) -> None:
    with daemon(tmp_path / "s", reply):
        done = ask(tmp_path / "s", "/info")
    assert done.returncode != 0
    assert "hunter2" not in done.stdout + done.stderr
    assert ask(tmp_path / "absent", "/info").returncode != 0


def test_lines_that_lack_one_half_say_nothing() -> None:
    assert live_in("default runc\nhandler runc\nhandler nvidia\nhunter2\n") == Live(
        "runc", frozenset(["runc", "nvidia"])
    )
    for text in (None, "", "default runc\n", "handler runc\n", "default \nhandler \n"):
        assert live_in(text) is None


def test_a_probe_asks_docker_and_crio_where_they_run(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "h")
    (tree.bin / "perl").symlink_to(shutil.which("perl") or "perl")
    tree.file("/etc/docker/daemon.json", '{"runtimes": {"site": {"path": "/opt/site"}}}')
    tree.process(50, "/usr/bin/dockerd", "-H", "fd://", unit="docker.service")
    tree.file("/etc/crio/crio.conf", '[crio.runtime]\ndefault_runtime = "runc"\n')
    tree.process(60, "/usr/bin/crio", unit="crio.service")
    with (
        daemon(tree.root / "run/docker.sock", OK + json.dumps(INFO).encode()),
        daemon(tree.root / "run/crio/crio.sock", OK + CONFIG.encode()),
    ):
        raw = tree.run(probe_script())
    found = {runtime.kind: runtime.not_live for runtime in parse_probe(raw).facts.runtimes}
    assert found == {
        "docker": (
            "handler site stands in the files and does not run",
            "handler nvidia runs and stands in no file",
            "the default handler is nvidia, and runc in the files",
        ),
        "crio": ("the default handler is crun, and runc in the files",),
    }


def not_live(text: str, live: Live | None, *arguments: str) -> tuple[str, ...]:
    words = ("/usr/bin/dockerd", "-H", "fd://", *arguments)
    process = Process(7, "dockerd", 0, "/usr/bin/dockerd", "docker.service", False, words)
    files = host_files({"/etc/docker/daemon.json": text})
    (runtime,) = docker_facts(RuntimeInputs((), (process,), {}, files, KubernetesFacts("none"), None, docker_live=live))
    return runtime.not_live


BUILT_IN = frozenset(["runc", "io.containerd.runc.v2"])
NVIDIA = '{"runtimes": {"nvidia": {"path": "n"}}}'


@pytest.mark.parametrize(
    ("text", "live", "arguments"),
    [
        ("{}", Live("runc", BUILT_IN), ()),
        ("{}", Live("io.containerd.runc.v2", BUILT_IN), ()),
        (NVIDIA, Live("runc", BUILT_IN | {"nvidia"}), ()),
        ("{}", Live("nvidia", BUILT_IN | {"nvidia"}), ("--add-runtime=nvidia=/n", "--default-runtime=nvidia")),
        (NVIDIA, None, ()),
        ("{", Live("nvidia", BUILT_IN), ()),  # what stops it is said elsewhere
        (NVIDIA, Live("runc", BUILT_IN), ("-H", "unix:///run/other.sock")),  # another daemon was asked
    ],
)
def test_a_docker_that_runs_what_its_files_say(text: str, live: Live | None, arguments: tuple[str, ...]) -> None:
    assert not_live(text, live, *arguments) == ()


def test_a_docker_that_runs_something_else() -> None:
    assert not_live(NVIDIA, Live("runc", BUILT_IN)) == ("handler nvidia stands in the files and does not run",)
    assert not_live("{}", Live("runc", BUILT_IN | {"nvidia"})) == ("handler nvidia runs and stands in no file",)
