"""Guarded changes of Docker, CRI-O, MicroK8s and k0s: each is judged, activated and asked in its own way."""

import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwizard.actions import Check
from gpuwizard.flavours.microk8s_template import RENDERED, TEMPLATE
from gpuwizard.work.guard_scripts import GuardedChange, host_state
from tests.guard_tree import NVIDIA, PLAIN, SPEED, Tree, change_of, edit, leftovers, missing_shells, started

pytestmark = pytest.mark.skipif(bool(missing_shells()), reason=f"shells not installed: {missing_shells()}")

DAEMON = "/etc/docker/daemon.json"
MEMORY = "/var/lib/gpuwizard/docker-default-runtime"
BEFORE = b'{\n  "debug": true\n}\n'
AFTER = b'{\n  "debug": true,\n  "runtimes": {\n    "nvidia": {\n      "path": "/n",\n      "args": []\n    }\n  }\n}\n'
DEFAULT = json.dumps({**json.loads(AFTER), "default-runtime": "nvidia"}).encode()
DOCKER = Check(
    "docker.service", ("runc", "nvidia"), "runc", "/run/docker.sock", "/usr/bin/dockerd", DAEMON, kind="docker"
)
OURS = "/etc/crio/crio.conf.d/99-gpuwizard-nvidia.toml"
HANDLER = b'[crio.runtime.runtimes.nvidia]\nruntime_path = "/n"\n'
CRIO = Check(
    "crio.service",
    ("crun", "nvidia"),
    "crun",
    "/run/crio/crio.sock",
    "/usr/bin/crio",
    "/etc/crio/crio.conf",
    kind="crio",
)
MICROK8S = Check(
    "snap.microk8s.daemon-containerd.service",
    ("runc", "nvidia"),
    "runc",
    "/var/snap/microk8s/common/run/containerd.sock",
    None,
    RENDERED,
    RENDERED,
)
DROP_IN = "/etc/k0s/containerd.d/99-gpuwizard-nvidia.toml"
CRI_FILE = "/run/k0s/containerd-cri.toml"
K0S = Check(
    "k0sworker.service",
    ("runc", "nvidia"),
    "runc",
    "/run/k0s/containerd.sock",
    None,
    "/etc/k0s/containerd.toml",
    CRI_FILE,
)


def runs(tree: Tree, unit: str, *words: str) -> None:
    """The unit is active with process 1000 and those arguments."""
    folder = tree.root / "standin/units" / unit
    folder.mkdir(parents=True)
    for name, value in (("active", "active"), ("pid", "1000"), ("restarts", "0")):
        (folder / name).write_text(value + "\n")
    tree.environment["STANDIN_PYTHON"] = sys.executable
    process(tree, 1000, *words)


def process(tree: Tree, pid: int, *words: str) -> None:
    folder = tree.path(f"/proc/{pid}")
    folder.mkdir()
    (folder / "cmdline").write_bytes(b"".join(w.encode() + b"\0" for w in words))
    (folder / "comm").write_text(Path(words[0]).name + "\n")


def failure(tree: Tree) -> str:
    status = host_state(tree.guard("status").stdout.splitlines())
    assert status is not None
    return status.failure


def docker(tree: Tree, text: bytes = BEFORE, *flags: str) -> Tree:
    runs(tree, "docker.service", "/usr/bin/dockerd", "-H", "fd://", *flags)
    path = tree.path(DAEMON)
    path.parent.mkdir()
    path.write_bytes(text)
    (tree.root / "standin/live").write_bytes(text)
    return tree


def docker_change(*files: object, check: Check = DOCKER, **values: object) -> dict[str, object]:
    return {"unit": "docker.service", "check": check, **values}


def test_docker_is_judged_by_dockerd_and_asked_by_docker_info(tree: Tree) -> None:
    docker(tree)
    remember = edit(MEMORY, None, b"unset\n")
    check = Check(**{**{f: getattr(DOCKER, f) for f in Check.__slots__}, "default_handler": "nvidia"})
    started(tree, remember, edit(DAEMON, BEFORE, DEFAULT), **docker_change(check=check))
    assert tree.wait_for("healthy", "reverted", "revert-failed") == "healthy"
    asked = (tree.root / "standin/dockerd-calls").read_text()
    assert "dockerd -H fd:// --validate --config-file" in asked, "with the daemon's real arguments"
    assert tree.calls().count("restart --no-block docker.service") == 1
    assert tree.guard("confirm").returncode == 0
    assert (tree.path(DAEMON).read_bytes(), tree.path(MEMORY).read_bytes()) == (DEFAULT, b"unset\n")
    assert leftovers(tree) == []


