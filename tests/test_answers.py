"""The answers file: read, checked, written, without losing a comment."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwizard.answers.model import Answers, HostOverride, Rollout, Runtime, Sharing
from gpuwizard.answers.toml import example, parse_answers, read_answers, render_answers, schema, write_answers
from gpuwizard.errors import UsageError

COMMENTED = """\
# our lab
version = 1
hosts = [
  "admin@gpu1",   # the old one
  "gpu2",
]

[runtime]   # do not touch
strategy = "auto"  # let it choose

[sharing]
# replicas first, on purpose
replicas = 4
mode = "time-slicing"
"""


def test_the_example_is_what_the_defaults_mean() -> None:
    assert parse_answers(example(["a", "b"])) == Answers(hosts=("a", "b"))


def test_every_key_of_the_example_is_explained() -> None:
    lines = example(["a"]).splitlines()
    for number, line in enumerate(lines):
        if "=" in line and not line.startswith("#"):
            assert lines[number - 1].startswith("# "), line


def test_comments_and_order_survive_a_change() -> None:
    answers = parse_answers(COMMENTED)
    changed = answers.model_copy(update={"runtime": Runtime(strategy="in-place"), "sharing": Sharing()})
    text = render_answers(changed, COMMENTED)
    assert 'strategy = "in-place"  # let it choose' in text
    assert "# the old one" in text
    assert "# do not touch" in text
    assert text.index("replicas first") < text.index("mode =")
    assert parse_answers(text) == changed


def test_writing_what_is_there_changes_no_byte(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(COMMENTED)
    path.chmod(0o600)
    write_answers(read_answers(path), path)
    assert path.read_text() == COMMENTED
    assert path.stat().st_mode & 0o777 == 0o600


def test_host_overrides_round_trip() -> None:
    answers = Answers(hosts=("gpu.one",), host={"gpu.one": HostOverride(strategy="in-place")})
    assert parse_answers(render_answers(answers)) == answers
    assert parse_answers(render_answers(answers, COMMENTED)) == answers


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            'version = 1\n\n[runtime]\nstragety = "auto"\n',
            "site.toml:4: runtime.stragety: unknown key, did you mean `strategy`?",
        ),
        ('[runtime]\nstrategy = "magic"\n', "site.toml:2: runtime.strategy: must be 'auto'"),
        ("[sharing]\nreplicas = 1\n", "site.toml:2: sharing.replicas: must be at least 2"),
        ("[rollout]\ncanary = 'maybe'\n", "site.toml:2: rollout.canary"),
        ("[rollout]\ndrain = 'yes'\n", "site.toml:2: rollout.drain"),
        ("[rollout]\ndrain_timeout = 1\n", "site.toml:2: rollout.drain_timeout"),
        ("version = 7\n", "site.toml:1: version: must be 1, not 7"),
        ("[hots]\n", "site.toml:1: hots: unknown key, did you mean `host"),
        ('[host."a.b"]\nskipp = true\n', "site.toml:2: host.a.b.skipp: unknown key, did you mean `skip`?"),
        ("runtime.strategy = 3\n", "site.toml:1: runtime.strategy"),
        ("a = [", "this is not TOML"),
    ],
)
def test_mistakes_are_named_with_line_and_key(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_answers(text, "site.toml")
    assert says in str(caught.value)
    assert caught.value.remedy


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        parse_answers("[sharing]\nreplicas = 0\n[rollout]\nmax_unavailable = 0\n", "f")
    assert "f:2" in str(caught.value)
    assert "f:4" in str(caught.value)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such answers file") as caught:
        read_answers(tmp_path / "none.toml")
    assert "answers example" in caught.value.remedy


def test_the_schema_describes_every_key() -> None:
    text = json.dumps(schema())
    assert '"additionalProperties": false' in text
    for definition in schema()["$defs"].values():
        for name, entry in definition["properties"].items():
            assert entry.get("description"), name


@given(
    st.builds(
        Answers,
        hosts=st.lists(
            st.text(st.characters(codec="ascii", exclude_characters="\x7f", min_codepoint=32), min_size=1)
        ).map(tuple),
        rollout=st.builds(Rollout, canary=st.booleans(), max_unavailable=st.integers(1, 100)),
        sharing=st.builds(Sharing, mode=st.sampled_from(["none", "time-slicing"]), replicas=st.integers(2, 256)),
        host=st.dictionaries(
            st.from_regex(r"[a-z0-9.-]{1,12}", fullmatch=True), st.builds(HostOverride, skip=st.booleans()), max_size=3
        ),
    )
)
def test_any_answers_survive_the_file(answers: Answers) -> None:
    assert parse_answers(render_answers(answers)) == answers
    assert parse_answers(render_answers(answers, COMMENTED)) == answers
