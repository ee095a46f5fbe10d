"""Under --simulate nothing of the laptop is read or reached: not its files, agent, proxies, kubeconfig."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FLEET = """
speed = 100
[hosts.node]
distro = "ubuntu-24.04"
gpus = ["L4"]
driver = "580.95.05"
toolkit = "1.18.0"
containerd = "2.1.4"
kubernetes = { flavour = "kubeadm", version = "v1.34.1" }
"""
WATCH = """
import json, os, sys
seen = []
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        seen.append(["open", os.fsdecode(arguments[0])])
    elif event == "socket.connect":
        seen.append(["connect", repr(arguments[1])])
    elif event == "socket.getaddrinfo":
        seen.append(["resolve", str(arguments[0])])
    elif event in ("subprocess.Popen", "os.posix_spawn", "os.exec"):
        seen.append(["run", repr(arguments[1])])
sys.addaudithook(hook)
from gpuwizard.cli import main
sys.argv = ["gpuwizard", *sys.argv[2:]]
report = os.environ["REPORT"]
try:
    sys.exit(main())
finally:
    with open(report, "w") as file:
        json.dump(list(seen), file)
"""
POISON = {
    ".ssh/config": "Host *\n  ProxyCommand touch {marker}\n  IdentityFile {home}/.ssh/id_ed25519\n",
    ".ssh/known_hosts": "* ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpoisonpoisonpoisonpoisonpoisonpoisonpoison0\n",
    ".ssh/id_ed25519": "-----BEGIN OPENSSH PRIVATE KEY-----\npoison\n-----END OPENSSH PRIVATE KEY-----\n",
    ".kube/config": "apiVersion: v1\nkind: Config\nclusters: [poison\n",
}


@pytest.fixture
def laptop(tmp_path: Path) -> dict[str, str]:
    """An environment in which every way to the outside is poisoned."""
    home = tmp_path / "home"
    for name, text in POISON.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(marker=tmp_path / "proxy-was-run", home=home))
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "HOME": str(home),
        "KUBECONFIG": str(home / ".kube/config"),
        "SSH_AUTH_SOCK": str(tmp_path / "agent"),
        "SSH_ASKPASS": str(tmp_path / "askpass"),
        **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY"), "http://192.0.2.1:3128"),
        "GPUWIZARD_STATE_DIR": str(tmp_path / "state"),
        "REPORT": str(tmp_path / "report.json"),
    }


def watched(laptop: dict[str, str], *arguments: str) -> tuple[int, str, list[tuple[str, str]]]:
    """Run gpuwizard and note every file, connection and program."""
    done = subprocess.run(
        [sys.executable, "-c", WATCH, "-", *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        env=laptop,
        check=False,
    )
    report: list[Any] = json.loads(Path(laptop["REPORT"]).read_text())
    return done.returncode, done.stdout + done.stderr, [(str(kind), str(what)) for kind, what in report]


def test_a_simulated_run_touches_nothing_of_the_laptop(tmp_path: Path, laptop: dict[str, str]) -> None:
    fleet = tmp_path / "small.toml"
    fleet.write_text(FLEET)
    answers = tmp_path / "answers.toml"
    answers.write_text('version = 1\nhosts = ["node"]\n')
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(laptop["SSH_AUTH_SOCK"])
        agent.listen(1)
        agent.setblocking(False)
        status, text, seen = watched(laptop, "--simulate", str(fleet), "--answers", str(answers))
        with pytest.raises(BlockingIOError):
            agent.accept()
    assert status == 0, text
    home = laptop["HOME"]
    assert [what for kind, what in seen if kind == "open" and what.startswith(home)] == []
    reached = [what for kind, what in seen if kind == "connect" and not what.startswith("('127.0.0.1',")]
    assert reached == []
    assert [what for kind, what in seen if kind == "resolve" and what != "127.0.0.1"] == []
    # asyncssh looks for an optional library with the linker's own tools when it is imported
    started = [what for kind, what in seen if kind == "run" and "oqs" not in what and "ldconfig" not in what]
    assert len(started) == 1, "the keeper of the hosts and nothing else"
    assert "gpuwizard.fleet.keeper" in started[0]
    assert not (tmp_path / "proxy-was-run").exists()
    assert sorted(p.name for p in (tmp_path / "state").iterdir()) == ["fleets"], "its runs lie with the fleet"
    connected = [what for kind, what in seen if kind == "connect"]
    assert connected, "the watch saw nothing at all"


def test_a_simulated_run_resolves_no_real_name(tmp_path: Path, laptop: dict[str, str]) -> None:
    fleet = tmp_path / "small.toml"
    fleet.write_text(FLEET)
    status, text, seen = watched(laptop, "--simulate", str(fleet), "check", "example.org")
    assert status == 64, text
    assert [what for kind, what in seen if kind in ("connect", "resolve")] == []
