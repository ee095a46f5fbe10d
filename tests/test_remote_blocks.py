"""The SSH configuration read once for many hosts: what a host gets is what the whole file says of it."""

import os
import time
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuwizard.errors import UsageError
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.ssh.blocks import is_plain, lines_for, readable_path
from gpuwizard.remote.ssh.settings import HostSettings, fixed_options, settings_for

NAMES = ("gpu-1", "gpu-2", "gpu-11", "bastion", "GPU-1", "gpu", "10.0.0.1", "a.example.org")
PATTERNS = (*NAMES, "*", "gpu-?", "gpu-*", "!gpu-1", "*.example.org", "10.0.*", "gpu-[12]", "nobody")
LINES = (
    "User alice",
    "User bob",
    "HostName 10.1.1.1",
    "HostName %h.example.org",
    "hostname=10.2.2.2",
    "Port 2222",
    "Port = 2022",
    "IdentityFile /keys/one",
    "IdentityFile ~/keys/%n",
    "IdentitiesOnly yes",
    "UserKnownHostsFile /known/a /known/b",
    "ProxyJump bastion",
    "ProxyCommand ssh -W '%h:%p' \"gate way\"",
    "HostKeyAlias alias",
    "Ciphers aes256-ctr",
    "ForwardAgent yes",
    "NoSuchOption whatever it says",
    "# Host gpu-1",
    "",
    "   ",
)


def read_whole(path: Path, name: str) -> dict[str, Any]:
    """What asyncssh makes of the file itself."""
    config = asyncssh.SSHClientConnectionOptions(fixed_options(), config=[str(path)], host=name).config
    return dict(config._options)


def read_short(path: Path, name: str) -> dict[str, Any]:
    lines = lines_for(path, name)
    assert lines is not None
    with readable_path(lines) as short:
        assert short is not None
        return dict(asyncssh.SSHClientConnectionOptions(fixed_options(), config=[short], host=name).config._options)


BLOCK = st.tuples(
    st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3),
    st.lists(st.sampled_from(LINES), max_size=4),
    st.sampled_from(["Host ", "host  ", "HOST\t"]),
    st.sampled_from([" ", ",", "  "]),
)


@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(LINES), max_size=3), st.lists(BLOCK, max_size=6), st.sampled_from(NAMES))
def test_a_host_gets_what_the_whole_file_says(
    tmp_path: Path, first: list[str], blocks: list[tuple[list[str], list[str], str, str]], name: str
) -> None:
    text = [*first]
    for patterns, lines, word, between in blocks:
        text += [word + between.join(patterns), *(f"  {line}" for line in lines)]
    path = tmp_path / "config"
    path.write_text("\n".join(text))
    os.utime(path, ns=(time.time_ns(), time.time_ns()))
    assert is_plain(path)
    assert read_short(path, name) == read_whole(path, name)


@pytest.mark.parametrize(
    "line",
    [
        "Match host gpu-1",
        "match exec true",
        "Include other",
        "include=other",
        '"Host" gpu-1',
        "Host=gpu-1",
        'Host "gpu-1"',
        "Host gpu-1 # comment",
        "\\Host gpu-1",
        "User 'nobody closes it",
        "=",
    ],
)
def test_what_is_unusual_is_read_by_asyncssh_alone(tmp_path: Path, line: str) -> None:
    path = tmp_path / "config"
    path.write_text(f"Host a\n  User alice\n{line}\n")
    assert not is_plain(path)
    assert lines_for(path, "a") is None


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("User alice\n")
    assert lines_for(path, "a") == "User alice\n"
    path.write_text("User bob-and-more\n")
    assert lines_for(path, "a") == "User bob-and-more\n"
    path.unlink()
    assert not is_plain(path)


def test_a_text_can_be_read_once_and_leaves_nothing_open() -> None:
    before = os.listdir("/dev/fd")
    with readable_path("one\ntwo\n") as path:
        assert path is not None
        assert Path(path).read_text() == "one\ntwo\n"
    with readable_path("x" * 20_000) as path:
        assert path is None
    assert len(os.listdir("/dev/fd")) == len(before)


def looked_up(path: Path, name: str) -> HostSettings:
    return settings_for(name, None, None, ConnectOptions(ssh_config=path, use_agent=False))


def test_a_mistake_is_named_by_the_file_and_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("Host a\n  User alice\nHost b\n  Port none\n")
    assert looked_up(path, "a").user == "alice"
    with pytest.raises(UsageError, match=r"line 4: Invalid Port integer value: none") as caught:
        looked_up(path, "b")
    assert str(path) in str(caught.value)


def test_a_thousand_hosts_do_not_read_the_file_a_thousand_times(tmp_path: Path) -> None:
    """Parsed whole for each host it would take ten times as long, and for more hosts their square."""
    path = tmp_path / "config"
    path.write_text("".join(f"Host gpu-{n}\n  HostName 10.0.{n // 250}.{n % 250}\n" for n in range(1000)))
    began = time.process_time()
    assert looked_up(path, "gpu-999").host == "10.0.3.249"
    read_whole(path, "gpu-1")
    one_whole = time.process_time() - began
    began = time.process_time()
    for number in range(200):
        assert looked_up(path, f"gpu-{number}").host == f"10.0.0.{number}"
    assert (time.process_time() - began) / 200 < one_whole / 5
