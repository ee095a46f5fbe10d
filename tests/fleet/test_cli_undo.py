"""Runs that are listed and taken back from the command line: on all hosts, on some, by hand, all of them at once."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fleet.test_cli_runs import Line

CONFIG = "etc/containerd/config.toml"
DROP_IN = "etc/containerd/conf.d/99-gpuwizard-nvidia.toml"


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


def tree(line: Line, host: str) -> dict[str, tuple[bytes, int]]:
    """What is below /etc of a host, and the templates of K3s."""
    root = line.hosts / host
    found = [p for p in (root / "etc").rglob("*") if p.is_file()] + list(root.glob("var/lib/rancher/**/*.tmpl"))
    return {str(p.relative_to(root)): (p.read_bytes(), p.stat().st_mode) for p in found}


def applied(line: Line, *hosts: str) -> str:
    code, out, err = line("--answers", str(line.answers), *hosts)
    assert code == 0, out + err
    return line("rollback")[1].split()[0]


def in_a_terminal(line: Line, width: int, *arguments: str) -> list[str]:
    """What a person sees in a terminal of that width, without colours."""
    main, side = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "gpuwizard", *arguments, "--simulate", "mixed"],
        stdin=subprocess.DEVNULL,
        stdout=side,
        env={**line.environment, "COLUMNS": str(width), "NO_COLOR": "1"},
    ) as process:
        os.close(side)
        pieces = []
        while True:
            try:
                piece = os.read(main, 65536)
            except OSError:
                break
            if not piece:
                break
            pieces.append(piece)
        assert process.wait(60) == 0
    os.close(main)
    return b"".join(pieces).decode().replace("\r\n", "\n").splitlines()


def test_runs_are_told_with_who_when_what_and_where(line: Line) -> None:
    run = applied(line, "kube-c17", "kube-c21")
    said = line("rollback")[1]
    assert said.count("\n") == 1
    assert re.match(rf"{run}  20..-..-..T..:..:..Z  \S+@\S+  apply: 2 confirmed  kube-c17: change /{CONFIG}, ", said)
    assert f"kube-c21: write /{DROP_IN}, change /{CONFIG}, restart containerd.service, label node" in said
    assert "cluster: RuntimeClass nvidia" in said or "cluster: Namespace gpuwizard" in said

    assert line("rollback", run, "kube-c21", "--yes")[0] == 0
    shown = in_a_terminal(line, 80, "rollback")
    assert max(len(text) for text in shown) <= 80
    assert re.fullmatch(r"20\S+  20..-..-.. ..:.. UTC  \S+@\S+", shown[0])
    assert shown[1] == f"  rollback of {run}: 1 confirmed"
    assert "  apply: 2 confirmed" in shown
    back = shown[0].split()[0]
    assert f"  put back on kube-c21 by {back}" in shown

    document = json.loads(line("rollback", "--json")[1])
    assert document["schema"] == "gpuwizard.runs/1"
    assert [(r["kind"], r["rolls_back"]) for r in document["runs"]] == [("rollback", run), ("apply", None)]
    assert document["runs"][1]["labels"][0]["key"] == "gpuwizard.dev/gpu"


def test_one_host_after_the_other_and_the_objects_with_the_last(line: Line) -> None:
    assert line("check", "kube-c17", "kube-c21")[0] == 1
    before = {host: tree(line, host) for host in ("kube-c17", "kube-c21")}
    run = applied(line, "kube-c17", "kube-c21")
    after = tree(line, "kube-c21")

    code, out, err = line("rollback", run, "kube-c99", "--yes")
    assert (code, out) == (64, "")
    assert f"gpuwizard: run {run} has no host kube-c99\n  try: its hosts are kube-c17, kube-c21\n" in err

    code, out, err = line("rollback", run, "kube-c17", "--yes")
    assert code == 0, out + err
    assert "the cluster's objects stay: kube-c21 still has the run" in out
    assert "deleted" not in out
    assert "kube-c21: " not in out
    assert tree(line, "kube-c17") == before["kube-c17"]
    assert tree(line, "kube-c21") == after

    code, out, err = line("rollback", run, "kube-c21", "--yes")
    assert code == 0, out + err
    assert "deleted DaemonSet gpuwizard/nvidia-device-plugin" in out
    assert tree(line, "kube-c21") == before["kube-c21"]
    code, out, _ = line("rollback", run, "--yes")
    assert code == 0
    assert out.count("it was put back already by run 20") >= 2

    back = line("rollback")[1].split()[0]
    code, _, err = line("rollback", back, "--yes")
    assert code == 3
    assert f"run {back} is a rollback of {run}: it is not rolled back" in err
    assert "try: gpuwizard plan makes the changes anew" in err


def test_an_older_run_names_the_later_one(line: Line) -> None:
    run = applied(line, "kube-c21")
    line.answers.write_text('[validation]\nenabled = false\n[runtime]\ndefault_runtime = "nvidia"\n')
    later = applied(line, "kube-c21")
    assert later != run
    code, out, _ = line("rollback", run, "--yes")
    assert code == 3
    assert f"was changed again by a later run: {later} (" in out
    assert f"(roll that one back first: gpuwizard rollback {later})" in out
    assert line("rollback", later, "--yes")[0] == 0
    assert line("rollback", run, "--yes")[0] == 0
    assert not (line.hosts / "kube-c21" / DROP_IN).exists()


def test_the_text_of_a_run_puts_the_hosts_back_by_hand(line: Line) -> None:
    assert line("check", "kube-c17", "kube-c21")[0] == 1
    before = {host: tree(line, host) for host in ("kube-c17", "kube-c21")}
    run = applied(line, "kube-c17", "kube-c21")
    (folder,) = (f for f in line.folder.glob(f"state/**/runs/{run}") if "hosts" not in f.parts)
    file = folder / "README.txt"
    assert file.stat().st_mode & 0o777 == 0o600
    text = file.read_text()
    assert "kubectl label node kube-c17 gpuwizard.dev/gpu-\n" in text
    assert "kubectl delete daemonset nvidia-device-plugin --namespace gpuwizard\n" in text
    for host in before:
        part = text[text.index(f"Host {host}: confirmed") :]
        part = part[part.index("Once it is confirmed") :].split("\n\n")[1]
        commands = [c.strip() for c in part.splitlines()]
        assert commands[-1] == "systemctl reset-failed containerd.service; systemctl restart containerd.service"
        root = line.hosts / host
        script = re.sub(r"(?<= )/(?=etc|var)", f"{root}/", "\n".join(commands[:-1]))
        subprocess.run(["sh", "-ec", script], check=True)
        assert tree(line, host) == before[host]


def forget_the_laptop(line: Line) -> None:
    """As if another laptop had made the runs: only the hosts remember them."""
    for folder in line.folder.glob("state/**/runs"):
        if "hosts" not in folder.parts:
            shutil.rmtree(folder)


def test_uninstall_says_when_there_is_nothing(line: Line) -> None:
    code, out, err = line("uninstall", "kube-c17", "spark")
    assert (code, err) == (0, "")
    assert "nothing of gpuwizard stands on kube-c17, spark or in the cluster: there is nothing to take back" in out
    code, out, _ = line("uninstall", "kube-c17", "--dry-run", "--json")
    assert (code, json.loads(out)["hosts"][0]["actions"]) == (0, [])


def test_uninstall_goes_back_to_before_the_first_run_of_any_laptop(line: Line) -> None:
    hosts = ("kube-c17", "kube-c21", "spark")
    assert line("check", *hosts)[0] == 1
    before = {host: tree(line, host) for host in hosts}
    first = applied(line, *hosts)
    line.answers.write_text('[validation]\nenabled = false\n[runtime]\ndefault_runtime = "nvidia"\n')
    second = applied(line, "kube-c21")
    after = tree(line, "kube-c21")
    forget_the_laptop(line)

    code, out, err = line("uninstall", *hosts, "--dry-run", "--json")
    assert code == 2, err
    plan = json.loads(out)
    assert plan["schema"] == "gpuwizard.plan/1"
    c21 = plan["hosts"][1]
    assert c21["reason"] == f"back to before runs {second}, {first}"
    assert "default handler: runc again, was nvidia" in c21["effective_words"]
    assert plan["cluster"]["actions"][0]["summary"] == "delete DaemonSet gpuwizard/nvidia-device-plugin"
    code, out, err = line("uninstall", *hosts)
    assert code == 64
    assert "try: add --yes" in err
    assert "      -imports = [" in out, "the difference is shown before anything is asked"
    assert tree(line, "kube-c21") == after, "nothing was changed yet"

    code, out, err = line("uninstall", *hosts, "--yes")
    assert code == 0, out + err
    assert {host: tree(line, host) for host in hosts} == before
    assert "deleted Namespace gpuwizard" in out
    assert out.index("label gpuwizard.dev/gpu of kube-c21") < out.index("kube-c21: replace:")
    assert "stays on kube-c17, kube-c21, spark as the audit trail; on each host `sudo rm -r /var/lib/gpuwizard`" in out
    assert (line.hosts / "kube-c21" / "var/lib/gpuwizard/runs" / first / "README.txt").exists()
    assert "nothing of gpuwizard stands" in line("uninstall", *hosts, "--yes")[1]

    said = line("rollback")[1]
    run = said.split()[0]
    assert "  uninstall: 3 confirmed  " in said
    assert f"run {run} is an uninstall: it is not rolled back" in line("rollback", run, "--yes")[2]
    (folder,) = (f for f in line.folder.glob(f"state/**/runs/{run}") if "hosts" not in f.parts)
    text = (folder / "README.txt").read_text()
    assert "kubectl label node kube-c21 --overwrite gpuwizard.dev/gpu=true" in text
    assert "kubectl create -f before-3-Namespace-gpuwizard.yaml" in text
    assert (folder / "before-3-Namespace-gpuwizard.yaml").read_text().startswith("apiVersion: v1\nkind: Namespace\n")
    assert not (folder / "run.plan").exists()


def test_uninstall_of_one_host_leaves_the_cluster_to_the_others(line: Line) -> None:
    applied(line, "kube-c17", "kube-c21")
    code, out, err = line("uninstall", "kube-c17", "--yes")
    assert code == 0, out + err
    assert "the cluster's objects stay: kube-c21 still has our label" in out
    assert "deleted" not in out
    code, out, err = line("uninstall", "--yes")
    assert code == 0, out + err
    assert "kube-c17" in out, "without a host: those of the runs of this machine"
    assert "deleted DaemonSet gpuwizard/nvidia-device-plugin" in out


def test_uninstall_refuses_what_somebody_else_changed_and_shows_it(line: Line) -> None:
    applied(line, "kube-c17", "kube-c21")
    file = line.hosts / "kube-c17" / CONFIG
    mine = file.read_bytes() + b'\n# an admin was here: password = "hunter2"\n'
    file.write_bytes(mine)
    code, out, err = line("uninstall", "--yes")
    assert code == 1, out + err
    assert f"  ✗ /{CONFIG} was changed by somebody else since run 20" in out
    assert "      +# an admin was here" in out
    assert "hunter2" not in out
    assert "/README.txt says how" in out
    assert "✓ kube-c21: confirmed" in out
    assert "the cluster's objects stay" in out
    assert "deleted" not in out
    assert file.read_bytes() == mine
    assert not (line.hosts / "kube-c21" / DROP_IN).exists()


def test_an_uninstall_that_was_cut_by_a_restart_of_its_hosts_is_done_anew(line: Line) -> None:
    hosts = ("kube-c17", "kube-c21")
    assert line("check", *hosts)[0] == 1
    before = {host: tree(line, host) for host in hosts}
    applied(line, *hosts)
    with line.start("uninstall", *hosts, "--yes") as process:
        assert process.stdout is not None
        for text in process.stdout:
            if "kube-c17: health:" in text:
                process.kill()
                break
    code, out, err = line("resume", "--yes")  # the simulated hosts went down with the first process
    assert code == 1, out + err
    assert "✗ kube-c17: rolled-back: the host was restarted before the change was confirmed" in out
    assert "✗ kube-c21: refused: the host was restarted since the plan was made" in out
    assert "the cluster's objects stay, because not every host is as it was before" in out
    code, out, err = line("uninstall", *hosts, "--yes")
    assert code == 0, out + err
    assert "deleted DaemonSet gpuwizard/nvidia-device-plugin" in out
    assert {host: tree(line, host) for host in hosts} == before


@pytest.mark.parametrize("command", ["rollback", "uninstall"])
def test_a_way_back_that_is_stopped_says_how_the_rest_is_done(line: Line, command: str) -> None:
    run = applied(line, "kube-c17")
    file = line.hosts / "kube-c17" / CONFIG
    after = file.read_bytes()
    words = [run] if command == "rollback" else ["kube-c17"]
    with line.start(command, *words, "--yes") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for text in process.stdout:
            if "kube-c17: health:" in text:
                process.send_signal(signal.SIGINT)
                break
        out, err = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130
    assert "kube-c17: rolled-back: interrupted by the operator" in out
    assert "label gpuwizard.dev/gpu of kube-c17 is there again: the host stays as it was" in out
    assert file.read_bytes() == after
    rest = f"rollback --simulate mixed {run}" if command == "rollback" else "uninstall --simulate mixed"
    assert err.splitlines()[-1] == f"  try: `gpuwizard {rest}` does the rest"
    code, out, err = line(command, *words, "--yes")
    assert code == 0, out + err
    assert file.read_bytes() != after