@pytest.mark.parametrize(
    ("flags", "after", "says"),
    [
        ((), b'{"debug": tru}', "unable to configure the Docker daemon"),
        ((), b'{"no-such-directive": 1}', "don't match any configuration option"),
        (("--default-runtime=runc",), DEFAULT, "both as a flag and in the configuration file"),
    ],
)
def test_what_dockerd_would_not_start_with_is_refused(
    one_shell: Tree, flags: tuple[str, ...], after: bytes, says: str
) -> None:
    docker(one_shell, BEFORE, *flags)
    done = one_shell.prepare(change_of(edit(DAEMON, BEFORE, after), **docker_change()))
    assert done.returncode == 3
    assert "@refused judge" in done.stdout
    assert says in done.stdout
    assert one_shell.path(DAEMON).read_bytes() == BEFORE


def test_a_dockerd_that_cannot_validate_is_no_obstacle(one_shell: Tree) -> None:
    docker(one_shell).environment["STANDIN_OLD_DOCKER"] = "1"
    done = one_shell.prepare(change_of(edit(DAEMON, BEFORE, AFTER), **docker_change()))
    assert done.returncode == 0, done.stdout
    assert "cannot judge a file" in done.stdout


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (AFTER.replace(b"nvidia", b"other"), "the handler nvidia is not there"),
        (DEFAULT, "the default handler is nvidia, not runc"),
        (AFTER.replace(b'"debug"', b'"DEAF"'), "is not up after"),
    ],
)
def test_a_docker_that_does_not_come_as_planned_gets_its_file_back(tree: Tree, after: bytes, why: str) -> None:
    docker(tree)
    started(tree, edit(DAEMON, BEFORE, after), **docker_change(limit=12))
    assert tree.wait_for("reverted", "revert-failed", "healthy") == "reverted"
    assert tree.path(DAEMON).read_bytes() == BEFORE
    assert why in failure(tree)
    assert tree.calls().count("restart --no-block docker.service") == 2


def test_a_docker_file_that_was_not_there_is_removed_again(one_shell: Tree) -> None:
    docker(one_shell, b"")
    one_shell.path(DAEMON).unlink()
    after = AFTER.replace(b"nvidia", b"other")
    started(one_shell, edit(DAEMON, None, after), **docker_change())
    one_shell.wait_for("reverted")
    assert not one_shell.path(DAEMON).exists()


def test_a_docker_that_nobody_can_ask_is_not_changed(one_shell: Tree) -> None:
    docker(one_shell, b'{"DEAF": true}')
    done = one_shell.prepare(change_of(edit(DAEMON, b'{"DEAF": true}', AFTER), **docker_change()))
    assert "@refused cannot-judge" in done.stdout
    assert "Cannot connect to the Docker daemon" in done.stdout


def crio(tree: Tree, *flags: str) -> Tree:
    runs(tree, "crio.service", "/usr/bin/crio", *flags)
    tree.path(OURS).parent.mkdir(parents=True)
    tree.path("/etc/crio/crio.conf.d/10-crio.conf").write_bytes(b'[crio.runtime.runtimes.runc]\nruntime_path = "/r"\n')
    (tree.root / "standin/live").write_text(
        '[crio.runtime]\n# default_runtime = "crun"\n# [crio.runtime.runtimes.crun]\n'
    )
    return tree


