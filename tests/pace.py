"""How fast this machine is now, for tests that hold something to a limit of CPU time.

A limit in seconds is true of one machine. Here it is a limit on the machine that it was set on, and as much more on one
that takes as much longer for plain Python: what is slow is found on both.
"""

import statistics
import time

__all__ = ["slowness", "walk"]

_LETTERS = 'key.of."a table" = [1, "two", 0x3] # why\n' * ((1 << 20) // 41)
_QUICK = 0.04  # seconds of a walk where the limits were set
_RECENT = 120.0
_former = (0.0, 1.0)  # when it was asked last, and what it was then


def walk() -> float:
    """CPU seconds that plain Python takes, here and now, to look at each character of a megabyte."""
    began, letters = time.thread_time(), 0
    for character in _LETTERS:
        if character.isalnum():
            letters += 1
    assert letters
    return time.thread_time() - began


def slowness() -> float:
    """How many times longer this machine takes than the one on which limits are set, at least 1.

    Asked before and after what is measured it says the worse of both: others may have worked on the machine meanwhile.
    """
    global _former
    now = max(1.0, statistics.median(walk() for _ in range(3)) / _QUICK)
    (when, before), _former = _former, (time.monotonic(), now)
    return max(now, before) if time.monotonic() - when < _RECENT else now
