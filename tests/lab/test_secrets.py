"""Planted secrets on real hosts: no process, journal, log or file shows one, whatever is run with ``-v``.

The hosts share this machine's kernel, so that the processes of all of them are sampled while the program works.
"""

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.lab.harness.host import LabHost
from tests.lab.harness.lab import Lab
from tests.lab.test_containerd import MAIN
from tests.lab.test_end_to_end import Program, effective_handlers, said
from tests.secrets_hunt import Sampler, found_in, found_in_files

FreshHost = Callable[..., LabHost]
AUTH = """
[plugins."io.containerd.grpc.v1.cri".registry.configs."registry.example".auth]
  username = "robot"
  password = "{registry}"
"""
PROXY = '[Service]\nEnvironment="HTTPS_PROXY=http://robot:{proxy}@proxy.example:3128"\n'
KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:9"}}}}]
users: [{{name: u, user: {{token: "{token}"}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
current-context: c
"""


@pytest.fixture
def gpuwizard(lab: Lab, tmp_path: Path) -> Program:
    return Program(lab, tmp_path)


def plant(host: LabHost, planted: Mapping[str, str]) -> None:
    """Logins of a registry and a proxy, in force since the last start of containerd."""
    folder = "/etc/systemd/system/containerd.service.d"
    host.run(f"mkdir -p {folder} && cat >>{MAIN} <<'END'\n{AUTH.format(**planted)}\nEND\n")
    host.run(f"cat >{folder}/http-proxy.conf <<'END'\n{PROXY.format(**planted)}\nEND\n")
    host.run("systemctl daemon-reload && systemctl restart containerd && sleep 2")


def shown_by(host: LabHost) -> str:
    """What the host keeps of the runs for anybody to read: its journal of our units, and the log of each run."""
    return host.run(
        "journalctl --no-pager -o cat -u 'gpuwizard*'; cd /var/lib/gpuwizard/runs; cat */log */state"
    ).stdout


def test_secrets_stay_where_they_were(gpuwizard: Program, lab: Lab, fresh_host: FreshHost) -> None:
    host = fresh_host("trixie")
    password = lab.passwords["ops"]
    planted = {name: f"q7{secrets.token_urlsafe(18)}" for name in ("registry", "proxy", "token")}
    plant(host, planted)
    hunted = {**{k: v for k, v in planted.items() if k != "proxy"}, "sudo password": password,
              "client key": lab.key.read_text().splitlines()[2]}  # fmt: skip
    kubeconfig, log = gpuwizard.folder / "kubeconfig", gpuwizard.folder / "log"
    kubeconfig.write_text(KUBECONFIG.format(**planted))
    login = ("--user", "ops", "-v", "--log-file", str(log), "--kubeconfig", str(kubeconfig))
    answers, heard = gpuwizard.answers(host), ""
    with Sampler(hunted) as sampler:
        for words, expected in (
            (("check", host.name, "--json", "--facts"), (0, 1)),
            (("plan", "--answers", answers, "--json"), (2,)),
            (("--answers", answers), (0,)),
        ):
            done = gpuwizard(*words, *login, GPUWIZARD_SUDO_PASSWORD=password)
            assert done.returncode in expected, said(done)
            heard += done.stdout + done.stderr
        (run,) = (path.name for path in (gpuwizard.state / "runs").iterdir())
        done = gpuwizard("rollback", run, "--yes", *login, GPUWIZARD_SUDO_PASSWORD=password)
        assert done.returncode == 0, said(done)
        heard += done.stdout + done.stderr
    assert "confirmed" in heard
    assert effective_handlers(host)[0] == "runc"
    everything = {**hunted, "proxy": planted["proxy"]}
    assert found_in(heard, everything) == []
    assert found_in(log.read_bytes(), everything) == []
    assert found_in_files(gpuwizard.state, everything) == []
    assert found_in(shown_by(host), everything) == []
    assert sampler.hits == set()
    assert {"sudo", "containerd", "sshd"} & {name.rstrip(":") for name in sampler.seen}
    ours = {k: hunted[k] for k in ("sudo password", "token", "client key")}
    kept = host.run(
        f"journalctl --no-pager -o cat; cat /var/log/auth.log 2>/dev/null; grep -rhs q7 {MAIN}; true"
    ).stdout
    assert found_in(kept, ours) == []
