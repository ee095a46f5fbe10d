"""Every page at both sizes, as text that a reviewer reads; by key, by mouse, back and forth."""

from collections.abc import Callable
from pathlib import Path

from syrupy.assertion import SnapshotAssertion
from textual.widgets import Button, Input, OptionList, TextArea

from gpuwizard.session import Session
from screens.app import GpuwizardApp
from screens.widgets.lines import Lines
from screens.widgets.rows import Rows
from tests.screens import sessions
from tests.screens.driving import page_of, press, screen_text, settle, show_run, show_samples

Make = Callable[..., GpuwizardApp]
Size = tuple[int, int]


async def test_hosts(wizard: Make, size: Size, screen: SnapshotAssertion) -> None:
    app = wizard()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        assert screen_text(app) == screen


async def test_hosts_before_anything_is_known(
    wizard: Make, size: Size, screen: SnapshotAssertion, tmp_path: Path
) -> None:
    app = wizard(sessions.session((), tmp_path, probed=False))
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        assert screen_text(app) == screen


async def test_findings(wizard: Make, size: Size, screen: SnapshotAssertion) -> None:
    app = wizard()
    async with app.run_test(size=size) as pilot:
        await press(pilot, "f3", "down")
        assert screen_text(app) == screen


async def test_findings_by_host(wizard: Make, size: Size, screen: SnapshotAssertion) -> None:
    app = wizard()
    async with app.run_test(size=size) as pilot:
        await press(pilot, "f3", "f4", "down")
        assert screen_text(app) == screen


async def test_all_facts_of_a_host(wizard: Make, size: Size, screen: SnapshotAssertion) -> None:
    app = wizard()
    async with app.run_test(size=size) as pilot:
        await press(pilot, "f3", "f4", "down", "down", "f6")
        assert screen_text(app) == screen
        await press(pilot, "escape")
        assert page_of(app) == "findings"


async def test_choices(wizard: Make, size: Size, screen: SnapshotAssertion) -> None:
    app = wizard()
    async with app.run_test(size=size) as pilot:
        await press(pilot, "f3", "f3")
        assert screen_text(app) == screen


async def test_review(wizard: Make, size: Size, screen: SnapshotAssertion, planned: Session) -> None:
    app = wizard(planned)
    async with app.run_test(size=size) as pilot:
        await press(pilot, "f3", "f3", "f3", "down", "down", "enter")
        assert screen_text(app) == screen


async def test_apply_is_asked_for_by_name(
    wizard: Make, size: Size, screen: SnapshotAssertion, planned: Session
) -> None:
    app = wizard(planned)
    async with app.run_test(size=size) as pilot:
        await press(pilot, "f3", "f3", "f3", "f8")
        assert screen_text(app) == screen
        assert app.screen.focused is not None
        assert app.screen.focused.id == "no", "the safe answer has the focus"
        await press(pilot, "escape")
        assert page_of(app) == "review"
        assert app.applied is None


async def test_a_run_in_the_middle(wizard: Make, size: Size, screen: SnapshotAssertion, planned: Session) -> None:
    app = wizard(planned)
    async with app.run_test(size=size) as pilot:
        await show_run(app, pilot)
        assert screen_text(app) == screen


async def test_monitor(wizard: Make, size: Size, screen: SnapshotAssertion) -> None:
    app = wizard()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        show_samples(app)
        await app.switch_mode("monitor")
        await settle(pilot)
        assert screen_text(app) == screen


