"""Host names as operators write them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwizard.errors import UsageError
from gpuwizard.remote.target import HostTarget, parse_targets


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("gpu1", ("gpu1", None, None)),
        ("admin@gpu1", ("gpu1", "admin", None)),
        ("admin@gpu1.example.com:2222", ("gpu1.example.com", "admin", 2222)),
        ("me@corp@gpu1", ("gpu1", "me@corp", None)),
        ("10.0.0.1:22", ("10.0.0.1", None, 22)),
        ("[fd00::1]:2200", ("fd00::1", None, 2200)),
        ("root@[::1]", ("::1", "root", None)),
        ("fe80::1%eth0", ("fe80::1%eth0", None, None)),
        ("local", ("local", None, None)),
        (" gpu1 ", ("gpu1", None, None)),
        ("gpu_node-1", ("gpu_node-1", None, None)),
    ],
)
def test_what_is_a_host(spec: str, expected: tuple[str, str | None, int | None]) -> None:
    (found,) = parse_targets([spec])
    assert (found.name, found.user, found.port) == expected
    assert found.spec == spec.strip()


@pytest.mark.parametrize(
    "spec",
    [
        *[
            "",
            "@",
            "a b",
            "host:",
            "host:0",
            "host:65536",
            "host:ssh",
            "-oProxyCommand=x",
            "root@",
            "-l@host",
            "[gpu1]:22",
        ],
        *[
            "[gpu1]:22",
            "[::1",
            "[::1]x",
            "a,b",
            "host/../x",
            "..",
            "root@local",
            "local:22",
            "h\x1b[31m",
            "a;b",
            "$(x)",
            "h:²",
        ],
    ],
)
def test_what_is_no_host_is_wrong_usage_with_a_remedy(spec: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_targets([spec])
    assert caught.value.exit_code == 64
    assert caught.value.remedy


def test_a_file_has_one_host_a_line(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("# GPUs\n\ngpu1\n  admin@gpu2:22   # rack 3\n\tlocal\n")
    found = parse_targets([f"@{file}", "gpu3", "gpu1"])
    assert [t.name for t in found] == ["gpu1", "gpu2", "local", "gpu3"]


def test_an_error_in_a_file_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("gpu1\n\ngpu 2\n")
    with pytest.raises(UsageError, match="gpu 2") as caught:
        parse_targets([f"@{file}"])
    assert caught.value.where == f"{file}:3"


def test_a_file_that_is_missing_or_names_another_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("@other\n")
    with pytest.raises(UsageError, match="cannot name another"):
        parse_targets([f"@{file}"])
    with pytest.raises(UsageError, match="cannot be read"):
        parse_targets([f"@{tmp_path}/none"])


def test_a_host_named_twice_counts_once_but_not_with_another_port() -> None:
    assert len(parse_targets(["a@gpu1", "gpu2", "a@gpu1"])) == 2
    with pytest.raises(UsageError, match="named twice"):
        parse_targets(["gpu1", "gpu1:2222"])


@given(st.text(max_size=40).filter(lambda t: not t.strip().startswith("@")))
def test_any_text_is_a_host_or_wrong_usage(text: str) -> None:
    try:
        (found,) = parse_targets([text])
    except UsageError:
        return
    assert isinstance(found, HostTarget)
    assert found.name
    assert not any(c.isspace() or c in "/'\"`$;|&<>()" for c in found.name)
    assert not found.name.startswith("-")
