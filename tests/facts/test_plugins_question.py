"""plugins.pl against a daemon of our own that answers in HTTP/2 and protobuf, well and badly (`runtimes.md §12`)."""

import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from assets import asset
from gpuwizard.facts.runtimes.cri_config import plugin_state

pytestmark = pytest.mark.skipif(not shutil.which("perl"), reason="perl is not installed")

_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def text_field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def plugin(kind: str, name: str, error: int | None = None) -> bytes:
    """A Plugin of the introspection service; requires, platforms and exports are there to be skipped."""
    body = text_field(1, kind.encode()) + text_field(2, name.encode()) + text_field(3, b"io.containerd.event.v1")
    body += text_field(4, text_field(1, b"linux") + text_field(2, b"amd64")) + text_field(5, b"root" * 50)
    if error is not None:
        body += text_field(7, varint(8) + varint(error) + text_field(2, b"no corresponding runtime configured"))
    return text_field(1, body)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def answer(*plugins: bytes, cut: int = 16384) -> bytes:
    """Settings, headers, the message in as many DATA frames as it takes, trailers."""
    message = b"".join(plugins)
    whole = b"\0" + struct.pack(">I", len(message)) + message
    data = b"".join(frame(0, 0, 1, whole[i : i + cut]) for i in range(0, len(whole), cut))
    return _SETTINGS + frame(4, 1, 0, b"") + frame(1, 4, 1, b"\x88") + data + frame(1, 5, 1, b"\x88")


@contextmanager
def daemon(path: Path, reply: bytes, heard: list[bytes] | None = None) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            link, _ = listening.accept()
            with link:
                question = link.recv(65536)
                if heard is not None:
                    heard.append(question)
                link.sendall(reply)
                link.shutdown(socket.SHUT_WR)
                while link.recv(65536):
                    continue

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def ask(path: Path) -> subprocess.CompletedProcess[str]:
    program = asset("remote/plugins.pl").read_text(encoding="utf-8")
    return subprocess.run(["perl", "-w", "-e", program, str(path)], capture_output=True, text=True, check=False)


CRI = ("io.containerd.grpc.v1", "cri")


@pytest.mark.parametrize(
    ("plugins", "state"),
    [
        ((plugin(*CRI), plugin("io.containerd.grpc.v1", "images")), "ok"),
        ((plugin("io.containerd.grpc.v1", "images"), plugin(*CRI, error=2)), "error"),
        ((plugin("io.containerd.cri.v1", "runtime", error=3), plugin(*CRI)), "error"),
        ((plugin(*CRI, error=12),), "disabled"),
        ((plugin("io.containerd.grpc.v1", "images"),), "disabled"),
        ((), None),
    ],
)
@pytest.mark.parametrize("cut", [7, 16384])
def test_states(plugins: tuple[bytes, ...], state: str | None, cut: int, tmp_path: Path) -> None:
    heard: list[bytes] = []
    with daemon(tmp_path / "s", answer(*plugins, cut=cut), heard):
        done = ask(tmp_path / "s")
    assert (done.returncode, done.stderr) == (0, "")
    assert plugin_state(done.stdout)[0] == state
    assert heard[0].startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert b'type~="io.containerd.(grpc|cri)"' in heard[0]


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        _SETTINGS + frame(7, 0, 0, b"\0" * 8),
        _SETTINGS + frame(3, 0, 1, b"\0\0\0\2"),
        _SETTINGS + frame(1, 5, 1, b"\x88"),
        _SETTINGS + frame(0, 1, 1, b"\0\0\0\0\4\x0d\0\0\0\0"),
    ],
    ids=["closed", "no HTTP/2", "goaway", "reset", "no message", "another wire type"],
)
def test_what_is_no_answer_is_none(reply: bytes, tmp_path: Path) -> None:
    with daemon(tmp_path / "s", reply):
        done = ask(tmp_path / "s")
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr


def test_a_socket_that_nobody_listens_at(tmp_path: Path) -> None:
    done = ask(tmp_path / "none")
    assert done.returncode != 0
    assert done.stderr == f"{tmp_path / 'none'}: No such file or directory\n"
