"""Runs of a host unwound: back to the bytes before the first, and refused where somebody else wrote meanwhile."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwizard.actions import Refusal
from gpuwizard.facts.history import ABSENT, HostHistory, PastRow, PastRun
from gpuwizard.plan.unwind import unwind
from gpuwizard.secret import SecretBytes

CONTENTS = {SecretBytes(text.encode()).sha256: SecretBytes(text.encode()) for text in "abcdefgh"}
SHA = {content.raw.decode(): sha for sha, content in CONTENTS.items()} | {"-": ABSENT}


def row(path: str, before: str, after: str, kind: str = "write") -> PastRow:
    return PastRow(kind, SHA[before], SHA[after], 0o644, path, path)


def run(name: str, *rows: PastRow, **params: str) -> PastRun:
    by = f"ada on laptop, run {name}, since 2026-11-21 01:14:00 UTC"
    return PastRun(name, "confirmed", {"by": by, "unit": "containerd.service", **params}, rows)


def history(runs: list[PastRun], have: Mapping[str, str]) -> HostHistory:
    return HostHistory(tuple(runs), (), {path: SHA[text] for path, text in have.items()}, CONTENTS)


def files(found: object) -> list[list[tuple[str, str, str]]]:
    assert isinstance(found, tuple), found
    names = {sha: text for text, sha in SHA.items()}
    return [
        [
            (
                change.path,
                names[change.before.sha256 if change.before else ABSENT],
                names[change.after.sha256 if change.after else ABSENT],
            )
            for change in way.files
        ]
        for way in found
    ]


@pytest.mark.parametrize(
    ("runs", "have", "wanted"),
    [
        ([run("1", row("/f", "-", "a"))], {"/f": "a"}, [[("/f", "a", "-")]]),
        # a drop-in that came first and is named by a later row goes last, although a newer run touched it again
        (
            [run("2", row("/d", "a", "b")), run("1", row("/d", "-", "a"), row("/m", "c", "d"))],
            {"/d": "b", "/m": "d"},
            [[("/m", "d", "c"), ("/d", "b", "-")]],
        ),
        # somebody put the newest back by hand: nothing is lost
        ([run("2", row("/f", "b", "c")), run("1", row("/f", "a", "b"))], {"/f": "b"}, [[("/f", "b", "a")]]),
        ([run("1", row("/f", "a", "b"))], {"/f": "a"}, []),
        # there and back again
        (
            [run("3", row("/f", "a", "b")), run("2", row("/f", "b", "a")), run("1", row("/f", "a", "b"))],
            {"/f": "b"},
            [[("/f", "b", "a")]],
        ),
        # what stands by for a revert does not count
        ([run("1", row("/t", "-", "a", "undo"))], {"/t": "-"}, []),
        # another unit is another guarded change; the file goes through all of them
        (
            [
                run("3", row("/f", "c", "d")),
                run("2", row("/f", "b", "c"), unit="docker.service"),
                run("1", row("/f", "a", "b")),
            ],
            {"/f": "d"},
            [[("/f", "d", "c")], [("/f", "c", "b")], [("/f", "b", "a")]],
        ),
    ],
)
def test_files_go_back_to_before_the_first_run(
    runs: list[PastRun], have: dict[str, str], wanted: list[list[tuple[str, str, str]]]
) -> None:
    assert files(unwind(history(runs, have))) == wanted


@pytest.mark.parametrize(
    ("runs", "have", "since", "shown"),
    [
        ([run("1", row("/f", "a", "b"))], {"/f": "c"}, "run 1 (ada on laptop, since", ["-b", "+c"]),
        # between two runs of ours
        (
            [run("2", row("/f", "c", "d")), run("1", row("/f", "a", "b"))],
            {"/f": "d"},
            "run 1 (ada on laptop, since",
            ["-b", "+c"],
        ),
        ([run("1", row("/f", "-", "b"))], {"/f": "c"}, "run 1 (", ["-b", "+c"]),
    ],
)
def test_what_somebody_else_wrote_is_refused_with_the_difference(
    runs: list[PastRun], have: dict[str, str], since: str, shown: list[str]
) -> None:
    found = unwind(history(runs, have))
    assert isinstance(found, Refusal)
    assert found.why.startswith(f"/f was changed by somebody else since {since}")
    assert [line for line in found.detail.splitlines() if line in shown] == shown
    assert "README.txt" in found.remedy


def test_a_copy_that_is_gone_is_refused() -> None:
    found = unwind(HostHistory((run("1", row("/f", "a", "b")),), (), {"/f": SHA["b"]}, {}))
    assert isinstance(found, Refusal)
    assert found.why.startswith("the copy of /f that run 1 (ada on laptop")


@given(
    st.lists(st.tuples(st.sampled_from(("/f", "/g")), st.sampled_from("-abcdef")), max_size=8),
    st.fixed_dictionaries({"/f": st.sampled_from("-abcdef"), "/g": st.sampled_from("-abcdef")}),
)
def test_whatever_our_runs_did_the_bytes_of_before_come_back(
    deeds: list[tuple[str, str]], before: dict[str, str]
) -> None:
    now = dict(before)
    runs: list[PastRun] = []
    for number, (path, text) in enumerate(deeds):
        if now[path] != text:
            runs.insert(0, run(str(number), row(path, now[path], text)))
            now[path] = text
    for change in (change for way in files(unwind(history(runs, now))) for change in way):
        assert now[change[0]] == change[1]
        now[change[0]] = change[2]
    assert now == before
