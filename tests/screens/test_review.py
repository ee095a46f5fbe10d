"""The review: hosts that get the same change together, the words beside the diff or above it, a thousand hosts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets._footer import FooterKey

from gpuwizard.secret import SecretBytes
from gpuwizard.session import Session
from screens.app import GpuwizardApp
from screens.review import ReviewScreen
from screens.widgets.lines import Lines
from screens.widgets.rows import LazyRows
from tests.screens import many, sessions
from tests.screens.driving import page_of, press, screen_text, settle
from tests.screens.test_many import LIMIT
from tests.screens.test_speed import callbacks, longest

Make = Callable[..., GpuwizardApp]
GROUP = "group:k3s-agent-1"


async def to_review(pilot: object) -> None:
    await press(pilot, "f3", "f3", "f3")  # type: ignore[arg-type]


def rows(app: GpuwizardApp) -> LazyRows:
    return app.screen.query_one(LazyRows)


def pane(app: GpuwizardApp, name: str = "pane") -> str:
    return app.screen.query_one(f"#{name}", Lines).plain


async def test_equal_changes_are_one_row_that_opens_into_its_hosts(
    wizard: Make, planned: Session, size: tuple[int, int]
) -> None:
    app = wizard(planned)
    async with app.run_test(size=size) as pilot:
        await to_review(pilot)
        table = rows(app)
        together = ["group:k3s-agent-1", "kubeadm-17", "kubeadm-21", "cluster:", "locked", "no-driver", "k3s-server"]
        assert [row[0] for row in table.rows] == together
        assert "▸ k3s-agent-1, " in screen_text(app)
        assert "3 hosts · 2 steps, restart" in screen_text(app)
        assert "3 hosts, the same change" in pane(app)
        assert ": no controller" not in pane(app), "the pods of several nodes are only counted"
        await press(pilot, "f4")
        assert [row[0] for row in table.rows][:4] == [GROUP, "k3s-agent-1", "k3s-agent-2", "spark"]
        assert table.key == GROUP, "the cursor stays"
        assert "▾ k3s-agent-1" in screen_text(app)
        await press(pilot, "down", "down")
        assert table.key == "k3s-agent-2"
        assert "label node k3s-agent-2" in pane(app)
        assert "the same change" not in pane(app)
        assert "default/notebook-k3s-agent-2: no controller" in pane(app), "every pod of the one node"
        await press(pilot, "left")
        assert table.key == GROUP
        assert [row[0] for row in table.rows] == together
        await press(pilot, "space", "down", "f4")
        assert [row[0] for row in table.rows] == together


async def test_open_groups_and_the_cursor_are_there_when_one_comes_back(wizard: Make, planned: Session) -> None:
    app = wizard(planned)
    async with app.run_test(size=(80, 24)) as pilot:
        await to_review(pilot)
        await press(pilot, "f4", "down", "f2", "f3")
        assert page_of(app) == "review"
        assert rows(app).key == "k3s-agent-1"
        assert rows(app).rows[0][0] == GROUP
        app.session.plan = None
        app.page_screens()[-1].draw()
        await settle(pilot)
        assert pane(app) == ""


async def test_the_keys_beside_f4_do_not_move(wizard: Make, planned: Session) -> None:
    app = wizard(planned)
    async with app.run_test(size=(80, 24)) as pilot:
        await to_review(pilot)
        places = []
        for _ in range(3):
            places.append([(key.key_display, key.region.x) for key in app.screen.query(FooterKey)])
            await press(pilot, "down")
        assert places[0] == places[1] == places[2]
        assert any(key == "F4" for key, _ in places[0])


async def test_a_plan_without_equal_hosts_has_no_key_for_them(wizard: Make, tmp_path: Path) -> None:
    app = wizard(sessions.planned(sessions.session(("kubeadm-17", "kubeadm-21"), tmp_path)))
    async with app.run_test(size=(80, 24)) as pilot:
        await to_review(pilot)
        assert "F4" not in screen_text(app)
        before = rows(app).rows
        await press(pilot, "f4", "space", "left")
        assert rows(app).rows == before


async def test_words_stand_beside_the_diff_or_above_it(wizard: Make, planned: Session) -> None:
    app = wizard(planned)
    async with app.run_test(size=(140, 40)) as pilot:
        await to_review(pilot)
        await press(pilot, "down")
        words = app.screen.query_one("#words", Lines)
        assert words.region.x > app.screen.query_one("#pane").region.x
        assert words.plain.splitlines() == [
            "What the runtime will see",
            "+ handler nvidia: added, same cgroup driver as runc",
            "= default handler: runc, unchanged",
            "+ CDI: switched on",
            "= everything else: unchanged",
            "",
            "What it does to the host",
            "! containerd.service restarts; pods that run keep running, new ones wait for a moment",
            "! 2 pods run on this node: 1 of DaemonSets",
            "! no controller would bring back default/notebook-kubeadm-17",
        ]
        assert "same cgroup driver" not in pane(app)
        await pilot.resize_terminal(80, 24)
        await settle(pilot)
        assert not words.display
        text = pane(app)
        assert text.index("same cgroup driver as runc") < text.index("+++ /etc/containerd/config.toml")
        await pilot.resize_terminal(140, 40)
        await settle(pilot)
        assert words.display
        await press(pilot, "end")
        assert not words.display, "a host that nothing is done to has no words"


async def test_toml_is_highlighted_and_marks_keep_their_colour(wizard: Make, planned: Session) -> None:
    app = wizard(planned)
    async with app.run_test(size=(140, 40)) as pilot:
        await to_review(pilot)
        await press(pilot, "down")
        line = next(line for line in app.screen.query_one("#pane", Lines)._lines if "BinaryName" in line.content.plain)
        styles = {line.content.plain[span.start : span.end]: str(span.style) for span in line.content.spans}
        assert styles["+"] == "$text-success"
        assert styles["BinaryName"] == "$text-accent"
        assert styles['"/usr/bin/nvidia-container-runtime"'] == "$text-warning"
        assert line.fill == "lines--added"


async def test_a_registry_password_shows_on_no_page(wizard: Make, tmp_path: Path) -> None:
    made = sessions.session(state_dir=tmp_path)
    probe = made.hosts["kubeadm-17"].probe
    assert probe is not None
    main = probe.files["/etc/containerd/config.toml"]
    assert main.content is not None
    cri = '[plugins."io.containerd.grpc.v1.cri".registry.configs."r.test".auth]'
    content = SecretBytes.of_text(f'{main.content.text()}\n{cri}\n  username = "robot"\n  password = "HUNTER-2"\n')
    files = {**probe.files, main.path: replace(main, content=content)}
    made.hosts["kubeadm-17"].probe = replace(probe, files=files)
    app = wizard(sessions.planned(made))
    async with app.run_test(size=(140, 60)) as pilot:
        await to_review(pilot)
        await press(pilot, "down")
        shown = pane(app) + pane(app, "words") + screen_text(app)
        assert "HUNTER-2" not in shown
        assert "‹redacted #" in shown


# A thousand hosts


@pytest.fixture
def thousand(tmp_path: Path) -> Session:
    return sessions.planned(many.session(1000, tmp_path, probed=True))


@pytest.fixture
def unlike(tmp_path: Path) -> Session:
    """A thousand hosts, no two with the same file."""
    made = many.session(1000, tmp_path, probed=True)
    for number, record in enumerate(made.hosts.values()):
        if record.probe is None:
            continue
        files = {
            path: replace(file, content=SecretBytes(file.content.raw + b"# host %d\n" % number))
            if file.content is not None
            else file
            for path, file in record.probe.files.items()
        }
        record.probe = replace(record.probe, files=files)
    return sessions.planned(made)


async def test_a_thousand_hosts_are_a_handful_of_rows(wizard: Make, thousand: Session) -> None:
    app = wizard(thousand)
    async with app.run_test(size=(140, 40)) as pilot:
        await to_review(pilot)
        assert len(rows(app).rows) < 10
        assert " hosts · 3 steps, restart" in screen_text(app)
        await press(pilot, "f4", "end", "pageup", "home", "down", "down")
        assert len(rows(app).rows) > 400


@pytest.mark.parametrize("fleet", ["thousand", "unlike"])
async def test_a_thousand_hosts_open_and_scroll_without_a_wait(
    wizard: Make, fleet: str, request: pytest.FixtureRequest
) -> None:
    app = wizard(request.getfixturevalue(fleet))
    async with app.run_test(size=(140, 40)) as pilot:
        await press(pilot, "f3", "f3")

        async def open_page() -> None:
            await press(pilot, "f3", "f2")

        assert await longest(open_page) < 3 * LIMIT, "it holds building a page"
        await press(pilot, "f3")
        assert isinstance(app.screen, ReviewScreen)

        async def scroll() -> None:
            for key in ("f4", "down", "pagedown", "pagedown", "end", "up", "home", "f4"):
                await pilot.press(key)
            await pilot.pause()

        assert await longest(scroll) < LIMIT


async def test_the_question_before_a_thousand_restarts_names_them_all(wizard: Make, thousand: Session) -> None:
    app = wizard(thousand)
    async with app.run_test(size=(80, 24)) as pilot:
        await to_review(pilot)
        with callbacks() as spent:
            await press(pilot, "f8")
        assert max(spent) < 3 * LIMIT
        text = app.screen.query_one(Lines).plain
        assert "hosts: gpu[0001, 0003" in text
        assert "(containerd.service)" in text
        assert "(k3s-agent.service)" in text
        assert len(text.splitlines()) < 20
