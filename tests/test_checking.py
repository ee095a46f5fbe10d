"""`gpuwizard check` as people and programs meet it: table, lines, JSON, filters, the story of one finding."""

import asyncio
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuwizard import checking
from gpuwizard.cli import main
from gpuwizard.errors import LoginError
from gpuwizard.findings import RULES
from gpuwizard.findings.model import Finding
from gpuwizard.session import Session
from gpuwizard.show.overview import Overview
from screens.tables import print_check
from tests.screens import many, sessions

CODES = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Run `gpuwizard check` on the mixed fleet, of which the engine's answers are known."""

    async def probe(session: Session, *_: object) -> None:
        sessions.fill(session)

    monkeypatch.setattr("gpuwizard.flow.probe", probe)
    monkeypatch.setenv("GPUWIZARD_STATE_DIR", str(tmp_path))
    return lambda *arguments: main(["check", *sessions.MIXED, *arguments])


def test_lines_where_there_is_no_terminal(checked: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert checked() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "✗ locked: the host refused the login (admin@locked:22)"
    assert lines[2].startswith("no-driver: "), "trouble on top"
    assert "      0000:3b:00.0 10de:26b9 is bound to no driver" in lines
    assert "      the plan mends this" in lines
    assert lines[-1] == "8 hosts: 1 without an answer, 1 with errors, 2 with warnings, 4 ok"
    assert "\x1b" not in "".join(lines)


def test_only_what_is_asked_for(checked: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert checked("--severity", "warning") == 1
    out = capsys.readouterr().out
    assert "GW-RUNTIME-HANDLER" in out
    assert "GW-MEMORY-UNIFIED" not in out
    assert "spark" not in out, "of which nothing is shown"
    assert out.rstrip().endswith("only the findings asked for count")


def test_only_one_finding_decides_the_exit_code(
    checked: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = RULES[0].id
    assert checked("--only", known, "--json") == 1, "a host that gave no answer is never good"
    assert all(host["findings"] == [] for host in json.loads(capsys.readouterr().out)["hosts"])
    assert checked("--only", f"{known},GW-NOPE-1") == 64
    assert "there is no finding GW-NOPE-1" in capsys.readouterr().err


def test_every_fact_on_request(checked: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    checked("--facts")
    out = capsys.readouterr().out
    assert "    distribution             Ubuntu 24.04.3 LTS" in out
    assert "    Secure Boot              no" in out
    assert "    compute capability       not known" in out


def test_json_keeps_the_contract(checked: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert checked("--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert next(iter(document)) == "schema"
    assert [host["name"] for host in document["hosts"]] == list(sessions.MIXED), "as they were named"
    host = document["hosts"][5]
    assert set(host) == {"name", "reachable", "error", "facts", "findings", "probe_seconds"}
    assert set(host["findings"][0]) == {"id", "severity", "title", "evidence", "cause", "remedy", "fixable"}
    assert host["facts"]["schema"] == "gpuwizard.facts/1"
    locked = document["hosts"][7]
    assert (locked["reachable"], locked["facts"], locked["probe_seconds"]) == (True, None, None)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_the_table_has_one_line_a_host_at_any_width(
    width: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout", out := Terminal())
    made = many.session(60, tmp_path, probed=True)
    overview = Overview(made)
    overview.refresh()
    print_check(made, overview.order)
    table = CODES.sub("", out.getvalue()).split("\n\n")[0].splitlines()
    assert len(table) == 61
    assert all(len(line) <= width for line in table)
    assert [line.split()[1] for line in table[1:]] == [line.name for line in overview.order], "no name is cut"
    assert "time" in table[0] or width < 70


def test_the_table_and_the_findings_say_the_same_as_the_lines(
    checked: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout", out := Terminal())
    assert checked() == 1
    text = CODES.sub("", out.getvalue())
    for words in (
        "✗ GW-DRIVER-MISSING the NVIDIA driver is not installed",
        "0000:3b:00.0 10de:26b9 is bound to no driver",
        "try: Install the driver for this distribution, reboot, and look again with",
        "✓ the plan mends this",
        "try: check the user name and the key",
        "8 hosts: 1 without an answer, 1 with errors, 2 with warnings, 4 ok",
    ):
        assert words in text
    assert text.index("locked") < text.index("no-driver") < text.index("kubeadm-17") < text.index("spark")


def test_hostile_hosts_cannot_drive_the_terminal(
    checked: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = sessions.hostile_text()
    bad = Finding("GW-EVIL-001", "error", evil, (evil,), evil, evil)
    fill = sessions.fill

    def filled(session: Session) -> None:
        fill(session)
        session.hosts["spark"].findings = (bad,)
        session.hosts["locked"].error = LoginError(evil, where=evil, remedy=evil)

    monkeypatch.setattr(sessions, "fill", filled)
    monkeypatch.setattr("sys.stdout", out := Terminal())
    checked("--facts")
    text = CODES.sub("", out.getvalue())
    assert "evil" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)


def test_no_color_is_plain_text(checked: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", out := Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    checked()
    assert "locked" in out.getvalue()
    assert "\x1b" not in out.getvalue()


async def test_a_line_on_the_terminal_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.stderr", err := Terminal())
    monkeypatch.setattr(checking, "_PATIENCE", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    made = many.session(9, tmp_path)
    async with checking._watched(made, quiet=False):
        assert made.watched
        for number, _ in enumerate(many.look(made, list(made.hosts), parallel=3)):
            if number == 15:
                await asyncio.sleep(0.05)
    said = err.getvalue().split("\r\x1b[K")
    assert "3 of 9 done · 3 running · 0 s" in said
    assert all(len(words) < 60 for words in said)
    assert said[-1] == "", "it is gone at the end"


async def test_no_line_where_nobody_watches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for stream, terminal, quiet in (
        (io.StringIO(), "xterm", False),
        (Terminal(), "dumb", False),
        (Terminal(), "xterm", True),
    ):
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setenv("TERM", terminal)
        async with checking._watched(many.session(1, tmp_path), quiet=quiet):
            await asyncio.sleep(0)
        assert stream.getvalue() == ""


def test_the_story_of_one_finding(capsys: pytest.CaptureFixture[str]) -> None:
    rule = next(r for r in RULES if r.effect and r.detected and r.messages and r.sources)
    assert main(["check", "--explain", rule.id.lower()]) == 0
    out = capsys.readouterr().out
    flat = " ".join(out.split())
    for text in (rule.title, rule.cause, rule.effect, rule.remedy, rule.detected, *rule.messages, *rule.sources):
        assert " ".join(text.split()) in flat
    assert main(["check", "--explain", rule.id, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert next(iter(told)) == "schema"
    assert (told["id"], told["effect"], told["messages"]) == (rule.id, rule.effect, list(rule.messages))


@pytest.mark.parametrize(
    ("wanted", "remedy"),
    [
        ("driver-3", "did you mean GW-DRIVER-003?"),
        ("GW-DRIVER-0003", "did you mean GW-DRIVER-003"),
        ("nothing like it", "ids are GW-AREA-NUMBER, with areas "),
    ],
)
def test_an_id_that_does_not_exist(wanted: str, remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--explain", wanted]) == 64
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"gpuwizard: there is no finding {wanted}"
    assert remedy in second
