"""Runs from the command line on the simulated fleet that are cut, rehearsed, or come too late."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

QUICK = "[validation]\nenabled = false\n"


def _as_in_a_terminal() -> None:
    """Signals as a shell gives them: whoever runs the tests in the background or by nohup has them ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Line:
    """The command line with a state directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers = folder / "site.toml"
        self.answers.write_text(QUICK)
        self.environment = {**os.environ, "GPUWIZARD_STATE_DIR": str(folder / "state"), "HOME": str(folder)}
        self.hosts = folder / "state" / "fleets" / "mixed" / "hosts"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "gpuwizard", *arguments, "--simulate", "mixed"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            preexec_fn=_as_in_a_terminal,
        )

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=100)
        return process.returncode, out, err


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_stopped_puts_the_host_back_and_says_how_it_ended(line: Line, number: signal.Signals) -> None:
    assert line("check", "kube-c17")[0] == 1
    configuration = line.hosts / "kube-c17" / "etc" / "containerd" / "config.toml"
    before = configuration.read_bytes()
    with line.start("--answers", str(line.answers), "kube-c17") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for text in process.stdout:
            if "kube-c17: health:" in text:
                process.send_signal(number)
                break
        rest, err = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130
    assert "kube-c17: rolled-back: interrupted by the operator" in rest
    assert configuration.read_bytes() == before
    said = err.splitlines()
    assert said[-2].startswith("gpuwizard: interrupted (run ")
    assert said[-1].startswith("  try: `gpuwizard rollback --simulate mixed ")


def test_a_reader_that_leaves_does_not_stop_a_run(line: Line) -> None:
    with line.start("--answers", str(line.answers), "kube-c17") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for text in process.stdout:
            if "kube-c17: restart:" in text:
                process.stdout.close()
                break
        err = process.stderr.read()
    assert "Traceback" not in err
    assert line("plan", "--answers", str(line.answers), "kube-c17")[0] == 0


def test_a_saved_plan_is_rehearsed_applied_once_and_then_stale(line: Line) -> None:
    plan = str(line.folder / "my site.plan")
    code, _, err = line("plan", "--answers", str(line.answers), "kube-c17", "kube-c21", "--out", plan)
    assert (code, err) == (
        2,
        f"saved; `gpuwizard apply --simulate mixed '{plan}'` applies it while the hosts are as they were\n",
    )
    configuration = line.hosts / "kube-c17" / "etc" / "containerd" / "config.toml"
    before = configuration.read_bytes()

    code, out, _ = line("apply", plan, "--dry-run", "--yes", "--json")
    assert (code, json.loads(out)["schema"]) == (2, "gpuwizard.plan/1")
    assert configuration.read_bytes() == before

    configuration.write_bytes(before + b"# an admin was here\n")
    code, out, _ = line("apply", plan, "--yes")
    assert code == 1
    assert "✗ kube-c17: refused: stale plan: /etc/containerd/config.toml was " in out
    assert "✓ kube-c21: confirmed" in out
    assert "`gpuwizard rollback --simulate mixed 2" in out
    assert configuration.read_bytes() == before + b"# an admin was here\n"

    code, out, _ = line("apply", plan, "--yes")
    assert code == 3
    assert "puts everything back" not in out
    run = line("rollback")[1].split()[0]
    assert line("rollback", run, "--yes")[:2] == (0, f"run {run} changed nothing: there is nothing to put back\n")


def test_validation_passes_no_host_that_it_did_not_try(line: Line) -> None:
    code, out, _ = line("validate", "kube-c17", "no-driver")
    assert code == 1
    assert "validation: not tried: changes are pending, `gpuwizard plan` shows them" in out
    assert "✗ no-driver: refused: no NVIDIA driver is loaded" in out
    line.answers.write_text("[kubernetes]\nmanage = false\n")
    assert line("validate", "--answers", str(line.answers), "kube-c17")[0] == 64
    assert line("validate", "locked")[0] == 4


def test_host_files_and_choices_work_on_a_fleet(line: Line) -> None:
    hosts = line.folder / "hosts.txt"
    hosts.write_text("spark   # the small one\n\nkube-c17\n")
    code, out, err = line("plan", f"@{hosts}", "--answers", os.devnull, "--json")
    assert (code, err) == (2, "")
    assert [host["name"] for host in json.loads(out)["hosts"]] == ["kube-c17", "spark"]
    hosts.write_text("elsewhere\n")
    assert "has no host elsewhere (mixed)" in line("check", f"@{hosts}")[2]
    line.answers.write_text("[host.spark]\nskip = true\n")
    assert line("plan", "--answers", str(line.answers), "kube-c17")[0] == 2
    line.answers.write_text("[host.spork]\nskip = true\n")
    assert line("plan", "--answers", str(line.answers), "kube-c17")[0] == 64


def test_unreachable_hosts_are_named_on_stderr_with_a_remedy(line: Line) -> None:
    code, out, err = line("plan", "locked", "kube-c17", "--json")
    assert code == 1
    assert json.loads(out)["hosts"][1]["refusals"][0]["id"] == "unreachable"
    first, second = err.splitlines()
    assert first.startswith("gpuwizard: ops was not let in (tried: key) (locked, ")
    assert second.startswith("  try: ")


def test_ctrl_c_twice_says_of_each_host_when_it_reverts_by_itself(line: Line) -> None:
    with line.start("--answers", str(line.answers), "kube-c17", "kube-c21") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for text in process.stdout:
            if "kube-c17: health:" in text or "kube-c21: health:" in text:
                process.send_signal(signal.SIGINT)
                break
        for text in process.stdout:
            if "interrupted by the operator" in text:
                process.send_signal(signal.SIGINT)
                break
        rest, err = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    ends = [text for text in rest.splitlines() if text.startswith(("kube-c17:", "kube-c21:"))]
    assert any("unconfirmed: interrupted; unless confirmed it reverts by itself (reverts at " in e for e in ends), rest
    assert any("unchanged: not begun: the run ended before its turn" in e for e in ends), rest