def test_crio_is_judged_in_a_copy_of_its_folder_and_asked_by_status(tree: Tree) -> None:
    crio(tree, "--log-level", "info")
    started(tree, edit(OURS, None, HANDLER), unit="crio.service", check=CRIO)
    assert tree.wait_for("healthy", "reverted", "revert-failed") == "healthy"
    assert tree.guard("confirm").returncode == 0
    assert tree.path(OURS).read_bytes() == HANDLER
    assert sorted(p.name for p in tree.path(OURS).parent.iterdir()) == ["10-crio.conf", Path(OURS).name]
    assert "accepts the staged files (1 judged)" in tree.prepare(
        change_of(edit(OURS, HANDLER, HANDLER + b"# x\n"), run_id="run-2", unit="crio.service", check=CRIO)
    ).stdout  # fmt: skip


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (b"[crio.runtime\n", "refuses the new"),
        (HANDLER.replace(b"nvidia", b"other"), "the handler nvidia is not there"),
        (b'[crio.runtime]\ndefault_runtime = "nvidia"\n' + HANDLER, "the default handler is nvidia, not crun"),
        (b'[crio.runtime]\ndefault_runtime = "kata"\n' + HANDLER, "the default handler is kata"),
    ],
)
def test_what_crio_would_not_take_is_refused(one_shell: Tree, after: bytes, says: str) -> None:
    crio(one_shell)
    done = one_shell.prepare(change_of(edit(OURS, None, after), unit="crio.service", check=CRIO))
    assert done.returncode == 3
    assert says in done.stdout
    assert not one_shell.path(OURS).exists()


@pytest.mark.parametrize(("poison", "why"), [(b"# DEAF\n", "is not up after"), (b"# CRASH\n", "did not stay up")])
def test_a_crio_that_is_not_well_gets_its_files_back(tree: Tree, poison: bytes, why: str) -> None:
    crio(tree)
    started(tree, edit(OURS, None, HANDLER + poison), unit="crio.service", check=CRIO, limit=12, hold=10)
    assert tree.wait_for("reverted", "revert-failed", "healthy") == "reverted"
    assert why in failure(tree)
    assert not tree.path(OURS).exists()


def microk8s(tree: Tree) -> Tree:
    runs(tree, MICROK8S.unit, "/snap/microk8s/1/bin/containerd")
    tree.path(TEMPLATE).parent.mkdir(parents=True)
    tree.path(TEMPLATE).write_bytes(PLAIN.replace(b'"runc"', b'"${RUNTIME}"'))
    tree.path(RENDERED).write_bytes(PLAIN)
    return tree


def snap_change(**values: object) -> dict[str, object]:
    snap = {"verb": "snap-restart", "snap": "microk8s.daemon-containerd"}
    return {"unit": MICROK8S.unit, "check": MICROK8S, **snap, **values}


@pytest.mark.parametrize("snapd", [True, False])
def test_a_snap_is_restarted_by_snapd_or_by_systemd(tree: Tree, snapd: bool) -> None:
    microk8s(tree)
    if not snapd:
        tree.environment["STANDIN_NO_SNAPD"] = "1"
    before = tree.path(TEMPLATE).read_bytes()
    started(tree, edit(TEMPLATE, before, before + NVIDIA), **snap_change())
    assert tree.wait_for("healthy", "reverted", "revert-failed") == "healthy"
    assert tree.calls().count("snap restart --no-wait microk8s.daemon-containerd") == 1
    assert tree.calls().count(f"restart --no-block {MICROK8S.unit}") == 1
    assert tree.path(RENDERED).read_bytes() == PLAIN + NVIDIA, "MicroK8s made it of the template"
    assert tree.path(TEMPLATE).read_bytes() == before + NVIDIA
    assert tree.guard("confirm").returncode == 0


@pytest.mark.parametrize(
    ("added", "why"),
    [(NVIDIA + b"# BREAKCRI\n", "its CRI plugin is error"), (b"# nothing\n", "the handler nvidia is not there")],
)
def test_a_snap_that_is_not_well_gets_its_template_back(tree: Tree, added: bytes, why: str) -> None:
    microk8s(tree)
    before = tree.path(TEMPLATE).read_bytes()
    started(tree, edit(TEMPLATE, before, before + added), **snap_change())
    assert tree.wait_for("reverted", "revert-failed", "healthy") == "reverted"
    assert why in failure(tree)
    assert tree.path(TEMPLATE).read_bytes() == before
    assert tree.path(RENDERED).read_bytes() == PLAIN
    assert tree.calls().count("snap restart --no-wait microk8s.daemon-containerd") == 2


