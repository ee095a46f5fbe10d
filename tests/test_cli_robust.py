"""The command line in bad company: closed streams, poor encodings, full disks, odd values."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuwizard.cli import main, report
from gpuwizard.errors import GpuwizardError, RefusedError, UsageError


def run(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """`command` in a shell in which $G is gpuwizard."""
    return subprocess.run(
        ["/bin/sh", "-c", command],
        capture_output=True,
        timeout=60,
        env={**os.environ, "G": f"{sys.executable} -m gpuwizard", **environment},
    )


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("$G answers schema >&-", 0),
        ("$G answers schema <&- >&- 2>&-", 0),
        ("$G --bogus 2>&-", 64),
        ("$G <&- >&- 2>&-", 64),
    ],
)
def test_closed_streams_are_no_trouble(command: str, code: int) -> None:
    done = run(command)
    assert done.returncode == code
    assert (done.stdout, done.stderr) == (b"", b"")


def test_a_full_disk_is_an_error_of_two_lines() -> None:
    done = run("$G answers schema >/dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith(b"gpuwizard: No space left on device\n  try: ")
    assert done.stderr.count(b"\n") == 2


@pytest.mark.parametrize("command", ["$G answers schema | true", "$G answers example | true", "$G --help | true"])
def test_a_reader_that_leaves_hears_nothing_more(command: str) -> None:
    assert run(command).stderr == b""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_poor_encoding_gets_plain_characters(encoding: str) -> None:
    done = run("$G apply", PYTHONIOENCODING=encoding)
    assert done.returncode == 64
    dots = "…".encode() if encoding == "utf-8" else b"..."
    assert done.stderr.endswith(b"gpuwizard plan --out site.plan HOST" + dots + b"\n")


def test_a_word_that_is_no_text_is_refused_and_shown() -> None:
    done = run(r"""$G check "$(printf 'gpu\377')" """)
    assert done.returncode == 64
    assert b"Traceback" not in done.stderr
    assert b"is no host" in done.stderr


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["check", "--connect-timeout", "nan", "gpu1"], "--connect-timeout has a value that is not allowed"),
        (["check", "--answers", ""], "--answers has an empty value"),
        (["monitor", "--json", "--interval", "0", "gpu1"], "must be a number from 0.1 to 3600, not 0"),
        (["monitor", "--json", "--interval", "often", "gpu1"], "must be a number from 0.1 to 3600, not often"),
        (["resume", "2026", "gpu1"], "resume takes one run, not 2026 gpu1"),
        (["demo", "mixed", "mixed"], "demo takes one fleet"),
        (["rollback", "2026", "--dry-run", "--yes"], "--dry-run is for"),
        (["--dry-run"], "--dry-run is for"),
        (["plan", "--out", "/nonexistent/site.plan", "gpu1"], "the plan cannot be saved there"),
        (["chekc", "gpu1"], "did you mean `gpuwizard check`?"),
    ],
)
def test_what_would_be_ignored_or_fail_late_is_refused_at_once(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 64
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 2


@pytest.mark.parametrize("error", [GpuwizardError("a\nb"), UsageError("x", where="y\x1b[31m"), RefusedError("z")])
def test_every_error_has_two_lines(error: GpuwizardError, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(error) == error.exit_code
    said = capsys.readouterr().err.splitlines()
    assert [line[:6] for line in said] == ["gpuwiz", "  try:"]
    assert "\x1b" not in said[0]


def test_verbose_adds_the_traceback_and_keeps_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-v"]) == 64
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-2].startswith("gpuwizard: name at least one host")


def test_host_files_without_a_host_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "hosts.txt"
    empty.write_text("# none yet\n")
    assert main(["check", f"@{empty}"]) == 64
    assert f"there is no host in @{empty}" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["password", "sudo_password", "token", "client_secret"])
def test_a_secret_in_the_answers_file_is_refused_and_never_shown(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "site.toml"
    file.write_text(f'[connection]\n{key} = "hunter2"\n')
    assert main(["answers", "check", str(file)]) == 64
    err = capsys.readouterr().err
    assert f"{file}:2: connection.{key}: a secret does not belong in this file" in err
    assert "GPUWIZARD_SUDO_PASSWORD" in err
    assert "hunter2" not in err


def test_a_password_in_place_of_the_command_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "site.toml"
    file.write_text('hosts = ["gpu1"]\n[connection]\nsudo_password_command = "hunter2"\n')
    assert main(["check", "--answers", str(file)]) == 64
    err = capsys.readouterr().err
    assert "sudo_password_command cannot be run (No such file or directory)" in err
    assert "hunter2" not in err


def test_all_problems_of_an_answers_file_are_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "site.toml"
    file.write_text('hosts = "gpu1"\n[kubernetes]\nnamespace = "A B"\n')
    assert main(["answers", "check", str(file)]) == 64
    first, second = capsys.readouterr().err.splitlines()
    assert "hosts: must be a list, not 'gpu1'; " in first
    assert "kubernetes.namespace: must be a name as Kubernetes has them" in first
    assert second.startswith("  try: ")


def test_choices_for_an_unknown_host_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "site.toml"
    file.write_text('hosts = ["gpu1", "gpu2"]\n[host.gpu3]\nskip = true\n')
    assert main(["answers", "check", str(file)]) == 64
    assert "choices for a host that is not listed: gpu3 (host.gpu3)" in capsys.readouterr().err


def test_a_cluster_without_a_kubeconfig_is_4_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GPUWIZARD_STATE_DIR", str(tmp_path))
    assert main(["plan", "--kubeconfig", str(tmp_path / "none"), "local"]) == 4
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("gpuwizard: the cluster: ")
    assert said[1].startswith("  try: ")


def test_a_monitor_without_a_gpu_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    assert main(["monitor", "--json", "local"]) == 1
    assert "no host has a GPU that can be watched (local)" in capsys.readouterr().err
