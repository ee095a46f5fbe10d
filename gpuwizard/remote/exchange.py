"""One channel as bytes in and out, whatever carries it: noise of the login dropped, streams kept apart and bounded.

The wire (SSH channel or local process) feeds an `Exchange`; nothing here waits or does I/O.
"""

import asyncio
from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

from gpuwizard.clean import clean, clean_line

__all__ = ["STDOUT_LIMIT", "Exchange", "Gate", "LineSplitter", "Signal", "Wire"]

STDOUT_LIMIT = 32 * 1024 * 1024
STDERR_LIMIT = 256 * 1024
_NOISE_LIMIT = 256 * 1024
_LINE_LIMIT = 64 * 1024

Signal: TypeAlias = Literal["prompt", "open", "begun", "ended"]


class Wire(Protocol):
    """What carries one exchange. Nothing here raises when the other side is gone."""

    def write(self, data: bytes) -> bool:
        """Send to the script's standard input; False when the channel is closed."""
        ...

    def write_eof(self) -> None:
        """End the script's standard input."""
        ...

    def flow(self, *, reading: bool) -> None:
        """Pause or resume what comes in."""
        ...

    def kill(self) -> None:
        """Ask the host to end the script, then close."""
        ...

    def close(self) -> None:
        """Close the channel."""
        ...


class Gate:
    """The words of the sudo dialogue: `prompt` is what sudo asks with, `open` the line that root's shell prints."""

    __slots__ = ("open", "prompt")

    def __init__(self, prompt: str, opened: str) -> None:
        self.prompt = prompt.encode()
        self.open = opened.encode() + b"\n"


