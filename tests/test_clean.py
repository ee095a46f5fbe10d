"""Text from hosts can neither drive the terminal nor hide what it says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwizard.clean import clean, clean_line


@given(st.text())
def test_nothing_that_drives_a_terminal_survives(text: str) -> None:
    for character in clean(text):
        assert character == "\n" or (character >= " " and not "\x7f" <= character <= "\x9f")


@given(st.text())
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@pytest.mark.parametrize(
    ("dirty", "plain"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]52;c;ZXZpbA==\x07copied", "copied"),
        ("\x1b]0;title\x1b\\text", "text"),
        ("10%\r50%\r100%\ndone", "100%\ndone"),
        ("a\r\nb", "a\nb"),
        ("tab\there", "tab here"),
        ("bell\x07", "bell\ufffd"),
        ("abc\u202edcba", "abc\ufffddcba"),
    ],
)
def test_what_becomes_of_it(dirty: str, plain: str) -> None:
    assert clean(dirty) == plain


def test_a_line_is_one_line_and_bounded() -> None:
    assert clean_line("a\n  b\tc") == "a b c"
    assert len(clean_line("x" * 1000, 80)) == 80
