"""What the apply page says at its end: never that all is well when a host needs somebody."""

import pytest

from gpuwizard.events import HostOutcome, Outcome
from screens.run import closing_words

UNDO = "gpuwizard rollback r1"


@pytest.mark.parametrize(
    ("outcomes", "kind", "words"),
    [
        pytest.param({"a": "failed", "b": "confirmed"}, "error", "look at a yourself", id="a host is not put back"),
        pytest.param({"a": "unconfirmed"}, "warning", "a: puts itself back", id="a host was not heard of again"),
        pytest.param({"a": "reverting"}, "warning", "a: puts itself back", id="a host still puts itself back"),
        pytest.param({"a": "rolled-back"}, "warning", "a: put back", id="a host was put back"),
        pytest.param({"a": "rolled-back", "b": "confirmed"}, "ok", UNDO, id="one of two was changed"),
        pytest.param({"a": "refused", "b": "unchanged"}, "ok", "nothing was changed", id="nothing was done"),
    ],
)
def test_the_last_line_says_the_worst(outcomes: dict[str, Outcome], kind: str, words: str) -> None:
    text, shown = closing_words([HostOutcome(h, o) for h, o in outcomes.items()], undo=UNDO, stopped=False)
    assert shown == kind
    assert words in text


def test_a_stopped_run_says_so_unless_a_host_is_worse_off() -> None:
    assert closing_words([HostOutcome("a", "unchanged", begun=False)], undo=UNDO, stopped=True)[1] == "warning"
    assert closing_words([HostOutcome("a", "failed")], undo=UNDO, stopped=True)[1] == "error"
