"""A script that arrives cut must run nothing; a whole one must run exactly main, in every shell."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwizard.remote.script import render
from gpuwizard.remote.transport import Payload, Script

TOKEN = "gpuwizard_0123456789ab"
SHELLS = {"dash": ("dash", "-s"), "busybox": ("busybox", "sh", "-s"), "bash": ("bash", "--posix", "-s")}
NASTY = "a'b\"c $HOME `id` \\ *\n\ttail"

TEXT = """\
# touches a file whatever it is asked
helper() {
    cat <<INNER
to $1
INNER
}
main() {
    : >"$1/ran"
    helper "$2"
    cat "$PAYLOADS/blob" >"$1/copy"
    rm -rf "$1/victim"
    return 5
}
"""


@pytest.fixture(params=sorted(SHELLS))
def shell(request: pytest.FixtureRequest) -> tuple[str, ...]:
    command = SHELLS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed here")
    return command


def feed(
    shell: tuple[str, ...], text: bytes, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(shell, input=text, capture_output=True, timeout=30, env=environment, check=False)


def spots(size: int) -> Iterator[int]:
    """Every byte at the start and the last 400, every seventh between."""
    yield from range(min(60, size))
    yield from range(60, max(60, size - 400), 7)
    yield from range(max(60, size - 400), size)


def test_a_script_cut_anywhere_runs_nothing(shell: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    text = render(Script(TEXT, (str(tmp_path), NASTY), (Payload("blob", bytes(range(256)) * 2),)), TOKEN)
    whole = text.rstrip(b"\n")  # the last newline says nothing any more
    for end in spots(len(whole)):
        done = feed(shell, whole[:end])
        assert TOKEN.encode() not in done.stdout, (end, whole[max(0, end - 40) : end])
        assert not (tmp_path / "ran").exists(), end
    assert (tmp_path / "victim").exists()
    done = feed(shell, whole)
    assert done.returncode == 5
    assert (tmp_path / "ran").exists()
    assert not (tmp_path / "victim").exists()


def test_arguments_payloads_and_variables_arrive_as_they_are(shell: tuple[str, ...], tmp_path: Path) -> None:
    blob = bytes(range(256)) * 300
    script = Script(
        'main() { printf "%s|" "$@"; printf "%s|" "$COLOUR" "$LC_ALL" "$PWD"; cat; cat "$PAYLOADS/blob" >"$1"; '
        'wc -c <"$PAYLOADS/empty"; echo "$PAYLOADS" >&2; return 7; }',
        (str(tmp_path / "out"), NASTY, ""),
        (Payload("blob", blob), Payload("empty", b"")),
        {"COLOUR": NASTY},
    )
    done = feed(shell, render(script, TOKEN))
    said = done.stdout.decode()
    assert said.startswith(f"{TOKEN}\n{tmp_path / 'out'}|{NASTY}||{NASTY}|C|/|")
    assert said.split("|")[-1].strip() == "0"
    assert (tmp_path / "out").read_bytes() == blob
    assert done.returncode == 7
    marker, folder = done.stderr.decode().split()
    assert marker == TOKEN
    assert not Path(folder).exists()


@pytest.mark.parametrize("ending", ["exit 9", "trap 'echo mine' EXIT; exit 9"])
def test_payloads_go_away_however_main_ends(shell: tuple[str, ...], ending: str) -> None:
    script = Script(f'main() {{ echo "$PAYLOADS"; {ending}; }}', payloads=(Payload("a", b"x"),))
    done = feed(shell, render(script, TOKEN))
    assert done.returncode == 9
    assert not Path(done.stdout.decode().split()[1]).exists()


def test_a_damaged_payload_stops_the_script_before_main(shell: tuple[str, ...], tmp_path: Path) -> None:
    script = Script('main() { : >"$1"; }', (str(tmp_path / "ran"),), (Payload("blob", b"A" * 300),))
    text = render(script, TOKEN)
    for damage in (text.replace(b"QUFB", b"QUFC", 1), text.replace(b"QUFBQUFB", b"QUFB", 1)):
        assert damage != text
        done = feed(shell, damage)
        assert done.returncode == 97
        assert b"blob arrived damaged" in done.stderr
        assert not (tmp_path / "ran").exists()


def test_under_a_fleet_root_the_path_is_left_alone(shell: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    path = "/usr/bin:/bin"
    script = Script('main() { echo "$PATH $R $PWD $PAYLOADS"; }', payloads=(Payload("a", b"x"),))
    done = feed(shell, render(script, TOKEN), {"PATH": path, "GPUWIZARD_FLEET_ROOT": str(tmp_path)})
    _, line, *_ = done.stdout.decode().splitlines()
    there, root, here, payloads = line.split()
    assert (there, root, here.rstrip("/")) == (path, str(tmp_path), str(tmp_path))
    assert payloads.startswith(f"{tmp_path}/tmp/")


def test_names_that_would_break_out_are_refused() -> None:
    for script in (
        Script("main() { :; }", environment={"A;rm": "x"}),
        Script("main() { :; }", payloads=(Payload("../x", b""),)),
        Script("main() { :; }", payloads=(Payload("a", b""), Payload("a", b""))),
        Script("main() { :; }", ("nul\0",)),
    ):
        with pytest.raises(ValueError, match=r"name|variable|NUL"):
            render(script, TOKEN)
    with pytest.raises(ValueError, match="token"):
        render(Script("main() { :; }"), "a b")


def test_the_repr_of_a_script_hides_payloads() -> None:
    assert "hunter2" not in repr(Script("main() { :; }", payloads=(Payload("a", b"hunter2"),)))
