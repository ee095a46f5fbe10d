"""The command line as a user meets it: exit codes, two-line errors, no traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuwizard.cli import main


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


@pytest.mark.parametrize(
    ("argv", "says", "remedy"),
    [
        (["--bogus"], "unrecognized arguments: --bogus", "--help"),
        (["check", "--host-keys", "maybe"], "invalid choice: 'maybe'", "--help"),
        (["diagnose", "gpu1"], "`gpuwizard diagnose` is not part of version", "--help"),
        (["--answers", "/nonexistent.toml"], "there is no such answers file (/nonexistent.toml)", "answers example"),
        (["answers"], "answers takes one of: schema, check FILE, example", "answers example"),
        (["plan"], "name at least one host", "answers file"),
        (["check", "gpu1:notaport"], "gpu1:notaport", ""),
        (["apply"], "apply takes one saved plan", "plan --out"),
        (["check", "--explain", "GW-NOPE-1"], "there is no finding GW-NOPE-1", "GW-"),
        (["check", "--parallel", "0", "gpu1"], "parallel", "--help"),
        (["check", "--simulate", "nosuchfleet"], "nosuchfleet", ""),
    ],
)
def test_wrong_usage_is_64_with_a_remedy(
    argv: list[str], says: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 64
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gpuwizard: ")
    assert says in err
    assert remedy in err
    assert "Traceback" not in err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("gpuwizard 0.")


@pytest.mark.parametrize("argv", [["--help"], ["check", "--help"], ["--simulate", "mixed", "plan", "--help"]])
def test_help_names_the_exit_codes(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 0
    assert "130 interrupted" in capsys.readouterr().out


def test_the_wizard_refuses_to_draw_without_a_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gpuwizard", "gpu1"], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 64
    assert lines(done.stderr) == [
        "gpuwizard: the wizard needs a terminal, and there is none",
        "  try: gpuwizard --answers FILE runs without a terminal",
    ]


def test_answers_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["answers", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "gpuwizard answers"


def test_the_example_passes_its_own_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["answers", "example"]) == 0
    file = tmp_path / "site.toml"
    file.write_text(capsys.readouterr().out)
    assert main(["answers", "check", str(file)]) == 0
    assert "right" in capsys.readouterr().out


def test_a_wrong_answers_file_names_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "site.toml"
    file.write_text("version = 1\n[runtime]\nstragety = 'auto'\n")
    assert main(["answers", "check", str(file)]) == 64
    assert f"{file}:3: runtime.stragety: unknown key, did you mean `strategy`?" in capsys.readouterr().err


def test_an_unreachable_host_is_4_and_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("")
    argv = ["check", "--known-hosts", str(known), "--connect-timeout", "3", "root@127.0.0.1:1"]
    assert main(argv) == 4
    assert "127.0.0.1" in capsys.readouterr().out


def test_check_json_of_an_unreachable_host_keeps_the_contract(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    argv = ["check", "--json", "--known-hosts", str(tmp_path / "none"), "root@127.0.0.1:1"]
    assert main(argv) == 4
    document = json.loads(capsys.readouterr().out)
    assert next(iter(document)) == "schema"
    (host,) = document["hosts"]
    assert host["reachable"] is False
    assert host["facts"] is None
    assert host["error"]


def test_no_run_yet(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUWIZARD_STATE_DIR", str(tmp_path))
    assert main(["rollback"]) == 0
    assert "no run" in capsys.readouterr().out


def test_the_sudo_password_leaves_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GPUWIZARD_SUDO_PASSWORD", "hunter2")
    main(["check", "--known-hosts", str(tmp_path / "none"), "root@127.0.0.1:1"])
    assert "GPUWIZARD_SUDO_PASSWORD" not in os.environ


def test_a_password_command_that_fails_shows_its_error_but_never_its_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "secret.sh"
    script.write_text("#!/bin/sh\necho hunter2\necho 'vault is sealed' >&2\nexit 5\n")
    script.chmod(0o755)
    file = tmp_path / "site.toml"
    file.write_text(f'hosts = ["root@127.0.0.1:1"]\n[connection]\nsudo_password_command = "{script}"\n')
    assert main(["check", "--answers", str(file)]) == 64
    out, err = capsys.readouterr()
    assert "vault is sealed" in err
    assert "hunter2" not in out + err