def test_a_rollback_restarts_the_snap_as_the_run_did(one_shell: Tree) -> None:
    microk8s(one_shell)
    before = one_shell.path(TEMPLATE).read_bytes()
    started(one_shell, edit(TEMPLATE, before, before + NVIDIA), **snap_change())
    one_shell.wait_for("healthy")
    one_shell.guard("confirm")
    back = GuardedChange("run-2", "tester", timeout=200, limit=60, hold=3, restores=("run-1",))
    done = one_shell.prepare(back)
    assert done.returncode == 0, done.stdout
    for role in ("arm", "begin"):
        assert one_shell.guard(role, run_id="run-2").returncode == 0
    assert one_shell.wait_for("healthy", "reverted", run_id="run-2") == "healthy"
    assert one_shell.path(TEMPLATE).read_bytes() == before
    assert one_shell.calls().count("snap restart --no-wait microk8s.daemon-containerd") == 2


class K0sWatch:
    """k0s as it watches its folder: three seconds after a change it writes the merged file and sends SIGHUP."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.pid = 2000
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        runs(tree, "k0sworker.service", "/usr/local/bin/k0s", "worker")
        tree.path(DROP_IN).parent.mkdir(parents=True)
        tree.path(CRI_FILE).parent.mkdir(parents=True)
        tree.path(CRI_FILE).write_bytes(PLAIN)
        process(tree, 1999, "/usr/bin/containerd", "--config=/etc/containerd/config.toml")
        self._start()

    def _start(self) -> None:
        process(self.tree, self.pid, "/var/lib/k0s/bin/containerd", "--config=/etc/k0s/containerd.toml")
        (self.tree.root / "standin/containerd-runs").touch()

    def _content(self) -> bytes:
        return b"".join(p.read_bytes() for p in sorted(self.tree.path(DROP_IN).parent.glob("*.toml")))

    def _watch(self) -> None:
        seen = self._content()
        while not self.stop.wait(0.01):
            if self._content() == seen:
                continue
            time.sleep(3 / SPEED)
            seen = self._content()
            (self.tree.root / "standin/containerd-runs").unlink()
            shutil.rmtree(self.tree.path(f"/proc/{self.pid}"))
            self.tree.path(CRI_FILE).write_bytes(PLAIN + seen)
            time.sleep(1 / SPEED)
            self.pid += 1
            self._start()


@pytest.fixture
def k0s(tree: Tree) -> Iterator[Tree]:
    watch = K0sWatch(tree)
    watch.thread.start()
    yield tree
    watch.stop.set()
    watch.thread.join()


def k0s_change(**values: object) -> dict[str, object]:
    return {"unit": "k0sworker.service", "check": K0S, "verb": "watched", **values}


def test_k0s_is_waited_for_and_never_restarted(k0s: Tree) -> None:
    started(k0s, edit(DROP_IN, None, NVIDIA), **k0s_change())
    watched = k0s.guard("watch", "1")
    assert "k0sworker.service sees the change and restarts its runtime by itself" in watched.stdout
    assert k0s.state() == "healthy"
    assert k0s.path(CRI_FILE).read_bytes() == PLAIN + NVIDIA
    assert k0s.guard("confirm").returncode == 0, "its containerd is the process that was found healthy"
    assert not any("restart" in call for call in k0s.calls())


@pytest.mark.parametrize(
    ("text", "why"),
    [(NVIDIA + b"# BREAKCRI\n", "its CRI plugin is error"), (b"# nothing\n", "the handler nvidia is not there")],
)
def test_a_k0s_that_is_not_well_gets_its_folder_back_and_restarts_by_itself_again(
    k0s: Tree, text: bytes, why: str
) -> None:
    started(k0s, edit(DROP_IN, None, text), **k0s_change())
    assert k0s.wait_for("reverted", "revert-failed", "healthy") == "reverted"
    assert why in failure(k0s)
    assert not k0s.path(DROP_IN).exists()
    assert k0s.path(CRI_FILE).read_bytes() == PLAIN
    assert not any("restart" in call for call in k0s.calls())
    assert leftovers(k0s) == []


def test_a_k0s_that_does_not_look_is_found_out(one_shell: Tree) -> None:
    K0sWatch(one_shell)  # its folder is watched by nobody
    started(one_shell, edit(DROP_IN, None, NVIDIA), **k0s_change(limit=10))
    assert one_shell.wait_for("reverted", "revert-failed", "healthy") == "reverted"
    assert "is not up after 10 s" in failure(one_shell)
    assert not one_shell.path(DROP_IN).exists()