async def test_what_is_not_known_is_never_zero(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        show_samples(app)
        await app.switch_mode("monitor")
        await settle(pilot)
        lines = screen_text(app).splitlines()
    silent = next(line for line in lines if "kubeadm-21" in line)
    assert silent.count("N/A") == 4
    assert " 0 %" not in silent
    assert "shared 34.0 / 119 GiB" in next(line for line in lines if "spark" in line)


async def test_old_numbers_are_marked(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        show_samples(app)
        app.samples.heard["kubeadm-17"] -= 23
        await app.switch_mode("monitor")
        await settle(pilot)
        line = next(line for line in screen_text(app).splitlines() if "kubeadm-17" in line)
    assert line.startswith(" !")
    assert "old: the last sample came 23 s ago" in line


async def test_keyboard_alone_there_and_back(wizard: Make, size: Size, planned: Session) -> None:
    app = wizard(planned)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        for page in ("findings", "choices", "review"):
            await press(pilot, "f3")
            assert page_of(app) == page
            assert app.screen.focused is not None, f"{page} can be used at once"
        for page in ("choices", "findings", "hosts"):
            await press(pilot, "f2")
            assert page_of(app) == page


async def test_mouse_alone_there_and_back(wizard: Make, size: Size, planned: Session) -> None:
    app = wizard(planned)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        for page in ("findings", "choices", "review"):
            await pilot.click("#next")
            await settle(pilot)
            assert page_of(app) == page
        await pilot.click("#back")
        await settle(pilot)
        assert page_of(app) == "choices"
        await pilot.click(".step.-done")
        await settle(pilot)
        assert page_of(app) == "hosts"


async def test_steps_that_are_not_open_cannot_be_chosen(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "f3", "5")
        assert page_of(app) == "findings"
        await press(pilot, "1")
        assert page_of(app) == "hosts"


async def test_typed_hosts_survive_going_on_and_back_also_when_they_are_wrong(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        area = app.screen.query_one("#hosts", TextArea)
        area.load_text("gpu1\ngpu2:notaport")
        await settle(pilot)
        assert app.session.answers.hosts == sessions.MIXED, "what is wrong never reaches the answers"
        await press(pilot, "f3")
        assert page_of(app) == "hosts"
        assert "no valid port" in screen_text(app)
        assert app.screen.focused is area
        await press(pilot, "f1", "escape")
        assert app.screen.query_one("#hosts", TextArea).text == "gpu1\ngpu2:notaport"
        area.load_text("\n".join(sessions.MIXED[:-1]))
        await settle(pilot)
        await press(pilot, "f3", "f2")
        assert app.screen.query_one("#hosts", TextArea).text.splitlines() == list(sessions.MIXED[:-1])


async def test_how_to_log_in_is_in_the_answers_at_once_and_comes_back(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "f4", "tab", *"operator", "tab", "tab", *"bastion")
        connection = app.session.answers.connection
        assert (connection.user, connection.jump) == ("operator", "bastion")
        await press(pilot, "f3", "f2")
        assert app.screen.query_one("#user", Input).value == "operator"
        assert app.screen.query_one("#jump", Input).value == "bastion"


async def test_a_choice_is_in_the_answers_at_once_and_comes_back(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "f3", "f3", "down", "down", "enter", "down", "space", "tab")
        assert app.session.answers.sharing.mode == "time-slicing"
        assert isinstance(app.screen.focused, Input)
        await press(pilot, "backspace", "4")
        assert app.session.answers.sharing.replicas == 4
        await press(pilot, "backspace", "x")
        assert app.session.answers.sharing.replicas == 4
        assert "✗" in screen_text(app)
        await press(pilot, "f3")
        assert page_of(app) == "choices", "a wrong number keeps one here"
        await press(pilot, "f2", "f3")
        assert app.screen.query_one(".typed Input", Input).value == "x", "and is not lost"


async def test_a_wrong_number_keeps_one_here_and_has_the_focus(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "f3", "f3", "down", "down", "tab", "down", "enter", "tab")
        await press(pilot, *"9x", "f3")
        assert page_of(app) == "choices"
        assert "must be a whole number" in screen_text(app)
        assert isinstance(app.focused, Input)
        await press(pilot, "backspace")
        assert "must be" not in screen_text(app)
        assert app.session.answers.sharing.replicas == 9


async def test_one_host_can_differ(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(140, 40)) as pilot:
        await press(pilot, "f3", "f3", "end", "enter", "end", "enter")
        assert app.session.answers.host["spark"].skip
        options = app.screen.query(OptionList).first()
        options.highlighted = 0
        await press(pilot, "enter")
        assert "spark" not in app.session.answers.host


async def test_what_cannot_be_chosen_says_why(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(140, 40)) as pilot:
        await press(pilot, "f3", "f3")
        shown = screen_text(app)
    assert "✗ NVIDIA GPU Operator (gpu-operator)" in shown
    assert "cannot be chosen: this version of gpuwizard does not do it yet" in shown


async def test_recommended_choices_come_back_with_one_key(wizard: Make) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "f3", "f3", "down", "enter", "down", "space", "escape")
        assert app.session.answers.runtime.default_runtime == "nvidia"
        assert "•  Default runtime" in screen_text(app)
        await press(pilot, "f5")
        assert app.session.answers.runtime.default_runtime == "leave"


async def test_saved_answers_are_those_of_the_session(wizard: Make, tmp_path: Path) -> None:
    from gpuwizard.answers.toml import read_answers

    app = wizard()
    target = tmp_path / "site.toml"
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "f3", "f3", "f9")
        app.screen.query_one(Input).value = str(target)
        await press(pilot, "enter")
        await settle(pilot)
        assert f"gpuwizard --answers {target}"[:30] in screen_text(app)
    assert read_answers(target) == app.session.answers


async def test_answers_that_cannot_be_saved_say_why(wizard: Make, tmp_path: Path) -> None:
    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "f9")
        (tmp_path / "file").write_text("not a folder")
        app.screen.query_one(Input).value = str(tmp_path / "file" / "site.toml")
        await press(pilot, "enter")
        await settle(pilot)
        assert "This did not work" in screen_text(app)


