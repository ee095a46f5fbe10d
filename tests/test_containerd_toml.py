"""The reader of configuration files against Python's own, and the lines that it tells."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwizard.containerd.toml import TomlError, read

KEYS = st.sampled_from(["a", "b", '"a"', "'b'", "a.b", "b.a", '"a.b"', "-", "1", '""'])
VALUES = st.recursive(
    st.sampled_from(
        ["1", "-0", "0x1f", "1.5", "true", '"x"', "'y'", '"\\u00e9\\n"', '"""a\nb"""', "1979-05-27T07:32:00Z"]
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda values: f"[ {', '.join(values)} ]"),
        st.lists(st.tuples(KEYS, inner), max_size=2).map(
            lambda pairs: "{" + ", ".join(f"{key} = {value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=4,
)
STATEMENTS = st.one_of(
    st.tuples(KEYS, VALUES).map(lambda pair: f"{pair[0]} = {pair[1]}"),
    KEYS.map(lambda key: f"[{key}]"),
    KEYS.map(lambda key: f"[[{key}]]"),
    st.sampled_from(["", "# comment", "[a] # x", "a", "[a", "= 1", "a = [1,,2]", "a = 01"]),
)


@given(st.lists(STATEMENTS, max_size=7), st.sampled_from(["\n", "\r\n"]))
def test_2_x_reads_what_the_standard_says(statements: list[str], newline: str) -> None:
    text = newline.join(statements)
    try:
        expected = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        with pytest.raises(TomlError):
            read(text)
    else:
        assert read(text).data == expected


@given(st.lists(STATEMENTS, max_size=7))
def test_1_x_reads_all_of_it(statements: list[str]) -> None:
    text = "\n".join(statements)
    try:
        expected = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert read(text, old=True).data == expected


@given(st.text(alphabet="a=[]{}.\"'\\\n\r\t #1,_é\x00", max_size=30), st.booleans(), st.booleans())
def test_no_text_breaks_it(text: str, old: bool, new: bool) -> None:
    line = 1
    try:
        read(text, old=old, new=new)
    except TomlError as error:
        line = error.line
    assert 1 <= line <= text.count("\n") + 1


@pytest.mark.parametrize(
    ("text", "takes_1", "takes_2", "takes_2_4"),
    [
        ("a.b = 1\n[a]\nc = 2", True, False, False),
        ("['a']\nb = 1\n[\"a\"]\nc = 2", True, False, False),
        ("[a]\nb = 1\n[a]\nc = 2", False, False, False),
        ("['a']\nb = 1\n[\"a\"]\nb = 2", False, False, False),
        ("a = {b = 1,\n c = 2}", True, False, True),
        ("a = {b = 1,}", False, False, True),
        ("a = 01", True, False, False),
        ("a = 1\rb = 2", True, False, False),
        ("# \x01", True, False, False),
        ("a\t.b = 1", False, True, True),
        ("[\ta]", False, True, True),
        ('a = "\\e"', False, True, True),
        ("a = 99999999999999999999", False, False, False),
    ],
)
def test_where_the_generations_differ(text: str, takes_1: bool, takes_2: bool, takes_2_4: bool) -> None:
    for takes, old, new in ((takes_1, True, False), (takes_2, False, False), (takes_2_4, False, True)):
        if takes:
            read(text, old=old, new=new)
        else:
            with pytest.raises(TomlError):
                read(text, old=old, new=new)


def test_deep_nesting_is_an_error() -> None:
    with pytest.raises(TomlError, match="nested too deeply"):
        read("a = " + "[" * 5000 + "]" * 5000)


def test_lines_of_keys_and_tables() -> None:
    document = read('a = 1\n\n[t]\nx.y = """\n\n"""\nz = {k = 2}\r\n[[l]]\nq = 1\n[[l]]\nq = 2\n')
    assert document.lines == {
        ("a",): 1,
        ("t",): 3,
        ("t", "x"): 4,
        ("t", "x", "y"): 4,
        ("t", "z"): 7,
        ("t", "z", "k"): 7,
        ("l",): 8,
        ("l", "q"): 9,
    }
