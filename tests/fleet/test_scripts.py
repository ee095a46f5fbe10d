"""Every absolute path in a remote script stands behind "$R": else a simulated run would mean the real machine."""

import re
from pathlib import Path

import pytest

from assets import asset

SCRIPTS = sorted(asset("remote").glob("*.sh"))
_PATH = re.compile(r"/(etc|proc|sys|var|run|usr|bin|sbin|lib|lib64|opt|root|home|tmp|dev|boot|snap|mnt|srv)\b")
_HARMLESS = ("/dev/null",)
# Where a word is opened or run, not merely text, a pattern of case, or an item of a list that gets its "$R" later.
_USED = re.compile(
    r"(?:[<>]\s*|(?:^|\[|test|\s)\s*-[a-zA-Z]\s+|^\s*|[;&|({]\s*"
    r"|\b(?:cat|rm|mv|cp|ls|sh|cd|mkdir|stat|mktemp|readlink|exec|touch|find|ln)\s+(?:-\S+\s+)*)$"
)
_PATTERN = re.compile(r"[^\s;&<>()]*(?:\s*\|\s*[^\s;&<>()]+)*\)")  # what follows in a pattern of case
_WORD = re.compile(r"""(?<![\w$}*\]"'./-])["']?(/[a-z][\w./-]*)""")


def logical_lines(text: str) -> list[tuple[int, str]]:
    """Lines with their continuations, without comments and without the items of `for` loops."""
    lines: list[tuple[int, str]] = []
    pending, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        first = first if pending else number
        pending += "" if line.lstrip().startswith("#") else line.split(" # ")[0]
        if pending.endswith("\\"):
            pending = pending[:-1]
            continue
        lines.append((first, re.sub(r"\bfor \w+ in [^;]*", "", pending)))
        pending = ""
    return lines


def opened(text: str) -> list[tuple[int, str]]:
    """Absolute paths that a line really uses: redirections, tests, commands, and arguments of programs."""
    found = []
    for number, code in logical_lines(text):
        for match in _WORD.finditer(code):
            path = match[1]
            used = _USED.search(code[: match.start()]) and not _PATTERN.match(code[match.end() :])
            if _PATH.match(path) and path not in _HARMLESS and used:
                found.append((number, path))
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_script_opens_an_absolute_path(script: Path) -> None:
    assert opened(script.read_text(encoding="utf-8")) == []


def test_the_check_sees_absolute_paths() -> None:
    bad = 'cat /etc/passwd\necho x >/run/lock\n[ -e /proc/1 ] || exit\nrm -f "/var/lib/x"\n/usr/bin/id\n'
    assert [number for number, _ in opened(bad)] == [1, 2, 3, 4, 5]
    good = 'cat "$R/etc/passwd"\necho x >/dev/null\n# see /etc/passwd\ncase $x in /etc/*) ;; esac\n'
    assert opened(good) == []