async def test_the_draft_is_kept_on_each_page_change(wizard: Make, tmp_path: Path) -> None:
    from gpuwizard.answers.toml import read_answers

    app = wizard()
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "f3", "f3")
    assert read_answers(tmp_path / "draft.toml") == app.session.answers


async def test_leaving_asks_only_while_changes_are_made(wizard: Make, planned: Session) -> None:
    app = wizard(planned)
    async with app.run_test(size=(80, 24)) as pilot:
        await show_run(app, pilot)
        await press(pilot, "f10")
        assert "A run is going on" in screen_text(app)
        await press(pilot, "escape")
        assert page_of(app) == "apply"
        await press(pilot, "f10", "3", "enter")
    assert app.return_value is None

    idle = wizard(planned)
    async with idle.run_test(size=(80, 24)) as pilot:
        await press(pilot, "f10")
    assert idle.return_value == 0


async def test_the_log_follows_the_chosen_host(wizard: Make, planned: Session) -> None:
    app = wizard(planned)
    async with app.run_test(size=(80, 24)) as pilot:
        await show_run(app, pilot)
        assert "k3s-agent: line 29" in app.screen.query_one(Lines).plain
        rows = app.screen.query_one(Rows)
        await press(pilot, *["down"] * 4)
        assert rows.key == "kubeadm-21"
        assert "its CRI plugin is in error" in app.screen.query_one(Lines).plain


async def test_every_button_is_on_screen_at_80x24(wizard: Make, planned: Session) -> None:
    app = wizard(planned)
    async with app.run_test(size=(80, 24)) as pilot:
        for key in ("f3", "f3", "f3"):
            await press(pilot, key)
            for button in app.screen.query(Button):
                assert button.region.right <= 80
                assert button.region.bottom <= 24
                assert str(button.label) in screen_text(app)


async def test_after_a_run_the_answers_are_offered_before_one_leaves(
    wizard: Make, planned: Session, tmp_path: Path
) -> None:
    from gpuwizard.answers.toml import read_answers

    app = wizard(planned)
    target = tmp_path / "site.toml"
    async with app.run_test(size=(80, 24)) as pilot:
        await show_run(app, pilot)
        app.busy = ""
        await press(pilot, "f10")
        assert "Save the answers before you leave?" in screen_text(app)
        app.screen.query_one(Input).value = str(target)
        await press(pilot, "enter")
        await settle(pilot)
    assert read_answers(target) == planned.answers
    assert app.return_value == app.exit_code()
