"""TOML table by table: always what the standard library's parser says of the whole."""

import json
import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwizard.facts.tables import _by_tables, parse_toml

DATA = Path(__file__).parent.parent / "data"
REAL = [
    *sorted((DATA / "facts").glob("*.toml")),
    *sorted((DATA / "containerd_defaults").glob("*.toml")),
]
PIECES = (
    "[a]",
    "[a.b]",
    "[a.b.c]",
    "[b]",
    '[a."b"]',
    "  [ a . 'b' ]  # comment",
    '["a.b"]',
    "[[a]]",
    "[[a.b]]",
    "[]",
    "[a",
    "[a.]",
    "x = 1",
    "y = 2",
    "b = 3",
    "b.c = 4",
    "a.b = 5",
    "a = {b = 1}",
    "b = {}",
    "c = [",
    "  [1, 2],",
    "[3]",
    "]",
    "d = [[1], [2]]",
    's = """',
    '"""',
    "t = '''",
    "'''",
    'u = "[a]"',
    "# [a]",
    "[a.'b c']",
    "  ['a'.\"b\".c-d]  ",
    "'x' = 'one'",
    '"y.z" = "two, 3 +4"',
    "e = 0",
    "e = -0",
    "e = -17",
    "e = 007",
    "e = 123456789012345678901234567890",
    "f = true",
    "f = True",
    "g = []",
    "g = [ ]",
    "h  =  1",
    'i = "a\\tb"',
    "j = 'it''s'",
    "1.2 = 3",
    "12 = 3",
    'k = ""',
    "'' = 1",
    "",
    "é = 1",
    "\t",
    "z = 1979-05-27",
)


def outcome(parse: object, text: str) -> str:
    """What a parser makes of `text`, in the order of its keys, or the error."""
    assert callable(parse)
    try:
        return json.dumps(parse(text), default=str)
    except ValueError as error:
        return f"error: {error}"


@settings(max_examples=2500, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(PIECES), max_size=9), st.sampled_from(["\n", "\n", "\r\n"]))
def test_it_says_what_the_whole_parser_says(lines: list[str], newline: str) -> None:
    text = newline.join(lines)
    assert outcome(parse_toml, text) == outcome(tomllib.loads, text)


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_configurations_are_read_by_tables(path: Path) -> None:
    text = path.read_text()
    assert _by_tables(text) is not None
    assert outcome(_by_tables, text) == outcome(tomllib.loads, text)


def test_lines_that_look_simple_cost_nothing_extra() -> None:
    """No pattern goes back and forth over a long line."""
    for text in (
        "[" + "a" * 50_000,
        "[" + "a." * 40 + "'",
        "a" * 50_000 + " = ",
        "x = '" + "a" * 50_000,
        " " * 50_000 + "=",
    ):
        began = time.process_time()
        outcome(parse_toml, text)
        assert time.process_time() - began < 0.5


def test_what_others_of_the_fleet_have_is_not_read_again() -> None:
    """Each host has one value of its own: the whole document is another one, nearly all of its tables are not."""
    text = (DATA / "containerd_defaults" / "1.7.24.toml").read_text()
    assert "oom_score = 0" in text
    hosts = [text.replace("oom_score = 0", f"oom_score = {-n}") for n in range(1, 101)]
    parse_toml(text)
    began = time.process_time()
    scores = [parse_toml(host)["oom_score"] for host in hosts]
    by_tables = time.process_time() - began
    assert scores == [-n for n in range(1, 101)]
    began = time.process_time()
    for host in hosts:
        tomllib.loads(host)
    assert by_tables < (time.process_time() - began) / 3
