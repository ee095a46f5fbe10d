"""How programs on a simulated host ask the fleet: a bell they ring, a question in a file, an answer in a pipe.

So nothing on the host's side needs Python, a socket, or anything outside its tree (see `standins/ask.sh`).
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gpuwizard.fleet.build import CONTROL
from gpuwizard.fleet.tree import Tree

__all__ = ["Answer", "Bell", "Question", "write_all"]


@dataclass(frozen=True, slots=True)
class Question:
    """A program that was called: its name and arguments, by whom, where, and the list of private bind mounts."""

    program: str
    user: str
    folder: str
    mounts: str
    arguments: tuple[str, ...]

    @property
    def root(self) -> bool:
        """The caller is root on its host."""
        return self.user == "root"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the program prints, and its exit status."""

    out: str = ""
    err: str = ""
    status: int = 0


Answering = Callable[[Question], Awaitable[Answer]]


class Bell:
    """Listens for the questions of one host and answers them at the same time."""

    def __init__(self, tree: Tree, answering: Answering, owner: tuple[int, int] | None) -> None:
        self._tree = tree
        self._answering = answering
        self._rest = b""
        self._tasks: set[asyncio.Task[None]] = set()
        folder = os.open(tree.root / CONTROL[1:], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink("bell", dir_fd=folder)
            os.mkfifo("bell", 0o600, dir_fd=folder)
            if owner is not None:
                os.chown("bell", *owner, dir_fd=folder, follow_symlinks=False)
            self._bell = os.open("bell", os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            self._answers = os.open(
                "answers", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder
            )
        finally:
            os.close(folder)
        for kind in ("questions", "answers"):
            for name in tree.names(f"{CONTROL}/{kind}"):
                tree.remove(f"{CONTROL}/{kind}/{name}")
        asyncio.get_running_loop().add_reader(self._bell, self._rung)

    async def close(self) -> None:
        """Stop listening; questions that are open are dropped."""
        asyncio.get_running_loop().remove_reader(self._bell)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        os.close(self._bell)
        os.close(self._answers)

    def _rung(self) -> None:
        try:
            data = os.read(self._bell, 65536)
        except BlockingIOError:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.isdigit():
                task = asyncio.create_task(self._answer(line.decode()))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _answer(self, number: str) -> None:
        path = f"{CONTROL}/questions/{number}"
        words = (self._tree.read(path) or b"").decode("utf-8", "surrogateescape").split("\0")[:-1]
        self._tree.remove(path)
        if len(words) < 4:
            return
        try:
            pipe = os.open(number, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._answers)
        except OSError:
            return  # the caller is gone
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(number, dir_fd=self._answers)
            if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
                return
            question = Question(words[0], words[1], words[2], words[3], tuple(words[4:]))
            answer = await self._answering(question)
            out = answer.out.encode("utf-8", "surrogateescape")
            err = answer.err.encode("utf-8", "surrogateescape")
            await write_all(pipe, f"{answer.status} {len(out)} {len(err)}\n".encode() + out + err)
        except BrokenPipeError:
            return  # it went away while it was told
        finally:
            os.close(pipe)


async def write_all(pipe: int, data: bytes) -> None:
    """Write all of it to a pipe that does not block. Raises BrokenPipeError when nobody reads it any more."""
    loop = asyncio.get_running_loop()
    while data:
        try:
            data = data[os.write(pipe, data) :]
        except BlockingIOError:
            writable: asyncio.Future[None] = loop.create_future()
            loop.add_writer(pipe, _resolve, writable)
            try:
                await writable
            finally:
                loop.remove_writer(pipe)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
