"""The lists of Hosts and Findings: live, filtered, searched; the cursor stays on its row and the row on its line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from textual.widgets import TextArea

from gpuwizard.errors import UnreachableError
from gpuwizard.findings import RULES
from gpuwizard.findings.model import Finding
from gpuwizard.session import Session
from screens.app import GpuwizardApp
from screens.widgets.lines import Lines
from screens.widgets.rows import LazyRows
from tests.screens import many, sessions
from tests.screens.driving import page_of, press, screen_text, settle

Make = Callable[..., GpuwizardApp]
Size = tuple[int, int]


def line_of(app: GpuwizardApp, words: str) -> int:
    """The line of the screen that has these words."""
    found = [n for n, line in enumerate(screen_text(app).splitlines()) if words in line]
    assert found, f"{words} is not on the screen:\n{screen_text(app)}"
    return found[0]


def shown(app: GpuwizardApp) -> list[str]:
    return [key for key, _ in app.screen.query_one(LazyRows).rows]


@pytest.fixture
def live(tmp_path: Path) -> Session:
    """Sixty hosts of which nothing is known."""
    return many.session(60, tmp_path)


def half_way(app: GpuwizardApp, made: Session) -> None:
    """A look at all hosts in the middle, one of them slow."""
    app.busy = "probe"
    for number, happened in enumerate(many.look(made, list(made.hosts), parallel=8)):
        for event in happened:
            app.emit(event)
        made.clock.seconds += 0.3  # type: ignore[attr-defined]
        if number == 40:
            break
    slow = next(record for record in made.hosts.values() if record.running)
    slow.step, slow.began = "nvidia-smi", made.clock.monotonic() - 31
    app.flush()
    app.page_screens()[-1].draw()


async def test_hosts_come_in(wizard: Make, live: Session, size: Size, screen: SnapshotAssertion) -> None:
    app = wizard(live)
    async with app.run_test(size=size) as pilot:
        await press(pilot, "f4")
        half_way(app, live)
        await settle(pilot)
        assert screen_text(app) == screen


async def test_what_is_waited_for_is_said(wizard: Make, live: Session) -> None:
    app = wizard(live)
    async with app.run_test(size=(140, 40)) as pilot:
        await press(pilot, "f4")
        half_way(app, live)
        await press(pilot, "s", "s", "s", "s")
        text = screen_text(app)
        assert "waiting for nvidia-smi · 31 s" in text
        assert " 31 s: waiting for nvidia-smi" in text.splitlines()[line_of(app, " done · ")]
        assert "waits for its turn" in text
        record = next(r for r in live.hosts.values() if r.running and r.step != "nvidia-smi")
        for state, step, words in (
            ("connecting", None, "logging in"),
            ("probing", None, "becoming root"),
            ("probing", "runtimes", "looking at runtimes"),
        ):
            record.state, record.step = state, step  # type: ignore[assignment]
            app.page_screens()[-1].draw()
            await settle(pilot)
            assert words in screen_text(app).splitlines()[line_of(app, record.name)]


async def test_the_first_row_is_the_worst_until_one_moves(wizard: Make, live: Session) -> None:
    app = wizard(live)
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "f4")
        table = app.screen.query_one(LazyRows)
        assert table.key == "gpu0001"
        for name in ("gpu0040", "gpu0026", "gpu0041"):
            many.finish(live, live.hosts[name])
            app.page_screens()[-1].draw()
            assert table.key == ("gpu0041" if name == "gpu0041" else "gpu0026" if name == "gpu0026" else "gpu0040")
        await press(pilot, "down", "down", "down", "down", "down", "down")
        chosen, line = table.key, line_of(app, str(table.key))
        for number in (13, 29, 39, 52, 58):
            many.finish(live, live.hosts[f"gpu{number:04}"])
            app.page_screens()[-1].draw()
            await settle(pilot)
            assert table.key == chosen
            assert line_of(app, str(chosen)) == line, "it does not move on the screen"
        await press(pilot, "home")
        record = live.hosts["gpu0030"]
        record.state, record.error = "failed", UnreachableError("the host does not answer")
        app.page_screens()[-1].draw()
        assert table.key == "gpu0030", "Home follows the top again"


async def test_the_filter_narrows_while_one_types(wizard: Make, size: Size, screen: SnapshotAssertion) -> None:
    app = wizard()
    async with app.run_test(size=size) as pilot:
        await press(pilot, "slash", *"kube")
        assert shown(app) == ["no-driver", "kubeadm-17", "kubeadm-21"], "the flavour counts too"
        await press(pilot, *"adm h200")
        assert shown(app) == ["kubeadm-17"]
        assert screen_text(app) == screen
        await press(pilot, "escape")
        assert len(shown(app)) == len(sessions.MIXED)


@pytest.mark.parametrize(
    ("words", "hosts"),
    [
        ("gb10", ["spark"]),
        ("trixie", ["kubeadm-21"]),
        ("gw-driver-missing", ["no-driver"]),
        ("not installed", ["no-driver"]),
        ("warning", ["no-driver", "kubeadm-17", "kubeadm-21"]),
        ("no answer", ["locked"]),
        ("k3s !server", ["k3s-agent-1", "k3s-agent-2", "spark"]),
        ("2.1.4 l40s !k3s", ["kubeadm-21"]),
        ("nothing has this", []),
    ],
)
async def test_what_a_filter_looks_at(wizard: Make, words: str, hosts: list[str]) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "slash", *words.replace(" ", "\t").replace("\t", " "))
        assert shown(app) == hosts


async def test_groups_are_shown_alone(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "s")
        assert shown(app) == ["locked", "no-driver"]
        assert "shows: errors  2 of 8" in screen_text(app)
        await press(pilot, "s")
        assert shown(app) == ["locked", "no-driver", "kubeadm-17", "kubeadm-21"]
        await press(pilot, "S", "S", "S")
        assert shown(app) == ["k3s-agent-1", "k3s-agent-2", "k3s-server", "spark"]
        await press(pilot, "escape")
        assert len(shown(app)) == 8


async def test_a_search_goes_on_after_the_filter_is_gone(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        table = app.screen.query_one(LazyRows)
        await press(pilot, "slash", *"k3s", "escape")
        assert len(shown(app)) == 8
        assert "n goes to the next match of k3s" in screen_text(app)
        seen = []
        for _ in range(5):
            await press(pilot, "n")
            seen.append(table.key)
        assert seen[1:] == ["k3s-agent-2", "k3s-server", "spark", "k3s-agent-1"]
        await press(pilot, "N")
        assert table.key == "spark"
        await press(pilot, "slash", *"zzz", "escape", "n")
        assert "nothing matches zzz" in screen_text(app)


async def test_the_filter_is_there_again_on_return(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "slash", *"kubeadm-", "enter", "down", "f3", "f2")
        assert shown(app) == ["kubeadm-17", "kubeadm-21"]
        assert "kubeadm-" in screen_text(app)


async def test_the_filter_by_mouse(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.click(".finder-words")
        await press(pilot, *"spark")
        assert shown(app) == ["spark"]
        await pilot.click(".finder-side")
        await settle(pilot)
        assert shown(app) == []
        assert "shows: errors  0 of 8" in screen_text(app)


async def test_the_entry_folds_and_opens(wizard: Make, live: Session) -> None:
    app = wizard(live)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        area = app.screen.query_one("#hosts", TextArea)
        assert app.screen.focused is area, "nothing was looked at yet"
        await press(pilot, "f4")
        assert isinstance(app.screen.focused, LazyRows)
        assert "60 hosts · login admin  F4 edits" in screen_text(app)
        await pilot.click("#folded")
        await settle(pilot)
        assert app.screen.focused is area
        area.load_text("gpu1\ngpu2:notaport")
        await press(pilot, "f4")
        assert "notaport" in screen_text(app).splitlines()[2], "what is wrong is said while it is folded, too"
        await press(pilot, "f3")
        assert "no valid port" in screen_text(app).splitlines()[-2]
        assert app.screen.focused is area, "it is opened to be mended"
        area.load_text("gpu1\ngpu2")
        await settle(pilot)
        assert "no valid port" not in screen_text(app)


async def test_hosts_can_be_edited_while_others_are_looked_at(wizard: Make, live: Session) -> None:
    app = wizard(live)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        half_way(app, live)
        app.screen.query_one("#hosts", TextArea).load_text("gpu0001\nnew1")
        await settle(pilot)
        assert set(shown(app)) == {"gpu0001", "new1"}
        await press(pilot, "f3")
        assert "still looking at hosts" in screen_text(app)


async def test_findings_over_all_hosts(wizard: Make, tmp_path: Path, size: Size, screen: SnapshotAssertion) -> None:
    app = wizard(many.session(400, tmp_path, probed=True))
    async with app.run_test(size=size) as pilot:
        await press(pilot, "f3", "down", "enter")
        assert screen_text(app) == screen
        text = app.screen.query_one(Lines).plain
        assert "the plan mends this" in text
        assert "On 30 hosts" in text
        assert "gpu[0013, 0026, " in text
        await press(pilot, "escape", "slash", *"gpu0082")
        assert shown(app) == ["GW-DRIVER-MISMATCH", "GW-MEMORY-UNIFIED"]
        await press(pilot, "enter", "h")
        assert shown(app) == [f"gpu{n:04}" for n in range(41, 401, 41)]
        await press(pilot, "escape", "f4", "escape", "s", "s")
        assert shown(app) == ["GW-DRIVER-SLOW"]


async def test_the_story_of_a_rule_stands_by_its_finding(wizard: Make) -> None:
    rule = next(r for r in RULES if r.effect and r.detected and r.messages and r.sources and r.severity == "error")
    finding = Finding(rule.id, rule.severity, rule.title, ("the line",), rule.cause, rule.remedy)
    app = wizard()
    app.session.hosts["spark"].findings = (finding,)
    async with app.run_test(size=(140, 40)) as pilot:
        await press(pilot, "f3", "slash", *rule.id, "enter")
        pane = app.screen.query_one(Lines).plain
        for words in (rule.cause, rule.effect, rule.remedy, rule.detected, *rule.messages, *rule.sources):
            assert words in pane
        assert pane.count(rule.remedy) == 1, "what the rule says is not said again for each host"
        await press(pilot, "h", "enter")
        assert rule.effect in app.screen.query_one(Lines).plain


async def test_a_finding_groups_hosts_by_what_shows_it(wizard: Make) -> None:
    app = wizard()
    made = app.session
    first, *others = (record for record in made.hosts.values() if sessions.HANDLER_MISSING in record.findings)
    first.findings = (replace(sessions.HANDLER_MISSING, evidence=("handlers: runc, kata",), remedy="another way"),)
    async with app.run_test(size=(140, 40)) as pilot:
        await press(pilot, "f3", "down", "down")
        text = app.screen.query_one(Lines).plain
    assert len(others) >= 2
    assert text.index("runtimes: runc") < text.index("handlers: runc, kata"), "most hosts first"
    assert f"{first.name}\n  │ handlers: runc, kata" in text
    assert "another way" in text[text.index("handlers: runc, kata") :]


async def test_one_host_over_the_whole_screen(wizard: Make, size: Size, screen: SnapshotAssertion) -> None:
    app = wizard()
    async with app.run_test(size=size) as pilot:
        await press(pilot, "down", "enter")
        assert screen_text(app) == screen
        pane = app.screen.query_one(Lines)
        assert "the NVIDIA driver is not installed" in pane.plain
        assert "Could not be seen" in pane.plain
        assert "firmware variables: not readable without root" in pane.plain
        await press(pilot, "right")
        assert "kubeadm-17" in screen_text(app)
        await press(pilot, "left", "left", "left")
        assert "the host refused the login" in screen_text(app), "the first one has none before it"
        await press(pilot, "right", "right", "right", "escape")
        assert page_of(app) == "hosts"
        assert app.screen.query_one(LazyRows).key == "kubeadm-21", "the list goes where one was"


async def test_the_next_host_is_shown_at_the_same_chapter(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "down", "down", "enter", "f")
        pane = app.screen.query_one(Lines)
        pane.go_to("driver")
        await settle(pilot)
        await press(pilot, "right")
        assert pane.anchor_here() == "driver"
        await press(pilot, "f", "f")
        assert pane.anchor_here() == "system"


async def test_words_are_found_in_a_host(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "down", "down", "enter", "slash", *"d.sock")
        pane = app.screen.query_one(Lines)
        assert pane.found == (1, 1)
        assert "containerd.sock" in screen_text(app), "it is scrolled to"
        await press(pilot, *["backspace"] * 6, *"containerd", "enter")
        at, of = pane.found
        assert of > 4
        await press(pilot, "n", "n", "N")
        assert pane.found == (at % of + 1, of)
        assert f"{pane.found[0]} of {of}" in screen_text(app)
        await press(pilot, "escape")
        assert pane.found == (0, 0)
        assert "‹" not in screen_text(app)
        await press(pilot, "escape")
        assert page_of(app) == "hosts"


async def test_one_host_by_mouse(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.click("#table", offset=(5, 3), times=2)
        await settle(pilot)
        assert "kubeadm-17" in screen_text(app).splitlines()[2]
        for button, words in (("#after", "kubeadm-21"), ("#before", "kubeadm-17"), ("#facts", "distribution")):
            await pilot.click(button)
            await settle(pilot)
            assert words in screen_text(app)
        await pilot.click("#find")
        await press(pilot, *"h200")
        assert "1 of" in screen_text(app)
        await pilot.click("#close")
        await settle(pilot)
        assert page_of(app) == "hosts"


async def test_a_host_that_is_being_looked_at_fills_in(wizard: Make, live: Session) -> None:
    app = wizard(live)
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "f4", "enter")
        record = live.hosts["gpu0001"]
        many.begin(live, record)
        await pilot.pause(0.6)
        assert "logging in" in screen_text(app)
        many.finish(live, record)
        await pilot.pause(0.6)
        assert "the driver works" in screen_text(app)
