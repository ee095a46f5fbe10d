"""The program as a user runs it, `python -m gpuwizard …`, against real hosts; judged by the hosts and its exit code."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lab.harness import judge
from tests.lab.harness.host import LabHost
from tests.lab.harness.lab import Lab
from tests.lab.test_containerd import MAIN, handlers_dumped

FreshHost = Callable[..., LabHost]

ANSWERS = """\
version = 1
hosts = [{hosts}]

[kubernetes]
manage = false  # the hosts alone: there is no API server in the lab

[runtime]
default_runtime = "nvidia"

[rollout]
unit_hold = 2.0
node_hold = 0.0
confirm_timeout = 60.0

[validation]
enabled = false
"""


class Program:
    """gpuwizard with a home and a state directory of its own, told where the lab's SSH files are."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.state = folder / "state"
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "GPUWIZARD_STATE_DIR": str(self.state),
        }

    def __call__(self, *words: str, login: bool = True, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run it to its end; `login` adds the flags that a verb which logs in takes."""
        flags = ["--user", "admin", "--ssh-config", str(self.lab.ssh_config), "--identity", str(self.lab.key)]
        flags += ["--known-hosts", str(self.lab.known_hosts)]
        if "--user" in words:
            flags = flags[2:]
        return subprocess.run(
            [sys.executable, "-m", "gpuwizard", *words, *(flags if login else ())],
            env=self.environment | environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def answers(self, *hosts: LabHost) -> str:
        """The path of an answers file for these hosts."""
        path = self.folder / "answers.toml"
        path.write_text(ANSWERS.format(hosts=", ".join(f'"{host.name}"' for host in hosts)))
        return str(path)


@pytest.fixture
def gpuwizard(lab: Lab, tmp_path: Path) -> Program:
    return Program(lab, tmp_path)


def effective_handlers(host: LabHost) -> tuple[str | None, dict[str, Any]]:
    dumped = judge.dump(host, judge.installed(host))
    assert dumped is not None
    return handlers_dumped(dumped)


def state_of(host: LabHost) -> tuple[dict[str, bytes], str]:
    """The configuration, and which process of containerd and which start of it."""
    unit = host.run("systemctl show -p MainPID,ActiveEnterTimestampMonotonic,NRestarts containerd").stdout
    return judge.installed(host), unit


def said(done: "subprocess.CompletedProcess[str]") -> str:
    return f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"


def test_check_reports_every_host_as_json(gpuwizard: Program, lab: Lab) -> None:
    done = gpuwizard("check", "bookworm", "trixie", "sid", "--json")
    assert done.returncode == 1, said(done)
    document = json.loads(done.stdout)
    assert next(iter(document)) == "schema"
    assert [host["name"] for host in document["hosts"]] == ["bookworm", "trixie", "sid"]
    for host in document["hosts"]:
        assert host["reachable"] is True
        assert host["facts"]["gpus"][0]["pci_id"] == "10de:2335"
        assert [f["id"] for f in host["findings"] if f["severity"] == "error"] == ["GW-RUNTIME-001"]


def test_plan_shows_diffs_changes_nothing_and_exits_2(gpuwizard: Program, lab: Lab) -> None:
    hosts = [lab.host(name) for name in ("bookworm", "trixie", "sid")]
    before = [state_of(host) for host in hosts]
    done = gpuwizard("plan", "--answers", gpuwizard.answers(*hosts))
    assert done.returncode == 2, said(done)
    assert "nvidia-container-runtime" in done.stdout
    assert [state_of(host) for host in hosts] == before


def test_unattended_on_three_containerds_then_again_then_rollback(gpuwizard: Program, fresh_host: FreshHost) -> None:
    hosts = [fresh_host(suite) for suite in ("bookworm", "trixie", "sid")]
    before = [judge.installed(host) for host in hosts]
    answers = gpuwizard.answers(*hosts)

    first = gpuwizard("--answers", answers)
    assert first.returncode == 0, said(first)
    for host in hosts:
        default, handlers = effective_handlers(host)
        assert default == "nvidia"
        assert handlers["nvidia"][1]["BinaryName"] == "/usr/bin/nvidia-container-runtime"
        assert handlers["nvidia"][1]["SystemdCgroup"] is True
        assert host.run("systemctl is-active containerd kubelet").stdout.split() == ["active", "active"]
        assert host.run("ctr plugins ls | grep cri | grep -v ' ok '", check=False).stdout == ""
        assert host.run("systemctl list-timers --all --no-legend 'gpuwizard*'").stdout == "", "no revert is armed"

    done = [state_of(host) for host in hosts]
    second = gpuwizard("--answers", answers)
    assert second.returncode == 0, said(second)
    assert "nothing to change" in second.stdout
    assert [state_of(host) for host in hosts] == done

    runs = sorted(path.name for path in (gpuwizard.state / "runs").iterdir())
    assert len(runs) == 1
    back = gpuwizard("rollback", runs[0], "--yes")
    assert back.returncode == 0, said(back)
    assert [judge.installed(host) for host in hosts] == before
    for host in hosts:
        assert effective_handlers(host)[0] == "runc"
        assert host.run("systemctl is-active containerd").stdout == "active\n"


def test_a_sudo_password_from_the_environment_is_nowhere_to_be_found_afterwards(
    gpuwizard: Program, lab: Lab, fresh_host: FreshHost
) -> None:
    host = fresh_host("trixie")
    password = lab.passwords["ops"]
    done = gpuwizard("--answers", gpuwizard.answers(host), "--user", "ops", "-v", GPUWIZARD_SUDO_PASSWORD=password)
    assert done.returncode == 0, said(done)
    assert effective_handlers(host)[0] == "nvidia"
    assert password not in done.stdout + done.stderr
    assert not [
        path for path in gpuwizard.folder.rglob("*") if path.is_file() and password.encode() in path.read_bytes()
    ]
    places = "/etc /var /tmp /run /home /root"
    found = host.run(f"grep -rlIs -- '{password}' {places} | grep -v '^/run/systemd\\|^/run/dbus'", check=False)
    assert found.stdout == ""


def test_one_host_that_is_off_does_not_stop_the_others_and_is_named(gpuwizard: Program, fresh_host: FreshHost) -> None:
    good, off = fresh_host("bookworm"), fresh_host("sid")
    with off.link_cut():
        done = gpuwizard("--answers", gpuwizard.answers(good, off), "--connect-timeout", "3")
    assert done.returncode == 1, said(done)
    assert off.name in done.stdout + done.stderr
    assert effective_handlers(good)[0] == "nvidia"
    assert effective_handlers(off)[0] == "runc"


def test_an_unknown_host_key_is_refused_and_nothing_is_sent(gpuwizard: Program, lab: Lab, trixie: LabHost) -> None:
    empty = gpuwizard.folder / "known_hosts"
    empty.write_text("")
    done = gpuwizard("check", "trixie", "--ssh-config", str(lab.ssh_config), "--user", "admin",
                     "--known-hosts", str(empty), login=False)  # fmt: skip
    assert done.returncode == 4, said(done)
    assert "host key" in (done.stdout + done.stderr).lower()
    assert "Traceback" not in done.stderr


def test_hosts_that_are_not_gpu_nodes_are_left_alone(gpuwizard: Program, lab: Lab) -> None:
    bare = lab.host("bare")
    before = state_of(bare)
    done = gpuwizard("--answers", gpuwizard.answers(bare))
    assert done.returncode == 0, said(done)
    assert state_of(bare) == before
    assert judge.installed(bare)[MAIN] == before[0][MAIN]


def test_the_hidden_host_through_its_jump(gpuwizard: Program, lab: Lab) -> None:
    hidden = lab.host("hidden")
    done = gpuwizard("check", hidden.name, "--json")
    assert done.returncode == 1, said(done)
    assert json.loads(done.stdout)["hosts"][0]["facts"]["gpus"]