class LineSplitter:
    """Cut a byte stream into cleaned lines; an overlong line is cut, the unfinished last one comes with `finish`."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = bytearray()

    def feed(self, data: bytes) -> None:
        """Take more bytes and hand out every line that is complete."""
        self._rest += data
        if b"\n" in data or len(self._rest) > _LINE_LIMIT:
            *lines, rest = bytes(self._rest).split(b"\n")
            while len(rest) > _LINE_LIMIT:
                lines.append(rest[:_LINE_LIMIT])
                rest = rest[_LINE_LIMIT:]
            self._rest = bytearray(rest)
            for line in lines:
                self._say(line)

    def finish(self) -> None:
        """Hand out what came after the last newline."""
        if self._rest:
            rest, self._rest = bytes(self._rest), bytearray()
            self._say(rest)

    def _say(self, line: bytes) -> None:
        self._on_line(clean(line.removesuffix(b"\r").decode("utf-8", "replace")))


class _Stream:
    """One of stdout and stderr: what came before the marker is noise."""

    __slots__ = ("begun", "noise", "searched")

    def __init__(self) -> None:
        self.begun = False
        self.noise = bytearray()
        self.searched = 0

    def after_marker(self, data: bytes, marker: bytes) -> bytes:
        """What of `data` belongs to the script."""
        if self.begun:
            return data
        self.noise += data
        at = self.noise.find(marker)
        if at < 0:
            self._trim()
            return b""
        rest = bytes(self.noise[at + len(marker) :])
        del self.noise[at:]
        self.begun = True
        return rest

    def _trim(self) -> None:
        excess = len(self.noise) - _NOISE_LIMIT
        if excess > 0:
            del self.noise[:excess]
            self.searched = max(0, self.searched - excess)


class Exchange:
    """What one channel said so far. `signals` tells the waiting side what happened, in order.

    `broken` is an error of ours in taking what came, of a listener above all. It is kept for the waiting side: raised
    in the wire's own callbacks it would end the whole link, and look like one that was lost.
    """

    def __init__(
        self,
        marker: str,
        *,
        gate: Gate | None = None,
        on_line: Callable[[str], None] | None = None,
        on_data: Callable[[bytes], None] | None = None,
        keep: bool = True,
    ) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.status: int | None = None
        self.link_lost = False
        self.overflowed = False
        self.broken: Exception | None = None
        self.signals: asyncio.Queue[Signal] = asyncio.Queue()
        self.ended = asyncio.Event()
        self.over = asyncio.Event()  # ended, broken, or said more than we hold
        self._marker = marker.encode() + b"\n"
        self._gate = gate
        self._keep = keep
        self._lines = LineSplitter(on_line) if on_line else None
        self._on_data = on_data
        self._out, self._err = _Stream(), _Stream()

    @property
    def begun(self) -> bool:
        """True once the script has printed its marker: it arrived whole and runs."""
        return self._out.begun

    def received(self, data: bytes, *, error: bool) -> None:
        """Take bytes of stdout, or of stderr with `error`. Nothing is taken any more once it is broken."""
        if self.broken is not None:
            return
        try:
            self._received(data, error=error)
        except Exception as ours:
            self._break(ours)

    def _received(self, data: bytes, *, error: bool) -> None:
        stream = self._err if error else self._out
        if self._gate is not None:
            stream.noise += data
            self._watch_gate(stream)
            return
        had_begun = self._out.begun
        said = stream.after_marker(data, self._marker)
        if not had_begun and self._out.begun:
            self.signals.put_nowait("begun")
        if said:
            self._take(said, error=error)

    def finished(self, status: int | None, *, link_lost: bool) -> None:
        """The channel is closed: `status` is None when no exit status came."""
        if self.ended.is_set():
            return
        self.status, self.link_lost = status, link_lost
        if self._lines is not None and self.broken is None:
            try:
                self._lines.finish()
            except Exception as ours:
                self._break(ours)
        self.ended.set()
        self.over.set()
        self.signals.put_nowait("ended")

    def _break(self, error: Exception) -> None:
        self.broken = error
        self.over.set()
        self.signals.put_nowait("ended")

    def raise_broken(self) -> None:
        """Raise the error of ours that ended the taking, if there was one."""
        if self.broken is not None:
            raise self.broken

    def noise(self) -> str:
        """What was said before the script began, or instead of it, cleaned: stderr first."""
        raw = bytes(self._err.noise) + b"\n" + bytes(self._out.noise)
        if self._out.begun:
            raw = bytes(self.stderr)
        return clean(raw.decode("utf-8", "replace")).strip()

    def last_words(self) -> str:
        """The last line of `noise()`."""
        lines = [line for line in self.noise().splitlines() if line.strip()]
        return clean_line(lines[-1], 200) if lines else ""

    def _take(self, data: bytes, *, error: bool) -> None:
        if error:
            self.stderr += data
            if len(self.stderr) > STDERR_LIMIT:
                del self.stderr[: len(self.stderr) - STDERR_LIMIT]
            return
        if self._keep:
            if len(self.stdout) + len(data) > STDOUT_LIMIT:
                self.overflowed = True
                self.over.set()
                return
            self.stdout += data
        if self._on_data is not None:
            self._on_data(data)
        if self._lines is not None:
            self._lines.feed(data)

    def _watch_gate(self, stream: _Stream) -> None:
        """Look for sudo's prompt on both streams and for the mark of root's shell on stdout."""
        assert self._gate is not None
        at = self._out.noise.find(self._gate.open)
        if at >= 0:
            rest = bytes(self._out.noise[at + len(self._gate.open) :])
            self._out, self._gate = _Stream(), None
            self.signals.put_nowait("open")
            if rest:
                self._received(rest, error=False)
            return
        token = self._gate.prompt
        while (at := stream.noise.find(token, stream.searched)) >= 0:
            stream.searched = at + len(token)
            if not _is_echo(bytes(stream.noise[max(0, at - 4) : at])):
                self.signals.put_nowait("prompt")
        stream.searched = max(stream.searched, len(stream.noise) - len(token) + 1, 0)
        stream._trim()


def _is_echo(before: bytes) -> bool:
    """True when the token stands behind ``-p``: a login shell that traces prints the command, which is no prompt."""
    return before.rstrip(b"'\"").endswith(b"-p ")
