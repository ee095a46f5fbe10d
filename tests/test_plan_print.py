"""A plan in a terminal: words beside the diff or above it, colours that only repeat the marks, nothing hostile."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from gpuwizard import unattended
from gpuwizard.answers.model import Answers
from gpuwizard.plan.build import build_plan
from gpuwizard.plan.diff import text_diff
from gpuwizard.plan.model import Plan
from screens import plan_print
from screens.syntax import pieces
from tests.plan_probes import MAIN, containerd_host
from tests.screens import sessions
from tests.screens.test_hostile import RAW, poisoned
from tests.test_plan_build import DEBIAN, plan

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def mixed(tmp_path: Path) -> Plan:
    made = sessions.planned(sessions.session(state_dir=tmp_path)).plan
    assert made is not None
    return made


def printed(made: Plan, monkeypatch: pytest.MonkeyPatch, width: int, *, colours: bool = False) -> str:
    out = io.StringIO()

    def console(**options: object) -> Console:
        system = "truecolor" if colours and options.get("color_system") else None
        return Console(file=out, width=width, highlight=False, color_system=system, force_terminal=True)  # type: ignore[arg-type]

    monkeypatch.setattr(plan_print, "Console", console)
    plan_print.print_plan(made)
    return out.getvalue()


def test_wide_the_words_stand_beside_the_diff(mixed: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(mixed, monkeypatch, 140).splitlines()
    assert "k3s-agent-1, k3s-agent-2, spark  3 hosts, the same change" in lines
    beside = next(line for line in lines if "change /etc/containerd/config.toml" in line)
    assert beside.index("+ handler nvidia: added") > 90
    assert max(map(len, lines)) <= 140


def test_narrow_they_stand_above_it(mixed: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(mixed, monkeypatch, 80).splitlines()
    at = lines.index("kubeadm-17  3 actions")
    assert [line.rstrip() for line in lines[at : at + 11]] == [
        "kubeadm-17  3 actions",
        "  in-place: containerd 1.7.24 has to find it in its own file; CDI is switched on",
        "  + handler nvidia: added, same cgroup driver as runc",
        "  = default handler: runc, unchanged",
        "  + CDI: switched on",
        "  = everything else: unchanged",
        "  ! containerd.service restarts; pods that run keep running, new ones wait for a",
        "    moment",
        "  ! 2 pods run on this node: 1 of DaemonSets",
        "  ! no controller would bring back default/notebook-kubeadm-17",
        "  · change /etc/containerd/config.toml",
    ]
    assert max(map(len, lines)) <= 80
    folded = next(n for n, line in enumerate(lines) if line.startswith("    +      [plugins."))
    assert len(lines[folded].rstrip()) == 80, "a long line is cut at the edge and not behind its mark"
    assert lines[folded + 1].startswith("        ")
    assert (lines[folded] + lines[folded + 1].strip()).endswith(".runtimes.nvidia.options]")


def test_colours_repeat_the_marks_and_no_color_has_none(mixed: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = printed(mixed, monkeypatch, 100, colours=True)
    monkeypatch.setenv("NO_COLOR", "1")
    bare = printed(mixed, monkeypatch, 100, colours=True)
    assert ESCAPE.search(coloured)
    assert "\x1b" not in bare
    assert ESCAPE.sub("", coloured) == bare
    key = next(line for line in coloured.splitlines() if "BinaryName" in line)
    assert "\x1b[36mBinaryName" in key, "TOML keys are highlighted"


def test_hostile_text_stays_text(mixed: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = printed(poisoned(mixed), monkeypatch, 120)
    assert "[@click=app.quit]see[/]" in shown
    assert not RAW.search(ESCAPE.sub("", shown).replace("\n", ""))


def test_only_a_terminal_gets_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made = build_plan({"n1": containerd_host("2.1.9", {MAIN: DEBIAN})}, Answers(), None)
    unattended.say_plan(made)
    assert capsys.readouterr().out.startswith("n1: 3 actions · drop-in: ")
    seen: list[Plan] = []
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr(plan_print, "print_plan", seen.append)
    unattended.say_plan(made)
    assert seen == [made]


def test_objects_are_highlighted_as_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan({"n1": containerd_host("2.1.9", {MAIN: DEBIAN})})
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[36mapiVersion" in printed(made, monkeypatch, 120, colours=True)


@pytest.mark.parametrize("path", ["/c.toml", "/c.toml.tmpl", "/c.json", "/c.yaml", "/c.conf", "/c"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        'a = """\nb\nc"""\nd = 1',
        '{{ template "base" . }}\n[x]\n',
        "a: |\n  b\n\n  c\n",
        '{"a": [1,\n"b"]}',
        "a\x1b[2Jb\r\nc\rd\u2028e\x85f\n",
        "\"unclosed\n'''\n",
    ],
)
def test_pieces_join_to_the_very_lines(path: str, text: str) -> None:
    for before, after in ((text, text + "z\n"), (text, ""), ("", text), (text, f"z\n{text}")):
        diff = text_diff(before, after, path)
        drawn = pieces(diff, path)
        assert ["".join(part for _, part in body) for body in drawn] == [line.text for line in diff]


def test_a_string_over_several_lines_is_one_on_both_sides() -> None:
    before = 'a = """\none\ntwo\n"""\n'
    diff = text_diff(before, before.replace("one", "1"), "/c.toml")
    kinds = {line.text: body[-1][0] for line, body in zip(diff, pieces(diff, "/c.toml"), strict=True)}
    assert kinds["-one"] == kinds["+1"] == kinds[" two"] == "string"
